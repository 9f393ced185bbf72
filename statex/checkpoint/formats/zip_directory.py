"""The central directory of zip archives as torch.save writes them: stored members, zip64 where needed.

Format: PKWARE's APPNOTE (https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT), sections 4.3 and 4.5.3.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping

from statex.checkpoint.io.input_file import InputFile
from statex.core.record import record

_END = struct.Struct("<4s4H2LH")
_END_LOCATOR64 = struct.Struct("<4sLQL")
_END64 = struct.Struct("<4sQ2H2L4Q")
_ENTRY = struct.Struct("<4s4x2H4x3L3H8xL")
"""Of an entry: mark, flags, method, CRC, packed size, size, lengths of name, extra field and comment, local header."""
_LOCAL = struct.Struct("<4s22x2H")
"""Of a local header: mark, lengths of name and extra field."""
LOCAL = b"PK\x03\x04"
"""The mark of a local header, with which archives begin."""
_NONE16, _NONE32 = 0xFFFF, 0xFFFFFFFF
_ENCRYPTED = 0x1
_DEFLATED = 8


@record
class Member:
    """A member of an archive: its data's size and CRC-32, where its local header is, whether it is stored as it is.

    If it is not, `packed` is the size of what is stored, and `deflated` says that this is the only difference.
    """

    name: str
    size: int
    crc: int
    header: int
    plain: bool
    packed: int
    deflated: bool


class ZipDirectory:
    """The members of an archive by name; only the directory is trusted, local headers have to agree with it."""

    def __init__(self, file: InputFile) -> None:
        self.file = file
        offset, size, count = self._find()
        self.start = offset
        """Where the directory starts: all data lies before."""
        self.alike: str | None = None
        """A name that differs from another one in case alone."""
        self.members: Mapping[str, Member] = self._read(offset, size, count)

    def _find(self) -> tuple[int, int, int]:
        file = self.file
        tail_size = min(file.size, _END.size + _NONE16)
        tail = file.read(file.size - tail_size, tail_size)
        at = tail.rfind(b"PK\x05\x06")
        if at < 0 or at + _END.size > len(tail):
            file.damaged("its zip directory is missing: a download that was cut short looks like this")
        _, disk, _, _, count, size, offset, _ = _END.unpack_from(tail, at)
        place = file.size - tail_size + at
        wide = self._find64(place)
        if wide is not None:
            # Some readers look at these alone, others only where a number has no room in the short ones.
            short = (count, _NONE16), (size, _NONE32), (offset, _NONE32)
            if any(s not in (w, none) for (s, none), w in zip(short, wide[1:], strict=True)):
                file.damaged("its two zip directories are not the same")
            place, count, size, offset = wide
        elif _NONE16 in (disk, count) or _NONE32 in (size, offset):
            file.damaged("its zip64 directory is missing")
        if offset + size != place:
            file.damaged("its zip directory is not where it says")
        return offset, size, count

    def _find64(self, end: int) -> tuple[int, int, int, int] | None:
        """Return the place of the zip64 end record, and the count, size and offset that it has; `None` without one."""
        file = self.file
        if end < _END_LOCATOR64.size:
            return None
        mark, _, offset, _ = _END_LOCATOR64.unpack(file.read(end - _END_LOCATOR64.size, _END_LOCATOR64.size))
        if mark != b"PK\x06\x07":
            return None
        if offset + _END64.size > end:
            file.damaged("its zip64 directory is missing")
        mark, _, _, _, _, _, _, count, size, start = _END64.unpack(file.read(offset, _END64.size))
        if mark != b"PK\x06\x06":
            file.damaged("its zip64 directory is missing")
        return offset, count, size, start

    def _read(self, offset: int, size: int, count: int) -> dict[str, Member]:
        file = self.file
        if count * _ENTRY.size > size:
            file.damaged(f"its zip directory has no room for {count} members")
        data = file.read(offset, size)
        members: dict[str, Member] = {}
        names: set[bytes] = set()
        at = 0
        for _ in range(count):
            if at + _ENTRY.size > size:
                file.damaged("its zip directory ends too early")
            mark, flags, method, crc, packed, length, name_size, extra_size, comment_size, header = _ENTRY.unpack_from(
                data, at
            )
            at += _ENTRY.size
            if mark != b"PK\x01\x02" or at + name_size + extra_size + comment_size > size:
                file.damaged("its zip directory is broken")
            named = data[at : at + name_size]
            name = named.decode("utf-8", "surrogateescape")
            if name in members:
                file.damaged(f"it has two members `{name}`")
            if named.lower() in names:
                self.alike = name
            names.add(named.lower())
            if _NONE32 in (packed, length, header):
                extra = data[at + name_size : at + name_size + extra_size]
                length, packed, header = self._wide(name, extra, length, packed, header)
            at += name_size + extra_size + comment_size
            if header + _LOCAL.size + packed > offset:
                file.damaged(f"its member `{name}` reaches into the directory")
            open_ = not flags & _ENCRYPTED
            plain, deflated = open_ and not method and packed == length, open_ and method == _DEFLATED
            members[name] = Member(name, length, crc, header, plain, packed, deflated)
        if at != size:
            file.damaged("its zip directory has more in it than its members")
        return members

    def _wide(self, name: str, extra: bytes, size: int, packed: int, header: int) -> tuple[int, int, int]:
        """Return the sizes and the offset that the zip64 extra field holds for those the entry has no room for."""
        at = 0
        while at + 4 <= len(extra):
            id, count = struct.unpack_from("<2H", extra, at)
            at += 4
            if id == 1 and at + count <= len(extra):
                wide = iter(struct.unpack_from(f"<{count // 8}Q", extra, at))
                try:
                    size = next(wide) if size == _NONE32 else size
                    packed = next(wide) if packed == _NONE32 else packed
                    header = next(wide) if header == _NONE32 else header
                except StopIteration:
                    break
                return size, packed, header
            at += count
        self.file.damaged(f"the zip64 sizes of its member `{name}` are missing")

    def data_offset(self, member: Member) -> int:
        """Return where a member's data starts, after its local header is checked.

        Raises:
            StatexError: SX604.
        """
        if not member.plain:
            self.file.damaged(f"its member `{member.name}` is compressed or encrypted, which torch.save never does")
        return self.place(member)

    def place(self, member: Member) -> int:
        """Return where what is stored of a member starts, after its local header is checked.

        Raises:
            StatexError: SX604.
        """
        name = member.name.encode("utf-8", "surrogateescape")
        # The directory, which has the name as well, lies behind: there are that many bytes.
        local = self.file.read(member.header, _LOCAL.size + len(name))
        mark, name_size, extra_size = _LOCAL.unpack_from(local)
        start: int = member.header + _LOCAL.size + name_size + extra_size
        if mark != LOCAL or name_size != len(name) or not local.endswith(name):
            self.file.damaged(f"there is no member `{member.name}` at byte {member.header}")
        if start + member.packed > self.start:
            self.file.damaged(f"its member `{member.name}` reaches into the directory")
        return start
