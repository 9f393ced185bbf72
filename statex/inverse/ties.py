"""Ties: keys that were one tensor, and are one again once the others have their values back."""

from __future__ import annotations

from collections.abc import Container, Hashable

from statex.dsl.plan.plan import Plan
from statex.grammar import factory as make
from statex.grammar import tree
from statex.inverse.folded import KeyMove, folded_moves
from statex.inverse.proof import StateLayout


def tied_again(before: StateLayout, inverse: Plan, taken: Container[str], *, fold: bool) -> tuple[tree.Statement, ...]:
    """Return statements that make keys one tensor which were one, and which an inverse gives back apart.

    With `fold`, keys that differ in numbers alone are one statement, whose pattern may match more than these; captures
    have none of the names that are `taken`.
    """
    first: dict[Hashable, str] = {}
    moves: list[KeyMove] = []
    for key, held in before.items():
        if key not in inverse.outputs:
            continue
        other = first.setdefault(held.tie, key)
        if inverse.outputs[other].tie != inverse.outputs[key].tie:
            moves.append(KeyMove((other,), (key,)))
    gone = [KeyMove(move.targets, ()) for move in moves]
    drops = folded_moves(gone, lambda move: make.drop(*move.sources), fold, taken)
    copies = folded_moves(moves, lambda move: make.copy(move.sources[0], move.targets[0]), fold, taken)
    return (*drops, *copies)


def untied(before: StateLayout, inverse: Plan) -> list[str]:
    """Return the keys that were one tensor with another key, and come back apart from it, or the other way round."""
    first: dict[Hashable, str] = {}
    second: dict[Hashable, str] = {}
    return [
        key
        for key, held in before.items()
        if key in inverse.outputs
        and first.setdefault(held.tie, key) != second.setdefault(inverse.outputs[key].tie, key)
    ]
