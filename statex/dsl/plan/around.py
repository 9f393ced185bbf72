"""The changes of a plan around the state, as text and as plain data: values, and metadata texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from statex.core.paths import is_below
from statex.core.surroundings import Edit, Surroundings
from statex.diagnostics.escape import escape
from statex.diagnostics.suggest import join_words
from statex.dsl.ops.base import show_value
from statex.dsl.plan.followed import follow_line
from statex.dsl.plan.plan import Plan
from statex.trees.rebuilding import edited

_LONGEST = 60
"""Characters of a value that are shown."""
_LISTED = 12


def left_out(plan: Plan) -> list[str]:
    """Return the paths of the values around the state that rules leave out."""
    return [one.address for one in net(plan.edits) if one.of == "value" and one.kind == "left out"]


def surroundings_after(plan: Plan) -> Surroundings | None:
    """Return what stands around the result; `None` where that is not known, or nothing does."""
    before = plan.header.surroundings
    if before is None or set(plan.left_around) - set(left_out(plan)):
        return None  # what no rule names is left out where the bare state is written
    return Surroundings(edited(before.tree, plan.edits), before.root, plan.metadata_texts)


def net(edits: Sequence[Edit]) -> list[Edit]:
    """Return what changes come to, one for each place: what is added and left out again is none."""
    found: dict[tuple[str, Any], Edit] = {}
    for edit in edits:
        place = (edit.of, edit.path)
        found = {name: one for name, one in found.items() if name[0] != edit.of or not is_below(one.path, edit.path)}
        before = found.pop(place, None)
        if before is None:
            found[place] = edit
        elif edit.kind != "left out":
            found[place] = replace(edit, kind="added" if before.kind == "added" else "set")
        elif before.kind != "added":
            found[place] = edit
    return list(found.values())


def around_lines(plan: Plan) -> list[str]:
    """Return lines that say what is left out of, set and added around the state, and in the metadata."""
    lines = [follow_line(one) for one in plan.followed]
    if plan.left_around:
        lines.append(f"left out around the state: {', '.join(escape(name) for name in plan.left_around)}")
    changes = net(plan.edits)
    for said, of, kind in _SAID:
        of_kind = [one for one in changes if (one.of, one.kind) == (of, kind)]
        shown = [shown_edit(one) if kind != "left out" else escape(one.address) for one in of_kind]
        if shown:
            lines.append(f"{said}: {_joined(shown)}")
    return lines


_SAID = (
    ("set around the state", "value", "set"),
    ("added around the state", "value", "added"),
    ("left out of the metadata", "metadata", "left out"),
    ("set in the metadata", "metadata", "set"),
    ("added to the metadata", "metadata", "added"),
)


def _joined(shown: Sequence[str]) -> str:
    return ", ".join(shown) if len(shown) <= _LISTED else join_words(shown, limit=_LISTED)


def shown_edit(edit: Edit, name: str | None = None) -> str:
    """Return a change of a value as `epoch = 4`."""
    text = show_value(edit.value)
    short = text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
    return escape(f"{edit.address if name is None else name} = {short}")


def step_lines(edits: Sequence[Edit]) -> list[str]:
    """Return the lines of a statement's changes around the state."""
    signs = {"added": "+ ", "left out": "- "}
    return [
        f"{signs.get(one.kind, '')}{escape(one.name) if one.kind == 'left out' else shown_edit(one, one.name)}"
        for one in edits
    ]


def around_data(plan: Plan) -> list[Mapping[str, Any]]:
    """Return the changes around the state as plain data, in their order."""
    return [
        {
            "of": one.of,
            "change": one.kind,
            "path": list(one.path),
            "step": one.step,
            **({} if one.kind == "left out" else {"value": one.value}),
        }
        for one in plan.edits
    ]
