"""Numbers that a difference may be of a direction: those with few digits, near the one that fits best."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

_NEAR = 1e-3
"""Of the size of what was added, what may be left for a factor to be looked at closely."""


def weights_of(difference: Any, direction: Any, result: Any) -> Iterator[float]:
    """Yield the numbers that a difference may be of a direction, the shortest first; none if it lies elsewhere.

    What rounding the `result` may have changed does not count against it.
    """
    import torch

    one, other = difference.to(torch.float64).flatten(), direction.to(torch.float64).flatten()
    size = float(other @ other)
    if not size:
        return
    found = float(one @ other) / size
    rounded = torch.finfo(result.dtype).eps * float(result.to(torch.float64).norm())
    left = float((one - found * other).norm())
    if not torch.isfinite(torch.tensor(found)) or left > _NEAR * float(one.norm()) + rounded:
        return
    yield from dict.fromkeys(float(f"{found:.{digits}g}") for digits in range(1, 8))
