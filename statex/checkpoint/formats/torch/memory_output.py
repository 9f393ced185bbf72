"""An output in memory, for archives inside other files: non-tensor values of distributed checkpoints."""

from __future__ import annotations

from collections.abc import Iterator

from statex.checkpoint.blobs.contents import Blob, Made, Moved
from statex.checkpoint.blobs.output_file import OutputFile
from statex.checkpoint.io.crc import crc32
from statex.checkpoint.io.input_file import SLICE, Buffer


class MemoryOutput(OutputFile):
    """Takes what an `OutputFile` takes, and keeps it in `data`."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.position = 0

    def reserve(self, nbytes: int) -> None:
        """Do nothing: memory is there or is not."""

    def write(self, data: Buffer) -> None:
        """Append bytes."""
        self.data += data
        self.position = len(self.data)

    def write_blob(self, blob: Blob, *, crc: bool, check: bool = False) -> int | None:
        """Append the bytes of a blob, which are compared with the checksums that are recorded for them."""
        value = 0
        for buffer in _buffers(blob):
            value = crc32(buffer, value)
            self.write(buffer)
        if isinstance(blob, Made):
            blob.crc = value  # by which what is read back is compared
        return value


def _buffers(blob: Blob) -> Iterator[Buffer]:
    if isinstance(blob, Made):
        yield from blob.buffers()
    elif isinstance(blob, Moved):
        for run in blob.runs:
            run.stored.check()
            for at in range(0, run.nbytes, SLICE):
                yield run.extent.file.read(run.extent.offset + at, min(SLICE, run.nbytes - at))
