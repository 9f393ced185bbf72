"""safetensors files: the header is read here, without torch; data goes through the safetensors library.

Format: 8 bytes little-endian length of the header, the header as JSON, then the data
(https://github.com/huggingface/safetensors#format).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any, NoReturn

from statex.checkpoint.reader import Reader
from statex.diagnostics import fail
from statex.diagnostics.codes import files as codes
from statex.dtypes import BY_NAME, DType
from statex.header import TensorInfo, TensorType

_LARGEST_HEADER = 100_000_000
"""Bytes; the library's own limit."""

DTYPES: Mapping[str, DType] = {
    name: BY_NAME[dtype]
    for name, dtype in {
        "BOOL": "bool", "U8": "uint8", "I8": "int8", "I16": "int16", "U16": "uint16", "I32": "int32", "U32": "uint32",
        "I64": "int64", "U64": "uint64", "F16": "float16", "BF16": "bfloat16", "F32": "float32", "F64": "float64",
        "F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2", "F8_E8M0": "float8_e8m0fnu", "C64": "complex64",
    }.items()
}  # fmt: skip
"""The names of dtypes in headers."""


def looks_like_safetensors(head: bytes, size: int) -> bool:
    """Say whether a file begins like safetensors: a length that fits into it, then an opening brace."""
    return len(head) > 8 and head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= max(size, _LARGEST_HEADER)


class SafetensorsReader(Reader):
    """A safetensors file."""

    format = "safetensors"

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.metadata, self._tree = _read_header(path)
        self._file: Any = None

    @property
    def tree(self) -> Any:
        """The tensors by key."""
        return self._tree

    def load(self, info: TensorInfo) -> Any:
        """Return the tensor."""
        from safetensors import SafetensorError, safe_open

        try:
            if self._file is None:
                self._file = safe_open(self.path, framework="pt")
            return self._file.get_tensor(info.handle)
        except (SafetensorError, OSError) as error:
            _damaged(self.path, str(error))

    def close(self) -> None:
        """Let go of the file."""
        self._file = None


def _read_header(path: Path) -> tuple[dict[str, str], dict[str, TensorInfo]]:
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(0)
            length = int.from_bytes(file.read(8), "little")
            if length > _LARGEST_HEADER or 8 + length > size:
                _damaged(path, f"its header would be {length} bytes long, and the file has {size}")
            text = file.read(length)
    except OSError as error:
        fail(codes.UNREADABLE, f"`{path}` cannot be read: {error.strerror or error}")
    try:
        header = json.loads(text.decode("utf-8"), object_pairs_hook=lambda pairs: _unique(path, pairs))
    except (ValueError, RecursionError) as error:
        _damaged(path, f"its header is no JSON: {error}")
    if not isinstance(header, dict):
        _damaged(path, "its header is no mapping")
    metadata = header.pop("__metadata__", {})
    entries = {name: _entry(path, name, given, size - 8 - length) for name, given in header.items()}
    _check_layout(path, entries, size - 8 - length)
    # The header's order is the writer's; data order is what `save_file` derives from it, so the header's is kept.
    return metadata if isinstance(metadata, dict) else {}, {name: info for name, (info, _, _) in entries.items()}


def _unique(path: Path, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        _damaged(path, "its header names an entry twice")
    return found


def _entry(path: Path, name: str, given: Any, size: int) -> tuple[TensorInfo, int, int]:
    if not isinstance(given, dict):
        _damaged(path, f"`{name}` is no mapping in its header")
    dtype = DTYPES.get(str(given.get("dtype")))
    if dtype is None:
        fail(codes.DAMAGED, f"`{path}`: `{name}` has the unknown dtype {given.get('dtype')!r}")
    shape: Any = given.get("shape")
    offsets: Any = given.get("data_offsets")
    if not _are_counts(shape) or not _are_counts(offsets) or len(offsets) != 2:
        _damaged(path, f"`{name}` has no proper shape and offsets")
    start, end = offsets
    if not start <= end <= size or end - start != prod(shape) * dtype.itemsize:
        _damaged(path, f"`{name}` is {dtype}{shape} and its bytes {start} to {end} of {size} do not fit")
    return TensorInfo(TensorType(dtype, tuple(shape)), handle=name), start, end


def _are_counts(value: Any) -> bool:
    return isinstance(value, list) and all(type(item) is int and 0 <= item < 2**63 for item in value)


def _check_layout(path: Path, entries: Mapping[str, tuple[TensorInfo, int, int]], size: int) -> None:
    reach = 0
    for name, (_, start, end) in sorted(entries.items(), key=lambda item: (item[1][1], item[1][2])):
        if start != reach:
            _damaged(path, f"there is a hole or an overlap before `{name}`")
        reach = end
    if reach != size:
        _damaged(path, f"its tensors end at byte {reach}, and its data has {size}")


def _damaged(path: Path, why: str) -> NoReturn:
    fail(codes.DAMAGED, f"`{path}` is damaged: {why}", help="fetch the file again, and compare its size")


def save_safetensors(path: Path, tree: Any) -> None:
    """Write a flat state; tied tensors are written in full.

    Raises:
        StatexError: SX614 with every entry the format cannot hold.
    """
    import torch
    from safetensors.torch import save_file

    odd = [(str(key), _kind(value)) for key, value in tree.items() if not _holdable(value, torch)]
    if odd:
        shown = [(f"  {key}", kind) for key, kind in odd[:8]]
        if len(odd) > 8:
            shown.append((f"  and {len(odd) - 8} more", ""))
        nested = any(isinstance(value, Mapping) for value in tree.values())
        fail(
            codes.CANNOT_HOLD,
            "safetensors holds named tensors only, and cannot hold all of this",
            rows=shown,
            help="take the bare state: root 'state_dict' -> ''" if nested else f"drop {odd[0][0]}   or write a .pth",
        )
    save_file(_independent(tree), path, metadata={"format": "pt"})


def _kind(value: Any) -> str:
    import torch

    if isinstance(value, torch.Tensor):
        return f"{value.dtype} {value.layout} tensor".replace("torch.", "")
    return type(value).__name__


def _holdable(value: Any, torch: Any) -> bool:
    known = {dtype.name for dtype in DTYPES.values()}
    return (
        isinstance(value, torch.Tensor)
        and value.layout is torch.strided
        and not value.is_quantized
        and str(value.dtype).removeprefix("torch.") in known
    )


def _independent(state: Mapping[str, Any]) -> dict[str, Any]:
    """Return the tensors contiguous and without shared storage, as the library wants them."""
    seen: set[int] = set()
    result = {}
    for key, value in state.items():
        tensor = value.detach().contiguous()
        storage = tensor.untyped_storage()
        if storage._cdata in seen or storage.nbytes() != tensor.numel() * tensor.element_size():
            tensor = tensor.clone()
        seen.add(tensor.untyped_storage()._cdata)
        result[str(key)] = tensor
    return result
