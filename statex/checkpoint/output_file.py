"""An output file written from its start to its end: small writes gathered, moved bytes copied by the kernel."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

from statex.checkpoint.ahead import ahead
from statex.checkpoint.contents import Blob, Buffer, Made, Moved, Run
from statex.checkpoint.crc import combined, crc32
from statex.checkpoint.input_file import SLICE, Extent, Stored
from statex.checkpoint.reserve import reserve
from statex.checkpoint.writeback import Writeback

_UNSUPPORTED = frozenset(
    code for name in ("EXDEV", "ENOSYS", "EOPNOTSUPP", "ENOTSUP", "EINVAL", "EPERM", "EBADF")
    if (code := getattr(errno, name, None)) is not None
)  # fmt: skip
"""What a file system says that cannot copy between two files."""
_SMALL = SLICE // 4
"""Bytes below which a call of the kernel's copy costs more than to read and write."""
_RUN = 1 << 26
"""Bytes the kernel copies in one call: enough to lose no time, little enough to report progress and hear signals."""
_ALIGNED = 1 << 16
"""Large writes go from one multiple of this to the next, and so do the pieces that the kernel copies: ext4 makes pages
in groups that way. Larger groups took up to three times as long where little memory was free in one piece."""
_WORTH_AHEAD = 1 << 21
"""Bytes from which on the parts of a blob are computed in a thread of their own, while those before are written."""


class OutputFile:
    """A file open for writing; `progress` is told of bytes as they are written.

    With `keep_crc` computed blobs get the CRC-32 of their bytes whatever the format needs.
    """

    def __init__(self, path: Path, progress: Callable[[int], None] | None = None, *, keep_crc: bool = False) -> None:
        self.path = path
        self.fd = os.open(path, os.O_WRONLY | getattr(os, "O_CLOEXEC", 0))
        self.position = 0
        """Bytes written or gathered so far."""
        self._offset = 0
        """Bytes written so far."""
        self._gathered: list[Buffer] = []
        self._waiting = 0
        self._region: Extent | None = None
        self._kernel_copies = True
        self._sends = True
        self._progress = progress
        self._keep_crc = keep_crc
        self._writeback = Writeback(self.fd)
        self._parts: dict[Stored, tuple[int, int]] = {}
        """Of storages that are written in parts: how far the parts follow one another, and their CRC-32."""

    def reserve(self, nbytes: int) -> None:
        """Say that so many bytes will follow at least.

        Raises:
            OSError: where the disk has no room for them.
        """
        reserve(self.fd, self.position + nbytes)

    def write(self, data: Buffer) -> None:
        """Append bytes."""
        if self._region is not None:
            self._copy_region()
        count = len(data)
        self.position += count
        if isinstance(data, bytes):
            self._gathered.append(data)
            self._waiting += count
            if self._waiting >= SLICE:
                self.flush()
            return
        # Who made it may use it again, so it cannot wait.
        self.flush()
        self._all(data)

    def flush(self) -> None:
        """Write what was gathered, and copy the region that waits."""
        self._copy_region()
        if self._gathered:
            self._all(self._gathered[0] if len(self._gathered) == 1 else b"".join(self._gathered))
            self._gathered.clear()
            self._waiting = 0

    def write_blob(self, blob: Blob, *, crc: bool, check: bool = False) -> int | None:
        """Append the bytes of a blob; return their CRC-32 if `crc`, known or computed.

        Recorded checksums are carried over where the whole of a storage moves into a file that records them again;
        elsewhere, and everywhere with `check`, the bytes are compared with them.
        """
        start = self.position
        known = blob.known_crc() if crc else None
        value = 0
        if isinstance(blob, Moved):
            for run in blob.runs:
                value = self._write_run(run, value, crc and known is None, check or known is None)
        elif isinstance(blob, Made):
            value = blob.crc = self._write_made(blob, crc or self._keep_crc)
        if self.position - start != blob.nbytes:
            raise AssertionError(f"{self.position - start} bytes were made where {blob.nbytes} were planned")
        return known if known is not None else value

    def _write_made(self, blob: Made, compute: bool) -> int:
        """Append bytes as they are computed; return their CRC-32, if it is to be computed."""
        value = 0
        made = blob.buffers()
        with ahead(made) if blob.in_parts and blob.nbytes >= _WORTH_AHEAD else nullcontext(made) as buffers:
            for buffer in buffers:
                value = crc32(buffer, value) if compute else 0
                self.write(buffer)
        return value

    def _write_run(self, run: Run, value: int, compute: bool, check: bool) -> int:
        """Append a run; return the CRC-32 that `value` goes on to, if it is to be computed."""
        stored = run.stored
        due = check and stored.due
        if not due and not compute:
            self._copy(run.extent)
            return 0
        if due and run.is_whole:
            own = self._copy_read(run.extent, 0)
            stored.compare(own)
            return combined(value, own, run.nbytes) if compute else 0
        if due and compute:
            own = self._copy_read(run.extent, 0)
            self._note_part(run, own)
            return combined(value, own, run.nbytes)
        if compute:
            return self._copy_read(run.extent, value)
        if due:
            stored.check()
        self._copy(run.extent)
        return 0

    def _note_part(self, run: Run, crc: int) -> None:
        """Note the CRC-32 of a part of a storage: parts that follow one another make up that of the whole."""
        reach, before = self._parts.get(run.stored, (0, 0))
        if run.start == reach:
            reach, before = reach + run.nbytes, combined(before, crc, run.nbytes)
        if reach == run.stored.nbytes:
            run.stored.compare(before)
        self._parts[run.stored] = reach, before

    def _copy(self, extent: Extent) -> None:
        """Append a region of an input; neighbours are copied as one."""
        last = self._region
        if last is not None and last.file is extent.file and last.offset + last.nbytes == extent.offset:
            self._region = Extent(last.file, last.offset, last.nbytes + extent.nbytes)
        else:
            if self._waiting and extent.nbytes < _SMALL:
                self.write(extent.file.read(extent.offset, extent.nbytes))
                return
            self.flush()
            self._region = extent
        self.position += extent.nbytes

    def _copy_region(self) -> None:
        region, self._region = self._region, None
        if region is None:
            return
        done = 0
        while done < region.nbytes:
            count = min(region.nbytes - done, _RUN - self._offset % _ALIGNED)
            moved = self._kernel(region, done, count)
            if not moved:
                self._slices(region.part(done, region.nbytes - done), None)
                return
            done += moved
            self._added(moved)

    def _kernel(self, extent: Extent, done: int, count: int) -> int:
        """Return how many bytes the kernel has copied, 0 where it will not."""
        offset = extent.offset + done
        if self._kernel_copies and hasattr(os, "copy_file_range"):
            try:
                return os.copy_file_range(extent.file.fd, self.fd, count, offset_src=offset)
            except OSError as error:
                if error.errno not in _UNSUPPORTED:
                    raise
                self._kernel_copies = False
        if self._sends and hasattr(os, "sendfile"):
            try:
                return os.sendfile(self.fd, extent.file.fd, offset, count)
            except OSError as error:
                if error.errno not in _UNSUPPORTED:
                    raise
                self._sends = False
        return 0

    def _copy_read(self, extent: Extent, crc: int) -> int:
        """Append a region through memory; return the CRC-32 that `crc` goes on to."""
        if extent.nbytes < _SMALL:
            data = extent.file.read(extent.offset, extent.nbytes)
            self.write(data)
            return crc32(data, crc)
        self.flush()
        self.position += extent.nbytes
        return self._slices(extent, crc)

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
            self._all(part)
            done += len(part)
        return value

    def _all(self, data: Buffer) -> None:
        view = memoryview(data).cast("B")
        while view:
            written = os.write(self.fd, view[: _ALIGNED - self._offset % _ALIGNED])
            view = view[written:]
            self._added(written)

    def _added(self, count: int) -> None:
        self._offset += count
        self._writeback.add(count)
        if self._progress is not None:
            self._progress(count)

    def finish(self) -> None:
        """Write what was gathered, compare the checksums that are due, and wait until all of it is on the disk.

        Raises:
            StatexError: SX604 where a storage of which parts were written does not have its checksum.
            OSError: whatever the disk says.
        """
        self.flush()
        for stored in self._parts:
            stored.check()
        self._writeback.finish()

    def close(self) -> None:
        """Close the file as it is; a second call does nothing."""
        if self.fd >= 0:
            self._writeback.stop()
            os.close(self.fd)
            self.fd = -1
