"""`rearrange` in einops' notation: parsed by einops, typed here, carried out by einops."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from math import prod
from typing import Any

from statex.core.dtypes import FLOAT32
from statex.core.header import TensorType
from statex.core.strides import Tiling
from statex.diagnostics.codes import types as codes
from statex.dsl.ops.base import Aliasing, ArgKind, Inverse, Moments, Operation, OperationError, Parameter, no_scratch

_ELLIPSIS = "…"
Groups = tuple[tuple[str, ...], ...]
"""The dims of one side of the arrow, each the axes it is made of; `…` stands for the remaining dims."""


class Rearrange(Operation):
    """Reorder, split and join dims as einops does: `'(h d) c -> h d c'`, with the lengths that the shape leaves open.

    Every axis of the left side must appear exactly once on the right side, and no other may; `1` and `()` are axes of
    length 1, and `...` stands for the dims that are not named.
    """

    name = "rearrange"
    category = "layout"
    aliasing = Aliasing.MAYBE
    moments = Moments.SAME
    scratch = no_scratch
    parameters = (
        Parameter("tensor", ArgKind.TENSOR),
        Parameter("pattern", ArgKind.TEXT),
        Parameter("axes", ArgKind.AXES, {}, doc="lengths of axes"),
    )
    example = "set **.q_proj.weight = rearrange('(h d two) c -> (h two d) c', h=heads, two=2)"

    @staticmethod
    def infer(tensor: TensorType, pattern: str, axes: Mapping[str, int]) -> TensorType:
        left, right = parse(pattern)
        lengths = _lengths(tensor, left, axes, pattern)
        around = _ellipsis_dims(tensor, left)
        shape: list[int] = []
        for group in right:
            if group == (_ELLIPSIS,):
                shape += around
            elif _ELLIPSIS in group:
                shape.append(prod(around) * prod(lengths[a] for a in group if a != _ELLIPSIS))
            else:
                shape.append(prod(lengths[a] for a in group))
        return TensorType(tensor.dtype, tuple(shape))

    @staticmethod
    def run(torch: Any, tensor: Any, pattern: str, axes: Mapping[str, int]) -> Any:
        from einops import rearrange

        return rearrange(tensor, pattern, **axes)

    @staticmethod
    def moves(tensor: Tiling, pattern: str, axes: Mapping[str, int]) -> Tiling | None:
        kind = TensorType(FLOAT32, tensor.shape)  # any dtype would do
        left, right = parse(pattern)
        around = dict(enumerate(_ellipsis_dims(kind, left)))
        lengths = _lengths(kind, left, axes, pattern) | {f"{_ELLIPSIS}{dim}": around[dim] for dim in around}
        before, after = _axes(left, len(around)), _axes(right, len(around))
        split = tensor.reshaped(tuple([lengths[name] for name in before]))
        if split is None:
            return None
        order = [before.index(name) for name in after]
        return split.permuted(order).reshaped(Rearrange.infer(kind, pattern, axes).shape)

    @staticmethod
    def invert(tensor: TensorType, pattern: str, axes: Mapping[str, int]) -> Inverse | None:
        left, _ = parse(pattern)
        lengths = _lengths(tensor, left, axes, pattern)
        if any(_ELLIPSIS in group and len(group) > 1 for group in parse(pattern)[1]):
            # Joined dims of an ellipsis have no names to be split by.
            return None
        one, other = pattern.split("->")
        named = {name: length for name, length in lengths.items() if not name.startswith(" ")}
        return Inverse("rearrange", {"pattern": f"{other.strip()} -> {one.strip()}", "axes": named})


@lru_cache(maxsize=512)
def parse(pattern: str) -> tuple[Groups, Groups]:
    """Return the two sides of a rearrangement.

    Raises:
        OperationError: SX408 where it is not well formed.
    """
    from einops import EinopsError
    from einops.parsing import ParsedExpression

    sides = pattern.split("->")
    if len(sides) != 2:
        raise OperationError(codes.NOTATION, "a rearrangement is written `left -> right`", "pattern")
    try:
        left, right = (ParsedExpression(side) for side in sides)
    except (EinopsError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise OperationError(codes.NOTATION, f"this is not a rearrangement: {reason}", "pattern") from None
    for side in (left, right):
        if side.has_non_unitary_anonymous_axes:
            raise OperationError(
                codes.NOTATION, "a number in a rearrangement can only be 1", "pattern", help="name the axis"
            )
    if left.has_ellipsis_parenthesized:
        raise OperationError(codes.NOTATION, "`...` cannot be in parentheses on the left", "pattern")
    groups = _groups(left), _groups(right)
    names = [{a for g in side for a in g if not a.startswith(" ")} for side in groups]
    if names[0] != names[1]:
        odd = ", ".join(f"`{a}`" for a in sorted(names[0] ^ names[1]))
        raise OperationError(
            codes.NOTATION, f"{odd} is on one side of `->` only", "pattern", help="every axis is on both sides"
        )
    return groups


def _groups(side: Any) -> Groups:
    """Return the groups of einops' parse; each axis of length 1 gets a name of its own that starts with a space."""
    result: list[tuple[str, ...]] = []
    for number, dim in enumerate(side.composition):
        if isinstance(dim, str):
            result.append((_ELLIPSIS,))
        else:
            names = [a if isinstance(a, str) else f" {number}" for a in dim]
            result.append(tuple(names))
    return tuple(result)


def _axes(side: Groups, around: int) -> list[str]:
    """Return the axes of a side in their order, those of an ellipsis one by one, and none of length 1."""
    names = [name for group in side for name in group if not name.startswith(" ")]
    at = names.index(_ELLIPSIS) if _ELLIPSIS in names else None
    own = [f"{_ELLIPSIS}{dim}" for dim in range(around)]
    return names if at is None else [*names[:at], *own, *names[at + 1 :]]


def _ellipsis_dims(x: TensorType, left: Groups) -> list[int]:
    if (_ELLIPSIS,) not in left:
        return []
    at = left.index((_ELLIPSIS,))
    return list(x.shape[at : x.ndim - (len(left) - at - 1)])


def _lengths(x: TensorType, left: Groups, axes: Mapping[str, int], pattern: str) -> dict[str, int]:
    """Return the length of every named axis.

    Raises:
        OperationError: SX408 where the shape is not what the left side says.
    """
    dims = _matched_dims(x, left, pattern)
    known = {name for group in left for name in group}
    for name in axes:
        if name not in known:
            raise OperationError(codes.NOTATION, f"`{name}` is not an axis of `{pattern}`", name)
    lengths: dict[str, int] = dict(axes)
    lengths |= {name: 1 for group in left for name in group if name.startswith(" ")}
    for group, length in dims:
        _fill(group, length, lengths, x, pattern)
    return lengths | {name: 1 for group in parse(pattern)[1] for name in group if name.startswith(" ")}


def _matched_dims(x: TensorType, left: Groups, pattern: str) -> list[tuple[tuple[str, ...], int]]:
    named = [group for group in left if group != (_ELLIPSIS,)]
    exact = len(named) == len(left)
    if (exact and len(named) != x.ndim) or len(named) > x.ndim:
        raise OperationError(codes.NOTATION, f"`{pattern}` needs {len(named)} dimensions, and this is {x}", "tensor")
    at = left.index((_ELLIPSIS,)) if not exact else len(left)
    after = len(left) - at - 1 if not exact else 0
    shape = [*x.shape[:at], *(x.shape[x.ndim - after :] if after else ())]
    return list(zip(named, shape, strict=True))


def _fill(group: tuple[str, ...], length: int, lengths: dict[str, int], x: TensorType, pattern: str) -> None:
    unknown = [name for name in group if name not in lengths]
    if len(unknown) > 1:
        raise OperationError(
            codes.NOTATION,
            f"the lengths of {' and '.join(f'`{n}`' for n in unknown)} do not follow from {x}",
            "pattern",
            help=f"give all but one of them: `rearrange('{pattern}', {unknown[0]}=…)`",
        )
    rest = prod(lengths[name] for name in group if name in lengths)
    if unknown:
        if rest == 0 or length % rest:
            raise OperationError(codes.NOTATION, f"a dim of length {length} does not divide by {rest}", "tensor")
        lengths[unknown[0]] = length // rest
    elif rest != length:
        raise OperationError(
            codes.NOTATION, f"({' '.join(group).strip()}) is {rest}, and the dim has length {length}", "tensor"
        )
