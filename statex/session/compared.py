"""Compares two checkpoints: their keys, shapes and dtypes, and the values under them."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Protocol

from statex.checkpoint.blobs.contents import OutTensor
from statex.core.dtypes import Kind
from statex.core.header import TensorType
from statex.core.progress import READING, Add, Phases, Tell
from statex.diagnostics import Diagnostic, diagnostic
from statex.diagnostics.amounts import counted
from statex.diagnostics.codes import target as codes
from statex.execute.differences import Difference, compare_values

_THREADS = 2
"""One reads while another compares; more wait for the memory."""

Type = TensorType | None
"""The type of an entry; `None` for one that is not a tensor."""


class Side(Protocol):
    """One side of a comparison: the result of a session, or a checkpoint as it is."""

    @property
    def label(self) -> str:
        """Its name."""

    @property
    def types(self) -> Mapping[str, Type]:
        """Its types by key."""

    def tensors(self) -> Mapping[str, OutTensor]:
        """Return its tensors, each with bytes of its own that can be read in their order."""


@dataclass(frozen=True)
class Compared:
    """The differences between two checkpoints: keys, and for common keys types and values.

    `values` has every key whose values were compared and are not equal in bits; with a tolerance (`tolerant`) some of
    these may agree. `uncompared` are the keys of entries that are not dense tensors, whose values were not compared; if
    values were compared, these keys are not among the `equal`.
    """

    first: str
    second: str
    equal: int
    only_first: Mapping[str, Type] = field(default_factory=dict)
    only_second: Mapping[str, Type] = field(default_factory=dict)
    types: Mapping[str, tuple[Type, Type]] = field(default_factory=dict)
    values: Mapping[str, Difference] = field(default_factory=dict)
    uncompared: tuple[str, ...] = ()
    with_values: bool = True
    tolerant: bool = False

    @property
    def agree(self) -> bool:
        """True if nothing differs: no bit, or with a tolerance no number by more than that."""
        return not (self.only_first or self.only_second or self.types) and not any(map(self.differs, self.values))

    def differs(self, key: str) -> bool:
        """Say whether the values under a key of `values` differ, by more than the tolerance if there is one."""
        return not (self.tolerant and self.values[key].is_nothing)


_SHOWN = 8
"""So many keys are shown in a diagnostic."""


def different_values(found: Compared) -> Diagnostic | None:
    """Return the diagnostic for values that differ, the worst first; `None` if all agree."""
    apart = sorted((key for key in found.values if found.differs(key)), key=lambda key: -found.values[key].badness)
    if not apart:
        return None
    rows = [(key, str(found.values[key])) for key in apart[:_SHOWN]]
    more = len(apart) - _SHOWN
    return diagnostic(
        codes.VALUES,
        f"`{found.first}` and `{found.second}` differ in the values of {len(apart)} of "
        f"{counted(found.equal + len(found.values), 'key')}",
        rows=rows + ([(f"and {more} more",)] if more > 0 else []),
        help="`statex diff` shows all; numbers that may differ by rounding: --rtol, --atol",
    )


def compared(
    first: Side,
    second: Side,
    *,
    values: bool = True,
    rtol: float = 0.0,
    atol: float = 0.0,
    tell: Tell | None = None,
) -> Compared:
    """Compare the results of sessions, or checkpoints as they are.

    Numbers `a` of the first and `b` of the second with `|a - b| <= atol + rtol * |b|` agree, if one of these is given.
    `tell` is called with the bytes that are read, of both.

    Raises:
        StatexError: 6xx for files.
    """
    one, other = first.types, second.types
    both = [key for key in one if key in other]
    types = {key: (one[key], other[key]) for key in both if one[key] != other[key]}
    comparable = [key for key in both if _comparable(one[key], other[key])]
    uncompared = tuple(key for key in both if one[key] is None or other[key] is None)
    found: dict[str, Difference] = {}
    equal = len(both) - len(types)
    if values:
        total = sum(kind.nbytes for key in comparable for kind in (one[key], other[key]) if kind is not None)
        found = _values(first, second, comparable, rtol, atol, Phases(tell).begin(READING, total))
        equal = len(set(both) - set(found) - set(types) - set(uncompared))
    return Compared(
        first.label,
        second.label,
        equal,
        {key: kind for key, kind in one.items() if key not in other},
        {key: kind for key, kind in other.items() if key not in one},
        types,
        found,
        uncompared,
        values,
        rtol > 0 or atol > 0,
    )


def _comparable(one: Type, other: Type) -> bool:
    if one is None or other is None:
        return False
    # Bytes whose meaning only files know are compared with their like alone.
    raw = Kind.RAW in (one.dtype.kind, other.dtype.kind)
    return one == other if raw else one.shape == other.shape


def _values(first: Side, second: Side, keys: list[str], rtol: float, atol: float, added: Add) -> dict[str, Difference]:
    """Return the differences of values by key, without those that are equal in bits."""
    left, right = first.tensors(), second.tensors()
    pairs = [(left[key], right[key]) for key in keys]
    found: dict[int, Difference] = {}
    with ThreadPoolExecutor(_THREADS) as pool:
        for number, part in compare_values(pairs, pool, rtol=rtol, atol=atol):
            # Most tensors are small and equal: of these there is nothing to keep.
            if not part.is_equal or part.numel < pairs[number][0].type.numel:
                found[number] = found[number].joined(part) if number in found else part
            added(part.numel * sum(one.type.dtype.itemsize for one in pairs[number]))
    return {keys[number]: found[number] for number in sorted(found) if not found[number].is_equal}
