"""An output file written from start to end: small writes are gathered, adjacent ranges of inputs copied at once."""

from __future__ import annotations

import os
from contextlib import nullcontext
from pathlib import Path

from statex.checkpoint.blobs.contents import Blob, ByteRun, Made, Moved
from statex.checkpoint.blobs.earlier import Earlier
from statex.checkpoint.blobs.write_plan import Derived, FilePlan
from statex.checkpoint.io.ahead import ahead
from statex.checkpoint.io.cached_file import CachedFile
from statex.checkpoint.io.crc import combined, crc32
from statex.checkpoint.io.input_file import SLICE, Buffer, Extent, Stored
from statex.checkpoint.io.reserve import reserve
from statex.core.progress import Watch

_SMALL = SLICE // 4
"""Bytes below which a call of the kernel's copy costs more than to read and write."""
_WORTH_AHEAD = 1 << 19
"""Bytes from which on the parts of a blob are computed in a thread of their own, while those before are written."""


class OutputFile:
    """A file open for writing; `watch` hears of its bytes.

    With `keep_crc` computed blobs get the CRC-32 of their bytes whatever the format needs.
    """

    def __init__(
        self,
        path: Path,
        watch: Watch | None = None,
        *,
        keep_crc: bool = False,
        earlier: Earlier | None = None,
    ) -> None:
        self.path = path
        self._earlier = earlier
        self.fd = os.open(path, os.O_WRONLY | getattr(os, "O_CLOEXEC", 0))
        self.position = 0
        """Bytes written or gathered so far."""
        self._gathered: list[Buffer] = []
        self._waiting = 0
        self._region: Extent | None = None
        self._keep_crc = keep_crc
        self._sink = CachedFile(self.fd, watch or Watch())
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
        self._sink.append(data)

    def flush(self) -> None:
        """Write what was gathered, and copy the region that waits."""
        self._copy_region()
        if self._gathered:
            self._sink.append(self._gathered[0] if len(self._gathered) == 1 else b"".join(self._gathered))
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
            blob.place = self.path, start
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

    def _write_run(self, run: ByteRun, value: int, compute: bool, check: bool) -> int:
        """Append a run; return the CRC-32 that `value` goes on to, if it is to be computed."""
        stored, extent = run.stored, run.extent
        if self._earlier is not None:
            extent = self._earlier.extent(run)
            self._earlier.note(run, self.path, self.position)
        due = check and stored.unverified
        if not due and not compute:
            self._copy(extent)
            return 0
        if due and run.is_whole:
            own = self._copy_read(extent, 0)
            stored.compare(own)
            return combined(value, own, run.nbytes) if compute else 0
        if due and compute:
            own = self._copy_read(extent, 0)
            self._note_part(run, own)
            return combined(value, own, run.nbytes)
        if compute:
            return self._copy_read(extent, value)
        if due:
            stored.check()
        self._copy(extent)
        return 0

    def _note_part(self, run: ByteRun, crc: int) -> None:
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
        if region is not None:
            self._sink.copy(region)

    def _copy_read(self, extent: Extent, crc: int) -> int:
        """Append a region through memory; return the CRC-32 that `crc` goes on to."""
        if extent.nbytes < _SMALL:
            data = extent.file.read(extent.offset, extent.nbytes)
            self.write(data)
            return crc32(data, crc)
        self.flush()
        self.position += extent.nbytes
        return self._sink.copy_read(extent, crc)

    def finish(self) -> None:
        """Write what was gathered, compare the checksums that are due, and wait until all of it is on the disk.

        Raises:
            StatexError: SX604 where a storage of which parts were written does not have its checksum.
            OSError: whatever the disk says.
        """
        self.flush()
        for stored in self._parts:
            stored.check()
        self._sink.finish()

    def close(self) -> None:
        """Close the file as it is; a second call does nothing."""
        if self.fd >= 0:
            self._sink.close()
            os.close(self.fd)
            self.fd = -1


def put(file: OutputFile, plan: FilePlan, *, check: bool = False) -> None:
    """Write the parts of a file; `check` compares every input byte that has a checksum with it."""
    file.reserve(plan.nbytes)
    sums: dict[Blob | Derived, int] = {}
    for part in plan.parts:
        content = part.content
        if file.position != part.offset:
            raise AssertionError(f"{part.what} is at {file.position}, and was planned at {part.offset}")
        if isinstance(content, bytes):
            file.write(content)
        elif isinstance(content, Derived):
            data = content.make(sums)
            sums[content] = crc32(data)
            file.write(data)
        else:
            # A value without elements is not even computed.
            found = file.write_blob(content, crc=plan.checksums, check=check) if content.nbytes else 0
            sums[content] = found or 0
