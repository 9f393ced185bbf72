"""The bytes of a value whose elements are in inputs, read from start to end, comparing checksums on the way."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from statex.checkpoint.blobs.contents import ByteRun
from statex.checkpoint.io.crc import crc32
from statex.checkpoint.io.input_file import Buffer


class SequentialReader(Protocol):
    """Reads part after part, in their order and each part once."""

    def read(self, start: int, nbytes: int) -> memoryview:
        """Return the next bytes, which begin at `start`."""


class SequentialBuffers:
    """Reads what comes in buffers of any size."""

    def __init__(self, buffers: Iterator[Buffer]) -> None:
        self._buffers = buffers
        self._rest = memoryview(b"")

    def read(self, start: int, nbytes: int) -> memoryview:
        """Return the next bytes, in memory of their own where they are of several buffers."""
        parts = []
        while nbytes:
            if not self._rest:
                self._rest = memoryview(next(self._buffers))
            parts.append(self._rest[:nbytes])
            self._rest = self._rest[len(parts[-1]) :]
            nbytes -= len(parts[-1])
        return parts[0] if len(parts) == 1 else memoryview(b"".join(parts))


class SequentialBytes:
    """Reads runs part after part, in their order and each part once; nothing is read before it is asked for.

    The checksum of a storage is compared when its last byte was read; where only some of it is read, beforehand.
    """

    def __init__(self, runs: Sequence[ByteRun]) -> None:
        self._runs = runs
        self._sums: dict[int, int] | None = None
        """The CRC-32 so far of each run that is to be compared."""

    def read(self, start: int, nbytes: int) -> memoryview:
        """Return the next bytes, which begin at `start`, in memory of their own.

        Raises:
            StatexError: SX604 where a storage does not have the checksum that is recorded.
        """
        import numpy

        if self._sums is None:
            self._sums = self._due()
        view: memoryview = numpy.empty(nbytes, numpy.uint8).data  # a bytearray would be filled with zeros first
        at = 0
        for number, run in enumerate(self._runs):
            first, last = max(start, at), min(start + nbytes, at + run.nbytes)
            if first < last:
                part = view[first - start : last - start]
                run.extent.file.read_into(run.extent.offset + first - at, part)
                if number in self._sums:
                    self._sums[number] = crc32(part, self._sums[number])
                    if last == at + run.nbytes:
                        run.stored.compare(self._sums.pop(number))
            at += run.nbytes
        return view

    def _due(self) -> dict[int, int]:
        sums = {}
        for number, run in enumerate(self._runs):
            if run.stored.unverified and run.is_whole:
                sums[number] = 0
            else:
                run.stored.check()
        return sums
