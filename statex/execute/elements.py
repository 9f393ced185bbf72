"""The elements of tensors as numbers, read in pieces, for comparing them and for summing them up."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import Any

from statex.checkpoint.blobs.contents import Blob, ByteRun, Made, Moved
from statex.checkpoint.io.input_file import Buffer
from statex.core.dtypes import DType
from statex.diagnostics.torch_dtypes import torch_dtype
from statex.execute.kernels.by_numpy import NUMPY

PIECE = 1 << 18
"""Elements that are read at a time."""
CACHED = 1 << 14
"""Elements that are computed with at a time: what numpy makes of them stays in the processor's cache."""


class Elements:
    """The bytes of the elements of a blob, read a piece at a time into one buffer, by default one of its own."""

    def __init__(self, blob: Blob, itemsize: int, buffer: Buffer | None = None) -> None:
        self._buffer = memoryview(bytearray(min(blob.nbytes, PIECE * itemsize)) if buffer is None else buffer)
        self._itemsize = itemsize
        self._read = _moved(blob) if isinstance(blob, Moved) else _made(blob)
        next(self._read)

    def take(self, count: int) -> memoryview:
        """Return the next elements, at most `PIECE` or what a buffer holds; they are overwritten by the next call.

        Raises:
            StatexError: SX601, SX604, SX609.
        """
        part = self._buffer[: count * self._itemsize]
        self._read.send(part)
        return part


_Filler = Generator[None, memoryview, None]
"""Fills each buffer that is sent to it with the bytes that come next."""


def _moved(blob: Moved) -> _Filler:
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


def _made(blob: Blob) -> _Filler:
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


def part_of(blob: Moved, start: int, nbytes: int) -> Moved:
    """Return a part of a blob, `start` counted from its beginning, in bytes."""
    runs: list[ByteRun] = []
    at = 0
    for run in blob.runs:
        low, high = max(start, at), min(start + nbytes, at + run.nbytes)
        if low < high:
            runs.append(ByteRun(run.stored, run.start + low - at, high - low))
        at += run.nbytes
    return Moved(runs, blob.location)


def cached(data: memoryview, dtype: DType) -> Iterator[memoryview]:
    """Yield the bytes of elements, `CACHED` elements at a time."""
    step = CACHED * dtype.itemsize
    return (data[start : start + step] for start in range(0, len(data), step))


def numbers(data: memoryview, dtype: DType) -> Any:
    """Return elements as numpy computes with them without overflow: an array of float64, or complex128."""
    import numpy

    with numpy.errstate(invalid="ignore"):  # a signalling NaN becomes a quiet one
        if dtype.name == "bfloat16":
            wide = numpy.frombuffer(data, "<u2").astype(numpy.uint32) << 16
            return wide.view(numpy.float32).astype(numpy.float64)
        if dtype.name in NUMPY:
            array = numpy.frombuffer(data, NUMPY[dtype.name])
            return array.astype(numpy.complex128 if dtype.is_complex else numpy.float64)
        if dtype.name == "complex32":  # torch says at each use that its own is experimental
            return numpy.frombuffer(data, "<f2").astype(numpy.float64).view(numpy.complex128)
    import torch

    tensor = torch.frombuffer(bytearray(data), dtype=torch_dtype(torch, dtype.name))
    return tensor.to(torch.float64).numpy()
