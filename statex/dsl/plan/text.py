"""A plan as text: what `statex plan` prints."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape as html
from typing import Any, TypeVar

from statex.core.header import TensorInfo
from statex.diagnostics.amounts import counted, show_bytes
from statex.diagnostics.escape import escape
from statex.diagnostics.folding import Folded, alone, folded, shifts
from statex.diagnostics.tables import columns
from statex.dsl.plan.around import around_lines, step_lines
from statex.dsl.plan.ledger import label
from statex.dsl.plan.plan import Change, Cost, Plan, Step

R = TypeVar("R", bound=tuple[Any, ...])


_LISTED = 4
"""So many keys that one change takes or makes are named one by one, and so many files that are links."""


def plan_lines(plan: Plan, *, keys: bool, fold: bool = True, room: int | None = None) -> list[str]:
    """Return the plan by statement, each with what it does and how often.

    `keys` lists the changes and what becomes of each tensor, those that differ in numbers alone as one unless `fold` is
    false. Tables are cut to the `room` there is, in columns.
    """
    lines: list[str] = []
    shown = columns([(_place(step), _statement(step), _counts(step)) for step in plan.steps])
    for number, (line, step) in enumerate(zip(shown, plan.steps, strict=True)):
        lines.append(line)
        if keys:
            lines += _changes(number, step, plan, fold)
    if keys:
        lines += _fates(plan, fold, room)
    cost = [f"  {_cost(plan.cost)}"] if plan.cost is not None else []
    return [*lines, *_linked(plan, every=keys), *cost, totals(plan), *around_lines(plan)]


def _linked(plan: Plan, *, every: bool) -> list[str]:
    """Return a line for each file that is read through a link; a set may have hundreds."""
    found = [f"{escape(path)} -> {escape(real)}" for path, real in plan.linked.items()]
    if not every and len(found) > _LISTED:
        found[_LISTED:] = [f"{len(found) - _LISTED} more"]
    return [f"  reads through a link: {one}" for one in found]


def _place(step: Step) -> str:
    return escape(f"{step.span.source.name}:{step.span.line}")


def _statement(step: Step) -> str:
    text = " ".join(step.span.text.split())
    return escape(text if len(text) <= 72 else text[:71] + "…")


def _counts(step: Step) -> str:
    counts = step.counts()
    return ", ".join(f"{count} {kind}" for kind, count in counts.items()) or "nothing to do"


def _changes(number: int, step: Step, plan: Plan, fold: bool) -> list[str]:
    edits = [edit for edit in plan.edits if edit.step == number]
    if edits:
        return [f"      {line}" for line in step_lines(edits)]
    rows = [(_change(change, plan, fold), _shift(change.before, change.after)) for change in step.changes]
    return [f"      {group.key}{_times(group)}" for group in _grouped(rows, lambda row: row[0], fold)]


def _shift(before: Sequence[str], after: Sequence[str]) -> tuple[int, ...] | None:
    """Return how numbers change from one key to the other, so that `{0..1} -> {1..2}` stands for nothing else."""
    return shifts(before[0], after[0]) if len(before) == len(after) == 1 else None


def _grouped(rows: Sequence[R], key: Callable[[R], str], fold: bool) -> list[Folded[R]]:
    return folded(rows, key, lambda row: row[-1]) if fold else alone(rows, key)


def _times(group: Folded[Any]) -> str:
    return f"  x {len(group.rows)}" if len(group.rows) > 1 else ""


def _named(keys: Sequence[str], fold: bool) -> str:
    if not fold or len(keys) <= _LISTED:
        return ", ".join(map(escape, keys))
    return ", ".join(escape(group.key) for group in folded(keys, lambda key: key, lambda key: None))


def _change(change: Change, plan: Plan, fold: bool) -> str:
    before, after = _named(change.before, fold), _named(change.after, fold)
    if change.kind == "set":
        output = plan.outputs.get(change.after[0])
        return f"{after} = {output.type}" if output is not None and output.type else after
    if not change.before:
        return f"{'=' if change.kind == 'compared' else '+'} {after}"
    return f"{before} -> {after}" if change.after else f"- {before}"


def _fates(plan: Plan, fold: bool, room: int | None) -> list[str]:
    rows: list[tuple[str, tuple[int, ...] | None]] = []
    for key, fate in plan.fates.items():
        where = ", ".join(escape(k) for k in fate.results[:3])
        where += f" and {len(fate.results) - 3} more" if len(fate.results) > 3 else ""
        copied = f", copied: {where}" if len(fate.results) > 1 else ""
        said = {
            "moved": f"-> {where}",
            "used": f"used by {where}" if where else "used",
            "untouched": f"untouched{copied}",
        }
        by = f" by {_place(plan.steps[fate.step])}" if fate.step >= 0 and fate.kind in ("dropped", "replaced") else ""
        info = plan.info(key)
        kind = str(info.type) if isinstance(info, TensorInfo) else info.kind
        text = "\n".join((escape(label(plan, key)), kind, said.get(fate.kind, fate.kind) + by))
        rows.append((text, _shift([key.key], fate.results)))
    # What becomes of a key names keys as well, whose numbers go with its own.
    groups = _grouped(rows, lambda row: row[0], fold)
    shown = [(*group.key.split("\n"), _times(group).strip()) for group in groups]
    return ["", "  what becomes of each tensor:", *columns(shown, "    ", room), ""]


def totals(plan: Plan) -> str:
    """Return the one line that sums a plan up."""
    found = plan.totals
    size = sum([o.type.nbytes for o in plan.outputs.values() if o.type is not None])
    parts = [f"{getattr(found, kind)} {kind}" for kind in ("computed", "moved", "untouched", "dropped")]
    seldom = {"replaced": "replaced", "used": "used", "copied": "copied", "taken": "taken from inputs"}
    parts += [f"{getattr(found, kind)} {said}" for kind, said in seldom.items() if getattr(found, kind)]
    return f"{counted(found.keys_in, 'key')} in, {found.keys_out} out ({show_bytes(size)}): {', '.join(parts)}"


def _cost(cost: Cost) -> str:
    return (
        f"reads {show_bytes(cost.read)}, copies {show_bytes(cost.copied)}, computes {show_bytes(cost.computed)}, "
        f"writes {show_bytes(cost.written)}, with at most {show_bytes(cost.memory)} of memory"
    )


def plan_html(plan: Plan) -> str:
    """Return the plan as a table for notebooks: a row a statement, and the line that sums it up."""
    rows = "".join(
        f"<tr><td>{html(_place(step))}</td><td><code>{html(_statement(step))}</code></td><td>{html(_counts(step))}</td></tr>"
        for step in plan.steps
    )
    head = "<tr><th>place</th><th>statement</th><th>changes</th></tr>"
    said = [*([_cost(plan.cost)] if plan.cost is not None else []), totals(plan), *around_lines(plan)]
    return f"<table>{head}{rows}</table><p>{'<br>'.join(map(html, said))}</p>"
