"""The differences between the values of two tensors, read side by side in pieces: equal in bits, or by how much."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from functools import partial
from math import inf, isfinite, isnan, nan
from typing import Any

from statex.checkpoint.blobs.contents import Blob, Moved, OutTensor
from statex.core.dtypes import DType, Kind
from statex.core.record import record
from statex.diagnostics.amounts import counted
from statex.execute.elements import Elements, cached, numbers, part_of
from statex.execute.kernels.by_numpy import NUMPY

_PART = 1 << 24
"""Bytes that one thread compares at a time, of a large tensor or of several small ones."""
_PIECE = 1 << 20
"""Bytes that are read of either side at a time."""
_AHEAD = 4
"""Batches of parts that are under way at a time."""


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


Pair = tuple[OutTensor, OutTensor]


@record
class _Part:
    """A part of a pair of tensors, or a pair as a whole."""

    number: int
    one: Blob
    other: Blob
    first: DType
    second: DType
    numel: int

    @property
    def nbytes(self) -> int:
        """The bytes of both sides."""
        return self.numel * (self.first.itemsize + self.second.itemsize)

    @property
    def is_stored(self) -> bool:
        """True where both sides stand in files."""
        return isinstance(self.one, Moved) and isinstance(self.other, Moved)


def compare_values(
    pairs: Sequence[Pair], pool: Executor, *, rtol: float = 0.0, atol: float = 0.0
) -> Iterator[tuple[int, Difference]]:
    """Compare pairs of tensors of one shape, whose dtypes may differ; yield the differences of parts of them.

    Each is that of a part of the pair with that number. Several parts are under way at a time, in the threads of a
    `pool`.

    `|a - b| <= atol + rtol * |b|` is no difference. A finite number and an infinite one differ, as in `torch.allclose`.

    Raises:
        StatexError: SX601, SX604, SX609 for their files.
    """
    compare = partial(_compared, rtol=rtol, atol=atol)
    parts = (part for number, pair in enumerate(pairs) for part in _parts(number, *pair))
    for found in _at_once(pool, compare, _batches(parts)):
        yield from found


def _parts(number: int, one: OutTensor, other: OutTensor) -> Iterator[_Part]:
    first, second = one.type.dtype, other.type.dtype
    whole = _Part(number, one.blob, other.blob, first, second, one.type.numel)
    most = _PART // max(first.itemsize, second.itemsize, 1)
    if first.kind is Kind.RAW or whole.numel <= most:
        yield whole
        return
    if not (isinstance(one.blob, Moved) and isinstance(other.blob, Moved)):
        yield whole
        return
    for start in range(0, whole.numel, most):
        count = min(most, whole.numel - start)
        left = part_of(one.blob, start * first.itemsize, count * first.itemsize)
        right = part_of(other.blob, start * second.itemsize, count * second.itemsize)
        yield _Part(number, left, right, first, second, count)


def _batches(parts: Iterable[_Part]) -> Iterator[list[_Part]]:
    """Yield parts together that are small; what is computed is alone."""
    batch: list[_Part] = []
    size = 0
    for part in parts:
        if not part.is_stored:
            yield [part]
            continue
        batch.append(part)
        size += part.nbytes
        if size >= _PART:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


Found = list[tuple[int, Difference]]


def _at_once(
    pool: Executor, compare: Callable[[list[_Part]], Found], batches: Iterable[list[_Part]]
) -> Iterator[Found]:
    """Yield the differences of batches in their order; a few of them are under way at a time."""
    pending: deque[Future[Found]] = deque()
    try:
        for batch in batches:
            if not batch[0].is_stored:
                yield compare(batch)  # what computes is for one thread
                continue
            pending.append(pool.submit(compare, batch))
            if len(pending) >= _AHEAD:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        for one in pending:
            one.cancel()


def _compared(parts: list[_Part], rtol: float, atol: float) -> Found:
    return [(part.number, _of_part(part, rtol, atol)) for part in parts]


class _Buffers(threading.local):
    """Where each thread reads the bytes of either side."""

    def __init__(self) -> None:
        self.left, self.right = bytearray(_PIECE), bytearray(_PIECE)


_buffers = _Buffers()


def _of_part(part: _Part, rtol: float, atol: float) -> Difference:
    first, second = part.first, part.second
    if first.kind is Kind.RAW:
        return _compared_bytes(part.one, part.other)
    most = _PIECE // max(first.itemsize, second.itemsize)
    buffer = _buffers.left
    left, right = Elements(part.one, first.itemsize, buffer), Elements(part.other, second.itemsize, _buffers.right)
    found = Difference(0)
    equal = 0
    for start in range(0, part.numel, most):
        count = min(most, part.numel - start)
        a, b = left.take(count), right.take(count)
        if first is second and buffer.startswith(b):  # which is `memcmp`; views themselves are compared byte by byte
            equal += count
        else:
            for x, y in zip(cached(a, first), cached(b, second), strict=True):
                found = found.joined(_piece(x, y, first, second, rtol, atol))
    return found.joined(Difference(equal))


def _compared_bytes(one: Blob, other: Blob) -> Difference:
    import numpy

    left, right = Elements(one, 1), Elements(other, 1)
    differing = 0
    for start in range(0, one.nbytes, _PIECE):
        count = min(_PIECE, one.nbytes - start)
        a, b = (numpy.frombuffer(side.take(count), numpy.uint8) for side in (left, right))
        differing += int((a != b).sum())
    apart = nan if differing else 0.0
    return Difference(one.nbytes, differing, apart, apart, of_bytes=True)


def _piece(a: memoryview, b: memoryview, first: DType, second: DType, rtol: float, atol: float) -> Difference:
    import numpy

    x, y = numbers(a, first), numbers(b, second)
    bits = _differing_bits(a, b, first) if first is second else None
    with numpy.errstate(all="ignore"):
        absolute = numpy.abs(numpy.subtract(x, y))
        if first is second and first.kind is Kind.INT:
            # Large ones may be one number as doubles.
            whole, others = numpy.frombuffer(a, NUMPY[first.name]), numpy.frombuffer(b, NUMPY[first.name])
            return _judged(_apart(whole, others), whole != others, y, bits, rtol, atol)
        if isfinite(absolute.max()):  # and so are all numbers: most tensors need no more
            return _finite(absolute, y, bits, rtol, atol)
        return _judged(absolute, (x != y) & ~(numpy.isnan(x) & numpy.isnan(y)), y, bits, rtol, atol)


def _finite(absolute: Any, y: Any, bits: int | None, rtol: float, atol: float) -> Difference:
    """Return the difference of finite numbers that are so far apart."""
    import numpy

    size = numpy.abs(y)
    differing = absolute > (atol + rtol * size if rtol or atol else 0.0)
    count = int(numpy.count_nonzero(differing))
    unequal = int(numpy.count_nonzero(absolute)) if rtol or atol else count
    if not count:
        return _counted(len(y), 0, unequal, bits)
    if count < len(y):
        absolute, size = absolute[differing], size[differing]
    return _counted(len(y), count, unequal, bits, float(absolute.max()), float((absolute / size).max()))


def _judged(absolute: Any, apart: Any, y: Any, bits: int | None, rtol: float, atol: float) -> Difference:
    """Return the difference of any numbers: `absolute` says how far they are apart, `apart` which are not equal."""
    import numpy

    # Where only one side is infinite, any share of it is infinite as well, and still that is no agreement.
    differing = apart & ~(numpy.isfinite(absolute) & (absolute <= atol + rtol * numpy.abs(y)))
    relative = numpy.where(numpy.isinf(absolute), inf, absolute / numpy.abs(y))
    unequal, count = int(apart.sum()), int(differing.sum())
    worst = (_most(absolute[differing]), _most(relative[differing])) if count else (0.0, 0.0)
    return _counted(len(y), count, unequal, bits, *worst)


def _counted(
    numel: int, count: int, unequal: int, bits: int | None, absolute: float = 0.0, relative: float = 0.0
) -> Difference:
    """Return a difference, of `unequal` numbers, of which so many differ by more than the tolerance.

    `bits` counts the elements that are not equal in bits, `None` if the dtypes are two.
    """
    return Difference(numel, count, absolute, relative, 0 if bits is None else bits - unequal, unequal - count)


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

    word = min(dtype.itemsize, 8)
    x, y = (numpy.frombuffer(data, f"u{word}") for data in (a, b))
    differing = x != y
    if word < dtype.itemsize:
        differing = differing.reshape(-1, dtype.itemsize // word).any(axis=1)
    return int(numpy.count_nonzero(differing))
