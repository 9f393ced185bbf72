"""numpy archives (`.npz`): each member is an array with a header of its own, stored or (when reading) compressed.

Format: numpy/lib/format.py, and zip.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from statex.checkpoint.blobs.contents import OutTensor
from statex.checkpoint.blobs.made_file import Workshop
from statex.checkpoint.blobs.write_plan import FilePlan
from statex.checkpoint.formats.flat_help import check_flat
from statex.checkpoint.formats.npy import (
    ArrayType,
    columns_first,
    has_dtype,
    header_of,
    header_size,
    read_header,
    swapped,
)
from statex.checkpoint.formats.strict_json import is_text
from statex.checkpoint.formats.zip_directory import Member, ZipDirectory
from statex.checkpoint.formats.zip_layout import ZipLayout
from statex.checkpoint.io.crc import combined, crc32
from statex.checkpoint.io.input_file import SLICE, Extent, InputFile, Stored
from statex.checkpoint.reader import Reader
from statex.checkpoint.unread import Unread
from statex.core.header import OpaqueInfo, TensorInfo, TensorType

_ENDING = ".npy"
_HEAD = 12
_LARGEST_HEAD = _HEAD + (1 << 16)


def looks_like_npz(directory: ZipDirectory) -> bool:
    """Say whether an archive is one of numpy's."""
    return bool(directory.members) and all(name.endswith(_ENDING) for name in directory.members)


class NpzReader(Reader):
    """An archive of arrays, by their names; it is converted as a torch file is."""

    def __init__(self, path: Path, file: InputFile, directory: ZipDirectory) -> None:
        super().__init__(path, [file])
        self._file = file
        self._directory = directory
        self._workshop = Workshop(path)
        self._tree = {
            name.removesuffix(_ENDING): self._array(member) for name, member in directory.members.items()
        }  # fmt: skip

    @property
    def tree(self) -> Any:
        """The tensors by name."""
        return self._tree

    def _array(self, member: Member) -> TensorInfo | OpaqueInfo:
        if not (member.plain or member.deflated):
            self._file.damaged(f"its member `{member.name}` is encrypted, or packed in a way that numpy does not")
        head = self._head(member)
        place = header_size(head[:_HEAD]) if len(head) >= _HEAD else None
        kind = read_header(head[place[0] : sum(place)]) if place is not None and len(head) >= sum(place) else None
        if place is None or kind is None:
            self._file.damaged(f"its member `{member.name}` is not an array")
        if kind.dtype is None:
            key = member.name.removesuffix(_ENDING)
            return OpaqueInfo(f"numpy array of {kind.code}", Unread(key, f"numpy arrays of {kind.code} are not read"))
        start = sum(place)
        tensor = TensorType(kind.dtype, kind.shape)
        if start + tensor.nbytes != member.size:
            self._file.damaged(f"its member `{member.name}` has {member.size} bytes, and would be {tensor}")
        return self._info(member, kind, tensor, start, crc32(head[:start]))

    def _head(self, member: Member) -> bytes:
        at = self._directory.place(member)
        if member.plain:
            return self._file.read(at, min(member.size, _LARGEST_HEAD))
        packed = self._file.read(at, min(member.packed, _LARGEST_HEAD))
        try:
            return zlib.decompressobj(-15).decompress(packed, _LARGEST_HEAD)
        except zlib.error as error:
            self._file.damaged(f"its member `{member.name}` cannot be unpacked: {error}")

    def _info(self, member: Member, kind: ArrayType, tensor: TensorType, start: int, crc: int) -> TensorInfo:
        if member.plain and not kind.big_endian:
            extent = Extent(self._file, self._directory.place(member) + start, tensor.nbytes)
            # What the archive records is of header and data together.
            stored = Stored(extent, combined(crc, member.crc, tensor.nbytes), member.name)
        else:
            made = self._workshop.file(tensor.nbytes, lambda: self._unpacked(member, kind, start))
            stored = Stored(Extent(made, 0, tensor.nbytes), None, member.name)
        stride = columns_first(kind.shape) if kind.fortran else None
        return TensorInfo(tensor, stored if tensor.nbytes else None, 0, stride, handle=stored)

    def _unpacked(self, member: Member, kind: ArrayType, start: int) -> Iterator[bytes]:
        """Yield the data of an array, its numbers little-endian."""
        assert kind.dtype is not None
        data = self._data(member, start)
        yield from swapped(data, kind.dtype) if kind.big_endian else data

    def _data(self, member: Member, start: int) -> Iterator[bytes]:
        """Yield what is behind the header of an array, and compare the checksum of all."""
        crc, skip = 0, start
        for part in self._parts(member):
            crc = crc32(part, crc)
            yield part[skip:]
            skip = max(skip - len(part), 0)
        if crc != member.crc:
            self._file.damaged(f"the bytes of `{member.name}` do not have the checksum that it records")

    def _parts(self, member: Member) -> Iterator[bytes]:
        at, unpacking = self._directory.place(member), zlib.decompressobj(-15)
        for done in range(0, member.packed, SLICE):
            part = self._file.read(at + done, min(SLICE, member.packed - done))
            if member.plain:
                yield part
                continue
            try:
                while part:
                    yield unpacking.decompress(part, SLICE)
                    part = unpacking.unconsumed_tail
            except zlib.error as error:
                self._file.damaged(f"its member `{member.name}` cannot be unpacked: {error}")
        if not member.plain:
            yield unpacking.flush()

    def close(self) -> None:
        """Let go of the file, and of what was unpacked."""
        super().close()
        self._workshop.close()


_VERSION = 20
_LONGEST_NAME = (1 << 16) - 1


def check_holdable(tree: Any) -> None:
    """Refuse what an archive of arrays cannot hold; leaves are `TensorInfo` or `OutTensor`.

    Raises:
        StatexError: SX614 with every entry at fault.
    """
    values = tree.values() if isinstance(tree, Mapping) else ()
    dtypes = {value.type.dtype for value in values if isinstance(value, TensorInfo | OutTensor)}
    floats = sorted(str(dtype) for dtype in dtypes if dtype.is_floating_point and not has_dtype(dtype))
    wider = [f"set ** = cast(f32) where dtype in [{', '.join(floats)}]"] if floats else []

    def holds(key: Any, value: Any) -> bool:
        # Who asks numpy for `a.npy` gets `a`, if there is one.
        hidden = isinstance(key, str) and key.endswith(_ENDING) and key.removesuffix(_ENDING) in tree
        is_array = isinstance(value, TensorInfo | OutTensor) and has_dtype(value.type.dtype)
        return is_array and not hidden and _is_name(key)

    headline = ".npz holds named arrays of numpy's dtypes only, and cannot hold all of this"
    check_flat(tree, holds, headline, "write a .safetensors or .pth", help=wider)


def _is_name(key: Any) -> bool:
    """Say whether a member of an archive can have a name."""
    is_name = isinstance(key, str) and is_text(key) and "\0" not in key
    return is_name and len(key.encode()) + len(_ENDING) <= _LONGEST_NAME


def laid_out(state: Mapping[str, OutTensor], name: str) -> FilePlan:
    """Return the archive of a flat state of contiguous tensors: each is a header and its bytes, as they are."""
    layout = ZipLayout(_VERSION)
    for key, tensor in state.items():
        member = key + _ENDING
        layout.add(member, member, header_of(tensor.type), tensor.blob, keys=(key,))
    return layout.file(name)
