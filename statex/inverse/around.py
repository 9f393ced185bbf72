"""Changes around the state undone: values and texts of the metadata become again what they were."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import isfinite
from typing import Any

from statex.core.header import KeyPath
from statex.core.paths import as_list, joined
from statex.core.surroundings import Edit, Surroundings, value_in
from statex.dsl.plan.around import net, surroundings_after
from statex.dsl.plan.plan import Plan
from statex.grammar import factory as make
from statex.grammar import tree
from statex.inverse.terms import plain
from statex.trees.rebuilding import edited


@dataclass(frozen=True)
class AroundUndone:
    """Statements that undo changes around the state, and what rules call those that no statement undoes.

    `surroundings` is what stands around the result, `None` where that is not known.
    """

    statements: tuple[tree.Statement, ...]
    left: tuple[str, ...]
    surroundings: Surroundings | None = None


def around_undone(plan: Plan, *, moves: bool) -> AroundUndone:
    """Return what undoes the changes of a plan around the state.

    That takes plain values, outside of lists, whose places in dicts do not matter. Where the state `moves` to another
    place in the file, all that stands around it is left as it is.
    """
    before = plan.header.surroundings
    edits = net(plan.edits)
    if before is None or moves:
        return AroundUndone((), tuple(dict.fromkeys([*[one.name for one in edits], *plan.left_around])))
    undone = [(edit, _undone(edit, before)) for edit in reversed(edits)]
    statements = dict.fromkeys([statement for _, statement in undone if statement is not None])
    left = [edit.name for edit, statement in undone if statement is None]
    return AroundUndone(tuple(statements), tuple(left), surroundings_after(plan))


def still_changed(plan: Plan, inverse: Plan) -> Iterator[str]:
    """Yield the changes of a plan around the state that its inverse, compiled over its result, does not undo."""
    before, after = plan.header.surroundings, inverse.header.surroundings
    assert before is not None
    assert after is not None
    undone = edited(after.tree, inverse.edits)
    for edit in net(plan.edits):
        if edit.of == "metadata":
            name = str(edit.path[0])
            same = before.metadata_texts.get(name) == inverse.metadata_texts.get(name)
        else:
            path = _added(edit.path, before) if edit.kind == "added" else edit.path
            same = _held(before.tree, path) == _held(undone, path)
        if not same:
            yield edit.name


def _held(whole: Any, path: KeyPath) -> tuple[str, Any] | None:
    """Return what stands at a path, told apart from equal values of other types; `None` where nothing does."""
    try:
        value = value_in(whole, path)
    except KeyError:
        return None
    return repr(type(value)), value


def _undone(edit: Edit, before: Surroundings) -> tree.Statement | None:
    if edit.of == "metadata":
        place: tree.Around = make.metadata_of(str(edit.path[0]))
        old = before.metadata_texts.get(str(edit.path[0]))
    else:
        if not all(type(part) is str for part in edit.path):
            return None
        place = make.value_of(_address(_added(edit.path, before) if edit.kind == "added" else edit.path))
        old = value_in(before.tree, edit.path) if edit.kind != "added" else None
    if edit.kind == "added":
        return make.drop_value(place)
    if not _is_exact(old):
        return None
    return (make.assign_value if edit.kind == "set" else make.add_value)(place, plain(old))


def _added(path: KeyPath, before: Surroundings) -> KeyPath:
    """Return the path of what was not there before a value was added: the value, or a dict around it."""
    return next(path[:count] for count in range(1, len(path) + 1) if _held(before.tree, path[:count]) is None)


def _address(path: KeyPath) -> str:
    """Write a path so that it is read in one way, whatever else stands around the state."""
    return joined(path) if all(str(part).isidentifier() for part in path) else as_list(path)


def _is_exact(value: Any) -> bool:
    """Say whether rules write a value as it is: a tuple would become a list."""
    if type(value) is list:
        return all(map(_is_exact, value))
    return value is None or type(value) in (bool, int, str) or (type(value) is float and isfinite(value))
