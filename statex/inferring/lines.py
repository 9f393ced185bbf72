"""Hashes of lines: of a tensor as a whole, of its rows, of its columns, of all there is along some dims.

The hash of a line is that of the set of its elements with their number: whatever order they stand in, so that one
pass gives the hashes along all dims, and a line is found again wherever it went.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import combinations
from math import prod
from typing import Any

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
    if not bits.shape:
        # One element is a line by itself, as in a vector of length 1.
        return {dims: line_hashes(bits.reshape(1), [()])[()] for dims in kept}
    rows = rows_at_once(bits.shape)
    return hashes_of_parts(bits.shape, (bits[at : at + rows] for at in range(0, bits.shape[0], rows)), kept)


def rows_at_once(shape: Sequence[int]) -> int:
    """Return how many rows of a tensor are hashed at a time."""
    return max(1, _CHUNK // max(1, prod(shape[1:])))


def hashes_of_parts(shape: tuple[int, ...], parts: Iterable[Any], kept: Sequence[Dims]) -> dict[Dims, Any]:
    """Return the hashes of the lines of a tensor that is given by a few rows at a time."""
    import numpy

    sums: dict[Dims, Any] = {dims: numpy.zeros([shape[d] for d in dims], numpy.uint64) for dims in kept}
    golden = numpy.uint64(0x9E3779B97F4A7C15)
    start = 0
    with numpy.errstate(over="ignore"):
        for rows in parts:
            part = rows.astype(numpy.uint64)
            part += golden
            part = mixed(part)
            for dims in kept:
                rest = tuple(d for d in range(len(shape)) if d not in dims)
                found = part.sum(axis=rest, dtype=numpy.uint64) if rest else part
                if dims and dims[0] == 0:
                    sums[dims][start : start + len(rows)] = found
                else:
                    sums[dims] += found
            start += len(rows)
        return {
            dims: mixed((total + _mixed_one(prod(shape) // max(1, total.size))).reshape(-1)).reshape(total.shape)
            for dims, total in sums.items()
        }


@lru_cache(1 << 12)
def hash_of_zeros(length: int) -> Any:
    """Return the hash of a line of zeros."""
    import numpy

    with numpy.errstate(over="ignore"):
        return _mixed_one(int(_mixed_one(0x9E3779B97F4A7C15) * numpy.uint64(length) + _mixed_one(length)))


@lru_cache(1 << 12)
def _mixed_one(number: int) -> Any:
    import numpy

    return mixed(numpy.array([number], numpy.uint64))[0]
