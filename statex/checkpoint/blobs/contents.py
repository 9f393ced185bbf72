"""The content of a file to be written: storages whose bytes are moved or computed, and tensors over them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from statex.checkpoint.io.crc import combined
from statex.checkpoint.io.input_file import SLICE, Buffer, Extent, InputFile, Stored
from statex.core.header import TensorType
from statex.core.record import record


class Blob:
    """The bytes of one storage of an output, `Moved` or `Made`; its identity tells which tensors share it."""

    __slots__ = ("location", "nbytes")

    def __init__(self, nbytes: int, location: str = "cpu") -> None:
        self.nbytes = nbytes
        self.location = location

    @property
    def origin(self) -> int | None:
        """Where the bytes stand in the file of an input, if they stand there one after the other."""
        return None

    def known_crc(self) -> int | None:
        """Return the CRC-32 of all bytes where inputs record it, so that nobody needs to read them for it."""
        return None


@record
class ByteRun:
    """A run of bytes of a storage of an input."""

    stored: Stored
    start: int
    nbytes: int

    @property
    def extent(self) -> Extent:
        """Where the bytes are."""
        return self.stored.extent if self.is_whole else self.stored.extent.part(self.start, self.nbytes)

    @property
    def is_whole(self) -> bool:
        """True where it is all of the storage."""
        return self.start == 0 and self.nbytes == self.stored.extent.nbytes


class Moved(Blob):
    """Bytes that stand in inputs already, run after run."""

    __slots__ = ("runs",)

    def __init__(self, runs: Sequence[ByteRun], location: str = "cpu") -> None:
        self.runs = merged(runs)
        # One alone is what nearly all have.
        self.nbytes = runs[0].nbytes if len(runs) == 1 else sum([run.nbytes for run in runs])
        self.location = location

    @classmethod
    def whole(cls, stored: Stored) -> Moved:
        """Return all the bytes of a storage."""
        return cls((ByteRun(stored, 0, stored.extent.nbytes),), stored.location)

    @property
    def origin(self) -> int | None:
        """Where the bytes stand in the file of an input, if they stand there one after the other."""
        if len(self.runs) != 1:
            return None
        extent = self.runs[0].extent
        return extent.file.start + extent.offset

    def known_crc(self) -> int | None:
        """Return the CRC-32 from those recorded for whole storages."""
        crc = 0
        for run in self.runs:
            own = run.stored.crc
            if own is None or not run.is_whole:
                return None
            crc = combined(crc, own, run.nbytes) if crc else own
        return crc


def merged(runs: Sequence[ByteRun]) -> tuple[ByteRun, ...]:
    """Return runs with neighbours in one storage made one, and empty ones left out."""
    if len(runs) == 1 and runs[0].nbytes:
        return tuple(runs)
    found: list[ByteRun] = []
    for run in runs:
        last = found[-1] if found else None
        if last is not None and last.stored is run.stored and last.start + last.nbytes == run.start:
            found[-1] = ByteRun(run.stored, last.start, last.nbytes + run.nbytes)
        elif run.nbytes:
            found.append(run)
    return tuple(found)


class Made(Blob):
    """Bytes that are computed when they are written; `buffers` yields them in their order.

    `held` is how many bytes of inputs that has in memory at once, where it is more than a buffer. `in_parts` says that
    the buffers are parts, so that one can be computed while another is written.
    """

    __slots__ = ("buffers", "crc", "held", "in_parts", "place")

    def __init__(
        self,
        nbytes: int,
        buffers: Callable[[], Iterator[Buffer]],
        location: str = "cpu",
        *,
        held: int = 0,
        in_parts: bool = False,
    ) -> None:
        super().__init__(nbytes, location)
        self.buffers = buffers
        self.in_parts = in_parts
        self.held = held
        self.crc: int | None = None
        """The CRC-32 of what was written, where somebody wants it."""
        self.place: tuple[Path, int] | None = None
        """The file that it was written to, and where in it."""


class Again(Made):
    """Bytes that an output written before this one holds."""

    __slots__ = ("before",)

    def __init__(self, before: Made) -> None:
        super().__init__(before.nbytes, self._buffers, before.location, in_parts=True)
        self.before = before

    def _buffers(self) -> Iterator[Buffer]:
        if not self.nbytes:
            return  # an archive of torch has no place for nothing
        assert self.before.place is not None, "outputs are written in their order"
        path, at = self.before.place
        file = InputFile(path)
        try:
            for start in range(at, at + self.nbytes, SLICE):
                yield file.read(start, min(SLICE, at + self.nbytes - start))
        finally:
            file.close()


@dataclass(slots=True, eq=False)
class OutTensor:
    """A tensor of an output: its place in a blob, in elements, and what torch keeps of it besides.

    The identity tells which keys hold the very same tensor.
    """

    type: TensorType
    blob: Blob
    offset: int
    stride: tuple[int, ...]
    is_parameter: bool = False
    requires_grad: bool = False
    attributes: Any = None
