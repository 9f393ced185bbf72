"""Lays out zip archives of stored members, each with its data at a multiple of 64 bytes.

Format: caffe2/serialize/inline_container.cc and miniz. A member is a local header without sizes, an extra field that
pads the data to 64 bytes, the data, and a descriptor with CRC and sizes; the directory comes last. What is said of
checksums follows when they are known, so that all places follow from sizes alone.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from functools import partial

from statex.checkpoint.blobs.write_plan import Content, Derived, FileLayout, FilePlan, Sums
from statex.checkpoint.formats.zip_directory import LOCAL
from statex.checkpoint.io.crc import combined, crc32
from statex.core.record import record

ALIGNMENT = 64
_LOCAL = struct.Struct("<4s5H3L2H")
_ENTRY = struct.Struct("<4s6H3L5H2L")
_END = struct.Struct("<4s4H2LH")
_END64 = struct.Struct("<4sQ2H2L4Q")
_LOCATOR64 = struct.Struct("<4sLQL")
_NONE32, _NONE16 = 0xFFFFFFFF, 0xFFFF
_UTF8, _DESCRIPTOR = 0x800, 0x8
_VERSION_NEEDED64 = 45


def _padding(count: int) -> bytes:
    return b"FB" + struct.pack("<H", count) + b"Z" * count


_PADDINGS = [_padding(count) for count in range(ALIGNMENT)]


@record
class _Member:
    """A member: what its data is made of, and where its local header is."""

    name: bytes
    contents: tuple[Content, ...]
    size: int
    header: int

    def crc(self, sums: Sums) -> int:
        """Return the CRC-32 of its data."""
        first = self.contents[0]
        if len(self.contents) == 1 and not isinstance(first, bytes):
            return sums[first]
        value = 0
        for content in self.contents:
            if isinstance(content, bytes):
                value = crc32(content, value)
            else:
                value = combined(value, sums[content], content.nbytes) if value else sums[content]
        return value


class ZipLayout:
    """Lays out an archive, member after member; `version` is that of the format which readers are said to need."""

    def __init__(self, version: int) -> None:
        self._version = version
        self._layout = FileLayout()
        self._members: list[_Member] = []

    def add(self, name: str, what: str, *contents: Content, keys: tuple[str, ...] = (), further: int = 0) -> None:
        """Append a member whose data is these contents; `keys` are those of the tensors over them.

        Its data starts `further` bytes, a multiple of the alignment, behind where it would.
        """
        size = sum([len(one) if isinstance(one, bytes) else one.nbytes for one in contents])
        member = _Member(name.encode(), contents, size, self._layout.position)
        self._members.append(member)
        self._layout.add("record", self._local(member, further))
        for content in contents:
            plain = isinstance(content, bytes) and len(contents) > 1
            self._layout.add(f"type of {what}" if plain else what, content, () if plain else keys)
        if size:
            layout = _descriptor_layout(size, member.header)
            follows = Derived(struct.calcsize(layout), partial(_descriptor, layout, member))
            self._layout.add("checksum", follows)

    def starts(self, members: Iterable[tuple[str, int]]) -> Iterator[int]:
        """Yield where the data of the next members would start, from their names and sizes."""
        position = self._layout.position
        for name, size in members:
            _, _, start = _placed(len(name.encode()), size, position)
            yield start
            position = start + size + (struct.calcsize(_descriptor_layout(size, position)) if size else 0)

    def _local(self, member: _Member, further: int) -> bytes:
        wide, padding, _ = _placed(len(member.name), member.size, member.header)
        extra = wide + (_padding(padding + further) if further else _PADDINGS[padding])
        counts = len(member.name), len(extra)
        return _LOCAL.pack(LOCAL, self._version, _flags(member), 0, 0, 0, 0, 0, 0, *counts) + member.name + extra

    @property
    def members(self) -> tuple[_Member, ...]:
        """The members that are there so far."""
        return tuple(self._members)

    def file(self, name: str) -> FilePlan:
        """Return the archive, its directory after its members."""
        members, start = tuple(self._members), self._layout.position
        size = sum([_ENTRY.size + len(one.name) + _extra_size(one) for one in members])
        version = self._version
        self._layout.add(
            "directory", Derived(size, lambda sums: b"".join([_entry(one, one.crc(sums), version) for one in members]))
        )
        self._layout.add("end of directory", _end(len(members), start, size))
        return self._layout.file(name, checksums=True)


def _placed(name: int, size: int, header: int) -> tuple[bytes, int, int]:
    """Return the wide field of a local header, how much padding follows, and where the data starts behind that.

    `name` is the length of the member's name in bytes, `header` where its local header stands.
    """
    wide = _wide(size, header)
    start = header + _LOCAL.size + name + len(wide) + 4
    padding = -start % ALIGNMENT
    return wide, padding, start + padding


def _wide(size: int, header: int) -> bytes:
    """Return the extra field of what does not fit into 32 bits, in a local header."""
    if size < _NONE32 and header < _NONE32:
        return b""
    # As miniz writes it: the sizes first, as far as it knows them then, and the header's own place.
    fields = ([size, 0] if size >= _NONE32 else []) + ([header] if header >= _NONE32 else [])
    return struct.pack(f"<2H{len(fields)}Q", 1, 8 * len(fields), *fields)


def _descriptor_layout(size: int, header: int) -> str:
    return "<4sL2Q" if size >= _NONE32 or header >= _NONE32 else "<4s3L"


def _flags(member: _Member) -> int:
    return _UTF8 | (_DESCRIPTOR if member.size else 0)


def _descriptor(layout: str, member: _Member, sums: Sums) -> bytes:
    return struct.pack(layout, b"PK\x07\x08", member.crc(sums), member.size, member.size)


def _extra_size(member: _Member) -> int:
    count = 2 * (member.size >= _NONE32) + (member.header >= _NONE32)
    return 4 + 8 * count if count else 0


def _entry(member: _Member, crc: int, version: int) -> bytes:
    fields: list[int] = []
    size, header = member.size, member.header
    if size >= _NONE32:
        fields += [size, size]
        size = _NONE32
    if header >= _NONE32:
        fields.append(header)
        header = _NONE32
    extra = struct.pack(f"<2H{len(fields)}Q", 1, 8 * len(fields), *fields) if fields else b""
    needed = _VERSION_NEEDED64 if fields and version else version  # torch says 0 of wide records too
    return (
        _ENTRY.pack(
            b"PK\x01\x02", version, needed, _flags(member), 0, 0, 0,
            crc, size, size, len(member.name), len(extra), 0, 0, 0, 0, header,
        )
        + member.name
        + extra
    )  # fmt: skip


def _end(count: int, start: int, size: int) -> bytes:
    """Return the end of an archive; torch writes that of zip64 whether or not it is needed."""
    few = min(count, _NONE16)
    return (
        _END64.pack(b"PK\x06\x06", 44, 0x31E, 45, 0, 0, count, count, size, start)
        + _LOCATOR64.pack(b"PK\x06\x07", 0, start + size, 1)
        + _END.pack(b"PK\x05\x06", 0, 0, few, few, min(size, _NONE32), min(start, _NONE32), 0)
    )
