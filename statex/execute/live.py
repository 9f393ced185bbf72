"""States in memory as headers: live tensors described without touching their data."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Mapping
from operator import is_
from typing import Any

from statex.core.dtypes import BY_NAME
from statex.core.header import OpaqueInfo, TensorInfo, TensorType
from statex.core.paths import is_container
from statex.diagnostics import fail
from statex.diagnostics.codes import files as codes
from statex.trees.envelope import is_extra_state


def describe(value: Any) -> Any:
    """Return the tree of a state in memory: each tensor replaced by its `TensorInfo`, whose handle is the tensor.

    What holds no tensor is the same object in the tree.
    """
    import torch

    return _describe(value, torch)


_DEPTH = 100
"""Dicts that are nested deeper hold themselves, as a rule."""


def _describe(value: Any, torch: Any, depth: int = 0) -> Any:
    if isinstance(value, torch.Tensor):
        return tensor_info(value)
    if type(value).__module__ == "numpy" and type(value).__name__ == "ndarray":
        return tensor_info(_of_numpy(value, torch))
    if not is_container(value):
        return value
    if depth > _DEPTH:
        fail(codes.NO_STATE, f"the dicts of the state are nested more than {_DEPTH} levels deep, or hold themselves")
    if not isinstance(value, Mapping):
        described = [_describe(item, torch, depth + 1) for item in value]
        return value if all(map(is_, described, value)) else type(value)(described)
    items = {key: _describe_item(key, item, torch, depth) for key, item in value.items()}
    if all(items[key] is item for key, item in value.items()):
        return value
    metadata = getattr(value, "_metadata", None)
    if metadata is None and not isinstance(value, OrderedDict):
        return items
    result: OrderedDict[Any, Any] = OrderedDict(items)
    if metadata is not None:
        result._metadata = metadata  # type: ignore[attr-defined]
    return result


def _of_numpy(array: Any, torch: Any) -> Any:
    """Return an array as a tensor over the same memory (a copy, where torch has no such memory).

    Raises:
        StatexError: SX634 for dtypes that torch does not have, such as texts.
    """
    try:
        return torch.from_numpy(array if array.flags.writeable else array.copy())
    except (TypeError, ValueError) as error:
        fail(codes.NOT_A_STATE, f"an array of the dtype {array.dtype} is not a tensor: {error}")


def _describe_item(key: object, value: Any, torch: Any, depth: int) -> Any:
    # What a module keeps as its extra state is its own, whatever it is made of.
    if is_extra_state(key) and not isinstance(value, torch.Tensor):
        return value
    return _describe(value, torch, depth + 1)


def tensor_info(tensor: Any, *, attributes: bool = True) -> TensorInfo | OpaqueInfo:
    """Describe a live tensor; one without plain data (sparse, quantized, lazy) is moved and never computed with."""
    import torch
    from torch.nn.parameter import is_lazy

    if is_lazy(tensor):
        return OpaqueInfo("uninitialized tensor", tensor)
    dtype = BY_NAME.get(str(tensor.dtype).removeprefix("torch."))
    if dtype is None or tensor.layout is not torch.strided or tensor.is_quantized or tensor.is_nested:
        what = "quantized" if tensor.is_quantized else str(tensor.layout).removeprefix("torch.")
        return OpaqueInfo(f"{what} tensor", tensor)
    return TensorInfo(
        TensorType(dtype, tuple(tensor.shape)),
        storage=_storage(tensor) if tensor.numel() else None,
        offset=tensor.storage_offset(),
        stride=tuple(tensor.stride()),
        is_parameter=isinstance(tensor, torch.nn.Parameter),
        requires_grad=tensor.requires_grad,
        handle=tensor,
        attributes=_attributes(tensor) if attributes and type(tensor) in (torch.Tensor, torch.nn.Parameter) else None,
    )


def _attributes(tensor: Any) -> dict[str, Any] | None:
    """Return what Python code has set on a tensor, described; of tensors in there, no attributes in turn."""
    found: dict[str, Any] = getattr(tensor, "__dict__", {})
    return {name: _plainly(value) for name, value in found.items()} or None


def _plainly(value: Any) -> Any:
    import torch

    return tensor_info(value, attributes=False) if isinstance(value, torch.Tensor) else value


def _storage(tensor: Any) -> Hashable:
    """Return what says which tensors are one memory; the conjugate of a tensor, or its negative, is another one."""
    memory = tensor.untyped_storage()._cdata
    return (memory, tensor.is_conj(), tensor.is_neg()) if tensor.is_conj() or tensor.is_neg() else memory
