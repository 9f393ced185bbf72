"""The ways to the disk: through the page cache, or past it."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from statex.checkpoint.io.cached_file import CachedFile
from statex.checkpoint.io.input_file import Buffer, Extent
from statex.core.progress import Watch


class Sink(Protocol):
    """A way to the disk: appends bytes, and regions of inputs."""

    def append(self, data: Buffer) -> None:
        """Write bytes."""

    def copy(self, extent: Extent) -> None:
        """Write a region of an input."""

    def copy_read(self, extent: Extent, crc: int) -> int:
        """Write a region of an input; return the CRC-32 that `crc` goes on to."""

    def finish(self) -> None:
        """Wait until all of it is on the disk.

        Raises:
            OSError: whatever the disk says, now or before.
        """

    def close(self) -> None:
        """End what goes on beside; the file can be closed then."""


def open_sink(path: Path, fd: int, watch: Watch, *, large: bool) -> Sink:
    """Return the way to the disk for a file that is open for writing; `watch` hears of its bytes.

    One of a `large` output goes past the page cache, where its file system lets us.
    """
    if large:
        from statex.checkpoint.io.direct_file import open_direct

        direct = open_direct(path, fd, watch)
        if direct is not None:
            return direct
    return CachedFile(fd, watch)
