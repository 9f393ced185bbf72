"""Operations between one tensor and several: those that cut tensors into pieces, and those that join them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce
from itertools import accumulate
from typing import Any

from statex.core.header import TensorType
from statex.core.strides import Tiling, joined, stacked
from statex.diagnostics.codes import types as codes
from statex.dsl.ops.base import Aliasing, ArgKind, Inverse, Moments, Operation, OperationError, Parameter, no_scratch
from statex.dsl.ops.typing import computable, dim_of, flat_pieces, not_empty_dim, one_dtype, sized

_X = Parameter("x", ArgKind.TENSOR)
_XS = Parameter("tensors", ArgKind.TENSORS)
_DIM = Parameter("dim", ArgKind.INT, 0)
_PIECES = "pieces"
_CATEGORY = "joining"


class Chunk(Operation):
    """Cut a tensor into `chunks` pieces of equal size along a dim, which must divide evenly."""

    name = "chunk"
    category = _PIECES
    aliasing = Aliasing.VIEW
    moments = Moments.SAME
    scratch = no_scratch
    parameters = (_X, Parameter("chunks", ArgKind.INT), _DIM)
    example = "split attn.qkv.weight -> attn.{p:q|k|v}.weight = chunk(3)"

    @staticmethod
    def infer(x: TensorType, chunks: int, dim: int) -> tuple[TensorType, ...]:
        at = not_empty_dim(x, dim)
        if chunks < 1:
            raise OperationError(codes.VALUE, "there is at least one chunk", "chunks")
        if x.shape[at] % chunks or (not x.shape[at] and chunks > 1):
            raise OperationError(
                codes.UNEVEN,
                f"cannot split dim {dim} (length {x.shape[at]}) into {chunks} equal chunks",
                "chunks",
                help="give the sizes: `sections([a, b, …])`",
            )
        piece = TensorType(x.dtype, (*x.shape[:at], x.shape[at] // chunks, *x.shape[at + 1 :]))
        return (piece,) * chunks

    @staticmethod
    def run(torch: Any, x: Any, chunks: int, dim: int) -> Any:
        return torch.chunk(x, chunks, dim)

    @staticmethod
    def moves(x: Tiling, chunks: int, dim: int) -> tuple[Tiling | None, ...]:
        return _cut(x, [x.shape[dim] // chunks] * chunks, dim)

    @staticmethod
    def invert(x: TensorType, chunks: int, dim: int) -> Inverse:
        return Inverse("cat", {"dim": dim})


class Sections(Operation):
    """Cut a tensor into pieces of these sizes along a dim, as torch.split does with a list."""

    name = "sections"
    category = _PIECES
    aliasing = Aliasing.VIEW
    moments = Moments.SAME
    scratch = no_scratch
    parameters = (_X, Parameter("sizes", ArgKind.INTS), _DIM)
    example = "split attn.qkv.weight -> attn.{p:q|k|v}.weight = sections([4096, 1024, 1024])"

    @staticmethod
    def infer(x: TensorType, sizes: tuple[int, ...], dim: int) -> tuple[TensorType, ...]:
        at = not_empty_dim(x, dim)
        if not sizes or any(size < 0 for size in sizes) or sum(sizes) != x.shape[at]:
            raise OperationError(
                codes.UNEVEN, f"dim {dim} has length {x.shape[at]}, and the sizes sum to {sum(sizes)}", "sizes"
            )
        return tuple(TensorType(x.dtype, (*x.shape[:at], size, *x.shape[at + 1 :])) for size in sizes)

    @staticmethod
    def run(torch: Any, x: Any, sizes: tuple[int, ...], dim: int) -> Any:
        return torch.split(x, list(sizes), dim)

    @staticmethod
    def moves(x: Tiling, sizes: tuple[int, ...], dim: int) -> tuple[Tiling | None, ...]:
        return _cut(x, sizes, dim)

    @staticmethod
    def invert(x: TensorType, sizes: tuple[int, ...], dim: int) -> Inverse:
        return Inverse("cat", {"dim": dim})


class Unstack(Operation):
    """Take a tensor apart along a dim, which is removed, as torch.unbind does."""

    name = "unstack"
    category = _PIECES
    aliasing = Aliasing.VIEW
    moments = Moments.SAME
    scratch = no_scratch
    parameters = (_X, _DIM)
    example = "split experts.weight over e -> experts.{e}.weight = unstack"

    @staticmethod
    def infer(x: TensorType, dim: int) -> tuple[TensorType, ...]:
        at = not_empty_dim(x, dim)
        if not x.shape[at]:
            raise OperationError(codes.VALUE, f"dim {dim} of {x} has length 0: there are no pieces", "dim")
        return (TensorType(x.dtype, (*x.shape[:at], *x.shape[at + 1 :])),) * x.shape[at]

    @staticmethod
    def run(torch: Any, x: Any, dim: int) -> Any:
        return torch.unbind(x, dim)

    @staticmethod
    def moves(x: Tiling, dim: int) -> tuple[Tiling | None, ...]:
        at = dim % len(x.shape)
        return tuple([x.selected(at, index) for index in range(x.shape[at])])

    @staticmethod
    def invert(x: TensorType, dim: int) -> Inverse:
        return Inverse("stack", {"dim": dim})


def _cut(x: Tiling, sizes: Sequence[int], dim: int) -> tuple[Tiling | None, ...]:
    starts = accumulate(sizes, initial=0)
    return tuple([x.sliced(dim % len(x.shape), start, size) for start, size in zip(starts, sizes, strict=False)])


class Cat(Operation):
    """Concatenate tensors along a dim; their other dims must agree."""

    name = "cat"
    category = _CATEGORY
    lays_out = True
    aliasing = Aliasing.COPY
    moments = Moments.SAME
    scratch = no_scratch
    parameters = (_XS, _DIM)
    example = "merge a.q.weight, a.k.weight, a.v.weight -> a.qkv.weight = cat(dim=0)"

    @staticmethod
    def infer(tensors: tuple[TensorType, ...], dim: int) -> TensorType:
        dtype = one_dtype(tensors, "tensors")
        first = tensors[0]
        at = not_empty_dim(first, dim)
        for other in tensors[1:]:
            same = other.ndim == first.ndim and all(
                a == b for i, (a, b) in enumerate(zip(first.shape, other.shape, strict=True)) if i != at
            )
            if not same:
                raise OperationError(
                    codes.SHAPE, f"cannot concatenate along dim {dim}: the other axes differ", "tensors"
                )
        return sized(dtype, (*first.shape[:at], sum(t.shape[at] for t in tensors), *first.shape[at + 1 :]))

    @staticmethod
    def run(torch: Any, tensors: tuple[Any, ...], dim: int) -> Any:
        return torch.cat(tensors, dim)

    @staticmethod
    def moves(tensors: tuple[Tiling, ...], dim: int) -> Tiling | None:
        return joined(tensors, dim % len(tensors[0].shape))

    @staticmethod
    def invert(tensors: tuple[TensorType, ...], dim: int) -> Inverse:
        at = dim_of(tensors[0], dim)
        return Inverse("sections", {"sizes": tuple(t.shape[at] for t in tensors), "dim": dim})


class Stack(Operation):
    """Stack tensors of the same shape along a new dim."""

    name = "stack"
    category = _CATEGORY
    lays_out = True
    aliasing = Aliasing.COPY
    moments = Moments.SAME
    scratch = no_scratch
    parameters = (_XS, _DIM)
    example = "merge experts.{e:int}.weight over e -> experts.weight = stack(dim=0)"

    @staticmethod
    def infer(tensors: tuple[TensorType, ...], dim: int) -> TensorType:
        dtype = one_dtype(tensors, "tensors")
        first = tensors[0]
        for other in tensors[1:]:
            if other.shape != first.shape:
                raise OperationError(codes.SHAPE, f"cannot stack {first} and {other}: their shapes differ", "tensors")
        at = dim_of(first, dim, extra=1)
        return sized(dtype, (*first.shape[:at], len(tensors), *first.shape[at:]))

    @staticmethod
    def run(torch: Any, tensors: tuple[Any, ...], dim: int) -> Any:
        return torch.stack(tensors, dim)

    @staticmethod
    def moves(tensors: tuple[Tiling, ...], dim: int) -> Tiling | None:
        return stacked(tensors, dim % (len(tensors[0].shape) + 1))

    @staticmethod
    def invert(tensors: tuple[TensorType, ...], dim: int) -> Inverse:
        return Inverse("unstack", {"dim": dim})


class Average(Operation):
    """Take the elementwise mean of several tensors, as `mean` does when given more than one."""

    name = "average"
    category = _CATEGORY
    lays_out = True
    aliasing = Aliasing.COPY
    moments = Moments.UNKNOWN
    parameters = (_XS,)
    example = "set ** = average(it, ft::{key}) where is_floating_point(it)"

    @staticmethod
    def infer(tensors: tuple[TensorType, ...]) -> TensorType:
        dtype = one_dtype(tensors, "tensors")
        for other in tensors:
            computable(other, "mean", kinds="floats, complex", argument="tensors")
            if other.shape != tensors[0].shape:
                raise OperationError(
                    codes.SHAPE, f"cannot average {tensors[0]} and {other}: their shapes differ", "tensors"
                )
        return TensorType(dtype, tensors[0].shape)

    @staticmethod
    def scratch(result: TensorType, plain: bool, tensors: tuple[TensorType, ...]) -> int:
        itemsize = _averaged(result.dtype.itemsize, len(tensors))
        parts = flat_pieces(result.numel, itemsize) if plain else [slice(0, result.numel)]
        return max(part.stop - part.start for part in parts) * itemsize

    @staticmethod
    def run(torch: Any, tensors: tuple[Any, ...]) -> Any:
        first = tensors[0]
        parts = flat_pieces(first.numel(), _averaged(first.element_size(), len(tensors)))
        if len(parts) == 1 or first.device.type != "cpu" or not all(tensor.is_contiguous() for tensor in tensors):
            return torch.stack(tensors).mean(0)
        result = torch.empty(first.shape, dtype=first.dtype)
        for part in parts:
            taken = [tensor.reshape(-1)[part] for tensor in tensors]
            result.view(-1)[part] = torch.stack(taken).mean(0)
        return result

    @classmethod
    def in_parts(cls, arguments: Mapping[str, Any]) -> bool:
        # torch adds more of them in an order that depends on the place of an element.
        return len(arguments["tensors"]) <= 4

    @staticmethod
    def numpy(numpy: Any, tensors: tuple[Any, ...]) -> Any:
        return reduce(numpy.add, tensors, 0.0) / len(tensors)  # from 0 on, which makes a zero of -0.0


def _averaged(itemsize: int, count: int) -> int:
    """Return the bytes that torch needs for each element: all are stacked, and short ones made float32."""
    return itemsize * (count + 1) + (4 * (count + 1) if itemsize < 4 else 0)
