"""How the values of two tensors differ: read side by side in pieces, equal in bits or by how much."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from itertools import islice, starmap
from math import inf, isnan, nan
from typing import Any

from statex.checkpoint.contents import Blob, Moved, OutTensor
from statex.diagnostics.amounts import counted
from statex.dtypes import DType, Kind
from statex.execute.elements import PIECE, Elements, cached, numbers, part_of
from statex.execute.kernels import NUMPY
from statex.header import TensorType

_PART = 8 * PIECE
"""Elements of a tensor that one thread compares at a time."""
_AHEAD = 4
"""Parts that are under way at a time."""


@dataclass(frozen=True)
class Difference:
    """How the values of two tensors of one shape differ.

    `elements` counts those that differ by more than the tolerance, of `numel`. `absolute` is the largest difference,
    `relative` the largest in relation to the value of the second tensor; both are `inf` where only one side is
    infinite, and `nan` where only one is NaN. NaNs of both sides are equal. Numbers that differ within the tolerance
    count as `within`, those that differ in bits alone (0.0 and -0.0, the payloads of NaNs) as `bits`. With `of_bytes`
    bytes were compared, whose dtype says nothing of numbers.
    """

    numel: int
    elements: int = 0
    absolute: float = 0.0
    relative: float = 0.0
    bits: int = 0
    within: int = 0
    of_bytes: bool = False

    @property
    def is_nothing(self) -> bool:
        """True where no value differs by more than the tolerance; bits of equal values may."""
        return not self.elements

    @property
    def is_equal(self) -> bool:
        """True where all values are equal in bits."""
        return not (self.elements or self.bits or self.within)

    @property
    def badness(self) -> float:
        """What sorts the worst difference after the others: the largest absolute one, infinite for a NaN."""
        return inf if isnan(self.absolute) else self.absolute if self.elements else -1.0

    def __str__(self) -> str:
        """Say how the values differ."""
        if self.of_bytes:
            return f"{self.elements} of {counted(self.numel, 'byte')} {'differs' if self.elements == 1 else 'differ'}"
        of = f"of {counted(self.numel, 'element')}"
        if self.is_nothing and self.within:
            return f"within the tolerance, {self.within} {of} not equal"
        if self.is_nothing:
            return f"equal, but for the bits of {self.bits} {of}"
        return f"max abs {self.absolute:.3g}, max rel {self.relative:.3g}, {self.elements} {of}"

    def joined(self, other: Difference) -> Difference:
        """Return the difference of both parts together."""
        return Difference(
            self.numel + other.numel,
            self.elements + other.elements,
            _larger(self.absolute, other.absolute),
            _larger(self.relative, other.relative),
            self.bits + other.bits,
            self.within + other.within,
            self.of_bytes or other.of_bytes,
        )


def _larger(one: float, other: float) -> float:
    return nan if isnan(one) or isnan(other) else max(one, other)


def compare_values(
    one: OutTensor, other: OutTensor, *, rtol: float = 0.0, atol: float = 0.0, pool: Executor | None = None
) -> Iterator[Difference]:
    """Compare two tensors of one shape part by part, whose dtypes may differ; yield the difference of each part.

    `|a - b| <= atol + rtol * |b|` is no difference. A `pool` of threads compares several parts of large tensors at
    once.

    A finite number and an infinite one differ, as in `torch.allclose`.

    Raises:
        StatexError: SX601, SX604, SX609 for their files.
    """
    if one.type.dtype.kind is Kind.RAW:
        yield _compared_bytes(one.blob, other.blob)
        return
    compare = partial(_compared, first=one.type.dtype, second=other.type.dtype, rtol=rtol, atol=atol)
    if one.type.numel <= _PART or not (isinstance(one.blob, Moved) and isinstance(other.blob, Moved)):
        yield compare(one.blob, other.blob, one.type.numel)
        return
    parts = _parts(one.blob, other.blob, one.type, other.type.dtype.itemsize)
    yield from starmap(compare, parts) if pool is None else _at_once(pool, compare, parts)


def _parts(one: Moved, other: Moved, type: TensorType, size: int) -> Iterator[tuple[Blob, Blob, int]]:
    own = type.dtype.itemsize
    for start in range(0, type.numel, _PART):
        count = min(_PART, type.numel - start)
        yield part_of(one, start * own, count * own), part_of(other, start * size, count * size), count


def _at_once(
    pool: Executor, compare: Callable[..., Difference], parts: Iterator[tuple[Blob, Blob, int]]
) -> Iterator[Difference]:
    """Yield the differences of parts in their order; a few of them are under way at a time."""
    pending = deque(pool.submit(compare, *part) for part in islice(parts, _AHEAD))
    try:
        while pending:
            yield pending.popleft().result()
            pending.extend(pool.submit(compare, *part) for part in islice(parts, 1))
    finally:
        for one in pending:
            one.cancel()


def _compared(
    one: Blob, other: Blob, numel: int, *, first: DType, second: DType, rtol: float, atol: float
) -> Difference:
    left, right = Elements(one, first.itemsize), Elements(other, second.itemsize)
    found = Difference(0)
    equal = 0
    for start in range(0, numel, PIECE):
        count = min(PIECE, numel - start)
        a, b = left.take(count), right.take(count)
        # Whole buffers are compared by `memcmp`, views of them byte by byte.
        if first is second and (left.buffer == right.buffer if len(a) == len(left.buffer) else bytes(a) == bytes(b)):
            equal += count
        else:
            for x, y in zip(cached(a, first), cached(b, second), strict=True):
                found = found.joined(_piece(x, y, first, second, rtol, atol))
    return found.joined(Difference(equal))


def _compared_bytes(one: Blob, other: Blob) -> Difference:
    import numpy

    left, right = Elements(one, 1), Elements(other, 1)
    differing = 0
    for start in range(0, one.nbytes, PIECE):
        count = min(PIECE, one.nbytes - start)
        a, b = (numpy.frombuffer(side.take(count), numpy.uint8) for side in (left, right))
        differing += int((a != b).sum())
    apart = nan if differing else 0.0
    return Difference(one.nbytes, differing, apart, apart, of_bytes=True)


def _piece(a: memoryview, b: memoryview, first: DType, second: DType, rtol: float, atol: float) -> Difference:
    import numpy

    x, y = numbers(a, first), numbers(b, second)
    with numpy.errstate(all="ignore"):
        both_nan = numpy.isnan(x) & numpy.isnan(y)
        apart = (x != y) & ~both_nan
        absolute = numpy.abs(numpy.subtract(x, y))
        if first is second and first.kind is Kind.INT:
            # Large ones may be one number as doubles.
            whole, others = numpy.frombuffer(a, NUMPY[first.name]), numpy.frombuffer(b, NUMPY[first.name])
            apart = whole != others
            absolute = _apart(whole, others)
        # Where only one side is infinite, any share of it is infinite as well, and still that is no agreement.
        differing = apart & ~(numpy.isfinite(absolute) & (absolute <= atol + rtol * numpy.abs(y)))
        relative = numpy.where(numpy.isinf(absolute), inf, absolute / numpy.abs(y))
    unequal, count = int(apart.sum()), int(differing.sum())
    bits = _differing_bits(a, b, first) - unequal if first is second else 0
    if not count:
        return Difference(len(x), bits=bits, within=unequal)
    worst = _most(absolute[differing]), _most(relative[differing])
    return Difference(len(x), count, *worst, bits, unequal - count)


def _apart(one: Any, other: Any) -> Any:
    """Return how far integers are apart, as doubles: subtracted exactly, and rounded after that."""
    import numpy

    larger, smaller = (which(one, other).astype(numpy.uint64) for which in (numpy.maximum, numpy.minimum))
    return (larger - smaller).astype(numpy.float64)


def _most(values: Any) -> float:
    """Return the largest of several numbers; NaN where one is NaN."""
    import numpy

    return nan if numpy.isnan(values).any() else min(float(values.max()), inf)


def _differing_bits(a: memoryview, b: memoryview, dtype: DType) -> int:
    """Return the number of elements that are not equal in bits."""
    import numpy

    x, y = (numpy.frombuffer(data, numpy.uint8).reshape(-1, dtype.itemsize) for data in (a, b))
    return int((x != y).any(axis=1).sum())
