"""Operations that move elements without changing them: all of them can be undone."""

from __future__ import annotations

from math import prod
from typing import Any

from statex.core.header import TensorType
from statex.core.strides import Tiling, joined
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
from statex.dsl.ops.typing import dim_of, dims_of, move, not_empty_dim, sized

_X = Parameter("x", ArgKind.TENSOR)
_CATEGORY = "layout"


class Transpose(Operation):
    """Swap two dims; by default the two of a matrix.

    For tensors that do not have exactly two dimensions the dims must be named, because it is not clear which two are
    meant.
    """

    name = "transpose"
    category = _CATEGORY
    aliasing = Aliasing.VIEW
    moments = Moments.SAME
    scratch = no_scratch
    parameters = (_X, Parameter("dim0", ArgKind.INT, None), Parameter("dim1", ArgKind.INT, None))
    example = "set **.c_attn.weight = transpose"
    turns_matrices = True

    @staticmethod
    def infer(x: TensorType, dim0: int | None, dim1: int | None) -> TensorType:
        if (dim0 is None) is not (dim1 is None):
            raise OperationError(codes.ARGUMENTS, "`transpose` takes both dims or none", "dim0")
        if dim0 is None or dim1 is None:
            if x.ndim != 2:
                raise OperationError(
                    codes.SHAPE,
                    f"`transpose` without dims needs 2 dimensions, and this has {x.ndim}",
                    "x",
                    help="name the dims: `transpose(0, 1)`",
                )
            dim0, dim1 = 0, 1
        shape = list(x.shape)
        one, other = dim_of(x, dim0, "dim0"), dim_of(x, dim1, "dim1")
        if shape:
            shape[one], shape[other] = shape[other], shape[one]
        return TensorType(x.dtype, tuple(shape))

    @staticmethod
    def run(torch: Any, x: Any, dim0: int | None, dim1: int | None) -> Any:
        return torch.transpose(x, 0 if dim0 is None else dim0, 1 if dim1 is None else dim1)

    @staticmethod
    def moves(x: Tiling, dim0: int | None, dim1: int | None) -> Tiling:
        order = list(range(len(x.shape)))
        one, other = (0 if dim0 is None else dim0), (1 if dim1 is None else dim1)
        if order:
            order[one], order[other] = order[other], order[one]
        return x.permuted(order)

    @staticmethod
    def invert(x: TensorType, dim0: int | None, dim1: int | None) -> Inverse:
        return Inverse("transpose", {"dim0": dim0, "dim1": dim1})


class Permute(Operation):
    """Put the dims into another order."""

    name = "permute"
    category = _CATEGORY
    aliasing = Aliasing.VIEW
    moments = Moments.SAME
    scratch = no_scratch
    parameters = (_X, Parameter("dims", ArgKind.INTS, doc="all dims, in their new order"))
    example = "set conv.weight = permute(2, 3, 1, 0)"

    @staticmethod
    def infer(x: TensorType, dims: tuple[int, ...]) -> TensorType:
        if len(dims) != x.ndim:
            raise OperationError(codes.SHAPE, f"`permute` needs all {x.ndim} dims, and got {len(dims)}", "dims")
        return TensorType(x.dtype, tuple(x.shape[d] for d in dims_of(x, dims, "dims")))

    @staticmethod
    def run(torch: Any, x: Any, dims: tuple[int, ...]) -> Any:
        return torch.permute(x, dims)

    @staticmethod
    def moves(x: Tiling, dims: tuple[int, ...]) -> Tiling:
        return x.permuted([dim % len(x.shape) for dim in dims])

    @staticmethod
    def invert(x: TensorType, dims: tuple[int, ...]) -> Inverse:
        order = dims_of(x, dims, "dims")
        return Inverse("permute", {"dims": tuple(order.index(i) for i in range(len(order)))})


class Reshape(Operation):
    """Give a tensor another shape with as many elements; one length may be -1 and follows from the others."""

    name = "reshape"
    category = _CATEGORY
    lays_out = True
    aliasing = Aliasing.MAYBE
    moments = Moments.SAME
    scratch = no_scratch
    parameters = (_X, Parameter("shape", ArgKind.INTS))
    example = "set conv.weight = reshape(768, -1)"

    @staticmethod
    def infer(x: TensorType, shape: tuple[int, ...]) -> TensorType:
        return TensorType(x.dtype, _filled(x.numel, shape, "shape", f"{x}"))

    @staticmethod
    def run(torch: Any, x: Any, shape: tuple[int, ...]) -> Any:
        return torch.reshape(x, shape)

    @staticmethod
    def moves(x: Tiling, shape: tuple[int, ...]) -> Tiling | None:
        return x.reshaped(_filled(prod(x.shape), shape, "shape", ""))

    @staticmethod
    def invert(x: TensorType, shape: tuple[int, ...]) -> Inverse:
        return Inverse("reshape", {"shape": x.shape})


def _filled(numel: int, shape: tuple[int, ...], argument: str, what: str) -> tuple[int, ...]:
    """Return a shape with its -1 filled in."""
    if any(length < -1 for length in shape) or shape.count(-1) > 1:
        raise OperationError(codes.VALUE, f"{list(shape)} is not a shape: one length may be -1", argument)
    rest = prod(length for length in shape if length != -1)
    if -1 in shape:
        if rest == 0 or numel % rest:
            raise OperationError(codes.SHAPE, f"{what} cannot become {list(shape)}", argument)
        return tuple(numel // rest if length == -1 else length for length in shape)
    if rest != numel:
        raise OperationError(codes.SHAPE, f"{what} has {numel} elements, and {list(shape)} would have {rest}", argument)
    return shape


class Flatten(Operation):
    """Join the dims from `start_dim` to `end_dim`, both included, into one."""

    name = "flatten"
    category = _CATEGORY
    lays_out = True
    aliasing = Aliasing.MAYBE
    moments = Moments.SAME
    scratch = no_scratch
    parameters = (_X, Parameter("start_dim", ArgKind.INT, 0), Parameter("end_dim", ArgKind.INT, -1))
    example = "set patch.weight = flatten(1)"

    @staticmethod
    def infer(x: TensorType, start_dim: int, end_dim: int) -> TensorType:
        start, end = dim_of(x, start_dim, "start_dim"), dim_of(x, end_dim, "end_dim")
        if start > end:
            raise OperationError(codes.VALUE, f"dim {start_dim} comes after dim {end_dim}", "start_dim")
        if not x.ndim:
            return TensorType(x.dtype, (1,))
        return TensorType(x.dtype, (*x.shape[:start], prod(x.shape[start : end + 1]), *x.shape[end + 1 :]))

    @staticmethod
    def run(torch: Any, x: Any, start_dim: int, end_dim: int) -> Any:
        return torch.flatten(x, start_dim, end_dim)

    @staticmethod
    def moves(x: Tiling, start_dim: int, end_dim: int) -> Tiling | None:
        if not x.shape:
            return x.reshaped((1,))
        start, end = start_dim % len(x.shape), end_dim % len(x.shape)
        return x.reshaped((*x.shape[:start], prod(x.shape[start : end + 1]), *x.shape[end + 1 :]))

    @staticmethod
    def invert(x: TensorType, start_dim: int, end_dim: int) -> Inverse:
        return Inverse("reshape", {"shape": x.shape})


class Unflatten(Operation):
    """Split one dim into several; one of their lengths may be -1."""

    name = "unflatten"
    category = _CATEGORY
    lays_out = True
    aliasing = Aliasing.VIEW
    moments = Moments.SAME
    scratch = no_scratch
    parameters = (_X, Parameter("dim", ArgKind.INT), Parameter("sizes", ArgKind.INTS))
    example = "set q.weight = unflatten(0, [heads, -1])"

    @staticmethod
    def infer(x: TensorType, dim: int, sizes: tuple[int, ...]) -> TensorType:
        at = not_empty_dim(x, dim)
        if not sizes:
            raise OperationError(codes.ARGUMENTS, "`unflatten` needs at least one size", "sizes")
        inner = _filled(x.shape[at], sizes, "sizes", f"dim {dim} of {x}")
        return TensorType(x.dtype, (*x.shape[:at], *inner, *x.shape[at + 1 :]))

    @staticmethod
    def run(torch: Any, x: Any, dim: int, sizes: tuple[int, ...]) -> Any:
        return torch.unflatten(x, dim, sizes)

    @staticmethod
    def moves(x: Tiling, dim: int, sizes: tuple[int, ...]) -> Tiling | None:
        at = dim % len(x.shape)
        return x.reshaped((*x.shape[:at], *_filled(x.shape[at], sizes, "sizes", ""), *x.shape[at + 1 :]))

    @staticmethod
    def invert(x: TensorType, dim: int, sizes: tuple[int, ...]) -> Inverse:
        return Inverse("reshape", {"shape": x.shape})


class Squeeze(Operation):
    """Remove a dim of length 1, or all of them; a named dim of another length is an error."""

    name = "squeeze"
    category = _CATEGORY
    lays_out = True
    aliasing = Aliasing.VIEW
    moments = Moments.SAME
    scratch = no_scratch
    parameters = (_X, Parameter("dim", ArgKind.INTS, None))
    example = "set conv.weight = squeeze(-1)"

    @staticmethod
    def infer(x: TensorType, dim: tuple[int, ...] | None) -> TensorType:
        if dim is None:
            return TensorType(x.dtype, tuple(length for length in x.shape if length != 1))
        gone = dims_of(x, dim)
        for at in gone:
            if x.ndim and x.shape[at] != 1:
                raise OperationError(codes.SHAPE, f"dim {at} of {x} has length {x.shape[at]}, not 1", "dim")
        return TensorType(x.dtype, tuple(length for at, length in enumerate(x.shape) if at not in gone))

    @staticmethod
    def run(torch: Any, x: Any, dim: tuple[int, ...] | None) -> Any:
        return torch.squeeze(x) if dim is None else torch.squeeze(x, dim)

    @staticmethod
    def moves(x: Tiling, dim: tuple[int, ...] | None) -> Tiling:
        short = [at for at, length in enumerate(x.shape) if length == 1]
        return x.squeezed(short if dim is None else [at % len(x.shape) for at in dim if x.shape])

    @staticmethod
    def invert(x: TensorType, dim: tuple[int, ...] | None) -> Inverse:
        return Inverse("reshape", {"shape": x.shape})


class Unsqueeze(Operation):
    """Insert a dim of length 1."""

    name = "unsqueeze"
    category = _CATEGORY
    lays_out = True
    aliasing = Aliasing.VIEW
    moments = Moments.SAME
    scratch = no_scratch
    parameters = (_X, Parameter("dim", ArgKind.INT))
    example = "set conv.weight = unsqueeze(-1)"

    @staticmethod
    def infer(x: TensorType, dim: int) -> TensorType:
        at = dim_of(x, dim, extra=1)
        return TensorType(x.dtype, (*x.shape[:at], 1, *x.shape[at:]))

    @staticmethod
    def run(torch: Any, x: Any, dim: int) -> Any:
        return torch.unsqueeze(x, dim)

    @staticmethod
    def moves(x: Tiling, dim: int) -> Tiling:
        return x.unsqueezed(dim % (len(x.shape) + 1))

    @staticmethod
    def invert(x: TensorType, dim: int) -> Inverse:
        return Inverse("reshape", {"shape": x.shape})


class Expand(Operation):
    """Repeat along dims of length 1; -1 keeps a length, and additional dims come first."""

    name = "expand"
    category = _CATEGORY
    aliasing = Aliasing.VIEW
    moments = Moments.SAME
    scratch = no_scratch
    parameters = (_X, Parameter("size", ArgKind.INTS))
    example = "set cls_token = expand(4, -1, -1)"

    @staticmethod
    def infer(x: TensorType, size: tuple[int, ...]) -> TensorType:
        added = len(size) - x.ndim
        if added < 0:
            raise OperationError(codes.SHAPE, f"{x} has more dimensions than {list(size)}", "size")
        result = []
        for at, length in enumerate(size):
            own = x.shape[at - added] if at >= added else None
            if length == -1 and own is None:
                raise OperationError(codes.VALUE, "a new dim in front cannot be -1", "size")
            if length != -1 and own is not None and own not in (1, length):
                raise OperationError(
                    codes.SHAPE, f"dim {at - added} of {x} has length {own}, and cannot become {length}", "size"
                )
            result.append(length if length != -1 or own is None else own)
        return sized(x.dtype, result)

    @staticmethod
    def run(torch: Any, x: Any, size: tuple[int, ...]) -> Any:
        return x.expand(size)

    @staticmethod
    def moves(x: Tiling, size: tuple[int, ...]) -> Tiling:
        added = len(size) - len(x.shape)
        return x.expanded(tuple([x.shape[at - added] if length == -1 else length for at, length in enumerate(size)]))

    @staticmethod
    def invert(x: TensorType, size: tuple[int, ...]) -> Inverse | None:
        result = Expand.infer(x, size)
        if not prod(result.shape):
            return None
        first: list[Any] = [0] * (len(size) - x.ndim)
        kept = zip(x.shape, result.shape[len(first) :], strict=True)
        index = (*first, *(Index(None, None if own == new else own, None) for own, new in kept))
        return Inverse("getitem", {"index": index}) if index else Inverse("clone", {})


class Flip(Operation):
    """Reverse the order along dims."""

    name = "flip"
    category = _CATEGORY
    lays_out = True
    aliasing = Aliasing.COPY
    moments = Moments.SAME
    scratch = no_scratch
    parameters = (_X, Parameter("dims", ArgKind.INTS))
    example = "set embed.weight = flip(0)"

    @staticmethod
    def infer(x: TensorType, dims: tuple[int, ...]) -> TensorType:
        dims_of(x, dims, "dims")
        return TensorType(x.dtype, x.shape)

    @staticmethod
    def run(torch: Any, x: Any, dims: tuple[int, ...]) -> Any:
        return move(torch, x, lambda bits: torch.flip(bits, dims))

    @staticmethod
    def moves(x: Tiling, dims: tuple[int, ...]) -> Tiling:
        for dim in dims if x.shape else ():
            x = x.flipped(dim % len(x.shape))
        return x

    @staticmethod
    def invert(x: TensorType, dims: tuple[int, ...]) -> Inverse:
        return Inverse("flip", {"dims": dims})


class Roll(Operation):
    """Shift elements along dims; those that leave at one end come in at the other."""

    name = "roll"
    category = _CATEGORY
    lays_out = True
    aliasing = Aliasing.COPY
    moments = Moments.SAME
    parameters = (_X, Parameter("shifts", ArgKind.INTS), Parameter("dims", ArgKind.INTS, None))
    example = "set table.weight = roll(1, dims=0)"

    @staticmethod
    def infer(x: TensorType, shifts: tuple[int, ...], dims: tuple[int, ...] | None) -> TensorType:
        if dims is None and len(shifts) != 1:
            raise OperationError(codes.ARGUMENTS, "without dims there is one shift", "shifts")
        if dims is not None:
            if len(dims) != len(shifts):
                raise OperationError(codes.ARGUMENTS, f"{len(shifts)} shifts for {len(dims)} dims", "shifts")
            for dim in dims:
                not_empty_dim(x, dim, "dims")
        if any(abs(shift) >= 2**62 for shift in shifts):
            raise OperationError(codes.VALUE, "a shift has at most 62 bits", "shifts")
        return TensorType(x.dtype, x.shape)

    @staticmethod
    def scratch(
        result: TensorType, plain: bool, x: TensorType, shifts: tuple[int, ...], dims: tuple[int, ...] | None
    ) -> int:
        if dims is None:
            return 0 if plain else x.nbytes
        # Each dim is rolled by itself: before the last, there is what was rolled, and what it was rolled from.
        return x.nbytes * min(max(len(dims) - 1, 0), 2)

    @staticmethod
    def run(torch: Any, x: Any, shifts: tuple[int, ...], dims: tuple[int, ...] | None) -> Any:
        return move(torch, x, lambda bits: torch.roll(bits, shifts, dims))

    @staticmethod
    def moves(x: Tiling, shifts: tuple[int, ...], dims: tuple[int, ...] | None) -> Tiling | None:
        if dims is None:
            found = _rolled(x.reshaped((prod(x.shape),)), shifts[0], 0)
            return None if found is None else found.reshaped(x.shape)
        found = x
        for shift, dim in zip(shifts, dims, strict=True):
            found = _rolled(found, shift, dim % len(x.shape))
        return found

    @staticmethod
    def invert(x: TensorType, shifts: tuple[int, ...], dims: tuple[int, ...] | None) -> Inverse:
        return Inverse("roll", {"shifts": tuple(-shift for shift in shifts), "dims": dims})


def _rolled(x: Tiling | None, shift: int, dim: int) -> Tiling | None:
    if x is None or not x.shape[dim]:
        return x
    length = x.shape[dim]
    first = -shift % length
    return joined([x.sliced(dim, first, length - first), x.sliced(dim, 0, first)], dim)


class Clone(Operation):
    """Copy a tensor into storage of its own."""

    name = "clone"
    category = _CATEGORY
    lays_out = True
    aliasing = Aliasing.COPY
    moments = Moments.SAME
    scratch = no_scratch
    parameters = (_X,)
    example = "add head.weight = clone(embed.weight)"

    @staticmethod
    def infer(x: TensorType) -> TensorType:
        return TensorType(x.dtype, x.shape)

    @staticmethod
    def run(torch: Any, x: Any) -> Any:
        return torch.clone(x)

    @staticmethod
    def moves(x: Tiling) -> Tiling:
        return x

    @staticmethod
    def invert(x: TensorType) -> Inverse:
        return Inverse("clone", {})
