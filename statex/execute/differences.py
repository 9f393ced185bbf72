"""How the values of two tensors differ: read side by side in pieces, equal in bits or by how much."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import inf, isnan, nan
from typing import Any

from statex.checkpoint.contents import Blob, Buffer, Made, Moved, OutTensor
from statex.dtypes import DType, Kind
from statex.execute.kernels import NUMPY
from statex.torch_dtypes import torch_dtype

_ELEMENTS = 1 << 16
"""Elements that are compared at a time: of both sides they stay in the processor's cache."""


@dataclass(frozen=True)
class Difference:
    """How the values of two tensors of one shape differ.

    `elements` counts those that differ by more than the tolerance, of `numel`. `absolute` is the largest difference,
    `relative` the largest in relation to the value of the second tensor; both are `inf` where only one side is
    infinite, and `nan` where only one is NaN. NaNs of both sides are equal. Numbers that differ within the tolerance
    count as `within`, those that differ in bits alone (0.0 and -0.0, the payloads of NaNs) as `bits`.
    """

    numel: int
    elements: int = 0
    absolute: float = 0.0
    relative: float = 0.0
    bits: int = 0
    within: int = 0

    @property
    def is_nothing(self) -> bool:
        """True where no value differs by more than the tolerance; bits of equal values may."""
        return not self.elements

    @property
    def is_equal(self) -> bool:
        """True where all values are equal in bits."""
        return not (self.elements or self.bits or self.within)

    def joined(self, other: Difference) -> Difference:
        """Return the difference of both parts together."""
        return Difference(
            self.numel + other.numel,
            self.elements + other.elements,
            _larger(self.absolute, other.absolute),
            _larger(self.relative, other.relative),
            self.bits + other.bits,
            self.within + other.within,
        )


def _larger(one: float, other: float) -> float:
    return nan if isnan(one) or isnan(other) else max(one, other)


def compare_values(one: OutTensor, other: OutTensor, *, rtol: float = 0.0, atol: float = 0.0) -> Difference:
    """Compare two tensors of one shape, whose dtypes may differ; `|a - b| <= atol + rtol * |b|` is no difference.

    A finite number and an infinite one differ, as in `torch.allclose`.

    Raises:
        StatexError: SX601, SX604, SX609 for their files.
    """
    import numpy

    numel = one.type.numel
    left, right = _Pieces(one.blob, one.type.dtype.itemsize), _Pieces(other.blob, other.type.dtype.itemsize)
    same = one.type.dtype is other.type.dtype
    found = Difference(0)
    for start in range(0, numel, _ELEMENTS):
        count = min(_ELEMENTS, numel - start)
        a, b = left.take(count), right.take(count)
        if same and numpy.array_equal(_words(a, numpy), _words(b, numpy)):
            found = Difference(start + count) if found.is_equal else found.joined(Difference(count))
            continue
        found = found.joined(_piece(a, b, one.type.dtype, other.type.dtype, rtol, atol))
    return found


class _Pieces:
    """The bytes of a blob, so many elements at a time."""

    def __init__(self, blob: Blob, itemsize: int) -> None:
        import numpy

        self._itemsize = itemsize
        self._data: memoryview = numpy.empty(_ELEMENTS * itemsize, numpy.uint8).data
        self._read = _moved(blob) if isinstance(blob, Moved) else _made(blob)
        next(self._read)

    def take(self, count: int) -> memoryview:
        """Return the next elements; they are overwritten by the next call."""
        part = self._data[: count * self._itemsize]
        self._read.send(part)
        return part


Filler = Any
"""A generator that fills each buffer that is sent to it with the bytes that come next."""


def _moved(blob: Moved) -> Filler:
    part = yield
    at = 0
    for run in blob.runs:
        extent, done = run.extent, 0
        while done < extent.nbytes:
            count = min(len(part) - at, extent.nbytes - done)
            extent.file.read_into(extent.offset + done, part[at : at + count])
            done, at = done + count, at + count
            if at == len(part):
                part, at = (yield), 0


def _made(blob: Blob) -> Filler:
    assert isinstance(blob, Made)
    part = yield
    at = 0
    for buffer in _plain(blob.buffers()):
        done = 0
        while done < len(buffer):
            count = min(len(part) - at, len(buffer) - done)
            part[at : at + count] = buffer[done : done + count]
            done, at = done + count, at + count
            if at == len(part):
                part, at = (yield), 0


def _plain(buffers: Iterator[Buffer]) -> Iterator[memoryview]:
    return (memoryview(buffer).cast("B") for buffer in buffers)


def _words(data: memoryview, numpy: Any) -> Any:
    return numpy.frombuffer(data, numpy.uint64 if len(data) % 8 == 0 else numpy.uint8)


def _piece(a: memoryview, b: memoryview, first: DType, second: DType, rtol: float, atol: float) -> Difference:
    import numpy

    x, y = _numbers(a, first), _numbers(b, second)
    with numpy.errstate(all="ignore"):
        both_nan = numpy.isnan(x) & numpy.isnan(y)
        apart = (x != y) & ~both_nan
        absolute = numpy.abs(numpy.subtract(x, y))
        if first is second and first.kind is Kind.INT:
            # Large ones may be one number as doubles.
            whole, others = numpy.frombuffer(a, NUMPY[first.name]), numpy.frombuffer(b, NUMPY[first.name])
            apart = whole != others
            absolute = _apart(whole, others)
        differing = apart & ~(numpy.isfinite(absolute) & (absolute <= atol + rtol * numpy.abs(y)))
        relative = numpy.where(numpy.isinf(absolute), inf, absolute / numpy.abs(y))
    bits = _differing_bits(a, b, first) - int(apart.sum()) if first is second else 0
    count = int(differing.sum())
    within = int(apart.sum()) - count
    if not count:
        return Difference(len(x), bits=bits, within=within)
    return Difference(len(x), count, _most(absolute[differing]), _most(relative[differing]), bits, within)


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


def _numbers(data: memoryview, dtype: DType) -> Any:
    """Return numbers as numpy subtracts them without overflow: float64, or complex128."""
    import numpy

    if dtype.name == "bfloat16":
        wide = numpy.frombuffer(data, "<u2").astype(numpy.uint32) << 16
        return wide.view(numpy.float32).astype(numpy.float64)
    if dtype.name in NUMPY:
        array = numpy.frombuffer(data, NUMPY[dtype.name])
        return array.astype(numpy.complex128 if dtype.is_complex else numpy.float64)
    import torch

    tensor = torch.frombuffer(bytearray(data), dtype=torch_dtype(torch, dtype.name))
    return tensor.to(torch.complex128 if dtype.kind is Kind.COMPLEX else torch.float64).numpy()
