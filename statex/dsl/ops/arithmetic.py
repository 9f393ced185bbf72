"""Arithmetic, comparison, pointwise mathematics, matrix products; dtypes never change, except in comparisons."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from math import prod
from typing import Any

from statex.core.dtypes import BOOL, DType, Kind
from statex.core.header import TensorType
from statex.core.strides import Tiling
from statex.diagnostics.codes import types as codes
from statex.diagnostics.torch_dtypes import torch_dtype
from statex.dsl.ops.base import Aliasing, ArgKind, Inverse, Moments, Operation, OperationError, Parameter, no_scratch
from statex.dsl.ops.typing import broadcast, computable, fillable, one_dtype, sized

Operand = TensorType | int | float

_X, _Y = Parameter("x", ArgKind.OPERAND), Parameter("y", ArgKind.OPERAND)
_T = Parameter("x", ArgKind.TENSOR)


def _operands(x: Operand, y: Operand, what: str, kinds: str) -> TensorType:
    """Return dtype and shape of an elementwise operation, without promotion."""
    tensors = [t for t in (x, y) if isinstance(t, TensorType)]
    if not tensors:
        raise OperationError(codes.ARGUMENTS, f"`{what}` needs a tensor", "x")
    for name, operand in (("x", x), ("y", y)):
        if isinstance(operand, TensorType):
            computable(operand, what, kinds=kinds, argument=name)
        else:
            _check_scalar(operand, tensors[0].dtype, name)
    dtype = one_dtype(tensors, "y")
    if len(tensors) == 1:
        return TensorType(dtype, tensors[0].shape)
    return sized(dtype, broadcast(tensors[0].shape, tensors[1].shape, "y"))


def _check_scalar(value: float, dtype: DType, argument: str) -> None:
    whole = dtype.kind in (Kind.INT, Kind.BOOL)
    if whole and isinstance(value, float):
        raise OperationError(
            codes.DTYPE, f"{value} would turn {dtype} into floats", argument, help="cast first: `cast(f32) | …`"
        )
    if whole and dtype.kind is not Kind.INT:
        raise OperationError(
            codes.DTYPE, f"{value} with bool would make ints of it", argument, help="cast first: `cast(i64)`"
        )
    if whole:
        fillable(dtype, value, argument)


def _check_divisors(y: Any) -> None:
    if not y.is_floating_point() and not y.is_meta and bool((y == 0).any()):
        raise OperationError(codes.VALUE, "a division of ints by zero", "y")


_ROUNDED_DOWN = ("floor_divide", "remainder")


def _elementwise(
    name: str,
    sign: str,
    doc: str,
    *,
    kinds: str,
    commutes: bool = False,
    numpy: str | None = None,
    rounds_numbers: bool = False,
    extra: Any = None,
    invert: Callable[..., Inverse | None] | None = None,
) -> type[Operation]:
    def infer(x: Operand, y: Operand) -> TensorType:
        result = _operands(x, y, name, kinds)
        if extra is not None:
            extra(x, y, result)
        return result

    def scratch(result: TensorType, plain: bool, x: Operand, y: Operand) -> int:
        if name == "div" and not isinstance(x, TensorType):
            return result.nbytes  # the reciprocal
        return y.numel if name in _ROUNDED_DOWN and isinstance(y, TensorType) else 0  # where there are zeros

    def run(torch: Any, x: Any, y: Any) -> Any:
        if name in _ROUNDED_DOWN and isinstance(y, torch.Tensor):
            _check_divisors(y)
        if not isinstance(x, torch.Tensor):
            if commutes:
                # As in `0.3 * x` of torch: on the left, numbers are rounded to the dtype beforehand.
                x, y = y, x
            elif name == "div":
                return torch.reciprocal(y) * x  # as `3 / x` of torch, to the last bit
        return getattr(torch, name)(x, y)

    members = {
        "__doc__": doc,
        "__module__": __name__,
        "name": name,
        "category": "arithmetic",
        "parameters": (_X, _Y),
        "example": f"set a.weight = it {sign} 2",
        "operator": sign,
        "aliasing": Aliasing.COPY,
        "moments": Moments.UNKNOWN,
        "lays_out": True,
        "exact": numpy is not None,
        "commutes": commutes,
        "rounds_numbers": rounds_numbers,
        "numpy": _by_numpy(numpy, "x", "y"),
        "infer": staticmethod(infer),
        "scratch": staticmethod(scratch),
        "run": staticmethod(run),
        "invert": staticmethod(invert) if invert is not None else None,
    }
    return type(name.title().replace("_", ""), (Operation,), members)


def _unscaled(by: str, back: str) -> Callable[..., Inverse | None]:
    """Return how a product, or quotient, of a tensor and a number is undone.

    A change of sign is exact. A power of two changes exponents alone, unless a result is too large, or so small that it
    lacks bits.
    """

    def invert(x: Operand, y: Operand) -> Inverse | None:
        tensor, number = (x, y) if isinstance(x, TensorType) else (y, x)
        if not isinstance(tensor, TensorType) or isinstance(number, TensorType):
            return None
        if (by == "div" and tensor is y) or tensor.dtype.kind not in (Kind.FLOAT, Kind.INT):
            return None  # of complex numbers, infinities would make NaNs
        if abs(number) == 1:
            return Inverse(by, {"y": number})
        is_power = math.isfinite(number) and abs(math.frexp(number)[0]) == 0.5
        return Inverse(back, {"y": number}, on_data=True) if is_power and tensor.dtype.kind is Kind.FLOAT else None

    return invert


def _unmoved(back: str) -> Callable[..., Inverse | None]:
    """Return how a sum, or difference, of ints and a number is undone: they wrap around, there and back."""

    def invert(x: Operand, y: Operand) -> Inverse | None:
        is_int = isinstance(x, TensorType) and x.dtype.kind is Kind.INT and not isinstance(y, TensorType)
        return Inverse(back, {"y": y}) if is_int else None

    return invert


def _by_numpy(function: str | None, *names: str) -> Any:
    """Return the function of numpy with this name as an operation calls it."""
    if function is None:
        return None

    def compute(module: Any, **operands: Any) -> Any:
        return getattr(module, function)(*[operands[name] for name in names])

    return staticmethod(compute)


def _no_int_division(x: Operand, y: Operand, result: TensorType) -> None:
    if result.dtype.kind is Kind.INT:
        raise OperationError(
            codes.DTYPE,
            f"division would turn {result.dtype} into floats",
            "x",
            help="`//` stays with ints; or cast first: `cast(f32) | …`",
        )


def _no_int_zero(x: Operand, y: Operand, result: TensorType) -> None:
    if y == 0 and result.dtype.kind is Kind.INT:
        raise OperationError(codes.VALUE, "a division of ints by zero", "y")


def _a_power(x: Operand, y: Operand, result: TensorType) -> None:
    if isinstance(y, TensorType):
        return
    if result.dtype.kind is Kind.INT and y < 0:
        raise OperationError(codes.VALUE, f"ints have no power of {y}", "y", help="cast first: `cast(f32) | …`")
    if result.dtype.name in ("float16", "bfloat16"):
        fillable(result.dtype, y, "y")


_ALL = "floats, ints, complex"
ELEMENTWISE: tuple[type[Operation], ...] = (
    _elementwise(
        "add", "+", "Add two tensors, or a number to a tensor: `x + y`.", kinds=_ALL, commutes=True, numpy="add",
        rounds_numbers=True, invert=_unmoved("sub"),
    ),
    _elementwise(
        "sub", "-", "Subtract: `x - y`.", kinds=_ALL, numpy="subtract", rounds_numbers=True, invert=_unmoved("add")
    ),
    _elementwise(
        "mul", "*", "Multiply elementwise: `x * y`.", kinds=_ALL, commutes=True, numpy="multiply",
        invert=_unscaled("mul", "div"),
    ),
    _elementwise(
        "div", "/", "Divide elementwise: `x / y`; of floats only, as ints would become floats.",
        kinds=_ALL, numpy="divide", extra=_no_int_division, invert=_unscaled("div", "mul"),
    ),
    _elementwise(
        "floor_divide", "//", "Divide and round down: `x // y`.",
        kinds="floats, ints", extra=_no_int_zero,
    ),
    _elementwise(
        "remainder", "%", "The remainder of a division rounded down, with the sign of `y`: `x % y`.",
        kinds="floats, ints", extra=_no_int_zero,
    ),
    _elementwise(
        "pow", "**", "Raise to a power elementwise: `x ** y`.", kinds=_ALL, extra=_a_power
    ),
)  # fmt: skip


_MIRRORED = {"eq": "eq", "ne": "ne", "lt": "gt", "le": "ge", "gt": "lt", "ge": "le"}
"""The comparisons that say the same with their operands exchanged."""


def _comparison(name: str, sign: str, doc: str, *, kinds: str) -> type[Operation]:
    def infer(x: Operand, y: Operand) -> TensorType:
        return TensorType(BOOL, _operands(x, y, name, kinds).shape)

    def run(torch: Any, x: Any, y: Any) -> Any:
        # torch compares with numbers on the right only.
        return getattr(torch, name)(x, y) if isinstance(x, torch.Tensor) else getattr(torch, _MIRRORED[name])(y, x)

    members = {
        "__doc__": doc,
        "__module__": __name__,
        "name": name,
        "category": "comparison",
        "parameters": (_X, _Y),
        "example": f"add mask = attn.bias {sign} 0",
        "operator": sign,
        "aliasing": Aliasing.COPY,
        "moments": Moments.UNKNOWN,
        "lays_out": True,
        "exact": True,
        "infer": staticmethod(infer),
        "scratch": staticmethod(no_scratch),
        "run": staticmethod(run),
    }
    return type(name.title(), (Operation,), members)


COMPARISONS: tuple[type[Operation], ...] = (
    _comparison("eq", "==", "Elementwise equality, a bool tensor.", kinds="floats, ints, bools, complex"),
    _comparison("ne", "!=", "Elementwise inequality, a bool tensor.", kinds="floats, ints, bools, complex"),
    _comparison("lt", "<", "Elementwise less, a bool tensor.", kinds="floats, ints, bools"),
    _comparison("le", "<=", "Elementwise less or equal, a bool tensor.", kinds="floats, ints, bools"),
    _comparison("gt", ">", "Elementwise greater, a bool tensor.", kinds="floats, ints, bools"),
    _comparison("ge", ">=", "Elementwise greater or equal, a bool tensor.", kinds="floats, ints, bools"),
)  # fmt: skip


def _pointwise(
    name: str,
    doc: str,
    *,
    kinds: str,
    invert: Callable[..., Inverse] | None = None,
    exact: bool = False,
    numpy: str | None = None,
    operator: str | None = None,
    of_number: Callable[[float], float] | None = None,
    moments: Moments = Moments.UNKNOWN,
) -> type[Operation]:
    def infer(x: TensorType) -> TensorType:
        computable(x, name, kinds=kinds, argument="x")
        return TensorType(x.dtype, x.shape)

    def run(torch: Any, x: Any) -> Any:
        return getattr(torch, name)(x)

    members = {
        "__doc__": doc,
        "__module__": __name__,
        "name": name,
        "category": "pointwise",
        "moments": moments,
        "parameters": (_T,),
        "example": f"set a.weight = {name}",
        "operator": operator,
        "of_number": of_number and staticmethod(of_number),
        "aliasing": Aliasing.COPY,
        "lays_out": True,
        "exact": exact or numpy is not None,
        "numpy": _by_numpy(numpy, "x"),
        "infer": staticmethod(infer),
        "scratch": staticmethod(no_scratch),
        "run": staticmethod(run),
        "invert": staticmethod(invert) if invert is not None else None,
    }
    return type(name.title(), (Operation,), members)


def _root(number: float) -> float:
    if number < 0:
        raise ValueError("has no real square root")
    return math.sqrt(number)


_FLOATS = "floats, complex"
POINTWISE: tuple[type[Operation], ...] = (
    _pointwise(
        "neg",
        "Change the sign: `-x`.",
        kinds=_ALL,
        invert=lambda x: Inverse("neg", {}),
        numpy="negative",
        operator="-x",
        moments=Moments.TURNED,
    ),
    _pointwise("abs", "Take absolute values.", kinds="floats, ints", numpy="absolute"),
    _pointwise("sqrt", "Take square roots.", kinds=_FLOATS, exact=True, of_number=_root),
    _pointwise("rsqrt", "Take 1 over the square root.", kinds=_FLOATS),
    _pointwise("exp", "Raise e to the elements.", kinds=_FLOATS),
    _pointwise("log", "Take natural logarithms.", kinds=_FLOATS),
    _pointwise("reciprocal", "Take 1 over the elements.", kinds=_FLOATS),
    _pointwise("square", "Multiply the elements by themselves.", kinds=_ALL, numpy="square"),
    _pointwise(
        "round", "Round to the nearest whole number, halves to the even one.", kinds="floats, ints", numpy="rint"
    ),
    _pointwise("floor", "Round down.", kinds="floats, ints", numpy="floor"),
    _pointwise("ceil", "Round up.", kinds="floats, ints", numpy="ceil"),
    _pointwise("tanh", "Take hyperbolic tangents.", kinds=_FLOATS),
)


class Clamp(Operation):
    """Limit elements to the range from `min` to `max`."""

    name = "clamp"
    category = "pointwise"
    lays_out = True
    exact = True
    aliasing = Aliasing.COPY
    moments = Moments.UNKNOWN
    scratch = no_scratch
    parameters = (_T, Parameter("min", ArgKind.NUMBER, None), Parameter("max", ArgKind.NUMBER, None))
    example = "set a.weight = clamp(-1, 1)"

    @staticmethod
    def infer(x: TensorType, min: float | None, max: float | None) -> TensorType:
        computable(x, "clamp", argument="x")
        if min is None and max is None:
            raise OperationError(codes.ARGUMENTS, "`clamp` needs `min` or `max`", "min")
        for name, value in (("min", min), ("max", max)):
            if value is not None:
                _check_scalar(value, x.dtype, name)
                fillable(x.dtype, value, name)
        return TensorType(x.dtype, x.shape)

    @staticmethod
    def run(torch: Any, x: Any, min: float | None, max: float | None) -> Any:
        return torch.clamp(x, min, max)


_PACKED = 8 << 20


def _packed(nbytes: int) -> int:
    """Return the bytes that libraries of linear algebra copy parts of matrices to, each of their threads its own."""
    threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return threads * min(nbytes, _PACKED)


class MatMul(Operation):
    """Multiply matrices, with torch.matmul's rules for vectors and batches: `x @ y`."""

    name = "matmul"
    category = "linear algebra"
    lays_out = True
    aliasing = Aliasing.COPY
    moments = Moments.UNKNOWN
    parameters = (Parameter("x", ArgKind.TENSOR), Parameter("y", ArgKind.TENSOR))
    example = "set a.weight = it + lora.B @ lora.A"
    operator = "@"

    @staticmethod
    def infer(x: TensorType, y: TensorType) -> TensorType:
        for name, operand in (("x", x), ("y", y)):
            computable(operand, "matmul", kinds=_ALL, argument=name)
            if not operand.ndim:
                raise OperationError(codes.SHAPE, "`@` needs tensors of at least one dimension", name)
        dtype = one_dtype((x, y), "y")
        left = x.shape if x.ndim > 1 else (1, *x.shape)
        right = y.shape if y.ndim > 1 else (*y.shape, 1)
        if left[-1] != right[-2]:
            raise OperationError(codes.SHAPE, f"`@` of {x} and {y}: {left[-1]} columns meet {right[-2]} rows", "y")
        shape = [*broadcast(left[:-2], right[:-2], "y"), left[-2], right[-1]]
        if y.ndim == 1:
            del shape[-1]
        if x.ndim == 1:
            del shape[-1 if y.ndim == 1 else -2]
        return sized(dtype, shape)

    @staticmethod
    def scratch(result: TensorType, plain: bool, x: TensorType, y: TensorType) -> int:
        packed = _packed(x.nbytes + y.nbytes)
        if plain and y.ndim <= 2:
            return packed
        # One matrix for many is many where a library takes no strides, and all are where some dims broadcast only.
        batch = prod(broadcast(x.shape[:-2], y.shape[:-2]))
        copies = [batch * prod(one.shape[-2:]) * one.dtype.itemsize for one in (x, y)]
        if plain:
            copies = [copy for copy, one in zip(copies, (x, y), strict=True) if copy != one.nbytes]
        return packed + sum(copies)

    @staticmethod
    def run(torch: Any, x: Any, y: Any) -> Any:
        return torch.matmul(x, y)


class Cast(Operation):
    """Change the dtype: the only operation that does.

    Real to complex is exact; complex to real would lose the imaginary part and is an error. Quantized blocks of GGUF
    (q4_0, q8_0, q4_k, q6_k) become floats: their values are computed in f32 as in llama.cpp, and rounded once.
    """

    name = "cast"
    category = "dtype"
    lays_out = True
    exact = True
    unpacks = True
    changes_dtype = True
    aliasing = Aliasing.MAYBE
    moments = Moments.KEPT
    scratch = no_scratch
    parameters = (_T, Parameter("dtype", ArgKind.DTYPE))
    example = "set ** = cast(bf16) where is_floating_point(it)"

    @staticmethod
    def infer(x: TensorType, dtype: DType) -> TensorType:
        if x.dtype.block is not None and dtype.kind is not Kind.FLOAT:
            raise OperationError(
                codes.DTYPE, f"a cast from {x.dtype} to {dtype} is not defined", "dtype", help="by way of f32"
            )
        if Kind.QUANTIZED in (x.dtype.kind, dtype.kind):
            raise OperationError(codes.DTYPE, f"a cast from {x.dtype} to {dtype} is not defined", "dtype")
        if x.dtype.kind is Kind.COMPLEX and dtype.kind is not Kind.COMPLEX:
            raise OperationError(
                codes.DTYPE, f"a cast from {x.dtype} to {dtype} would lose the imaginary part", "dtype"
            )
        if dtype.name == "float8_e8m0fnu" and x.dtype.kind is not Kind.FLOAT:
            raise OperationError(
                codes.DTYPE, f"a cast from {x.dtype} to {dtype} is not defined", "dtype", help="by way of f32"
            )
        return TensorType(dtype, x.shape)

    @staticmethod
    def run(torch: Any, x: Any, dtype: DType) -> Any:
        return x.to(torch_dtype(torch, dtype.name))

    @staticmethod
    def moves(x: Tiling, dtype: DType) -> Tiling:
        return x  # where the dtype stays; else these are no longer the elements

    @staticmethod
    def invert(x: TensorType, dtype: DType) -> Inverse | None:
        if dtype is x.dtype or dtype.short in _HOLD.get(x.dtype.short, ()):
            return Inverse("cast", {"dtype": x.dtype})
        are_numbers = x.dtype.block is None and {x.dtype.kind, dtype.kind} <= {Kind.FLOAT, Kind.INT}
        return Inverse("cast", {"dtype": x.dtype}, on_data=True) if are_numbers else None


_FROM_HALF_ON = ("f16", "bf16", "f32", "f64")
_HOLD = {
    "u8": ("i16", "i32", "i64", *_FROM_HALF_ON),
    "i8": ("i16", "i32", "i64", *_FROM_HALF_ON),
    "i16": ("i32", "i64", "f32", "f64"),
    "i32": ("i64", "f64"),
    "f8_e4m3fn": _FROM_HALF_ON,
    "f8_e5m2": _FROM_HALF_ON,
    "f16": ("f32", "f64"),
    "bf16": ("f32", "f64"),
    "f32": ("f64",),
}
"""The dtypes that hold every number of a dtype, so that a cast back gives each as it was; NaNs may change payloads.

Bool has none: any byte but 0 is true, and would come back as 1.
"""
