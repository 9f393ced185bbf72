"""Files of `torch.save`: read by `torch.load(weights_only=True)`, written by `torch.save`."""

from __future__ import annotations

import pickle
import re
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from statex.checkpoint.reader import Reader
from statex.diagnostics import fail
from statex.diagnostics.codes import files as codes
from statex.dtypes import BY_NAME
from statex.header import OpaqueInfo, TensorInfo, TensorType

_ZIP = b"PK\x03\x04"
_LEGACY = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."
"""The pickled magic number every file of the format before zip begins with (torch/serialization.py)."""
_GLOBAL = re.compile(r"GLOBAL (\S+)|class (\S+)|function (\S+)")


def looks_like_torch(head: bytes) -> bool:
    """Say whether a file begins like one of torch: a zip archive, a legacy file, or some pickle."""
    return head.startswith((_ZIP, _LEGACY)) or (head[:1] == b"\x80" and head[1:2] in b"\x02\x03\x04\x05")


class TorchReader(Reader):
    """A file of `torch.save`, mapped into memory where its format allows."""

    format = "torch"

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._tree = _described(_load(path))

    @property
    def tree(self) -> Any:
        """The nested content, tensors as headers."""
        return self._tree

    def load(self, info: TensorInfo) -> Any:
        """Return the tensor."""
        return info.handle


def _load(path: Path) -> Any:
    import torch

    is_zip = _check_zip(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.load(path, weights_only=True, mmap=is_zip, map_location="cpu")
    except pickle.UnpicklingError as error:
        _unsafe(path, str(error))
    except (RuntimeError, ValueError, EOFError, KeyError, AttributeError, TypeError, IndexError) as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        fail(codes.DAMAGED, f"`{path}` is damaged: {first}", help="fetch the file again, and compare its size")
    except OSError as error:
        fail(codes.UNREADABLE, f"`{path}` cannot be read: {error.strerror or error}")


def _check_zip(path: Path) -> bool:
    with path.open("rb") as file:
        if file.read(4) != _ZIP:
            return False
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError) as error:
        fail(
            codes.DAMAGED,
            f"`{path}` is a damaged zip archive: {error}",
            help="a download that was cut short looks like this: fetch the file again",
        )
    folders = {name.partition("/")[0] for name in names}
    if any(f"{folder}/constants.pkl" in names for folder in folders):
        fail(
            codes.UNSAFE,
            f"`{path}` is a TorchScript archive: a program, not a state",
            help="load it where you trust it, and save its state: "
            "torch.save(torch.jit.load(f).state_dict(), 'state.pth')",
        )
    if not any(f"{folder}/data.pkl" in names for folder in folders):
        fail(codes.NOT_A_CHECKPOINT, f"`{path}` is a zip archive, and not one of torch.save")
    return True


def _unsafe(path: Path, message: str) -> None:
    named = next((name for found in _GLOBAL.finditer(message) for name in found.groups() if name), None)
    if named is None:
        fail(
            codes.DAMAGED,
            f"`{path}` is a damaged pickle, or holds more than tensors and plain containers",
            help="where you trust the file, save the state alone: torch.save(model.state_dict(), 'state.pth')",
        )
    fail(
        codes.UNSAFE,
        f"`{path}` names `{named.rstrip('.,')}`, which is code: it is not loaded",
        notes=["only tensors and plain containers are read from a pickle"],
        help="where you trust the file, save the state alone: torch.save(model.state_dict(), 'state.pth')",
    )


def _described(value: Any) -> Any:
    import torch

    if isinstance(value, torch.Tensor):
        return _tensor_info(value)
    if isinstance(value, Mapping):
        items = {key: _described(item) for key, item in value.items()}
        if not isinstance(value, OrderedDict):
            return items
        result: Any = OrderedDict(items)
        if hasattr(value, "_metadata"):
            result._metadata = value._metadata
        return result
    if type(value) is list:
        return [_described(item) for item in value]
    if type(value) is tuple:
        return tuple(_described(item) for item in value)
    return value


def _tensor_info(tensor: Any) -> TensorInfo | OpaqueInfo:
    import torch

    dtype = BY_NAME.get(str(tensor.dtype).removeprefix("torch."))
    if dtype is None or tensor.layout is not torch.strided or tensor.is_quantized:
        what = "quantized" if tensor.is_quantized else str(tensor.layout).removeprefix("torch.")
        return OpaqueInfo(f"{what} tensor", tensor)
    return TensorInfo(
        TensorType(dtype, tuple(tensor.shape)),
        storage=tensor.untyped_storage()._cdata if tensor.numel() else None,
        offset=tensor.storage_offset(),
        stride=tuple(tensor.stride()),
        is_parameter=isinstance(tensor, torch.nn.Parameter),
        requires_grad=tensor.requires_grad,
        handle=tensor,
    )


def save_torch(path: Path, tree: Any) -> None:
    """Write a tree by `torch.save`; a view takes along no more of its storage than the file's tensors use."""
    import torch

    torch.save(_compact(tree), path)


def _compact(tree: Any) -> Any:
    """Return the tree with copies of views in place of the large storages they were cut from.

    Tensors that share a storage and use all of it together stay as they are; otherwise each distinct view becomes a
    tensor of its own, and equal views stay one.
    """
    import torch

    by_storage: dict[int, list[Any]] = {}
    for tensor in _tensors(tree):
        if tensor.layout is torch.strided and not tensor.is_quantized and tensor.device.type != "meta":
            by_storage.setdefault(tensor.untyped_storage()._cdata, []).append(tensor)
    copies: dict[int, Any] = {}
    for tensors in by_storage.values():
        used = _used_bytes(tensors)
        # torch.save takes an empty storage for the one that starts at the same address.
        if not used or used < tensors[0].untyped_storage().nbytes():
            views: dict[object, Any] = {}
            for tensor in tensors:
                geometry = (tensor.dtype, tensor.storage_offset(), tuple(tensor.shape), tensor.stride())
                copies[id(tensor)] = views.setdefault(geometry, _copied(tensor))
    return _substituted(tree, copies) if copies else tree


def _used_bytes(tensors: list[Any]) -> int:
    """Return how many bytes of their storage contiguous tensors use together (overlaps count once)."""
    ranges = sorted((t.storage_offset() * t.element_size(), _end(t)) for t in tensors)
    used = reach = 0
    for start, end in ranges:
        used += max(0, end - max(start, reach))
        reach = max(reach, end)
    return used


def _end(tensor: Any) -> int:
    if not tensor.numel():
        return int(tensor.storage_offset() * tensor.element_size())
    last = tensor.storage_offset() + sum((n - 1) * s for n, s in zip(tensor.shape, tensor.stride(), strict=True))
    return int((last + 1) * tensor.element_size())


def _copied(tensor: Any) -> Any:
    import torch

    copy = tensor.detach().clone(memory_format=torch.contiguous_format)
    if isinstance(tensor, torch.nn.Parameter):
        return torch.nn.Parameter(copy, requires_grad=tensor.requires_grad)
    return copy.requires_grad_(tensor.requires_grad)


def _tensors(tree: Any) -> Iterator[Any]:
    import torch

    if isinstance(tree, torch.Tensor):
        yield tree
    elif isinstance(tree, Mapping):
        for value in tree.values():
            yield from _tensors(value)
    elif isinstance(tree, list | tuple):
        for value in tree:
            yield from _tensors(value)


def _substituted(tree: Any, copies: Mapping[int, Any]) -> Any:
    import torch

    if isinstance(tree, torch.Tensor):
        return copies.get(id(tree), tree)
    if isinstance(tree, Mapping):
        items = {key: _substituted(value, copies) for key, value in tree.items()}
        if not isinstance(tree, OrderedDict):
            return items
        result: Any = OrderedDict(items)
        if hasattr(tree, "_metadata"):
            result._metadata = tree._metadata
        return result
    if isinstance(tree, list):
        return [_substituted(value, copies) for value in tree]
    if isinstance(tree, tuple):
        return tuple(_substituted(value, copies) for value in tree)
    return tree
