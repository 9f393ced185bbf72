"""States that torch can save, drawn at random, and how to compare them to the bit."""

from __future__ import annotations

import math
from collections import OrderedDict
from typing import Any

import torch
from hypothesis import strategies as st
from safetensors import SafetensorError
from safetensors.torch import save

import statex

NOTHING = statex.compile("rename? prefix 'nothing' -> ''")
NAMES = [
    "float64", "float32", "float16", "bfloat16", "float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz",
    "float8_e8m0fnu", "int64", "int32", "int16", "int8", "uint8", "uint16", "uint32", "uint64", "bool", "complex64",
    "complex128", "complex32",
]  # fmt: skip
DTYPES = [getattr(torch, name) for name in NAMES if hasattr(torch, name)]
"""torch 2.6 does not have all of them."""
UNTYPED = ("torch.uint16", "torch.uint32", "torch.uint64", "torch.complex32")
NOT_IN_SAFETENSORS = [torch.complex128, torch.complex32]


def _is_saved(dtype: torch.dtype) -> bool:
    """Say whether the installed safetensors saves a dtype: older ones do not save those that younger ones do."""
    try:
        return bool(save({"x": torch.zeros(1, dtype=dtype)}))
    except (KeyError, ValueError, SafetensorError):
        return False


IN_SAFETENSORS = [dtype for dtype in DTYPES if dtype not in NOT_IN_SAFETENSORS and _is_saved(dtype)]


def bits(tensor: torch.Tensor) -> bytes:
    """Return the bytes of a tensor in the order of its elements."""
    plain = torch.empty(tensor.numel(), dtype=tensor.dtype)
    return plain.copy_(tensor.detach().reshape(-1)).view(torch.uint8).numpy().tobytes()


def same(one: Any, other: Any) -> bool:
    """Say whether two values are equal: tensors to the bit, and of one kind."""
    if isinstance(one, torch.Tensor):
        return (
            type(one) is type(other)
            and one.dtype == other.dtype
            and one.shape == other.shape
            and one.requires_grad == other.requires_grad
            and bits(one) == bits(other)
        )
    if isinstance(one, dict):
        return (
            type(one) is type(other)
            and list(one) == list(other)
            and all(same(value, other[key]) for key, value in one.items())
            and getattr(one, "_metadata", None) == getattr(other, "_metadata", None)
        )
    if isinstance(one, list | tuple):
        return type(one) is type(other) and len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, float) and math.isnan(one):
        return isinstance(other, float) and math.isnan(other)
    return type(one) is type(other) and bool(one == other)


def ties(state: dict[str, Any]) -> list[tuple[str, ...]]:
    """Return which tensors of a state share memory, with where they are in it relative to one another."""
    groups: dict[int, list[str]] = {}
    for key, tensor in state.items():
        if isinstance(tensor, torch.Tensor) and tensor.numel():
            groups.setdefault(tensor.untyped_storage().data_ptr(), []).append(key)
    return sorted(tuple(keys) for keys in groups.values() if len(keys) > 1)


@st.composite
def tensors(draw: st.DrawFn, dtypes: list[torch.dtype]) -> torch.Tensor:
    """A tensor of random bytes: views, strides, zero lengths, no dimensions."""
    dtype = draw(st.sampled_from(dtypes))
    shape = draw(st.lists(st.integers(0, 5), max_size=4))
    count = math.prod(shape) + draw(st.integers(0, 3))
    if dtype == torch.bool:
        base = torch.tensor(draw(st.lists(st.booleans(), min_size=count, max_size=count)), dtype=torch.bool)
    else:
        size = count * dtype.itemsize
        data = bytearray(draw(st.binary(min_size=size, max_size=size)))
        base = torch.frombuffer(data, dtype=dtype) if data else torch.empty(0, dtype=dtype)
    tensor = base[base.numel() - math.prod(shape) :].reshape(shape)
    how = draw(st.integers(0, 4))
    if how == 1 and tensor.ndim >= 2:
        tensor = tensor.transpose(0, 1)
    elif how == 2 and tensor.ndim >= 1:
        tensor = tensor[::2]
    elif how == 3 and tensor.ndim >= 1:
        tensor = tensor[..., :1].expand(tensor.shape)
    return tensor


@st.composite
def states(draw: st.DrawFn, dtypes: list[torch.dtype] = DTYPES) -> OrderedDict[str, Any]:
    """A state: Parameters, ties, overlapping views, `_metadata`."""
    state: OrderedDict[str, Any] = OrderedDict()
    for number in range(draw(st.integers(0, 5))):
        tensor = draw(tensors(dtypes))
        if tensor.is_floating_point() and draw(st.booleans()):
            state[f"m.{number}.weight"] = torch.nn.Parameter(tensor, requires_grad=draw(st.booleans()))
        else:
            state[f"m.{number}.weight"] = tensor
        kind = draw(st.integers(0, 5))
        if kind == 0:
            state[f"m.{number}.tied"] = state[f"m.{number}.weight"]
        elif kind == 1 and tensor.ndim and tensor.shape[0] > 1:
            state[f"m.{number}.view"] = tensor[1:]
    if draw(st.booleans()):
        state._metadata = OrderedDict([("", {"version": 1}), ("m", {"version": 2})])  # type: ignore[attr-defined]
    return state


plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(max_size=5)
    | st.binary(min_size=1, max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=3) | st.integers(), inner, max_size=3)
        | st.tuples(inner, inner)
    ),
    max_leaves=8,
)
