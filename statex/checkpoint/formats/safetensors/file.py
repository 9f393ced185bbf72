"""safetensors files: the header is read and written here, without torch; the data is bytes.

Format: 8 bytes little-endian length of the header, the header as JSON, then the data without holes
(https://github.com/huggingface/safetensors#format).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Any

from statex.checkpoint.blobs.contents import Blob, OutTensor
from statex.checkpoint.blobs.pages import WORTH, shift
from statex.checkpoint.blobs.write_plan import FileLayout, FilePlan
from statex.checkpoint.formats.flat_help import check_flat
from statex.checkpoint.formats.packed import raw_type, safetensors_type
from statex.checkpoint.formats.stamps import from_text, marked
from statex.checkpoint.formats.strict_json import is_text, parse
from statex.checkpoint.io.cached_file import PAGE
from statex.checkpoint.io.input_file import Extent, InputFile, Stored
from statex.checkpoint.reader import Reader
from statex.core.dtypes import BY_NAME, FLOAT4X2, DType, Kind
from statex.core.header import STAMP, RawType, TensorInfo, TensorType
from statex.diagnostics import fail
from statex.diagnostics.codes import files as codes

_LARGEST_HEADER = 100_000_000
"""Bytes; the library's own limit."""
_NOTES = "__metadata__"

DTYPES: Mapping[str, DType] = {
    name: BY_NAME[dtype]
    for name, dtype in {
        "BOOL": "bool", "U8": "uint8", "I8": "int8", "I16": "int16", "U16": "uint16", "I32": "int32", "U32": "uint32",
        "I64": "int64", "U64": "uint64", "F16": "float16", "BF16": "bfloat16", "F32": "float32", "F64": "float64",
        "F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2", "F8_E8M0": "float8_e8m0fnu", "C64": "complex64",
        "F8_E4M3FNUZ": "float8_e4m3fnuz", "F8_E5M2FNUZ": "float8_e5m2fnuz",
    }.items()
}  # fmt: skip
"""The names of dtypes in headers."""
NAMES: Mapping[DType, str] = {dtype: name for name, dtype in DTYPES.items()}


def _name(kind: TensorType) -> str | None:
    """Return the name that the dtype of a type has in headers, `None` if it has none there."""
    dtype = safetensors_type(kind).dtype
    is_its_own = dtype.kind is Kind.RAW and dtype is not FLOAT4X2 and dtype.block is None
    return dtype.name if is_its_own else NAMES.get(dtype)


def looks_like_safetensors(head: bytes, size: int) -> bool:
    """Say whether a file begins like safetensors: a length that fits into it, then an opening brace."""
    return len(head) > 8 and head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= max(size, _LARGEST_HEADER)


class SafetensorsReader(Reader):
    """A safetensors file."""

    def __init__(self, path: Path, file: InputFile) -> None:
        super().__init__(path, [file])
        self._file = file
        header, start = self._header()
        notes = header.pop(_NOTES, {})
        if not isinstance(notes, dict) or not all(isinstance(v, str) for v in notes.values()):
            file.damaged(f"its `{_NOTES}` is not a mapping of texts")
        metadata = from_text(notes.get(STAMP, ""))
        entries = self._entries(header, start)
        self._tree = entries if metadata is None else marked(entries, metadata)
        self.metadata_texts = (
            notes if metadata is None else {name: text for name, text in notes.items() if name != STAMP}
        )

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
        header = parse(file.read(8, length), "its header", file.damaged)
        if not isinstance(header, dict):
            file.damaged("its header is not a mapping")
        return header, 8 + length

    def _entries(self, header: dict[str, Any], start: int) -> dict[str, TensorInfo]:
        self._check_counts(header)
        size = self._file.size - start
        types: dict[tuple[str, tuple[int, ...]], TensorType] = {}
        entries: dict[str, TensorInfo] = {}
        reach, in_order = 0, True
        for name, given in header.items():
            described = given["dtype"], tuple(given["shape"])
            kind = types.get(described)
            first, end = given["data_offsets"]
            if kind is None:
                kind = self._type(name, *described, end - first)
                if not isinstance(kind, RawType):
                    types[described] = kind
            if not first <= end <= size or end - first != kind.nbytes:
                self._file.damaged(f"`{name}` is {kind} and its bytes {first} to {end} of {size} do not fit")
            stored = Stored(Extent(self._file, start + first, end - first), None, name)
            entries[name] = TensorInfo(kind, handle=stored)
            in_order, reach = in_order and first == reach, end
        if not in_order:
            reach = self._reach(header)
        if reach != size:
            self._file.damaged(f"its tensors end at byte {reach}, and its data has {size}")
        return entries

    def _reach(self, header: dict[str, Any]) -> int:
        """Return where the last tensor ends; they have to follow one another, in whatever order they are named."""
        reach = 0
        for first, end, name in sorted((*given["data_offsets"], name) for name, given in header.items()):
            if first != reach:
                self._file.damaged(f"there is a hole or an overlap before `{name}`")
            reach = end
        return reach

    def _check_counts(self, header: dict[str, Any]) -> None:
        """Refuse tensors that are not described by a dtype, a shape and offsets."""
        for name, given in header.items():
            if type(given) is not dict or given.keys() != _FIELDS or type(given["dtype"]) is not str:
                self._file.damaged(f"`{name}` is described by other than dtype, shape and data_offsets")
        shapes = [given["shape"] for given in header.values()]
        offsets = [given["data_offsets"] for given in header.values()]
        # All at once, as there may be hundreds of thousands; one by one only to name the one at fault.
        lists = set(map(type, shapes + offsets)) <= {list} and set(map(len, offsets)) <= {2}
        few = lists and max(map(len, shapes), default=0) <= _MOST_DIMS
        if few and _are_counts(list(chain.from_iterable(shapes + offsets))):
            return
        for name, shape, place in zip(header, shapes, offsets, strict=True):
            lists = type(shape) is list and type(place) is list and len(place) == 2 and len(shape) <= _MOST_DIMS
            if not lists or not _are_counts(shape + place):
                self._file.damaged(f"`{name}` has no proper shape and offsets")

    def _type(self, name: str, dtype: str, shape: tuple[int, ...], nbytes: int) -> TensorType:
        if dtype in DTYPES:
            return TensorType(DTYPES[dtype], shape)
        kind = raw_type(dtype, shape, nbytes)
        if kind is None:
            self._file.damaged(f"`{name}` cannot be {dtype!r} of the shape {list(shape)} with {nbytes} bytes")
        return kind


_FIELDS = {"dtype", "shape", "data_offsets"}
_MOST_DIMS = 64


def _are_counts(numbers: list[Any]) -> bool:
    return not numbers or (set(map(type, numbers)) == {int} and min(numbers) >= 0 and max(numbers) < 2**63)


def check_holdable(tree: Any) -> None:
    """Refuse what safetensors cannot hold; leaves are `TensorInfo` or `OutTensor`.

    Raises:
        StatexError: SX614 with every entry at fault.
    """
    check_flat(tree, _holdable, "safetensors holds named tensors only, and cannot hold all of this", "write a .pth")


def _holdable(key: Any, value: Any) -> bool:
    is_tensor = isinstance(value, TensorInfo | OutTensor) and _name(value.type) is not None
    return is_tensor and isinstance(key, str) and is_text(key) and key != _NOTES


def laid_out(state: Mapping[str, OutTensor], notes: Mapping[str, str], name: str) -> FilePlan:
    """Return the file of a flat state of contiguous tensors, each with a blob of its own.

    The data is sorted by the size of elements, largest first, so that all of them are aligned.

    Raises:
        StatexError: SX614 for more names than a header has room for.
    """
    order = sorted(state.items(), key=lambda item: -_element(item[1].type))
    places: dict[str, tuple[int, int]] = {}
    reach = 0
    for key, tensor in order:
        start, reach = reach, reach + tensor.blob.nbytes
        places[key] = (start, reach)
    text = _header({**notes, "format": "pt"}, state, places).encode("utf-8")
    text += b" " * _padding(len(text), [(tensor.blob, places[key][0]) for key, tensor in order])
    if len(text) > _LARGEST_HEADER:
        fail(codes.CANNOT_HOLD, f"the header would have {len(text)} bytes, and safetensors allows {_LARGEST_HEADER}")
    layout = FileLayout()
    layout.add("header", len(text).to_bytes(8, "little") + text)
    for key, tensor in order:
        layout.add("tensor", tensor.blob, (key,))
    return layout.file(name)


def _element(kind: TensorType) -> int:
    """Return the bytes of an element, 0 if that is less than one."""
    return kind.nbytes // (kind.numel or 1) if isinstance(kind, RawType) else kind.dtype.itemsize


def _header(notes: Mapping[str, str], state: Mapping[str, OutTensor], places: Mapping[str, tuple[int, int]]) -> str:
    """Return the header as JSON, put together from texts: there may be hundreds of thousands of tensors."""
    parts = [f"{_json(_NOTES)}:{_json(notes)}"]
    for key, tensor in state.items():
        start, end = places[key]
        parts.append(f"{_json(key)}:{_described(tensor.type)}[{start},{end}]}}")
    return "{" + ",".join(parts) + "}"


_json = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


@lru_cache(maxsize=4096)
def _described(kind: TensorType) -> str:
    """Return all of a tensor's description but for its offsets."""
    return _json({"dtype": _name(kind), "shape": kind.shape})[:-1] + ',"data_offsets":'


def _padding(length: int, blobs: Sequence[tuple[Blob, int]]) -> int:
    """Return how many blanks follow the header: data is aligned to 8 bytes, large data that moves as it was before.

    Blobs come with their places in the data; where none is large, the first one alone counts.
    """
    large = [one for one in blobs if one[0].nbytes >= WORTH] or [one for one in blobs[:1] if one[0].nbytes >= PAGE]
    start = shift(large, 8)
    return -length % 8 if start is None else (start - 8 - length) % PAGE
