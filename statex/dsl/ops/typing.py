"""Helpers that operations share: dims, broadcasting, dtypes, moving elements as bits."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from math import inf, isfinite, isnan, prod
from typing import Any

from statex.core.dtypes import DType, Kind
from statex.core.header import TensorType
from statex.diagnostics.codes import types as codes
from statex.dsl.ops.base import OperationError

_LARGEST = 2**62

FLOAT8 = "float8"


def sized(dtype: DType, shape: Sequence[int]) -> TensorType:
    """Return a type whose shape is of lengths that can exist.

    Raises:
        OperationError: SX406 for negative lengths, SX409 for too many elements.
    """
    if any(length < 0 for length in shape):
        raise OperationError(codes.VALUE, f"a shape has no negative lengths: {list(shape)}")
    if prod(shape) * dtype.itemsize > _LARGEST:
        raise OperationError(codes.TOO_LARGE, f"a tensor of shape {list(shape)} is too large")
    return TensorType(dtype, tuple(shape))


def dim_of(x: TensorType, dim: int, argument: str = "dim", extra: int = 0) -> int:
    """Return a dim counted from 0; `extra` allows so many dims beyond the tensor's own.

    Raises:
        OperationError: SX406.
    """
    count = x.ndim + extra
    if not -max(count, 1) <= dim < max(count, 1):
        raise OperationError(codes.VALUE, f"there is no dim {dim}: {_dims(x)}", argument)
    return dim % max(count, 1)


def dims_of(x: TensorType, dims: Sequence[int], argument: str = "dim") -> tuple[int, ...]:
    """Return dims counted from 0, each once.

    Raises:
        OperationError: SX406 for a dim that is not there or named twice.
    """
    found = tuple(dim_of(x, dim, argument) for dim in dims)
    if len(set(found)) != len(found):
        raise OperationError(codes.VALUE, f"a dim is named twice in {list(dims)}", argument)
    return found


def _dims(x: TensorType) -> str:
    return f"{x} has {x.ndim} dimension{'' if x.ndim == 1 else 's'}"


def not_empty_dim(x: TensorType, dim: int, argument: str = "dim") -> int:
    """Return a dim of a tensor that has dimensions.

    Raises:
        OperationError: SX406 for a tensor of none.
    """
    if not x.ndim:
        raise OperationError(codes.VALUE, f"{x} has no dimensions", argument)
    return dim_of(x, dim, argument)


def one_dtype(tensors: Sequence[TensorType], argument: str | None = None) -> DType:
    """Return the dtype that all tensors have.

    Raises:
        OperationError: SX402 where they differ.
    """
    first = tensors[0].dtype
    for tensor in tensors[1:]:
        if tensor.dtype != first:
            raise OperationError(
                codes.MIXED,
                f"{first} and {tensor.dtype} are mixed",
                argument,
                help=f"cast one of them: `… | cast({first})`",
            )
    return first


def broadcast(a: tuple[int, ...], b: tuple[int, ...], argument: str | None = None) -> tuple[int, ...]:
    """Return the shape two shapes broadcast to.

    Raises:
        OperationError: SX401.
    """
    size = max(len(a), len(b))
    left, right = (1,) * (size - len(a)) + a, (1,) * (size - len(b)) + b
    result = []
    for one, other in zip(left, right, strict=True):
        if one != other and 1 not in (one, other):
            raise OperationError(codes.SHAPE, f"shapes {list(a)} and {list(b)} do not broadcast", argument)
        result.append(other if one == 1 else one)
    return tuple(result)


def fillable(dtype: DType, value: float, argument: str = "dtype") -> None:
    """Refuse numbers that elements of a dtype cannot be, and dtypes whose elements are no numbers.

    Raises:
        OperationError: SX403, SX406.
    """
    if dtype.kind is Kind.QUANTIZED:
        raise OperationError(codes.DTYPE, f"the elements of {dtype} are not plain numbers", argument)
    if dtype.kind is Kind.BOOL and value not in (0, 1):
        raise OperationError(codes.VALUE, f"{value} is not a bool", argument)
    if dtype.kind is Kind.INT:
        bits = dtype.itemsize * 8
        low, high = (0, 2**bits - 1) if dtype.name.startswith("u") else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
        if not isfinite(value) or value != int(value) or not low <= value <= high:
            raise OperationError(codes.VALUE, f"{dtype} cannot hold {value}", argument)
    if dtype.kind is Kind.FLOAT and not _holds(dtype, value):
        raise OperationError(codes.VALUE, f"{dtype} cannot hold {value}", argument)


_FINITE = {
    "float64": 1.7976931348623157e308, "float32": 3.4028234663852886e38, "float16": 65504.0,
    "bfloat16": 3.3895313892515355e38, "float8_e4m3fn": 448.0, "float8_e5m2": 57344.0,
    "float8_e4m3fnuz": 240.0, "float8_e5m2fnuz": 57344.0, "float8_e8m0fnu": 2.0**127,
}  # fmt: skip
"""The largest finite number of each dtype, as torch.finfo has it."""
_INFINITE = ("float64", "float32", "float16", "bfloat16", "float8_e5m2")


def _holds(dtype: DType, value: float) -> bool:
    if dtype.name == "float8_e8m0fnu" and not value >= 2.0**-127:
        return False  # powers of two only: neither zero nor a sign
    is_nan = isinstance(value, float) and isnan(value)  # an int may be too large to ask
    return is_nan or abs(value) <= _FINITE[dtype.name] or (value in (inf, -inf) and dtype.name in _INFINITE)


def computable(x: TensorType, what: str, *, kinds: str = "floats, ints", argument: str | None = None) -> None:
    """Refuse tensors whose dtype the operation is not defined for.

    `kinds` lists what it takes: `floats`, `ints`, `bools`, `complex`.

    Raises:
        OperationError: SX403.
    """
    known = {Kind.FLOAT: "floats", Kind.INT: "ints", Kind.BOOL: "bools", Kind.COMPLEX: "complex"}
    small = x.dtype.name.startswith(FLOAT8)
    wide = x.dtype.name in ("uint16", "uint32", "uint64", "complex32")
    if known.get(x.dtype.kind) in kinds.split(", ") and not small and not wide:
        return
    to = "f32" if x.dtype.kind is not Kind.COMPLEX and not wide else ("i64" if x.dtype.kind is Kind.INT else "c64")
    raise OperationError(
        codes.DTYPE, f"`{what}` is not defined for {x.dtype}", argument, help=f"cast first: `cast({to}) | …`"
    )


_MOVED_AS_BITS = ("float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz", "float8_e8m0fnu",
                  "uint16", "uint32", "uint64")  # fmt: skip


def move(torch: Any, x: Any, function: Callable[[Any], Any]) -> Any:
    """Return what a function that only moves elements gives, for the dtypes torch does not move itself as well."""
    if str(x.dtype).removeprefix("torch.") not in _MOVED_AS_BITS:
        return function(x)
    bits = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[x.element_size()]
    return function(x.view(bits)).view(x.dtype)


_PIECE = 8 << 20
"""Bytes of memory that is needed at a time where an operation is carried out in pieces."""


def pieces(shape: Sequence[int], itemsize: int) -> list[tuple[int, int, int]]:
    """Return dim, start and length of pieces of a shape along its longest dim, one of each no larger than another.

    `itemsize` is how many bytes are needed for each element of a piece. A piece of several has more than one element,
    as torch adds up in another order where there is one.
    """
    at = max(range(len(shape)), key=lambda dim: shape[dim], default=0)
    length = shape[at] if shape else 1
    count = min(-(-prod(shape) * itemsize // _PIECE), max(length // 2, 1)) or 1
    bounds = [number * length // count for number in range(count + 1)]
    return [(at, start, end - start) for start, end in itertools.pairwise(bounds)]


def piece_size(shape: Sequence[int], itemsize: int) -> int:
    """Return the bytes that are needed for the largest of the pieces of a shape."""
    at, _, _ = pieces(shape, itemsize)[0]
    length = max(length for _, _, length in pieces(shape, itemsize))
    return prod(shape) // max(shape[at] if shape else 1, 1) * length * itemsize


_TOGETHER = 1024
"""Elements that torch sums up in the same order as their neighbours, where so many stand from a multiple of it on."""


def flat_pieces(numel: int, itemsize: int) -> list[slice]:
    """Return pieces of elements in which torch adds up several tensors in the order it has for all of them at once.

    `itemsize` is how many bytes are needed for each element of a piece.
    """
    step = max(_PIECE // itemsize // _TOGETHER, 1) * _TOGETHER
    # The last elements are added up in another order, as many as are left over: they stay with a piece.
    bounds = [*range(0, max(numel - _TOGETHER, 1), step), numel]
    return [slice(start, stop) for start, stop in itertools.pairwise(bounds)]
