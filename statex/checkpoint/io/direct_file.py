"""The way to the disk for outputs that are large compared with memory: past the page cache, in blocks, by threads.

What the page cache takes has to be written before the output appears, so that a large output waits for the disk either
way; this way it does not wait for memory too, and leaves in the cache what others have there.
"""

from __future__ import annotations

import mmap
import os
import stat
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from statex.checkpoint.io.crc import crc32
from statex.checkpoint.io.input_file import Buffer, Extent
from statex.core.progress import Watch

_BLOCK = 1 << 20
_BLOCKS, _THREADS = 8, 6
"""So many blocks there are, and so many are on their way to the disk at once: disks take several in less time."""
_UNIT = 4096
"""Offsets and lengths of direct writes are multiples of this, which every disk's sectors divide."""


def open_direct(path: Path, fd: int, watch: Watch) -> DirectFile | None:
    """Return what writes a file past the page cache, where its file system lets us; `fd` is open for writing too."""
    try:
        direct = os.open(path, os.O_WRONLY | os.O_DIRECT | os.O_CLOEXEC)
    except (OSError, AttributeError):  # systems without the flag, file systems that refuse it
        return None
    if not stat.S_ISREG(os.fstat(direct).st_mode):
        os.close(direct)
        return None
    return DirectFile(direct, fd, watch)


class DirectFile:
    """Appends to a file in whole blocks; `direct` and `fd` are the same file, open past the page cache and usually."""

    def __init__(self, direct: int, fd: int, watch: Watch) -> None:
        self._direct = direct
        self._fd = fd
        self._watch = watch
        memory = mmap.mmap(-1, _BLOCK * _BLOCKS)
        if hasattr(mmap, "MADV_HUGEPAGE"):
            memory.madvise(mmap.MADV_HUGEPAGE)  # fewer pieces for the disk to gather
        view = memoryview(memory)
        self._free = deque(view[start : start + _BLOCK] for start in range(0, len(view), _BLOCK))
        self._pool = ThreadPoolExecutor(_THREADS, "statex-direct")
        self._pending: deque[Future[memoryview]] = deque()
        self._block = self._free.popleft()
        self._filled = 0
        """Bytes in the block at work."""
        self._offset = 0
        """Where in the file the block at work begins."""

    def append(self, data: Buffer) -> None:
        """Write bytes."""
        view = memoryview(data).cast("B")
        while view:
            room = self._room(len(view))
            room[:] = view[: len(room)]
            view = view[len(room) :]
            self._fill(len(room))

    def copy(self, extent: Extent) -> None:
        """Write a region of an input."""
        for _ in self._read(extent):
            pass

    def copy_read(self, extent: Extent, crc: int) -> int:
        """Write a region of an input; return the CRC-32 that `crc` goes on to."""
        for part in self._read(extent):
            crc = crc32(part, crc)
        return crc

    def _read(self, extent: Extent) -> Iterator[memoryview]:
        """Read a region into blocks; each part is given before its block may be sent off."""
        done = 0
        while done < extent.nbytes:
            room = self._room(extent.nbytes - done)
            extent.file.read_into(extent.offset + done, room)
            yield room
            done += len(room)
            self._fill(len(room))

    def _room(self, most: int) -> memoryview:
        return self._block[self._filled : min(self._filled + most, _BLOCK)]

    def _fill(self, count: int) -> None:
        """Note that the next bytes of the block are there; a full one is sent off."""
        self._filled += count
        if self._filled < _BLOCK:
            return
        self._pending.append(self._pool.submit(_write, self._direct, self._block, self._offset))
        self._offset += _BLOCK
        self._filled = 0
        self._block = self._free.popleft() if self._free else self._pending.popleft().result()
        self._watch.written(_BLOCK)

    def finish(self) -> None:
        """Wait until all of it is on the disk.

        Raises:
            OSError: whatever the disk says, now or before.
        """
        self._watch.written(self._filled)
        self._watch.synced(0)
        while self._pending:
            self._pending.popleft().result()
        whole = self._filled - self._filled % _UNIT
        _write(self._direct, self._block[:whole], self._offset)
        _write(self._fd, self._block[whole : self._filled], self._offset + whole)
        os.fsync(self._fd)
        self._watch.synced(self._offset + self._filled)

    def close(self) -> None:
        """End what goes on beside; the file can be closed then."""
        self._pool.shutdown(cancel_futures=True)
        os.close(self._direct)


def _write(fd: int, block: memoryview, offset: int) -> memoryview:
    done = 0
    while done < len(block):
        done += os.pwrite(fd, block[done:], offset + done)
    return block
