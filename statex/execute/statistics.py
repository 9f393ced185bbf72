"""Statistics of the values of tensors, read once in pieces; the parts are combined exactly."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, sqrt
from typing import Any

from statex.checkpoint.blobs.contents import OutTensor
from statex.core.dtypes import DType, Kind
from statex.core.progress import Add, unheard
from statex.execute.elements import PIECE, Elements, cached, numbers
from statex.execute.kernels.by_numpy import NUMPY


@dataclass(frozen=True)
class Statistics:
    """Of the finite numbers of a tensor (of complex ones their magnitudes): how many, and how they are spread.

    `nan` and `inf` count those that are not finite, which nothing else takes into account. `squares` is the sum of the
    squared distances from the mean. `least` and `most` of integers are exact.
    """

    finite: int = 0
    least: float | int = inf
    most: float | int = -inf
    mean: float = 0.0
    squares: float = 0.0
    nan: int = 0
    inf: int = 0

    @property
    def std(self) -> float | None:
        """The standard deviation as `torch.std` has it (divided by n - 1); `None` for fewer than two numbers."""
        return sqrt(self.squares / (self.finite - 1)) if self.finite > 1 else None

    def joined(self, other: Statistics) -> Statistics:
        """Return the statistics of both parts together (the update of Chan, Golub and LeVeque)."""
        nan, infinite = self.nan + other.nan, self.inf + other.inf
        if not self.finite or not other.finite:
            some = self if self.finite else other
            return Statistics(some.finite, some.least, some.most, some.mean, some.squares, nan, infinite)
        count = self.finite + other.finite
        apart = other.mean - self.mean
        share = other.finite / count
        return Statistics(
            count,
            min(self.least, other.least),
            max(self.most, other.most),
            self.mean + apart * share,
            self.squares + other.squares + apart * apart * self.finite * share,
            nan,
            infinite,
        )


def statistics(tensor: OutTensor, added: Add = unheard) -> Statistics | None:
    """Return the statistics of a tensor, `None` if its elements are not known as numbers by themselves.

    A tensor that a file holds as it is, is read in pieces; `added` is told of their bytes.

    Raises:
        StatexError: SX601, SX604, SX609 for its file.
    """
    dtype, numel = tensor.type.dtype, tensor.type.numel
    if dtype.kind in (Kind.QUANTIZED, Kind.RAW):
        return None
    elements = Elements(tensor.blob, dtype.itemsize)
    found = Statistics()
    for start in range(0, numel, PIECE):
        piece = elements.take(min(PIECE, numel - start))
        for part in cached(piece, dtype):
            found = found.joined(_piece(part, dtype))
        added(len(piece))
    return found


def _piece(data: memoryview, dtype: DType) -> Statistics:
    import numpy

    values = numbers(data, dtype)
    with numpy.errstate(all="ignore"):
        if dtype.is_complex:
            nan = int(numpy.isnan(values).sum())
            infinite = int((numpy.isinf(values) & ~numpy.isnan(values)).sum())
            values = numpy.abs(values[numpy.isfinite(values)])
        else:
            nan, infinite = int(numpy.isnan(values).sum()), int(numpy.isinf(values).sum())
            values = values[numpy.isfinite(values)] if nan or infinite else values
        if not len(values):
            return Statistics(nan=nan, inf=infinite)
        mean = float(values.mean())
        squares = float(numpy.square(values - mean).sum())
    least, most = _extremes(data, values, dtype)
    return Statistics(len(values), least, most, mean, squares, nan, infinite)


def _extremes(data: memoryview, values: Any, dtype: DType) -> tuple[float | int, float | int]:
    if dtype.kind is not Kind.INT:
        return float(values.min()), float(values.max())
    import numpy

    exact = numpy.frombuffer(data, NUMPY[dtype.name])  # a double does not have all of 64 bits
    return int(exact.min()), int(exact.max())
