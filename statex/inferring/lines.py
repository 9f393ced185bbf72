"""Hashes of lines: of a tensor as a whole, of its rows, of its columns, of all there is along some dims.

The hash of a line is that of the set of its elements with their number: whatever order they stand in, so that one
pass gives the hashes along all dims, and a line is found again wherever it went.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations
from math import prod
from typing import Any

from statex.core.record import record

Dims = tuple[int, ...]

_LEAST = 16
"""Elements of a line that is worth to be looked for, in tensors that are not small."""
_SMALL = 1 << 16
"""Elements of a tensor in which single ones are looked for, too."""
_MOST_DIMS = 5
_CHUNK = 1 << 18


def mixed(x: Any) -> Any:
    """Return numbers mixed as splitmix64 does, in their own place."""
    import numpy

    u = numpy.uint64
    shifted = x >> u(30)
    x ^= shifted
    x *= u(0xBF58476D1CE4E5B9)
    numpy.right_shift(x, u(27), out=shifted)
    x ^= shifted
    x *= u(0x94D049BB133111EB)
    numpy.right_shift(x, u(31), out=shifted)
    x ^= shifted
    return x


def dims_of(shape: Sequence[int]) -> Iterator[Dims]:
    """Yield the sets of dims along which lines of a tensor are worth to be hashed, those of fewest lines first."""
    numel = prod(shape)
    real = [dim for dim, length in enumerate(shape) if length != 1][:_MOST_DIMS]
    found = [kept for count in range(len(real) + 1) for kept in combinations(real, count)]
    for kept in sorted(found, key=lambda one: prod(shape[dim] for dim in one)):
        if not kept or numel <= _SMALL or numel >= _LEAST * prod(shape[dim] for dim in kept):
            yield kept


def line_hashes(bits: Any, kept: Sequence[Dims]) -> dict[Dims, Any]:
    """Return the hashes of the lines of a tensor along each of some sets of dims, in the order of these."""
    import numpy

    shape = bits.shape
    sums: dict[Dims, Any] = {dims: numpy.zeros([shape[d] for d in dims], numpy.uint64) for dims in kept}
    golden = numpy.uint64(0x9E3779B97F4A7C15)
    rows = max(1, _CHUNK // max(1, prod(shape[1:])))
    with numpy.errstate(over="ignore"):
        if not shape:
            # One element is a line by itself, as in a vector of length 1.
            return {dims: line_hashes(bits.reshape(1), [()])[()] for dims in kept}
        for start in range(0, shape[0], rows):
            part = bits[start : start + rows].astype(numpy.uint64)
            part += golden
            part = mixed(part)
            for dims in kept:
                rest = tuple(d for d in range(len(shape)) if d not in dims)
                found = part.sum(axis=rest, dtype=numpy.uint64) if rest else part
                if dims and dims[0] == 0:
                    sums[dims][start : start + rows] = found
                else:
                    sums[dims] += found
        return {
            dims: mixed((total + _mixed_one(prod(shape) // max(1, total.size))).reshape(-1)).reshape(total.shape)
            for dims, total in sums.items()
        }


def hash_of_zeros(length: int) -> Any:
    """Return the hash of a line of zeros."""
    import numpy

    with numpy.errstate(over="ignore"):
        return _mixed_one(int(_mixed_one(0x9E3779B97F4A7C15) * numpy.uint64(length) + _mixed_one(length)))


def _mixed_one(number: int) -> Any:
    import numpy

    return mixed(numpy.array([number], numpy.uint64))[0]


@record
class Hit:
    """Where a line was found: the number of a tensor, its dims, and the number of the line along them."""

    tensor: int
    dims: Dims
    line: int


_PLACES = 64
"""So many places are told of a line that is at several."""


class LineIndex:
    """The lines of many tensors, looked up by their hashes."""

    def __init__(self) -> None:
        self._parts: list[tuple[Any, int]] = []
        self._owners: list[tuple[int, Dims]] = []
        self._sorted: Any = None

    def add(self, tensor: int, bits: Any) -> None:
        """Add the lines of a tensor."""
        for dims, hashes in line_hashes(bits, list(dims_of(bits.shape))).items():
            self._parts.append((hashes.reshape(-1), len(self._owners)))
            self._owners.append((tensor, dims))
        self._sorted = None

    def _arrays(self) -> Any:
        import numpy

        if self._sorted is None:
            none = numpy.zeros(0, numpy.uint64)
            hashes = numpy.concatenate([none, *(part for part, _ in self._parts)])
            owners = numpy.concatenate(
                [none.astype(numpy.int32), *(numpy.full(len(part), n, numpy.int32) for part, n in self._parts)]
            )
            lines = numpy.concatenate(
                [none.astype(numpy.int64), *(numpy.arange(len(part), dtype=numpy.int64) for part, _ in self._parts)]
            )
            order = numpy.argsort(hashes, kind="stable")
            self._sorted = hashes[order], owners[order], lines[order]
        return self._sorted

    def _hit(self, owner: int, line: int) -> Hit:
        tensor, dims = self._owners[owner]
        return Hit(tensor, dims, line)

    def found(self, hashes: Any, zeros: Any) -> list[list[Hit]] | None:
        """Return where lines are, each with some places; `None` where one is nowhere.

        Lines of zeros, whose hash is `zeros`, may be nowhere.
        """
        import numpy

        known, owners, lines = self._arrays()
        flat = hashes.reshape(-1)
        left = numpy.searchsorted(known, flat, "left")
        right = numpy.searchsorted(known, flat, "right")
        if not len(flat) or ((left == right) & (flat != zeros)).any():
            return None
        return [
            [self._hit(int(owners[at]), int(lines[at])) for at in range(a, min(b, a + _PLACES))]
            for a, b in zip(left.tolist(), right.tolist(), strict=True)
        ]
