"""Operations that take a part of a tensor."""

from __future__ import annotations

from math import prod
from typing import Any

from statex.core.dtypes import INT64
from statex.core.header import TensorType
from statex.core.strides import Tiling
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
from statex.dsl.ops.typing import move, not_empty_dim

_X = Parameter("x", ArgKind.TENSOR)
_CATEGORY = "indexing"


class GetItem(Operation):
    """Take a part of a tensor by ints, slices, lists of ints, `none` and `...`, as `x[…]` does."""

    name = "getitem"
    category = _CATEGORY
    aliasing = Aliasing.MAYBE
    moments = Moments.SAME
    parameters = (_X, Parameter("index", ArgKind.INDEX))
    example = "set embed.weight = it[:32000, :]"
    operator = "x[]"

    @staticmethod
    def infer(x: TensorType, index: tuple[Any, ...]) -> TensorType:
        lists = [item for item in index if isinstance(item, tuple)]
        if len(lists) > 1:
            raise OperationError(
                codes.ARGUMENTS, "one list of ints at a time", "index", help="index twice: `x[[0, 2]][:, [1]]`"
            )
        if lists and any(type(item) is int or item is None for item in index):
            # torch moves the indexed dim to the front in such mixtures; nobody means that.
            raise OperationError(
                codes.ARGUMENTS, "a list of ints goes with slices only", "index", help="index twice: `x[0][[1, 2]]`"
            )
        taken = sum(item is not None and item is not Ellipsis for item in index)
        if index.count(Ellipsis) > 1:
            raise OperationError(codes.ARGUMENTS, "`...` can stand once", "index")
        if taken > x.ndim:
            raise OperationError(codes.VALUE, f"{taken} indices, and {x} has {x.ndim} dimensions", "index")
        return TensorType(x.dtype, tuple(_shape(x, index, taken)))

    @staticmethod
    def scratch(result: TensorType, plain: bool, x: TensorType, index: tuple[Any, ...]) -> int:
        return sum(len(item) * INT64.itemsize for item in index if isinstance(item, tuple))

    @staticmethod
    def run(torch: Any, x: Any, index: tuple[Any, ...]) -> Any:
        at = tuple(_as_torch(torch, item, x) for item in index)
        return move(torch, x, lambda bits: bits[at])

    @staticmethod
    def moves(x: Tiling, index: tuple[Any, ...]) -> Tiling | None:
        kept = len(x.shape) - sum(item is not None and item is not Ellipsis for item in index)
        found: Tiling | None = x
        at = 0
        for item in index:
            if found is None:
                return None
            if item is Ellipsis:
                at += kept
            elif type(item) is int:
                found = found.selected(at, item % found.shape[at])
            else:
                found = found.unsqueezed(at) if item is None else _along(found, at, item)
                at += 1
        return found

    @staticmethod
    def invert(x: TensorType, index: tuple[Any, ...]) -> Inverse | None:
        if prod(GetItem.infer(x, index).shape) != prod(x.shape):
            return None
        if not any(isinstance(item, tuple) for item in index):
            # All elements are there, and no slice turns their order round.
            return Inverse("reshape", {"shape": x.shape})
        kept = x.ndim - sum(item is not Ellipsis for item in index)
        at, back = 0, list(index)
        for number, item in enumerate(index):
            if isinstance(item, tuple):
                order = [one % x.shape[at] for one in item]
                if sorted(order) != list(range(x.shape[at])):
                    return None
                back[number] = tuple(order.index(one) for one in range(len(order)))
            at += kept if item is Ellipsis else 1
        return Inverse("getitem", {"index": tuple(back)})


def _along(x: Tiling, dim: int, item: Index | tuple[int, ...]) -> Tiling | None:
    """Take what a slice or a list of ints takes of a dim."""
    length = x.shape[dim]
    if isinstance(item, tuple):
        return x.indexed(dim, [one % length for one in item])
    taken = range(*slice(item.start, item.stop, item.step).indices(length))
    return x.sliced(dim, taken.start, len(taken), taken.step)


def _shape(x: TensorType, index: tuple[Any, ...], taken: int) -> list[int]:
    result: list[int] = []
    at = 0
    for item in index:
        if item is None:
            result.append(1)
        elif item is Ellipsis:
            kept = x.ndim - taken
            result += x.shape[at : at + kept]
            at += kept
        else:
            result += _length(x, at, item)
            at += 1
    return result + list(x.shape[at:])


def _length(x: TensorType, at: int, item: Any) -> list[int]:
    length = x.shape[at]
    if isinstance(item, Index):
        if item.step is not None and item.step <= 0:
            raise OperationError(codes.VALUE, "a step of a slice is positive", "index", help="`flip` reverses")
        return [len(range(*slice(item.start, item.stop, item.step).indices(length)))]
    for one in item if isinstance(item, tuple) else (item,):
        if not -length <= one < length:
            raise OperationError(codes.VALUE, f"there is no index {one} in dim {at}: its length is {length}", "index")
    return [len(item)] if isinstance(item, tuple) else []


def _as_torch(torch: Any, item: Any, x: Any) -> Any:
    if isinstance(item, Index):
        # A step near 2**63 makes torch count past the largest int.
        return slice(item.start, item.stop, item.step and min(item.step, 2**62))
    if isinstance(item, tuple):
        return torch.tensor(item, dtype=torch.int64, device=x.device)
    return item


class IndexSelect(Operation):
    """Take the rows (or slices along `dim`) with these numbers, in this order."""

    name = "index_select"
    category = _CATEGORY
    lays_out = True
    aliasing = Aliasing.COPY
    moments = Moments.SAME
    parameters = (_X, Parameter("dim", ArgKind.INT), Parameter("index", ArgKind.INTS))
    example = "set classifier.weight = index_select(0, [0, 2, 5])"

    @staticmethod
    def infer(x: TensorType, dim: int, index: tuple[int, ...]) -> TensorType:
        at = not_empty_dim(x, dim)
        for one in index:
            if not 0 <= one < x.shape[at]:
                raise OperationError(
                    codes.VALUE, f"there is no index {one} in dim {dim}: its length is {x.shape[at]}", "index"
                )
        return TensorType(x.dtype, (*x.shape[:at], len(index), *x.shape[at + 1 :]))

    @staticmethod
    def scratch(result: TensorType, plain: bool, x: TensorType, dim: int, index: tuple[int, ...]) -> int:
        return len(index) * INT64.itemsize

    @staticmethod
    def run(torch: Any, x: Any, dim: int, index: tuple[int, ...]) -> Any:
        rows = torch.tensor(index, dtype=torch.int64, device=x.device)
        return move(torch, x, lambda bits: torch.index_select(bits, dim, rows))

    @staticmethod
    def moves(x: Tiling, dim: int, index: tuple[int, ...]) -> Tiling | None:
        return x.indexed(dim % len(x.shape), index)

    @staticmethod
    def invert(x: TensorType, dim: int, index: tuple[int, ...]) -> Inverse | None:
        length = x.shape[dim % x.ndim]
        if sorted(index) != list(range(length)):
            return None
        return Inverse("index_select", {"dim": dim, "index": tuple(index.index(one) for one in range(length))})


class Narrow(Operation):
    """Take `length` elements along a dim, starting at `start`."""

    name = "narrow"
    category = _CATEGORY
    aliasing = Aliasing.VIEW
    moments = Moments.SAME
    scratch = no_scratch
    parameters = (
        _X,
        Parameter("dim", ArgKind.INT),
        Parameter("start", ArgKind.INT),
        Parameter("length", ArgKind.INT),
    )
    example = "set embed.weight = narrow(0, 0, 32000)"

    @staticmethod
    def infer(x: TensorType, dim: int, start: int, length: int) -> TensorType:
        at = not_empty_dim(x, dim)
        size = x.shape[at]
        if not -size <= start <= size:
            raise OperationError(codes.VALUE, f"dim {dim} has length {size}, and does not reach {start}", "start")
        first = start + size if start < 0 else start
        if length < 0 or first + length > size:
            raise OperationError(
                codes.VALUE, f"dim {dim} has length {size}: {length} from {start} on is too much", "length"
            )
        return TensorType(x.dtype, (*x.shape[:at], length, *x.shape[at + 1 :]))

    @staticmethod
    def run(torch: Any, x: Any, dim: int, start: int, length: int) -> Any:
        return torch.narrow(x, dim, start, length)

    @staticmethod
    def moves(x: Tiling, dim: int, start: int, length: int) -> Tiling | None:
        at = dim % len(x.shape)
        return x.sliced(at, start + x.shape[at] if start < 0 else start, length)
