"""Operations that change how many elements there are: padding, cutting, resampling."""

from __future__ import annotations

from math import floor, isfinite
from typing import Any

from statex.core.dtypes import Kind
from statex.core.header import TensorType
from statex.core.strides import Fill, Tiling, joined
from statex.diagnostics.codes import types as codes
from statex.dsl.ops.base import (
    Aliasing,
    ArgKind,
    Index,
    Inverse,
    Moments,
    Operation,
    OperationError,
    Parameter,
    no_scratch,
)
from statex.dsl.ops.typing import FLOAT8, fillable, sized

_X = Parameter("x", ArgKind.TENSOR)
_CATEGORY = "resizing"
_SAMPLED = {"nearest": (3, 5), "nearest-exact": (3, 5), "linear": (3, 3), "bilinear": (4, 4), "bicubic": (4, 4),
            "trilinear": (5, 5), "area": (3, 5)}  # fmt: skip
"""For each mode of interpolation, how many dimensions a tensor has at least and at most."""
_CHANNELS_STAY = ("linear", "bicubic", "area")
"""Modes for which torch computes with tensors as they lie."""


class Pad(Operation):
    """Add elements at the start and end of the last dims, as torch.nn.functional.pad does.

    `pad` lists the numbers for the start and end of the last dim, then of the dim before it, and so on; a negative
    number removes elements. Modes other than `constant` repeat existing elements, and only take the shapes that torch
    supports for them.
    """

    name = "pad"
    category = _CATEGORY
    aliasing = Aliasing.COPY
    moments = Moments.SAME
    fills_with = "value"
    parameters = (
        _X,
        Parameter("pad", ArgKind.INTS),
        Parameter("mode", ArgKind.WORD, "constant", ("constant", "reflect", "replicate", "circular")),
        Parameter("value", ArgKind.NUMBER, 0),
    )
    example = "set embed.weight = pad([0, 0, 0, 64])"

    @staticmethod
    def infer(x: TensorType, pad: tuple[int, ...], mode: str, value: float) -> TensorType:
        if len(pad) % 2 or len(pad) > 2 * x.ndim:
            raise OperationError(
                codes.ARGUMENTS, f"`pad` takes two ints for each padded dim of {x}, last dim first", "pad"
            )
        fillable(x.dtype, value, "value")
        shape = list(x.shape)
        for number in range(len(pad) // 2):
            before, after = pad[2 * number], pad[2 * number + 1]
            at = x.ndim - 1 - number
            if shape[at] + min(before, 0) + min(after, 0) < 0 or shape[at] + before + after < 0:
                raise OperationError(codes.VALUE, f"dim {at} has length {shape[at]}, and cannot lose so much", "pad")
            shape[at] += before + after
        if mode != "constant":
            _check_mode(x, pad, mode)
        return sized(x.dtype, shape)

    @staticmethod
    def scratch(result: TensorType, plain: bool, x: TensorType, pad: tuple[int, ...], mode: str, value: float) -> int:
        return 0 if plain or mode in ("constant", "circular") else x.nbytes

    @staticmethod
    def run(torch: Any, x: Any, pad: tuple[int, ...], mode: str, value: float) -> Any:
        pads = torch.nn.functional.pad
        return pads(x, list(pad), mode, value) if mode == "constant" else pads(x, list(pad), mode)

    @staticmethod
    def moves(x: Tiling, pad: tuple[int, ...], mode: str, value: float) -> Tiling | None:
        found: Tiling | None = x if mode == "constant" else None
        for number in range(len(pad) // 2):
            found = _lengthened(found, len(x.shape) - 1 - number, pad[2 * number], pad[2 * number + 1], value)
        return found

    @staticmethod
    def invert(x: TensorType, pad: tuple[int, ...], mode: str, value: float) -> Inverse | None:
        if min(pad, default=0) < 0:
            return None
        before = reversed(pad[::2])
        lengths = x.shape[x.ndim - len(pad) // 2 :]
        own = [Index(first, first + length, None) for first, length in zip(before, lengths, strict=True)]
        return Inverse("getitem", {"index": (Ellipsis, *own)})


def _lengthened(x: Tiling | None, dim: int, before: int, after: int, value: float) -> Tiling | None:
    """Add elements to a dim, or take some away where a number is negative."""
    if x is None:
        return None
    kept = max(0, x.shape[dim] + min(before, 0) + min(after, 0))
    parts = [x.sliced(dim, min(max(0, -before), x.shape[dim]), kept)]
    for at, added in ((0, before), (len(parts), after)):
        if added > 0:
            shape = (*x.shape[:dim], added, *x.shape[dim + 1 :])
            parts.insert(at if at == 0 else len(parts), Tiling.filled(Fill(value), shape))
    return joined(parts, dim)


def _check_mode(x: TensorType, pad: tuple[int, ...], mode: str) -> None:
    dims = len(pad) // 2
    if x.dtype.kind is not Kind.FLOAT or x.dtype.name.startswith(FLOAT8):
        raise OperationError(
            codes.DTYPE, f"`pad` with {mode} is for floats, not {x.dtype}", "x", help="cast first: `cast(f32) | …`"
        )
    if dims not in (1, 2, 3) or x.ndim not in (dims + 1, dims + 2) or 0 in x.shape:
        raise OperationError(
            codes.SHAPE, f"`pad` with {mode} pads the last 1, 2 or 3 dims behind one or two others", "pad"
        )
    for number in range(dims):
        length = x.shape[x.ndim - 1 - number]
        most = length - 1 if mode == "reflect" else length if mode == "circular" else 2**40
        if min(pad[2 * number : 2 * number + 2]) < 0 or max(pad[2 * number : 2 * number + 2]) > most:
            raise OperationError(
                codes.VALUE, f"`pad` with {mode} repeats at most {most} elements here, and cuts none", "pad"
            )


class Resize(Operation):
    """Give every dim a length: longer dims are cut at the end, shorter ones are filled at the end.

    `-1` keeps a length. New elements are `value`.
    """

    name = "resize"
    category = _CATEGORY
    aliasing = Aliasing.COPY
    moments = Moments.SAME
    fills_with = "value"
    scratch = no_scratch
    lays_out = True
    parameters = (_X, Parameter("size", ArgKind.INTS), Parameter("value", ArgKind.NUMBER, 0))
    example = "set embed.weight = resize([32064, -1])"

    @staticmethod
    def infer(x: TensorType, size: tuple[int, ...], value: float) -> TensorType:
        if len(size) != x.ndim or any(length < -1 for length in size):
            raise OperationError(
                codes.ARGUMENTS, f"`resize` takes a length for each of the {x.ndim} dims, or -1", "size"
            )
        fillable(x.dtype, value, "value")
        return sized(x.dtype, [own if new == -1 else new for own, new in zip(x.shape, size, strict=True)])

    @staticmethod
    def run(torch: Any, x: Any, size: tuple[int, ...], value: float) -> Any:
        shape = [own if new == -1 else new for own, new in zip(x.shape, size, strict=True)]
        result = torch.full(shape, value, dtype=x.dtype, device=x.device)
        kept = tuple(slice(0, min(own, new)) for own, new in zip(x.shape, shape, strict=True))
        result[kept] = x[kept]
        return result

    @staticmethod
    def moves(x: Tiling, size: tuple[int, ...], value: float) -> Tiling | None:
        found: Tiling | None = x
        for dim, (own, new) in enumerate(zip(x.shape, size, strict=True)):
            found = _lengthened(found, dim, 0, 0 if new == -1 else new - own, value)
        return found

    @staticmethod
    def invert(x: TensorType, size: tuple[int, ...], value: float) -> Inverse | None:
        if any(-1 < new < own for own, new in zip(x.shape, size, strict=True)):
            return None
        if not size:
            return Inverse("clone", {})
        own = (Index(None, None if new in (-1, old) else old, None) for old, new in zip(x.shape, size, strict=True))
        return Inverse("getitem", {"index": tuple(own)})


class Interpolate(Operation):
    """Resample the last dims as torch.nn.functional.interpolate does.

    The tensor is (batch, channel, …); `size` or `scale_factor` applies to the dims after these two.
    """

    name = "interpolate"
    category = _CATEGORY
    aliasing = Aliasing.COPY
    moments = Moments.UNKNOWN
    parameters = (
        _X,
        Parameter("size", ArgKind.INTS, None),
        Parameter("scale_factor", ArgKind.NUMBER, None),
        Parameter("mode", ArgKind.WORD, "nearest", tuple(_SAMPLED)),
        Parameter("align_corners", ArgKind.BOOL, None),
        Parameter("antialias", ArgKind.BOOL, False),
    )
    example = "set pos = interpolate([16, 16], mode=bicubic)"

    @staticmethod
    def infer(
        x: TensorType,
        size: tuple[int, ...] | None,
        scale_factor: float | None,
        mode: str,
        align_corners: bool | None,
        antialias: bool,
    ) -> TensorType:
        low, high = _SAMPLED[mode]
        if not low <= x.ndim <= high:
            wanted = f"{low}" if low == high else f"{low} to {high}"
            raise OperationError(
                codes.SHAPE, f"`interpolate` with {mode} needs {wanted} dimensions, and this is {x}", "x"
            )
        if x.dtype.name not in ("float32", "float64", "bfloat16", "float16"):
            raise OperationError(
                codes.DTYPE, f"`interpolate` is for floats, not {x.dtype}", "x", help="cast first: `cast(f32) | …`"
            )
        if align_corners is not None and mode in ("nearest", "nearest-exact", "area"):
            raise OperationError(codes.ARGUMENTS, f"`align_corners` has no meaning with {mode}", "align_corners")
        if antialias and mode not in ("bilinear", "bicubic"):
            raise OperationError(codes.ARGUMENTS, "`antialias` is for bilinear and bicubic", "antialias")
        if antialias and x.dtype.name not in ("float32", "float64"):
            raise OperationError(
                codes.DTYPE, f"`antialias` is for f32 and f64, not {x.dtype}", "x", help="cast first: `cast(f32) | …`"
            )
        return sized(x.dtype, (*x.shape[:2], *_new_size(x, size, scale_factor)))

    @staticmethod
    def scratch(result: TensorType, plain: bool, x: TensorType, mode: str, antialias: bool, **arguments: Any) -> int:
        copied = 0 if plain else x.nbytes
        if antialias:
            # One dim after the other, the last one first.
            return copied + x.nbytes // x.shape[-1] * result.shape[-1]
        # Some sizes are computed with the channels last, from a copy, and copied back.
        return copied if mode in _CHANNELS_STAY else x.nbytes + result.nbytes

    @staticmethod
    def run(
        torch: Any,
        x: Any,
        size: tuple[int, ...] | None,
        scale_factor: float | None,
        mode: str,
        align_corners: bool | None,
        antialias: bool,
    ) -> Any:
        return torch.nn.functional.interpolate(
            x,
            size=None if size is None else _per_dim(x.ndim, size),
            scale_factor=scale_factor,
            mode=mode,
            align_corners=align_corners,
            antialias=antialias,
        )


def _per_dim(ndim: int, size: tuple[int, ...]) -> list[int]:
    return list(size) * (ndim - 2) if len(size) == 1 else list(size)


def _new_size(x: TensorType, size: tuple[int, ...] | None, scale_factor: float | None) -> list[int]:
    if (size is None) is (scale_factor is None):
        raise OperationError(codes.ARGUMENTS, "`interpolate` takes either `size` or `scale_factor`", "size")
    if 0 in x.shape:
        raise OperationError(codes.SHAPE, f"`interpolate` needs elements, and {x} has none", "x")
    if size is not None:
        lengths = _per_dim(x.ndim, size)
        if len(lengths) != x.ndim - 2:
            raise OperationError(codes.ARGUMENTS, f"`size` takes {x.ndim - 2} lengths here", "size")
    else:
        assert scale_factor is not None
        if not isfinite(scale_factor):
            raise OperationError(codes.VALUE, f"{scale_factor} is not a scale factor", "scale_factor")
        lengths = [floor(float(length) * scale_factor) for length in x.shape[2:]]
    if any(length < 1 for length in lengths):
        raise OperationError(codes.VALUE, f"a dim cannot become {min(lengths)} long", "size")
    return lengths
