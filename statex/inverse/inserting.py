"""Tensors of a further input put where they stood: beside a key that is there, as pieces of it."""

from __future__ import annotations

from collections.abc import Collection, Container, Iterable, Iterator
from dataclasses import replace
from functools import partial
from itertools import takewhile

from statex.core.record import record
from statex.grammar import factory as make
from statex.grammar import tree
from statex.inverse.folded import KeyMove, WrittenMove, folded_moves
from statex.inverse.terms import CURRENT


@record
class Insertion:
    """Keys that are put before and after one that is there."""

    beside: str
    before: tuple[str, ...] = ()
    after: tuple[str, ...] = ()


def insertions(order: Iterable[str], missing: Collection[str], there: Container[str]) -> list[Insertion]:
    """Return where missing keys go, given the order of all: after the key before them, or before the one after them.

    It is the one whose name is more like theirs. Without a key that is `there`, they are left out.
    """
    found: list[Insertion] = []
    run: list[str] = []
    for key in order:
        if key in missing:
            run.append(key)
        elif key in there:
            near = found[-1].beside if found else None
            kept = 0 if near is None else sum(1 for _ in takewhile(partial(_is_nearer, near, key), run))
            if near is not None:
                found[-1] = replace(found[-1], after=tuple(run[:kept]))
            found.append(Insertion(key, tuple(run[kept:])))
            run = []
    if found:
        found[-1] = replace(found[-1], after=tuple(run))
    close = [_of_module(one) for one in found]
    far = [other for one, own in zip(found, close, strict=True) for other in _of_others(one, own)]
    return [one for one in (*close, *far) if one.before or one.after]


def _of_module(one: Insertion) -> Insertion:
    """Return the keys next to the one that is there whose module is the same: so it is with those of other layers."""
    alike = partial(_is_beside, one.beside)
    before = tuple(takewhile(alike, reversed(one.before)))
    return Insertion(one.beside, before[::-1], tuple(takewhile(alike, one.after)))


def _of_others(one: Insertion, near: Insertion) -> Iterator[Insertion]:
    """Yield where all further keys go: beside the outermost of those, which are there by then."""
    first, last = (*near.before, one.beside)[0], (one.beside, *near.after)[-1]
    yield Insertion(first, before=one.before[: len(one.before) - len(near.before)])
    yield Insertion(last, after=one.after[len(near.after) :])


def _is_beside(one: str, other: str) -> bool:
    return one.rpartition(".")[0] == other.rpartition(".")[0]


def _is_nearer(one: str, other: str, key: str) -> bool:
    """Say whether a key begins with as much of the one as of the other."""
    return _common(one, key) >= _common(other, key)


def _common(one: str, other: str) -> int:
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))


def inserted(found: Iterable[Insertion], input: str, fold: bool, reserved: Container[str]) -> Iterator[tree.Statement]:
    """Return the statements that put tensors of a further input beside keys."""
    alike: dict[int, list[KeyMove]] = {}
    for one in found:
        targets = (*one.before, one.beside, *one.after)
        alike.setdefault(len(one.before), []).append(KeyMove((one.beside,), targets))
    for at, moves in alike.items():
        yield from folded_moves(moves, lambda move, at=at: _split(move, at, input), fold, reserved)  # type: ignore[misc]


def _split(move: WrittenMove, at: int, input: str) -> tree.Statement:
    stored = [tree.KeyRef(make.NOWHERE, replace(one, input=input)) for one in move.targets]
    pieces: list[tree.Expr] = [CURRENT if place == at else one for place, one in enumerate(stored)]
    value = tree.ListExpr(make.NOWHERE, tuple(pieces))
    return tree.Split(make.NOWHERE, move.sources[0], None, move.targets, value)
