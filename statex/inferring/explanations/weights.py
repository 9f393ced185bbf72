"""Numbers that a difference may be of a direction: those with few digits, near the one that fits best."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

_NEAR = 1e-3
"""Of the size of what was added, what may be left for a factor to be looked at closely."""


def weights_of(difference: Any, direction: Any, rounded: float) -> Iterator[float]:
    """Yield the numbers that a difference may be of a direction, the shortest first; none if it lies elsewhere.

    What rounding may have changed, a norm, does not count against it.
    """
    import torch

    one, other = difference.to(torch.float64).flatten(), direction.to(torch.float64).flatten()
    size = float(other @ other)
    if not size:
        return
    found = float(one @ other) / size
    left = float((one - found * other).norm())
    if not torch.isfinite(torch.tensor(found)) or left > _NEAR * float(one.norm()) + rounded:
        return
    yield from dict.fromkeys(float(f"{found:.{digits}g}") for digits in range(1, 8))


def rounding(tensor: Any, dtype: Any) -> float:
    """Return the norm of what rounding a tensor to a dtype may change of it."""
    import torch

    return float(torch.finfo(dtype).eps) * float(tensor.to(torch.float64).norm())
