"""torch's words for which rules use others: methods of tensors, dtypes, functions that draw random numbers."""

from __future__ import annotations

import re
from collections.abc import Mapping

from statex.core.dtypes import BY_NAME

_DTYPES: Mapping[str, str] = {
    "fp64": "f64", "double": "f64", "fp32": "f32", "float": "f32", "single": "f32", "fp16": "f16", "half": "f16",
    "bfp16": "bf16", "brain": "bf16", "fp8": "f8_e4m3fn", "f8": "f8_e4m3fn", "float8": "f8_e4m3fn",
    "fp8_e4m3": "f8_e4m3fn", "fp8_e5m2": "f8_e5m2", "float8_e4m3": "f8_e4m3fn", "long": "i64", "int": "i32",
    "short": "i16", "char": "i8", "byte": "u8", "boolean": "bool", "cfloat": "c64", "cdouble": "c128",
}  # fmt: skip
"""What dtypes are called elsewhere."""

_CASTS = ("double", "float", "half", "bfloat16", "long", "int", "short", "char", "byte", "bool", "cfloat", "cdouble")
_CAST_TO = ("to", "type", "astype", "type_as")
_SAME = ("contiguous", "detach", "detach_", "cpu", "cuda", "data", "requires_grad_", "requires_grad")
"""What leaves the values as they are: there are no devices, no gradients and no strides in rules."""

_OTHERWISE: Mapping[str, str] = {
    "T": "transpose", "t": "transpose", "mT": "transpose", "swapaxes": "transpose", "swapdims": "transpose",
    "view": "reshape", "unbind": "unstack", "split": "sections", "split_with_sizes": "sections", "dim": "ndim",
    "ndimension": "ndim", "nelement": "numel", "amin": "min", "amax": "max", "mm": "matmul", "bmm": "matmul",
    "divide": "div", "multiply": "mul", "subtract": "sub", "negative": "neg", "clip": "clamp", "absolute": "abs",
    "concat": "cat", "concatenate": "cat", "tensor_split": "sections", "vstack": "cat", "hstack": "cat",
}  # fmt: skip
"""Operations under another name than torch's."""

ARGUMENTS: Mapping[str, str] = {
    "axis": "dim", "axes": "dims", "keepdims": "keepdim", "perm": "dims", "newshape": "shape", "repeats": "size",
    "split_size_or_sections": "sizes", "indices_or_sections": "sizes", "dim1": "dim0", "dim2": "dim1",
    "axis1": "dim0", "axis2": "dim1", "padding": "pad", "output_size": "size", "scale": "scale_factor",
}  # fmt: skip
"""Arguments under another name than torch's."""

RANDOM = frozenset((
    "normal", "normal_", "rand", "randn", "randint", "rand_like", "randn_like", "randint_like", "randperm", "uniform",
    "uniform_", "trunc_normal", "trunc_normal_", "kaiming_uniform_", "kaiming_normal_", "xavier_uniform_",
    "xavier_normal_", "orthogonal_", "bernoulli", "dropout", "kaiming_uniform", "xavier_uniform", "empty",
    "empty_like",
))  # fmt: skip
"""Functions whose result is another one at each call, or whatever was in memory."""


def dtype_word(text: str) -> str | None:
    """Return the short name of a dtype by another of its names (`fp16`, `torch.bfloat16`), `None` for other words."""
    word = text.removeprefix("torch.")
    known = _DTYPES.get(word.lower()) or next((BY_NAME[n].short for n in (word, word.lower()) if n in BY_NAME), None)
    return known if known != text else None


def operation_word(name: str) -> str | None:
    """Return what an operation is called in rules that has another name elsewhere: `cast(f16)` for `half`."""
    if name in _CASTS:
        return f"cast({_dtype(name)})"
    if name in _CAST_TO:
        return "cast"
    if name == "len":
        return "size(0)"
    return "it" if name in _SAME else _OTHERWISE.get(name)


def method_call(value: str, name: str, arguments: str = "") -> str:
    """Return a call of a method of a tensor as an operation of rules, or an attribute of a tensor.

    Of the current tensor, `it`, the operation alone is enough: `it.half()` is `cast(f16)`.
    """
    given = arguments.strip().rstrip(",")
    if name in _CASTS:
        name, given = "cast", _dtype(name) or ""
    elif name in _CAST_TO:
        name, given = "cast", _cast_to(given)
    elif name in ("split", "split_with_sizes") and given[:1].isdigit():
        # torch takes one size for all pieces, and `sections` each.
        first, _, others = given.partition(",")
        given = f"[{first}, …],{others}".rstrip(",")
    elif name == "len":
        name, given = "size", "0"
    elif name == "size" and not given:
        name = "shape"
    if name in _SAME or (name == "cast" and not given):
        return value
    plain = name.rstrip("_")
    inside = ", ".join(text for text in ("" if value == "it" else value, given) if text)
    return f"{_OTHERWISE.get(plain, plain)}({inside})" if inside else _OTHERWISE.get(plain, plain)


def _cast_to(given: str) -> str:
    """Return the dtype that `to(…)` is told; nothing where that is a device."""
    words = [word.partition("=")[2].strip() or word.strip() for word in given.split(",")]
    found = next((dtype for dtype in map(_dtype, words) if dtype is not None), None)
    if found is not None or re.search(r"""['"]|device|cuda|cpu""", given):
        return found or ""
    return f"dtype({given})" if given else ""


def _dtype(text: str) -> str | None:
    """Return the short name of a dtype, however it is written."""
    return dtype_word(text) or (text if text in BY_NAME else None)
