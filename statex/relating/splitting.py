"""One into several: how an old key is cut into pieces that are all of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from statex.core.record import record
from statex.grammar import factory as make
from statex.grammar import tree
from statex.relating.gathering import Family, family
from statex.relating.relations import MadeTensor
from statex.relating.values import ElementMove, MovedValue, SourceTensor, Value, computed, expression, moved, piped


@record
class Splitting:
    """An old key in pieces: the expression that cuts it, and the new keys, as a family where they are one."""

    source: str
    targets: tuple[str, ...]
    family: Family | None
    value: tree.Expr
    other: tree.Expr | None = None
    """The same for a vector, written as it is for matrices whose last dim is cut."""


def splitting(key: str, made: Sequence[MadeTensor], shape: tuple[int, ...]) -> Splitting | None:
    """Return how an old key is cut into several, `None` where its pieces are not all of it."""
    runs = [moves_of(one.value) for one in made]
    if any(base != runs[0][0] for base, _ in runs):
        return None
    moves = [own for _, own in runs]
    start = 0
    while all(len(own) > start for own in moves) and len({own[start] for own in moves}) == 1:
        start += 1
    if any(len(own) <= start for own in moves) or len({own[start + 1 :] for own in moves}) > 1:
        return None
    before, after = moves[0][:start], moves[0][start + 1 :]
    shape = computed(moved(SourceTensor(), *before), lambda _: _dummy(shape)).shape
    ordered = sorted(zip([own[start] for own in moves], made, strict=True), key=lambda pair: pair[0].arguments[1:])
    own = [move for move, _ in ordered]
    dim = own[0].arguments[0] if own[0].arguments else 0
    cut = _cut(own, shape, -1 if dim and dim == len(shape) - 1 else dim)
    stages = [expression(MovedValue(SourceTensor(), (move,)), lambda _: None) for move in after]
    if cut is None or not all(isinstance(one, tree.Call | tree.Name) for one in stages):
        return None
    targets = tuple(one.target for _, one in ordered)
    first = expression(moved(runs[0][0], *before), lambda _: None)
    last = _cut(own, shape, -1) if len(shape) == 1 else None
    other = _staged(first, last, stages) if last is not None else None
    return Splitting(key, targets, family(targets), _staged(first, cut, stages), other)


def _staged(first: tree.Expr | None, cut: tree.Call | tree.Name, stages: Sequence[tree.Expr | None]) -> tree.Expr:
    value = piped(first, cut)
    for stage in stages:
        assert isinstance(stage, tree.Call | tree.Name)
        value = piped(value, stage)
    return value


def _end(move: ElementMove, shape: tuple[int, ...]) -> int:
    """Return where a slice ends."""
    dim, _, stop = move.arguments
    return int(shape[dim] if stop is None else stop)


def _integer(value: int) -> tree.Expr:
    return make.number(value) if value >= 0 else tree.Unary(make.NOWHERE, "-", make.number(-value))


def _dummy(shape: tuple[int, ...]) -> Any:
    import numpy

    return numpy.broadcast_to(numpy.uint8(0), shape)


def moves_of(value: Value) -> tuple[Value, tuple[ElementMove, ...]]:
    """Return what a value is moved from, and the moves."""
    return (value.value, value.moves) if isinstance(value, MovedValue) else (value, ())


def _cut(moves: Sequence[ElementMove], shape: tuple[int, ...], written: int) -> tree.Call | tree.Name | None:
    """Return `chunk`, `sections` or `unstack` for slices, or items, that are all there is along a dim.

    `written` is how the dim is called.
    """
    name: str = moves[0].name
    dim: Any = moves[0].arguments[0] if moves[0].arguments else None
    if any(one.name != name or not one.arguments or one.arguments[0] != dim for one in moves):
        return None
    named = {"dim": _integer(written)} if written else {}
    if name == "item":
        whole = [one.arguments[1] for one in moves] == list(range(shape[dim]))
        if not whole:
            return None
        return make.call("unstack", **named) if named else make.name("unstack")
    if name != "getitem":
        return None
    at = 0
    for one in moves:
        if one.arguments[1] != at:
            return None
        at = _end(one, shape)
    if at != shape[dim]:
        return None
    sizes = [_end(one, shape) - one.arguments[1] for one in moves]
    if len(set(sizes)) == 1:
        return make.call("chunk", make.number(len(sizes)), **named)
    listed = tree.ListExpr(make.NOWHERE, tuple(map(make.number, sizes)))
    return make.call("sections", listed, **named)
