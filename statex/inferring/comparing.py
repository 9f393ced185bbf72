"""Whether the bits of a tensor are what a value comes to: part by part, so that little is in memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from statex.inferring.lines import rows_at_once
from statex.relating.values import Joined, SourceTensor, Value, computed

_AT_ONCE = 1 << 17
"""Elements that are compared at once."""


def holds(value: Value, load: Callable[[SourceTensor], Any], bits: Any) -> bool:
    """Say whether bits are a value; of what is joined, each part is computed and compared by itself."""
    if isinstance(value, Joined):
        return _is_joined(value, load, bits)
    try:
        found = computed(value, load)
    except (ValueError, IndexError):
        # What fits together by its lines may not by its other dims.
        return False
    return _same(found, bits)


def _is_joined(value: Joined, load: Callable[[SourceTensor], Any], bits: Any) -> bool:
    before = (slice(None),) * value.dim
    if value.name == "stack":
        return (
            value.dim < bits.ndim
            and bits.shape[value.dim] == len(value.values)
            and all(holds(one, load, bits[(*before, at)]) for at, one in enumerate(value.values))
        )
    at = 0
    for one in value.values:
        try:
            part = computed(one, load)
        except (ValueError, IndexError):
            return False
        if part.ndim != bits.ndim or not _same(part, bits[(*before, slice(at, at + part.shape[value.dim]))]):
            return False
        at += part.shape[value.dim]
    return bool(at == bits.shape[value.dim])


def _same(one: Any, other: Any) -> bool:
    """Say whether two arrays are equal; large ones are compared a few rows at a time."""
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    if one.size <= _AT_ONCE or len(one) < 2:
        return bool((one == other).all())
    rows = rows_at_once(one.shape)
    return all(bool((one[at : at + rows] == other[at : at + rows]).all()) for at in range(0, len(one), rows))
