"""GGUF, the files of llama.cpp: metadata, then tensors, quantized or not. It is read but not written.

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, versions 2 and 3, little-endian. Names, types and
places of tensors stand behind the metadata; dims are listed from the innermost on, the other way round than torch does.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any, NoReturn

from statex.checkpoint.formats.base import Format, ProbedFile
from statex.checkpoint.formats.safetensors.format import SAFETENSORS
from statex.checkpoint.io.input_file import Extent, InputFile, Stored
from statex.checkpoint.reader import Reader
from statex.checkpoint.unread import Unread
from statex.core.dtypes import BY_NAME, DType
from statex.core.header import OpaqueInfo, RawType, TensorInfo, TensorType
from statex.diagnostics import fail
from statex.diagnostics.codes import files as codes

_MAGIC = b"GGUF"
_VERSIONS = (2, 3)
_TYPES: Mapping[int, DType] = {
    number: BY_NAME[name]
    for number, name in {
        0: "f32", 1: "f16", 2: "q4_0", 3: "q4_1", 6: "q5_0", 7: "q5_1", 8: "q8_0", 9: "q8_1", 10: "q2_k", 11: "q3_k",
        12: "q4_k", 13: "q5_k", 14: "q6_k", 15: "q8_k", 16: "iq2_xxs", 17: "iq2_xs", 18: "iq3_xxs", 19: "iq1_s",
        20: "iq4_nl", 21: "iq3_s", 22: "iq2_s", 23: "iq4_xs", 24: "i8", 25: "i16", 26: "i32", 27: "i64", 28: "f64",
        29: "iq1_m", 30: "bf16", 34: "tq1_0", 35: "tq2_0", 39: "mxfp4", 40: "nvfp4", 41: "q1_0",
    }.items()
}  # fmt: skip
"""The dtypes by the numbers that files have for them."""
_SCALARS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
"""The types of numbers in metadata."""
_FLOAT32, _BOOL, _TEXT, _ARRAY = 6, 7, 8, 9
_LEAST_ENTRY, _LEAST_TENSOR = 8 + 4 + 1, 8 + 4 + 4 + 8
"""Bytes that an entry of the metadata and the description of a tensor have at least."""
_LONGEST_NAME, _LONGEST_TEXT = 1 << 16, 1 << 26
_MOST_DIMS = 64
_MOST_KEPT = 256
"""Items of an array of metadata that is kept; those of a vocabulary are not."""
_DEPTH = 8
_LARGEST_HEADER = 1 << 30
_LARGEST_ALIGNMENT = 1 << 20
_SLICE = 1 << 20
_ALIGNMENT = "general.alignment"


class Gguf(Format):
    """Named tensors, and metadata, which is kept as texts."""

    name = "gguf"
    title = "GGUF"
    is_written = False

    @property
    def successor(self) -> Format:
        """What the libraries read that a model comes back to."""
        return SAFETENSORS

    def sniff(self, found: ProbedFile) -> bool:
        """Say whether a file begins with the mark of the format."""
        return found.head.startswith(_MAGIC)

    def open(self, found: ProbedFile) -> Reader:
        """Return the reader of a file."""
        return GgufReader(found.path, found.file)


GGUF = Gguf()


class GgufReader(Reader):
    """A GGUF file."""

    def __init__(self, path: Path, file: InputFile) -> None:
        super().__init__(path, [file])
        self._file = file
        self._at = _Cursor(file)
        tensors, entries = self._counts()
        metadata = self._metadata(entries)
        alignment = self._alignment(metadata.pop(_ALIGNMENT, 32))
        self.metadata_texts = {name: _as_text(value) for name, value in metadata.items() if value is not _LONG}
        self.left_texts = tuple([name for name, value in metadata.items() if value is _LONG])
        described = self._described(tensors)
        start = -(-self._at.position // alignment) * alignment
        self._check_places(described, start, alignment)
        self._tree = {name: self._info(name, *one, start) for name, one in described.items()}

    @property
    def tree(self) -> Any:
        """The tensors by name."""
        return self._tree

    def _counts(self) -> tuple[int, int]:
        """Return the numbers of tensors and of entries of the metadata.

        Raises:
            StatexError: SX602 for versions that are not read.
        """
        magic, version = self._at.bytes(4), self._at.number("<I")
        assert magic == _MAGIC, "it was looked at before"
        if version not in _VERSIONS:
            other = int.from_bytes(version.to_bytes(4, "little"), "big")
            if other in _VERSIONS:
                self._refuse(f"a big-endian GGUF file of version {other}")
            self._refuse(f"a GGUF file of version {version}")
        tensors, entries = self._at.number("<Q"), self._at.number("<Q")
        if tensors * _LEAST_TENSOR + entries * _LEAST_ENTRY > self._file.size:
            self._file.damaged(f"it would have {tensors} tensors and {entries} entries of metadata in so few bytes")
        return tensors, entries

    def _refuse(self, what: str) -> NoReturn:
        fail(
            codes.NOT_A_CHECKPOINT,
            f"`{self.path}` is {what}, and statex reads versions 2 and 3, little-endian",
            help="convert from the original weights",
        )

    # --- metadata ----------------------------------------------------------------------------------------------

    def _metadata(self, count: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for _ in range(count):
            name = self._at.text(_LONGEST_NAME)
            if name in found:
                self._file.damaged(f"its metadata has `{name}` twice")
            found[name] = self._value(self._at.number("<I"), 0)
        return found

    def _value(self, kind: int, depth: int) -> Any:
        """Return a value of the metadata; `_LONG` for an array that is not kept."""
        if kind in _SCALARS:
            value = self._at.number(_SCALARS[kind])
            return _shortest(value) if kind == _FLOAT32 else value
        if kind == _TEXT:
            return self._at.text(_LONGEST_TEXT)
        if kind != _ARRAY or depth >= _DEPTH:
            self._file.damaged(f"a value of its metadata has the type {kind}, or is nested too deep")
        inner, count = self._at.number("<I"), self._at.number("<Q")
        if count > self._file.size:
            self._file.damaged(f"an array of its metadata would have {count} items")
        if inner in _SCALARS and count > _MOST_KEPT:
            self._at.skip(count * struct.calcsize(_SCALARS[inner]))
            return _LONG
        if inner == _TEXT and count > _MOST_KEPT:
            self._at.skip_texts(count)
            return _LONG
        items = []
        for _ in range(count):
            items.append(self._value(inner, depth + 1))
            if len(items) > _MOST_KEPT:
                items = [_LONG]
        return _LONG if _LONG in items else items

    def _alignment(self, value: Any) -> int:
        if type(value) is not int or not 0 < value <= _LARGEST_ALIGNMENT or value & (value - 1):
            self._file.damaged(f"its tensors would be aligned to {value!r} bytes")
        return value

    # --- tensors -----------------------------------------------------------------------------------------------

    def _described(self, count: int) -> dict[str, tuple[int, tuple[int, ...], int]]:
        """Return the type, the shape and the place in the data of each tensor."""
        found = {}
        for _ in range(count):
            name = self._at.text(_LONGEST_NAME)
            if name in found:
                self._file.damaged(f"it has two tensors `{name}`")
            dims = self._at.number("<I")
            if dims > _MOST_DIMS:
                self._file.damaged(f"`{name}` would have {dims} dims")
            shape = self._at.numbers("Q", dims)[::-1]
            if prod(max(length, 1) for length in shape) >= 2**60:
                self._file.damaged(f"`{name}` has the shape {list(shape)}")
            found[name] = self._at.number("<I"), shape, self._at.number("<Q")
        return found

    def _check_places(
        self, described: Mapping[str, tuple[int, tuple[int, ...], int]], start: int, alignment: int
    ) -> None:
        """Refuse tensors that are not in the file, overlap, or do not begin where they may."""
        reach, before = 0, ""
        size = self._file.size - start
        for offset, name in sorted((one[2], name) for name, one in described.items()):
            kind, shape, _ = described[name]
            known = self._type(name, kind, shape)
            end = offset + (known.nbytes if known is not None else 0)
            if offset % alignment or end > max(size, 0):
                self._file.damaged(f"`{name}` would be at the bytes {offset} to {end} of {max(size, 0)}")
            if offset < reach:
                self._file.damaged(f"`{name}` and `{before}` overlap")
            reach, before = max(reach, end), name

    def _type(self, name: str, kind: int, shape: tuple[int, ...]) -> TensorType | None:
        """Return the type of a tensor, `None` if it is of a dtype that nobody knows here."""
        dtype = _TYPES.get(kind)
        if dtype is None or dtype.block is None:
            return TensorType(dtype, shape) if dtype is not None else None
        if not shape or shape[-1] % dtype.block.numel:
            self._file.damaged(f"`{name}` of the shape {list(shape)} has no whole blocks of {dtype}")
        return RawType(dtype, shape, prod(shape) // dtype.block.numel * dtype.block.nbytes)

    def _info(self, name: str, kind: int, shape: tuple[int, ...], offset: int, start: int) -> TensorInfo | OpaqueInfo:
        known = self._type(name, kind, shape)
        if known is None:
            return OpaqueInfo(f"GGUF tensor of type {kind}", Unread(name, f"GGUF tensors of type {kind} are not read"))
        return TensorInfo(known, handle=Stored(Extent(self._file, start + offset, known.nbytes), None, name))


class _Long:
    """An array of metadata that is too long to be kept."""


_LONG = _Long()


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _shortest(value: float) -> float:
    """Return the number with the fewest digits that is this one in single precision."""
    for digits in range(6, 10):
        found = float(f"{value:.{digits}g}")
        if struct.pack("<f", value) == struct.pack("<f", found):
            return found
    return value  # NaN has many forms


class _Cursor:
    """Reads what stands one after the other; nothing beyond the end of a file is believed."""

    def __init__(self, file: InputFile) -> None:
        self._file = file
        self._data = b""
        self._start = 0
        self.position = 0

    def bytes(self, count: int) -> bytes:
        """Return the next bytes."""
        at = self._at(count)
        self.position += count
        return self._data[at : at + count]

    def number(self, layout: str) -> Any:
        """Return the next number."""
        size = struct.calcsize(layout)
        at = self._at(size)
        self.position += size
        return struct.unpack_from(layout, self._data, at)[0]

    def numbers(self, kind: str, count: int) -> tuple[int, ...]:
        """Return the next numbers of a kind."""
        return struct.unpack(f"<{count}{kind}", self.bytes(count * struct.calcsize(f"<{kind}")))

    def text(self, longest: int) -> str:
        """Return the next text, which has its length before it."""
        length = self.number("<Q")
        if length > longest:
            self._file.damaged(f"a text of its header would have {length} bytes")
        try:
            return self.bytes(length).decode("utf-8")
        except UnicodeDecodeError:
            self._file.damaged("a text of its header is not UTF-8")

    def skip(self, count: int) -> None:
        """Go past bytes."""
        if self.position + count > self._file.size:
            self._file.damaged(f"its header ends at byte {self._file.size}")
        self.position += count

    def skip_texts(self, count: int) -> None:
        """Go past texts, which may be hundreds of thousands."""
        length_of = struct.Struct("<Q").unpack_from
        for _ in range(count):
            at = self.position - self._start
            if not 0 <= at <= len(self._data) - 8:
                at = self._at(8)
            self.skip(8 + length_of(self._data, at)[0])

    def _at(self, count: int) -> int:
        """Return where the next bytes are in what was read of the file."""
        at = self.position - self._start
        if at < 0 or at + count > len(self._data):
            if self.position + count > min(self._file.size, _LARGEST_HEADER):
                self._file.damaged(f"its header would reach beyond byte {self.position + count}")
            wanted = max(count, min(_SLICE, self._file.size - self.position))
            self._data, self._start, at = self._file.read(self.position, wanted), self.position, 0
        return at
