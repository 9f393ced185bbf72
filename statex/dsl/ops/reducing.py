"""Reductions, and operations that call torch's own function so that every bit agrees."""

from __future__ import annotations

from math import inf
from typing import Any

from statex.core.dtypes import FLOAT32, INT64, DType, Kind
from statex.core.header import TensorType
from statex.diagnostics.codes import types as codes
from statex.dsl.ops.base import Aliasing, ArgKind, Moments, Operation, OperationError, Parameter, no_scratch
from statex.dsl.ops.typing import computable, dims_of, not_empty_dim, one_dtype, piece_size, pieces

_X = Parameter("x", ArgKind.TENSOR)
_DIM = Parameter("dim", ArgKind.INTS, None, doc="the dims to reduce, all unless given")
_KEEP = Parameter("keepdim", ArgKind.BOOL, False, doc="keep the dims with length 1")
_CATEGORY = "reductions"


def _reduced(x: TensorType, dtype: DType, dim: tuple[int, ...] | None, keepdim: bool) -> TensorType:
    gone = set(range(x.ndim)) if not dim else set(dims_of(x, dim))
    kept = [1 if at in gone else length for at, length in enumerate(x.shape) if keepdim or at not in gone]
    return TensorType(dtype, tuple(kept))


class Sum(Operation):
    """Add up elements; ints and bools become i64, as in torch."""

    name = "sum"
    category = _CATEGORY
    lays_out = True
    aliasing = Aliasing.COPY
    moments = Moments.UNKNOWN
    parameters = (_X, _DIM, _KEEP)
    example = "set bias = sum(it, dim=0)"

    @staticmethod
    def infer(x: TensorType, dim: tuple[int, ...] | None, keepdim: bool) -> TensorType:
        computable(x, "sum", kinds="floats, ints, bools, complex", argument="x")
        return _reduced(x, INT64 if x.dtype.kind in (Kind.INT, Kind.BOOL) else x.dtype, dim, keepdim)

    @staticmethod
    def scratch(result: TensorType, plain: bool, x: TensorType, dim: tuple[int, ...] | None, keepdim: bool) -> int:
        return piece_size(x.shape, INT64.itemsize) + result.nbytes if x.dtype != result.dtype else 0

    @staticmethod
    def run(torch: Any, x: Any, dim: tuple[int, ...] | None, keepdim: bool) -> Any:
        dims = tuple(one % x.ndim for one in dim) if dim and x.ndim else tuple(range(x.ndim))
        if x.is_floating_point() or x.is_complex() or x.device.type != "cpu" or x.dtype == torch.int64:
            return torch.sum(x, dims, keepdim)
        return _sum_of_ints(torch, x, dims, keepdim)


def _sum_of_ints(torch: Any, x: Any, dims: tuple[int, ...], keepdim: bool) -> Any:
    """Add up ints in pieces: torch makes all of them 64 bits wide beforehand. Their order changes nothing."""
    parts = pieces(x.shape, INT64.itemsize)
    if len(parts) == 1:
        return torch.sum(x, dims, keepdim)
    result = torch.zeros([1 if at in dims else length for at, length in enumerate(x.shape)], dtype=torch.int64)
    # One for all pieces: what is allocated and freed again and again leaves holes.
    wide = torch.empty([max(part[2] for part in parts) if at == parts[0][0] else length
                        for at, length in enumerate(x.shape)], dtype=torch.int64)  # fmt: skip
    for at, start, length in parts:
        piece = wide.narrow(at, 0, length).copy_(x.narrow(at, start, length))
        part = torch.sum(piece, dims, keepdim=True)
        if at in dims:
            result += part
        else:
            result.narrow(at, start, length).copy_(part)
    return result if keepdim else result.squeeze(dims)


class Mean(Operation):
    """Take the mean of elements; of several tensors, their elementwise mean (see `average`)."""

    name = "mean"
    category = _CATEGORY
    lays_out = True
    aliasing = Aliasing.COPY
    moments = Moments.UNKNOWN
    parameters = (_X, _DIM, _KEEP)
    example = "set token_type.weight = mean(dim=0, keepdim=true)"
    over_several = "average"

    @staticmethod
    def infer(x: TensorType, dim: tuple[int, ...] | None, keepdim: bool) -> TensorType:
        computable(x, "mean", kinds="floats, complex", argument="x")
        return _reduced(x, x.dtype, dim, keepdim)

    @staticmethod
    def scratch(result: TensorType, plain: bool, x: TensorType, dim: tuple[int, ...] | None, keepdim: bool) -> int:
        return x.numel * FLOAT32.itemsize if x.dtype.itemsize < FLOAT32.itemsize else 0

    @staticmethod
    def run(torch: Any, x: Any, dim: tuple[int, ...] | None, keepdim: bool) -> Any:
        return torch.mean(x, dim or tuple(range(x.ndim)), keepdim)


def _extreme(x: TensorType, what: str, dim: tuple[int, ...] | None, keepdim: bool) -> TensorType:
    computable(x, what, kinds="floats, ints, bools", argument="x")
    result = _reduced(x, x.dtype, dim, keepdim)
    gone = range(x.ndim) if not dim else dims_of(x, dim)
    if any(x.shape[at] == 0 for at in gone if x.ndim):
        raise OperationError(codes.SHAPE, f"an empty tensor has no {what}: {x}", "x")
    return result


class Min(Operation):
    """Take the smallest elements: only the values, as torch.amin does."""

    name = "min"
    category = _CATEGORY
    lays_out = True
    aliasing = Aliasing.COPY
    moments = Moments.UNKNOWN
    scratch = no_scratch
    parameters = (_X, _DIM, _KEEP)
    example = "set scale = min(it, dim=1)"

    @staticmethod
    def infer(x: TensorType, dim: tuple[int, ...] | None, keepdim: bool) -> TensorType:
        return _extreme(x, "min", dim, keepdim)

    @staticmethod
    def run(torch: Any, x: Any, dim: tuple[int, ...] | None, keepdim: bool) -> Any:
        return torch.amin(x, dim or tuple(range(x.ndim)), keepdim)


class Max(Operation):
    """Take the largest elements: only the values, as torch.amax does."""

    name = "max"
    category = _CATEGORY
    lays_out = True
    aliasing = Aliasing.COPY
    moments = Moments.UNKNOWN
    scratch = no_scratch
    parameters = (_X, _DIM, _KEEP)
    example = "set scale = max(abs(it), dim=1)"

    @staticmethod
    def infer(x: TensorType, dim: tuple[int, ...] | None, keepdim: bool) -> TensorType:
        return _extreme(x, "max", dim, keepdim)

    @staticmethod
    def run(torch: Any, x: Any, dim: tuple[int, ...] | None, keepdim: bool) -> Any:
        return torch.amax(x, dim or tuple(range(x.ndim)), keepdim)


class Norm(Operation):
    """Take the p-norm over dims, as torch.linalg.vector_norm does; `p` is 2 unless given."""

    name = "norm"
    category = _CATEGORY
    lays_out = True
    aliasing = Aliasing.COPY
    moments = Moments.UNKNOWN
    scratch = no_scratch
    parameters = (_X, Parameter("p", ArgKind.NUMBER, 2), _DIM, _KEEP)
    example = "add weight_g = norm(linear.weight, dim=1, keepdim=true)"

    @staticmethod
    def infer(x: TensorType, p: float, dim: tuple[int, ...] | None, keepdim: bool) -> TensorType:
        computable(x, "norm", kinds="floats", argument="x")
        if p < 0 or p == inf:
            return _extreme(x, f"{p}-norm", dim, keepdim)
        return _reduced(x, x.dtype, dim, keepdim)

    @staticmethod
    def run(torch: Any, x: Any, p: float, dim: tuple[int, ...] | None, keepdim: bool) -> Any:
        return torch.linalg.vector_norm(x, p, dim or None, keepdim)


class WeightNorm(Operation):
    """Combine the two tensors of a weight norm with torch's own function, to the last bit: `v * (g / norm(v))`.

    `v` is the direction and `g` the length, of size 1 in every dim except `dim`.
    """

    name = "weight_norm"
    category = "fusions"
    lays_out = True
    aliasing = Aliasing.COPY
    moments = Moments.UNKNOWN
    parameters = (
        Parameter("v", ArgKind.TENSOR),
        Parameter("g", ArgKind.TENSOR),
        Parameter("dim", ArgKind.INT, 0),
    )
    example = "merge {m:**}.weight_g as g, {m}.weight_v as v -> {m}.weight = weight_norm(v, g, dim=0)"

    @staticmethod
    def infer(v: TensorType, g: TensorType, dim: int) -> TensorType:
        one_dtype((v, g), "g")
        for name, tensor in (("v", v), ("g", g)):
            computable(tensor, "weight_norm", kinds="floats", argument=name)
        at = not_empty_dim(v, dim)
        wanted = tuple(length if i == at else 1 for i, length in enumerate(v.shape))
        if g.shape != wanted:
            raise OperationError(codes.SHAPE, f"`g` of {v} along dim {dim} is {list(wanted)}, and this is {g}", "g")
        if at not in (0, v.ndim - 1):
            raise OperationError(codes.VALUE, "torch has a weight norm along the first and the last dim", "dim")
        if not v.numel:
            raise OperationError(codes.SHAPE, f"{v} has no elements", "v")
        return TensorType(v.dtype, v.shape)

    @staticmethod
    def scratch(result: TensorType, plain: bool, v: TensorType, g: TensorType, dim: int) -> int:
        return 0 if plain else v.nbytes + g.nbytes

    @staticmethod
    def run(torch: Any, v: Any, g: Any, dim: int) -> Any:
        return torch._weight_norm(v.contiguous(), g.contiguous(), dim % v.ndim)
