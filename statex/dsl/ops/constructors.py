"""Operations that make tensors from sizes alone, or with another tensor's type."""

from __future__ import annotations

from math import ceil, isfinite
from typing import Any

from statex.core.dtypes import FLOAT32, DType, Kind
from statex.core.header import TensorType
from statex.core.strides import Fill, Tiling
from statex.diagnostics.codes import types as codes
from statex.diagnostics.torch_dtypes import torch_dtype
from statex.dsl.ops.base import Aliasing, ArgKind, Moments, Operation, OperationError, Parameter, no_scratch
from statex.dsl.ops.typing import FLOAT8, fillable, sized

_SIZE = Parameter("size", ArgKind.INTS, doc="the shape")
_DTYPE = Parameter("dtype", ArgKind.DTYPE, FLOAT32, doc="the dtype, f32 unless given", keyword_only=True)
_SAME = Parameter("dtype", ArgKind.DTYPE, None, doc="a different dtype than the tensor's", keyword_only=True)
_X = Parameter("x", ArgKind.TENSOR)
_FILL = Parameter("fill_value", ArgKind.NUMBER)
_CATEGORY = "constructors"


class Zeros(Operation):
    """Make a tensor of zeros, f32 unless told otherwise."""

    name = "zeros"
    category = _CATEGORY
    lays_out = True
    aliasing = Aliasing.COPY
    moments = Moments.NEW
    scratch = no_scratch
    parameters = (_SIZE, _DTYPE)
    example = "add head.bias = zeros([size(head.weight, 0)])"

    @staticmethod
    def infer(size: tuple[int, ...], dtype: DType) -> TensorType:
        fillable(dtype, 0)
        return sized(dtype, size)

    @staticmethod
    def run(torch: Any, size: tuple[int, ...], dtype: DType) -> Any:
        return torch.zeros(size, dtype=torch_dtype(torch, dtype.name))

    @staticmethod
    def moves(size: tuple[int, ...], dtype: DType) -> Tiling:
        return Tiling.filled(Fill(0), size)


class Ones(Operation):
    """Make a tensor of ones, f32 unless told otherwise."""

    name = "ones"
    category = _CATEGORY
    lays_out = True
    aliasing = Aliasing.COPY
    moments = Moments.NEW
    scratch = no_scratch
    parameters = (_SIZE, _DTYPE)
    example = "add norm.weight = ones([4096], dtype=bf16)"

    @staticmethod
    def infer(size: tuple[int, ...], dtype: DType) -> TensorType:
        fillable(dtype, 1)
        return sized(dtype, size)

    @staticmethod
    def run(torch: Any, size: tuple[int, ...], dtype: DType) -> Any:
        return torch.ones(size, dtype=torch_dtype(torch, dtype.name))

    @staticmethod
    def moves(size: tuple[int, ...], dtype: DType) -> Tiling:
        return Tiling.filled(Fill(1), size)


class Full(Operation):
    """Make a tensor filled with one number, f32 unless told otherwise (torch would take the number's own type)."""

    name = "full"
    category = _CATEGORY
    lays_out = True
    aliasing = Aliasing.COPY
    moments = Moments.NEW
    scratch = no_scratch
    parameters = (_SIZE, _FILL, _DTYPE)
    example = "add scale = full([1], 0.5)"

    @staticmethod
    def infer(size: tuple[int, ...], fill_value: float, dtype: DType) -> TensorType:
        fillable(dtype, fill_value, "fill_value")
        return sized(dtype, size)

    @staticmethod
    def run(torch: Any, size: tuple[int, ...], fill_value: float, dtype: DType) -> Any:
        return torch.full(size, fill_value, dtype=torch_dtype(torch, dtype.name))

    @staticmethod
    def moves(size: tuple[int, ...], fill_value: float, dtype: DType) -> Tiling:
        return Tiling.filled(Fill(fill_value), size)


class ZerosLike(Operation):
    """Make zeros with a tensor's shape, dtype and device."""

    name = "zeros_like"
    category = _CATEGORY
    lays_out = True
    takes_data = False
    aliasing = Aliasing.COPY
    moments = Moments.NEW
    scratch = no_scratch
    parameters = (_X, _SAME)
    example = "set **.bias = zeros_like"

    @staticmethod
    def infer(x: TensorType, dtype: DType | None) -> TensorType:
        fillable(dtype or x.dtype, 0)
        return sized(dtype or x.dtype, x.shape)

    @staticmethod
    def run(torch: Any, x: Any, dtype: DType | None) -> Any:
        return torch.zeros_like(
            x, dtype=dtype and torch_dtype(torch, dtype.name), memory_format=torch.contiguous_format
        )

    @staticmethod
    def moves(x: Tiling, dtype: DType | None) -> Tiling:
        return Tiling.filled(Fill(0), x.shape)


class OnesLike(Operation):
    """Make ones with a tensor's shape, dtype and device."""

    name = "ones_like"
    category = _CATEGORY
    lays_out = True
    takes_data = False
    aliasing = Aliasing.COPY
    moments = Moments.NEW
    scratch = no_scratch
    parameters = (_X, _SAME)
    example = "set linear.weight = ones_like"

    @staticmethod
    def infer(x: TensorType, dtype: DType | None) -> TensorType:
        fillable(dtype or x.dtype, 1)
        return sized(dtype or x.dtype, x.shape)

    @staticmethod
    def run(torch: Any, x: Any, dtype: DType | None) -> Any:
        return torch.ones_like(x, dtype=dtype and torch_dtype(torch, dtype.name), memory_format=torch.contiguous_format)

    @staticmethod
    def moves(x: Tiling, dtype: DType | None) -> Tiling:
        return Tiling.filled(Fill(1), x.shape)


class FullLike(Operation):
    """Make a tensor filled with one number, with another tensor's shape, dtype and device."""

    name = "full_like"
    category = _CATEGORY
    lays_out = True
    takes_data = False
    aliasing = Aliasing.COPY
    moments = Moments.NEW
    scratch = no_scratch
    parameters = (_X, _FILL, _SAME)
    example = "set bn.running_var = full_like(1.0)"

    @staticmethod
    def infer(x: TensorType, fill_value: float, dtype: DType | None) -> TensorType:
        fillable(dtype or x.dtype, fill_value, "fill_value")
        return sized(dtype or x.dtype, x.shape)

    @staticmethod
    def run(torch: Any, x: Any, fill_value: float, dtype: DType | None) -> Any:
        kind = dtype and torch_dtype(torch, dtype.name)
        return torch.full_like(x, fill_value, dtype=kind, memory_format=torch.contiguous_format)

    @staticmethod
    def moves(x: Tiling, fill_value: float, dtype: DType | None) -> Tiling:
        return Tiling.filled(Fill(fill_value), x.shape)


class Arange(Operation):
    """Make 0, 1, 2, … or the numbers from `start` up to but not including `end`, f32 unless told otherwise.

    A single number is `end`, as in torch. Position ids are ints: `arange(512, dtype=int64)`.
    """

    name = "arange"
    category = _CATEGORY
    lays_out = True
    aliasing = Aliasing.COPY
    moments = Moments.NEW
    scratch = no_scratch
    parameters = (
        Parameter("start", ArgKind.NUMBER, doc="the first number, or the end if it is the only one given"),
        Parameter("end", ArgKind.NUMBER, None),
        Parameter("step", ArgKind.NUMBER, 1),
        _DTYPE,
    )
    example = "add position_ids = unsqueeze(arange(512, dtype=int64), 0)"

    @staticmethod
    def infer(start: float, end: float | None, step: float, dtype: DType) -> TensorType:
        first, last = (0, start) if end is None else (start, end)
        if dtype.kind not in (Kind.FLOAT, Kind.INT) or dtype.name.startswith((FLOAT8, "uint16", "uint32", "uint64")):
            raise OperationError(
                codes.DTYPE, f"`arange` makes no {dtype}", "dtype", help="cast it: `arange(…) | cast(…)`"
            )
        if not all(isfinite(number) for number in (first, last, step)):
            raise OperationError(codes.VALUE, f"{first} to {last} by {step} is not a valid range", "start")
        if step == 0 or (last - first) / step < 0:
            raise OperationError(codes.VALUE, f"no step of {step} leads from {first} to {last}", "step")
        if dtype.kind is Kind.INT:
            return sized(dtype, (_count_ints(first, last, step, dtype),))
        return sized(dtype, (ceil((last - first) / step),))

    @staticmethod
    def run(torch: Any, start: float, end: float | None, step: float, dtype: DType) -> Any:
        first, last = (0, start) if end is None else (start, end)
        return torch.arange(first, last, step, dtype=torch_dtype(torch, dtype.name))


def _count_ints(first: float, last: float, step: float, dtype: DType) -> int:
    """Return how many ints there are from `first` on before `last`; torch would wrap those the dtype cannot hold."""
    if any(number != int(number) for number in (first, last, step)):
        raise OperationError(codes.VALUE, f"numbers with fractions are no {dtype}", "dtype")
    numbers = range(int(first), int(last), int(step))
    if abs(last - first) + abs(step) >= 2**63:
        raise OperationError(codes.VALUE, f"{first} to {last} by {step} is further than ints of 64 bits reach", "step")
    if numbers:
        fillable(dtype, numbers[0], "start")
        fillable(dtype, numbers[-1], "start" if numbers[-1] < 0 else "end")
    return len(numbers)


class Eye(Operation):
    """Make a matrix with ones on its diagonal and zeros elsewhere, f32 unless told otherwise."""

    name = "eye"
    category = _CATEGORY
    lays_out = True
    aliasing = Aliasing.COPY
    moments = Moments.NEW
    scratch = no_scratch
    parameters = (Parameter("n", ArgKind.INT), Parameter("m", ArgKind.INT, None), _DTYPE)
    example = "add proj.weight = eye(64)"

    @staticmethod
    def infer(n: int, m: int | None, dtype: DType) -> TensorType:
        fillable(dtype, 1)
        if dtype.name.startswith("float8") or dtype.name in ("uint16", "uint32", "uint64", "complex32"):
            raise OperationError(codes.DTYPE, f"`eye` makes no {dtype}", "dtype", help="cast it: `eye(…) | cast(…)`")
        return sized(dtype, (n, n if m is None else m))

    @staticmethod
    def run(torch: Any, n: int, m: int | None, dtype: DType) -> Any:
        return torch.eye(n, n if m is None else m, dtype=torch_dtype(torch, dtype.name))
