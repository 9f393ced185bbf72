"""Input files: opened once, read by position, and checked for changes during the run.

Nothing is mapped into memory: a mapped file that shrinks would kill the process.
"""

from __future__ import annotations

import os
import stat
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from statex.checkpoint.io.crc import crc32
from statex.core.progress import Add, unheard
from statex.core.record import record
from statex.diagnostics import fail
from statex.diagnostics.codes import files as codes

Buffer = bytes | bytearray | memoryview
"""Bytes; who made a mutable buffer does not change it afterwards."""

SLICE = 256 * 1024
"""Bytes that are read at a time where a whole region need not be in memory: they stay in the processor's cache."""
_NEAR, _WINDOW = 2048, 16384
"""A read of so few bytes takes as many as the second number says: those behind are mostly wanted next."""


class InputFile:
    """A regular file open for reading, and what it was like when it was opened."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self.fd = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NONBLOCK", 0))
        except (OSError, ValueError) as error:  # ValueError: a name with a NUL
            reason = error.strerror if isinstance(error, OSError) else None
            fail(codes.UNREADABLE, f"`{path}` cannot be read: {reason or error}")
        self._opened = os.fstat(self.fd)
        if not stat.S_ISREG(self._opened.st_mode):
            os.close(self.fd)
            fail(codes.NOT_A_CHECKPOINT, f"`{path}` is not a regular file")
        self.size = self._opened.st_size
        self._base = 0
        self._window = b""
        self._window_start = 0

    @property
    def start(self) -> int:
        """Where it begins in what its descriptor is of."""
        return self._base

    def part(self, start: int, count: int) -> InputFile:
        """Return a part of the file as a file of its own, which is closed with it; only reading goes through it."""
        part = copy(self)
        part._base, part.size, part._window = self._base + start, count, b""
        return part

    def read(self, offset: int, count: int) -> bytes:
        """Return exactly `count` bytes from `offset` on.

        Raises:
            StatexError: SX604 where the file ends before, SX601 where the system refuses, SX609 where it has shrunk.
        """
        if offset < 0 or count < 0 or offset + count > self.size:
            self.damaged(f"bytes {offset} to {offset + count} are beyond its end at {self.size}")
        if count > _NEAR:
            return self._read(offset, count)
        at = offset - self._window_start
        if at < 0 or at + count > len(self._window):
            self._window = self._read(offset, min(_WINDOW, self.size - offset))
            self._window_start, at = offset, 0
        return self._window[at : at + count]

    def _read(self, offset: int, count: int) -> bytes:
        try:
            found = os.pread(self.fd, count, self.start + offset)
            while len(found) < count:
                more = os.pread(self.fd, count - len(found), self.start + offset + len(found))
                if not more:
                    self.check_unchanged()
                    self.damaged(f"it ends at byte {offset + len(found)}")
                found += more
        except OSError as error:
            self._unreadable(error)
        return found

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Fill a buffer with the bytes from `offset` on; errors as `read`."""
        done = 0
        if offset < 0 or offset + len(buffer) > self.size:
            self.damaged(f"bytes {offset} to {offset + len(buffer)} are beyond its end at {self.size}")
        try:
            while done < len(buffer):
                count = os.preadv(self.fd, [buffer[done:]], self.start + offset + done)
                if not count:
                    self.check_unchanged()
                    self.damaged(f"it ends at byte {offset + done}")
                done += count
        except OSError as error:
            self._unreadable(error)

    def _unreadable(self, error: OSError) -> NoReturn:
        if self.fd < 0:
            what = f"`{self.path}` was closed, and something that was read from it still has tensors there"
            fail(codes.UNREADABLE, what, help="convert the file itself: statex.convert(PATH, …)")
        fail(codes.UNREADABLE, f"`{self.path}` cannot be read: {error.strerror or error}")

    def crc32(self, offset: int, count: int, added: Add = unheard) -> int:
        """Return the CRC-32 of a region, read in slices; `added` is told of their bytes."""
        crc, end = 0, offset + count
        buffer = memoryview(bytearray(min(SLICE, count)))
        while offset < end:
            part = buffer[: min(SLICE, end - offset)]
            self.read_into(offset, part)
            crc = crc32(part, crc)
            offset += len(part)
            added(len(part))
        return crc

    def check_unchanged(self) -> None:
        """Refuse to go on where the file has been written to since it was opened.

        Raises:
            StatexError: SX609.
        """
        now = os.fstat(self.fd)
        before = self._opened
        if (now.st_size, now.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
            fail(codes.CHANGED, f"`{self.path}` was changed while it was read", help="run again when it is complete")

    def damaged(self, why: str) -> NoReturn:
        """Raise the diagnostic of a damaged file."""
        fail(codes.DAMAGED, f"`{self.path}` is damaged: {why}", help="fetch the file again, and compare its size")

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


@record
class Extent:
    """A run of bytes in an input file."""

    file: InputFile
    offset: int
    nbytes: int

    def part(self, start: int, nbytes: int) -> Extent:
        """Return a part of it, `start` counted from its beginning."""
        return Extent(self.file, self.offset + start, nbytes)


@dataclass(slots=True, eq=False)
class Stored:
    """The bytes of one storage: where they are, the CRC-32 that the file records, and how the file calls them.

    `location` is the device that a torch file names.
    """

    extent: Extent
    crc: int | None = None
    name: str = ""
    location: str = "cpu"
    checked: bool = False

    @property
    def nbytes(self) -> int:
        """The number of bytes."""
        return self.extent.nbytes

    @property
    def unverified(self) -> bool:
        """True where a recorded CRC has not been compared yet."""
        return self.crc is not None and not self.checked

    def check(self, added: Add = unheard) -> None:
        """Compare the bytes with the recorded CRC, if there is one, unless that is done; `added` is told of them.

        Raises:
            StatexError: SX604.
        """
        if self.unverified:
            self.compare(self.extent.file.crc32(self.extent.offset, self.extent.nbytes, added))

    def compare(self, crc: int) -> None:
        """Compare the CRC of all the bytes with the recorded one.

        Raises:
            StatexError: SX604.
        """
        if self.crc is not None and crc != self.crc:
            self.extent.file.damaged(f"the bytes of `{self.name}` do not have the checksum that it records")
        self.checked = True


def inside(folder: Path, name: str, label: str) -> Path:
    """Return the path of a file in a folder that a file of it names; `label` is how messages call that one.

    It may be a link to elsewhere, as any program follows it: the files of the Hugging Face cache are such links.

    Raises:
        StatexError: SX603 for what is elsewhere, SX604 where there is no such file.
    """
    path = folder / name
    if os.path.basename(name) != name or name in ("", ".", ".."):
        fail(codes.UNSAFE, f"`{label}` names `{name}`, which is not in its own folder")
    if not os.path.exists(path):  # which says no, and does not raise, for names that no file can have
        fail(codes.DAMAGED, f"`{label}` is damaged: its shard `{name}` is missing")
    return path
