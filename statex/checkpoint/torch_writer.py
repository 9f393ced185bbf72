"""Writes the zip archives of torch.save, byte for byte as torch lays them out.

Format: caffe2/serialize/inline_container.cc and miniz. A record is a local header without sizes, an extra field that
pads the data to 64 bytes, the data, and a descriptor with CRC and sizes; the directory comes last. The offsets have to
be torch's, as `calculate_storage_offsets` derives them from sizes alone.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass
from typing import Any

from statex.checkpoint.contents import Blob, Moved
from statex.checkpoint.crc import crc32
from statex.checkpoint.objects import Storage
from statex.checkpoint.output_file import OutputFile
from statex.checkpoint.pickle_writer import PickleWriter

_LOCAL = struct.Struct("<4s5H3L2H")
_ENTRY = struct.Struct("<4s6H3L5H2L")
_END = struct.Struct("<4s4H2LH")
_END64 = struct.Struct("<4sQ2H2L4Q")
_LOCATOR64 = struct.Struct("<4sLQL")
_ALIGNMENT = 64
_LOCAL_SIZE = 30
_NONE32, _NONE16 = 0xFFFFFFFF, 0xFFFF
_UTF8, _DESCRIPTOR = 0x800, 0x8
_PADDINGS = [b"FB" + struct.pack("<H", count) + b"Z" * count for count in range(_ALIGNMENT)]
_VERSION_MADE, _VERSION_NEEDED = 0, 0
"""Which torch says of archives with wide records too."""


@dataclass(slots=True)
class _Record:
    name: bytes
    crc: int
    size: int
    header: int
    flags: int


class TorchWriter:
    """One archive: `write` puts a tree into the file."""

    def __init__(self, file: OutputFile, folder: str, *, check: bool = False) -> None:
        self._file = file
        self._folder = folder
        self._check = check
        self._records: list[_Record] = []

    def write(self, tree: Any) -> None:
        """Write a tree of plain values, `OutTensor`s and calls.

        Raises:
            StatexError: SX614 for what a torch file cannot hold, SX604 for an input whose checksums do not agree.
            OSError: whatever the system refuses.
        """
        whole: dict[Storage, Blob] = {}

        def blob_of(storage: Storage) -> Blob:
            return whole.setdefault(storage, Moved.whole(storage.handle))

        pickler = PickleWriter(blob_of)
        pickled = pickler.write(tree)
        self._file.reserve(len(pickled) + sum(blob.nbytes for blob in pickler.blobs))
        self._bytes("data.pkl", pickled)
        self._bytes(".format_version", b"1")
        self._bytes(".storage_alignment", str(_ALIGNMENT).encode())
        self._bytes("byteorder", b"little")
        for number, blob in enumerate(pickler.blobs):
            self._blob(f"data/{number}", blob)
        self._bytes("version", b"3\n")
        self._bytes(".data/serialization_id", self._serialization_id())
        self._directory()

    def _serialization_id(self) -> bytes:
        """Return 40 digits that differ where names or contents do, as torch's do."""
        text = b"".join(record.name + struct.pack("<L", record.crc) for record in self._records)
        digest = int.from_bytes(hashlib.sha256(text).digest(), "big")
        return f"{digest % 10**40:040d}".encode()

    def _bytes(self, name: str, data: bytes) -> None:
        record = self._begin(name, len(data))
        record.crc = crc32(data)
        self._file.write(data)
        self._end(record)

    def _blob(self, name: str, blob: Blob) -> None:
        record = self._begin(name, blob.nbytes)
        if blob.nbytes:
            crc = self._file.write_blob(blob, crc=True, check=self._check)
            record.crc = crc or 0
        self._end(record)

    def _begin(self, name: str, size: int) -> _Record:
        full = f"{self._folder}/{name}".encode()
        start = self._file.position
        wide = b""
        if size >= _NONE32 or start >= _NONE32:
            fields = [size, 0] if size >= _NONE32 else []
            fields += [start] if start >= _NONE32 else []
            # As miniz writes it: the sizes first, as far as it knows them then, and the header's own place.
            wide = struct.pack(f"<2H{len(fields)}Q", 1, 8 * len(fields), *fields)
        fixed = start + _LOCAL_SIZE + len(full) + len(wide) + 4
        extra = wide + _PADDINGS[-fixed % _ALIGNMENT]
        flags = _UTF8 | (_DESCRIPTOR if size else 0)
        self._file.write(
            _LOCAL.pack(b"PK\x03\x04", _VERSION_NEEDED, flags, 0, 0, 0, 0, 0, 0, len(full), len(extra)) + full + extra
        )
        record = _Record(full, 0, size, start, flags)
        self._records.append(record)
        return record

    def _end(self, record: _Record) -> None:
        if not record.size:
            return
        wide = record.size >= _NONE32 or record.header >= _NONE32
        layout = "<4sL2Q" if wide else "<4s3L"
        self._file.write(struct.pack(layout, b"PK\x07\x08", record.crc, record.size, record.size))

    def _directory(self) -> None:
        start = self._file.position
        for record in self._records:
            self._file.write(_entry(record))
        size = self._file.position - start
        count = len(self._records)
        end = self._file.position
        # torch writes the zip64 end whether or not it is needed.
        self._file.write(_END64.pack(b"PK\x06\x06", 44, 0x31E, 45, 0, 0, count, count, size, start))
        self._file.write(_LOCATOR64.pack(b"PK\x06\x07", 0, end, 1))
        few = min(count, _NONE16)
        self._file.write(_END.pack(b"PK\x05\x06", 0, 0, few, few, min(size, _NONE32), min(start, _NONE32), 0))


def _entry(record: _Record) -> bytes:
    fields: list[int] = []
    size, header = record.size, record.header
    if size >= _NONE32:
        fields += [size, size]
        size = _NONE32
    if header >= _NONE32:
        fields.append(header)
        header = _NONE32
    extra = struct.pack(f"<2H{len(fields)}Q", 1, 8 * len(fields), *fields) if fields else b""
    return (
        _ENTRY.pack(
            b"PK\x01\x02", _VERSION_MADE, _VERSION_NEEDED, record.flags, 0, 0, 0, record.crc, size, size,
            len(record.name), len(extra), 0, 0, 0, 0, header,
        )
        + record.name
        + extra
    )  # fmt: skip
