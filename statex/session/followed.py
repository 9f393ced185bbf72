"""Puts what follows beside the state back to where it stood, in its new form."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from statex.core.header import KeyPath
from statex.core.record import record
from statex.core.surroundings import Edit
from statex.dsl.plan.followed import Followed, Place
from statex.dsl.plan.plan import Plan
from statex.following.writing import as_written
from statex.trees.envelope import Tree
from statex.trees.rebuilding import edited, put_at

Load = Callable[[Any], Any]


@record
class _Ready:
    """What has its data already, as a leaf of a tree."""

    value: Any


@record
class TreeAround:
    """The tree around a state with the new form of what follows in it, and what is left to be done to it."""

    tree: Tree
    load: Load
    edits: Sequence[Edit]


def followed_in(plan: Plan, tree: Tree, beside: Mapping[Place, Any], load: Load) -> TreeAround:
    """Return the tree that a new state is put back into; `beside` are the tensors of what follows, by their places."""
    if not plan.followed:
        return TreeAround(tree, load, plan.edits)
    paths = [one.path for one in plan.followed]
    done = [edit for edit in plan.edits if edit.of == "value" and any(_is_in(edit.path, path) for path in paths)]
    tree = edited(tree, done)
    for one in plan.followed:
        tree = put_at(tree, one.path, _Ready(_written(one, beside, load)))
    left = [edit for edit in plan.edits if edit not in done]
    return TreeAround(tree, lambda leaf: leaf.value if isinstance(leaf, _Ready) else load(leaf), left)


def _is_in(path: KeyPath, outer: KeyPath) -> bool:
    return path[: len(outer)] == outer


def _written(one: Followed, beside: Mapping[Place, Any], load: Load) -> Any:
    return as_written(one.tree, lambda leaf: beside[leaf] if isinstance(leaf, Place) else load(leaf))
