"""The elements of a strided tensor, one after the other."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import Any

from statex.checkpoint.contents import Buffer
from statex.checkpoint.input_file import Stored
from statex.header import TensorInfo

_CHUNK = 1 << 22
"""Bytes that are gathered at a time, where a tensor's first dim allows."""
_BITS = {1: "u1", 2: "<u2", 4: "<u4", 8: "<u8", 16: "<c16"}
"""numpy's types for elements of so many bytes; they are only moved."""


def gathered(info: TensorInfo) -> Iterator[Buffer]:
    """Yield the bytes of a contiguous copy, some rows at a time."""
    shape, strides = info.type.shape, info.strides
    if not shape or not info.type.numel:
        yield _part(info, info.offset, (), ()) if info.type.numel else b""
        return
    row = prod(shape[1:]) * info.type.dtype.itemsize
    rows = max(1, _CHUNK // max(row, 1))
    for start in range(0, shape[0], rows):
        count = min(rows, shape[0] - start)
        yield _part(info, info.offset + start * strides[0], (count, *shape[1:]), strides)


def _part(info: TensorInfo, offset: int, shape: tuple[int, ...], strides: tuple[int, ...]) -> Buffer:
    return bytes(strided(info, offset, shape, strides).tobytes())


def strided(info: TensorInfo, offset: int, shape: tuple[int, ...], strides: tuple[int, ...]) -> Any:
    """Return a part of a tensor's storage as a numpy array of its bits; only the bytes it reaches over are read."""
    import numpy

    size = info.type.dtype.itemsize
    stored: Stored = info.handle  # type: ignore[assignment]
    reach = 1 + sum((n - 1) * s for n, s in zip(shape, strides, strict=True))
    data = bytearray(reach * size)
    stored.extent.file.read_into(stored.extent.offset + offset * size, memoryview(data))
    bits = numpy.frombuffer(data, dtype=_BITS[size])
    return numpy.lib.stride_tricks.as_strided(bits, shape, [s * size for s in strides], writeable=False)
