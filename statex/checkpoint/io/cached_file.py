"""The way to the disk: through the page cache, with bytes that only move copied by the kernel."""

from __future__ import annotations

import errno
import os

from statex.checkpoint.io.crc import crc32
from statex.checkpoint.io.input_file import Buffer, Extent
from statex.checkpoint.io.writeback import Writeback
from statex.core.progress import Watch

_UNSUPPORTED = frozenset(
    code for name in ("EXDEV", "ENOSYS", "EOPNOTSUPP", "ENOTSUP", "EINVAL", "EPERM", "EBADF")
    if (code := getattr(errno, name, None)) is not None
)  # fmt: skip
"""What a file system says that cannot copy between two files."""
_RUN = 1 << 26
"""Bytes the kernel copies in one call: enough to lose no time, little enough to report progress and hear signals."""
_ALIGNED = 1 << 17
"""Large writes go from one multiple of this to the next, and so do the pieces that the kernel copies: ext4 makes pages
in groups that way. Smaller groups take longer, larger ones take longer where little memory is free in one piece."""

PAGE = 4096
"""What the kernel copies by, and what file systems that can share (XFS, btrfs) share, from the start of one."""


class CachedFile:
    """Appends to a file that is open for writing; `watch` hears of its bytes."""

    def __init__(self, fd: int, watch: Watch) -> None:
        self._fd = fd
        self._watch = watch
        self._offset = 0
        """Bytes written so far."""
        self._kernel_copies = True
        self._sends = True
        self._writeback = Writeback(fd)

    def append(self, data: Buffer) -> None:
        """Write bytes."""
        view = memoryview(data).cast("B")
        while view:
            written = os.write(self._fd, view[: _ALIGNED - self._offset % _ALIGNED])
            view = view[written:]
            self._added(written)

    def copy(self, extent: Extent) -> None:
        """Write a region of an input."""
        # The kernel copies by pages: where bytes move within them, it takes half as long again as reading and writing.
        head = -self._offset % PAGE
        if (extent.file.start + extent.offset - self._offset) % PAGE or extent.nbytes < head + PAGE:
            self._slices(extent, None)
            return
        if head:
            self._slices(extent.part(0, head), None)
        done, pages = head, head + (extent.nbytes - head) // PAGE * PAGE
        while done < pages:
            count = min(pages - done, _RUN - self._offset % _ALIGNED)
            moved = self._kernel(extent, done, count)
            if not moved:
                break
            done += moved
            self._added(moved)
        if done < extent.nbytes:
            self._slices(extent.part(done, extent.nbytes - done), None)

    def copy_read(self, extent: Extent, crc: int) -> int:
        """Write a region of an input through memory; return the CRC-32 that `crc` goes on to."""
        return self._slices(extent, crc)

    def _kernel(self, extent: Extent, done: int, count: int) -> int:
        """Return how many bytes the kernel has copied, 0 where it will not."""
        offset = extent.offset + done
        if self._kernel_copies and hasattr(os, "copy_file_range"):
            try:
                return os.copy_file_range(extent.file.fd, self._fd, count, offset_src=extent.file.start + offset)
            except OSError as error:
                if error.errno not in _UNSUPPORTED:
                    raise
                self._kernel_copies = False
        if self._sends and hasattr(os, "sendfile"):
            try:
                return os.sendfile(self._fd, extent.file.fd, extent.file.start + offset, count)
            except OSError as error:
                if error.errno not in _UNSUPPORTED:
                    raise
                self._sends = False
        return 0

    def _slices(self, extent: Extent, crc: int | None) -> int:
        """Copy a region in slices that stay in the processor's cache."""
        value = crc or 0
        buffer = memoryview(bytearray(min(_ALIGNED, extent.nbytes)))
        done = 0
        while done < extent.nbytes:
            part = buffer[: min(_ALIGNED - self._offset % _ALIGNED, extent.nbytes - done)]
            extent.file.read_into(extent.offset + done, part)
            if crc is not None:
                value = crc32(part, value)
            self.append(part)
            done += len(part)
        return value

    def _added(self, count: int) -> None:
        self._offset += count
        self._writeback.add(count)
        self._watch.written(count)

    def finish(self) -> None:
        """Wait until all of it is on the disk.

        Raises:
            OSError: whatever the disk says.
        """
        self._writeback.finish(self._watch.synced)

    def close(self) -> None:
        """End what goes on beside; the file can be closed then."""
        self._writeback.stop()
