"""`statex diff`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from statex.cli import options, progress
from statex.cli.arguments import CommandArgument
from statex.cli.groups import grouped
from statex.cli.output import columns, escape, print_diagnostics, print_json
from statex.diagnostics.amounts import counted
from statex.diagnostics.folding import Folded, folded
from statex.diagnostics.render import to_json

if TYPE_CHECKING:
    from statex.session.bare import Bare
    from statex.session.compared import Compared, Type
    from statex.session.session import Session


@grouped
def diff(
    first: Annotated[Path, typer.Argument(metavar="A", help="A checkpoint.")],
    second: Annotated[Path, typer.Argument(metavar="B", help="The one to compare it with.")],
    rules: Annotated[
        list[Path] | None,
        typer.Option("--rules", metavar="FILE", help="Compare the result of applying these rules to A; repeatable."),
    ] = None,
    *,
    definitions: options.Definitions = None,
    params: options.ParamFiles = None,
    inputs: options.Inputs = None,
    root: options.Root = None,
    root_of_b: Annotated[str | None, typer.Option("--root-b", metavar="PATH", help="The same for B.")] = None,
    tolerance: options.Tolerance,
    no_values: Annotated[bool, typer.Option("--no-values", help="Compare only keys, shapes and dtypes.")] = False,
    every: options.Every = False,
    events: options.ProgressEvents = None,
    saying: options.Saying,
) -> None:
    """Compare the keys, types and values of two checkpoints.

    The exit code is 1 if they differ in even one bit. The largest differences of values come first.

    \b
    statex diff a.pth b.safetensors
    statex diff old.pth new.pth --rules convert.sx -D heads=32
    statex diff a.pth b.pth --rtol 1e-3 --atol 1e-5
    """
    from statex.cli import requests
    from statex.session.bare import Bare
    from statex.session.compared import compared
    from statex.session.warnings import judged

    program = options.ProgramOptions(None, definitions, params, inputs, root)
    opened = _to_open(first, rules or (), program)
    tolerances = requests.tolerances(tolerance)
    with (
        progress.shown(saying, events) as shown,
        redirect_stdout(sys.stderr),
        opened() as a,
        Bare(second, requests.root(root_of_b, "--root-b")) as b,
    ):
        warnings = judged((*a.before, *b.before, *a.warnings), requests.warnings(saying.warnings))
        found = compared(a, b, values=not no_values, **tolerances, tell=shown)
    if saying.json:
        print_json(_as_json(found) | {"warnings": [to_json(one) for one in warnings]})
    else:
        print_diagnostics(warnings, concise=saying.concise)
        for line in [] if saying.quiet else difference_lines(found, (str(first), str(second)), fold=not every):
            typer.echo(line)
    if not found.agree:
        raise typer.Exit(1)


def _to_open(path: Path, rules: Sequence[Path], program: options.ProgramOptions) -> Callable[[], Session | Bare]:
    """Return what opens what rules make of a checkpoint, or the checkpoint itself if nothing is to be done to it."""
    from statex.cli import requests

    if not (rules or program.definitions or program.params or program.inputs):
        from statex.session.bare import Bare

        return lambda: Bare(path, requests.root(program.root))
    from statex.session.session import Session

    wanted = requests.request([CommandArgument(str(one)) for one in rules], str(path), program, options.Aim())
    return lambda: Session(wanted)


Row = tuple[str, str, str]
"""What is said of a key: the kind of difference, the key, and what differs."""


def difference_lines(found: Compared, names: tuple[str, str], *, fold: bool) -> Iterator[str]:
    """Yield a table of what differs, and the line that sums it up."""
    rows = [
        *_of_keys(f"only in {names[0]}", found.only_first),
        *_of_keys(f"only in {names[1]}", found.only_second),
        *(("type", key, f"{_shown(one)} and {_shown(other)}") for key, (one, other) in found.types.items()),
    ]
    shown: list[tuple[str, ...]] = []
    for group in _folded(rows, fold):
        kind, _, what = group.rows[0]
        shown.append((kind, group.key, what, _times(group)))
    shown += [row for _, row in sorted(_of_values(found, fold), key=lambda pair: pair[0], reverse=True)]
    yield from columns([tuple(escape(cell) for cell in row) for row in shown])
    yield _total(found, names)


def _of_keys(kind: str, keys: Mapping[str, Type]) -> list[Row]:
    return [(kind, key, _shown(type)) for key, type in keys.items()]


def _folded(rows: list[Row], fold: bool) -> list[Folded[Row]]:
    if not fold:
        return [Folded(row[1], (row,)) for row in rows]
    return folded(rows, lambda row: row[1], lambda row: (row[0], row[2]))


def _of_values(found: Compared, fold: bool) -> Iterator[tuple[float, tuple[str, ...]]]:
    """Yield the rows of values with what sorts the worst before the others."""
    entries = [(key, one) for key, one in found.values.items() if found.differs(key)]
    groups = (
        folded(entries, lambda entry: entry[0], lambda entry: (entry[1].is_nothing, not entry[1].within))
        if fold
        else [Folded(key, ((key, one),)) for key, one in entries]
    )
    for group in groups:
        worst = max((one for _, one in group.rows), key=lambda one: one.badness)
        yield worst.badness, ("values", group.key, str(worst), _times(group))


def _times(group: Folded[Any]) -> str:
    return f"x {len(group.rows)}" if len(group.rows) > 1 else ""


def _shown(kind: Type) -> str:
    return str(kind) if kind is not None else "not a tensor"


def _total(found: Compared, names: tuple[str, str]) -> str:
    differing = len(found.types) + sum(found.differs(key) for key in found.values if key not in found.types)
    if found.agree and not found.values:
        what = "all equal in bits" if found.with_values else "shapes and dtypes agree, values not compared"
        return f"{escape(names[0])} and {escape(names[1])}: {counted(found.equal, 'key')}, {what}{_uncompared(found)}"
    parts = [
        (len(found.only_first), f"only in {names[0]}"),
        (len(found.only_second), f"only in {names[1]}"),
        (differing, "differ"),
        (sum(not found.differs(key) for key in found.values), "within the tolerance"),
        (found.equal, "equal" if found.with_values else "agree"),
    ]
    return ", ".join(f"{count} {escape(what)}" for count, what in parts if count) + _uncompared(found)


def _uncompared(found: Compared) -> str:
    if not found.uncompared:
        return ""
    if len(found.uncompared) == 1:
        return "; 1 entry that is not a dense tensor was not compared"
    return f"; {len(found.uncompared)} entries that are not dense tensors were not compared"


def _as_json(found: Compared) -> dict[str, Any]:
    return {
        "ok": True,
        "agree": found.agree,
        "equal": found.equal,
        "only_first": {key: _shown(kind) for key, kind in found.only_first.items()},
        "only_second": {key: _shown(kind) for key, kind in found.only_second.items()},
        "types": {key: [_shown(one), _shown(other)] for key, (one, other) in found.types.items()},
        "values": {key: asdict(one) for key, one in found.values.items()},
        "uncompared": list(found.uncompared),
    }
