"""safetensors files: the header is read and written here, without torch; the data is bytes.

Format: 8 bytes little-endian length of the header, the header as JSON, then the data without holes
(https://github.com/huggingface/safetensors#format).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any

from statex.checkpoint.contents import Moved, OutTensor
from statex.checkpoint.input_file import Extent, InputFile, Stored
from statex.checkpoint.output_file import OutputFile
from statex.checkpoint.reader import Reader
from statex.diagnostics import fail
from statex.diagnostics.codes import files as codes
from statex.dtypes import BY_NAME, DType
from statex.header import TensorInfo, TensorType

_LARGEST_HEADER = 100_000_000
"""Bytes; the library's own limit."""
_NOTES = "__metadata__"
_PAGE = 4096

DTYPES: Mapping[str, DType] = {
    name: BY_NAME[dtype]
    for name, dtype in {
        "BOOL": "bool", "U8": "uint8", "I8": "int8", "I16": "int16", "U16": "uint16", "I32": "int32", "U32": "uint32",
        "I64": "int64", "U64": "uint64", "F16": "float16", "BF16": "bfloat16", "F32": "float32", "F64": "float64",
        "F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2", "F8_E8M0": "float8_e8m0fnu", "C64": "complex64",
    }.items()
}  # fmt: skip
"""The names of dtypes in headers."""
NAMES: Mapping[DType, str] = {dtype: name for name, dtype in DTYPES.items()}


def looks_like_safetensors(head: bytes, size: int) -> bool:
    """Say whether a file begins like safetensors: a length that fits into it, then an opening brace."""
    return len(head) > 8 and head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= max(size, _LARGEST_HEADER)


class SafetensorsReader(Reader):
    """A safetensors file."""

    format = "safetensors"

    def __init__(self, path: Path, file: InputFile) -> None:
        super().__init__(path, [file])
        self._file = file
        header, start = self._header()
        notes = header.pop(_NOTES, {})
        if not isinstance(notes, dict) or not all(isinstance(v, str) for v in notes.values()):
            file.damaged(f"its `{_NOTES}` is no mapping of texts")
        self.notes = notes
        self._tree = self._entries(header, start)

    @property
    def tree(self) -> Any:
        """The tensors by key."""
        return self._tree

    def _header(self) -> tuple[dict[str, Any], int]:
        """Return the parsed header and where the data starts."""
        file = self._file
        if file.size < 8:
            file.damaged("it is too short for a header")
        length = int.from_bytes(file.read(0, 8), "little")
        if length > _LARGEST_HEADER or 8 + length > file.size:
            file.damaged(f"its header would be {length} bytes long, and the file has {file.size}")
        try:
            text = file.read(8, length).decode("utf-8")
            header = json.loads(text, object_pairs_hook=self._unique, parse_constant=self._no_constant)
        except (ValueError, RecursionError) as error:
            file.damaged(f"its header is no JSON: {error}")
        if not isinstance(header, dict):
            file.damaged("its header is no mapping")
        return header, 8 + length

    def _unique(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            names = [name for name, _ in pairs]
            self._file.damaged(f"its header names `{next(n for n in names if names.count(n) > 1)}` twice")
        return found

    def _no_constant(self, name: str) -> None:
        self._file.damaged(f"its header holds {name}")

    def _entries(self, header: dict[str, Any], start: int) -> dict[str, TensorInfo]:
        size = self._file.size - start
        entries: dict[str, TensorInfo] = {}
        ranges: list[tuple[int, int, str]] = []
        for name, given in header.items():
            kind, first, end = self._entry(name, given, size)
            stored = Stored(Extent(self._file, start + first, end - first), None, name)
            entries[name] = TensorInfo(kind, handle=stored)
            ranges.append((first, end, name))
        reach = 0
        for first, end, name in sorted(ranges):
            if first != reach:
                self._file.damaged(f"there is a hole or an overlap before `{name}`")
            reach = end
        if reach != size:
            self._file.damaged(f"its tensors end at byte {reach}, and its data has {size}")
        return entries

    def _entry(self, name: str, given: Any, size: int) -> tuple[TensorType, int, int]:
        file = self._file
        if type(given) is not dict or given.keys() != _FIELDS:
            file.damaged(f"`{name}` is described by other than dtype, shape and data_offsets")
        dtype = DTYPES.get(given["dtype"]) if type(given["dtype"]) is str else None
        if dtype is None:
            file.damaged(f"`{name}` has the unknown dtype {given['dtype']!r}")
        shape, offsets = given["shape"], given["data_offsets"]
        if not _are_counts(shape) or not _are_counts(offsets) or len(offsets) != 2:
            file.damaged(f"`{name}` has no proper shape and offsets")
        first, end = offsets
        if not first <= end <= size or end - first != prod(shape) * dtype.itemsize:
            file.damaged(f"`{name}` is {dtype}{shape} and its bytes {first} to {end} of {size} do not fit")
        return TensorType(dtype, tuple(shape)), first, end


_FIELDS = {"dtype", "shape", "data_offsets"}


def _are_counts(value: Any) -> bool:
    if type(value) is not list or len(value) > 64:
        return False
    # By sets and minima rather than item by item: a header may have hundreds of thousands of these.
    return not value or (set(map(type, value)) == _INT and min(value) >= 0 and max(value) < 2**63)


_INT = {int}


def check_holdable(tree: Any) -> None:
    """Refuse what safetensors cannot hold; leaves are `TensorInfo` or `OutTensor`.

    Raises:
        StatexError: SX614 with every entry at fault.
    """
    items = tree.items() if isinstance(tree, Mapping) else [("", tree)]
    odd = [(str(key), _kind(value)) for key, value in items if not _holdable(key, value)]
    if not odd:
        return
    shown = [(f"  {key}", kind) for key, kind in odd[:8]]
    if len(odd) > 8:
        shown.append((f"  and {len(odd) - 8} more", ""))
    nested = isinstance(tree, Mapping) and any(isinstance(value, Mapping) for value in tree.values())
    fail(
        codes.CANNOT_HOLD,
        "safetensors holds named tensors only, and cannot hold all of this",
        rows=shown,
        help="take the bare state: root 'state_dict' -> ''" if nested else f"drop {odd[0][0]}   or write a .pth",
    )


def _holdable(key: Any, value: Any) -> bool:
    is_tensor = isinstance(value, TensorInfo | OutTensor) and value.type.dtype in NAMES
    return is_tensor and isinstance(key, str) and key != _NOTES


def _kind(value: Any) -> str:
    if isinstance(value, TensorInfo | OutTensor):
        return f"{value.type.dtype} tensor"
    return value.kind if hasattr(value, "kind") else type(value).__name__


def write_safetensors(file: OutputFile, state: Mapping[str, OutTensor], notes: Mapping[str, str], check: bool) -> None:
    """Write a flat state of contiguous tensors, each with a blob of its own.

    The data is sorted by the size of elements, largest first, so that all of them are aligned.
    """
    order = sorted(state.items(), key=lambda item: -item[1].type.dtype.itemsize)
    places: dict[str, int] = {}
    reach = 0
    for key, tensor in order:
        places[key] = reach
        reach += tensor.blob.nbytes
    header: dict[str, Any] = {_NOTES: {"format": "pt", **notes}}
    for key, tensor in state.items():
        kind, start = tensor.type, places[key]
        header[key] = {
            "dtype": NAMES[kind.dtype],
            "shape": list(kind.shape),
            "data_offsets": [start, start + tensor.blob.nbytes],
        }
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode("utf-8")
    text += b" " * _padding(len(text), order[0][1] if order else None)
    if len(text) > _LARGEST_HEADER:
        fail(codes.CANNOT_HOLD, f"the header would have {len(text)} bytes, and safetensors allows {_LARGEST_HEADER}")
    file.write(len(text).to_bytes(8, "little") + text)
    for _, tensor in order:
        file.write_blob(tensor.blob, crc=False, check=check)


def _padding(length: int, first: OutTensor | None) -> int:
    """Return how many blanks follow the header: data is aligned to 8 bytes, large data that moves as it was before.

    A file system that can share blocks between files then can share these.
    """
    if first is not None and isinstance(first.blob, Moved) and first.blob.nbytes >= _PAGE:
        wanted = first.blob.runs[0].extent.offset
        if wanted % 8 == 0:
            return (wanted - 8 - length) % _PAGE
    return -length % 8
