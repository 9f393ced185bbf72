"""The elements of a strided tensor, one after the other."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import Any

from statex.checkpoint.contents import Buffer
from statex.checkpoint.input_file import Stored
from statex.header import TensorInfo

_CHUNK = 1 << 22
"""Bytes that are read and gathered at a time, where the tensor's strides allow."""
_BITS = {1: "u1", 2: "<u2", 4: "<u4", 8: "<u8", 16: "<c16"}
"""numpy's types for elements of so many bytes; they are only moved."""

Dims = tuple[int, ...]


def gathered(info: TensorInfo) -> Iterator[Buffer]:
    """Yield the bytes of a contiguous copy, a part at a time; no byte is read for more than one part.

    Raises:
        StatexError: SX604 where the storage does not have the checksum that is recorded.
    """
    stored: Stored = info.handle  # type: ignore[assignment]
    stored.check()
    for offset, shape, strides in _parts(info.type.dtype.itemsize, info.offset, info.type.shape, info.strides):
        for part in _pieces(strided(info, offset, shape, strides)):
            yield part.tobytes()


def held(info: TensorInfo) -> int:
    """Return how many bytes of an input `gathered` has in memory at once, at most."""
    size = info.type.dtype.itemsize
    parts = _parts(size, info.offset, info.type.shape, info.strides)
    return max((_reach(shape, strides) * size for _, shape, strides in parts), default=0)


def _parts(size: int, offset: int, shape: Dims, strides: Dims) -> Iterator[tuple[int, Dims, Dims]]:
    """Yield parts of a tensor, in order, that reach over few bytes, or whose rows lie between one another."""
    if not prod(shape):
        return
    if _reach(shape, strides) * size <= _CHUNK:
        yield offset, shape, strides
        return
    row = _reach(shape[1:], strides[1:])
    if shape[0] > 1 and strides[0] < row:
        # As in a transpose, each row reaches over what the next ones are made of.
        yield offset, shape, strides
    elif row * size > _CHUNK:
        for index in range(shape[0]):
            yield from _parts(size, offset + index * strides[0], shape[1:], strides[1:])
    else:
        rows = 1 + (_CHUNK // size - row) // strides[0]
        for start in range(0, shape[0], rows):
            yield offset + start * strides[0], (min(rows, shape[0] - start), *shape[1:]), strides


def _reach(shape: Dims, strides: Dims) -> int:
    return 1 + sum((n - 1) * s for n, s in zip(shape, strides, strict=True))


def _pieces(array: Any) -> Iterator[Any]:
    """Yield parts of an array, in order, that have few bytes: a broadcast one may have many more than it is made of."""
    if array.nbytes <= _CHUNK or not array.ndim:
        yield array
        return
    rows = _CHUNK * len(array) // array.nbytes
    if not rows:
        for part in array:
            yield from _pieces(part)
        return
    for start in range(0, len(array), rows):
        yield array[start : start + rows]


def strided(info: TensorInfo, offset: int, shape: Dims, strides: Dims) -> Any:
    """Return a part of a tensor's storage as a numpy array of its bits; only the bytes it reaches over are read."""
    import numpy

    size = info.type.dtype.itemsize
    stored: Stored = info.handle  # type: ignore[assignment]
    data = bytearray(_reach(shape, strides) * size)
    stored.extent.file.read_into(stored.extent.offset + offset * size, memoryview(data))
    bits = numpy.frombuffer(data, dtype=_BITS[size])
    return numpy.lib.stride_tricks.as_strided(bits, shape, [s * size for s in strides], writeable=False)
