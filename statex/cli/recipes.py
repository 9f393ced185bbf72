"""Recipes on the command line: what `run`, `plan` and `check` share; imported only if there is one."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path

import typer

from statex.cli import options, requests
from statex.cli.output import columns, escape, print_diagnostics, print_json, room
from statex.cli.results import as_json, outcome
from statex.diagnostics.amounts import counted
from statex.diagnostics.render import to_json
from statex.dsl.plan.text import plan_lines
from statex.grammar.rulefiles import includes_from
from statex.recipe.read import read_recipe
from statex.recipe.request import Overrides, to_request
from statex.session.conversion import Conversion, preview
from statex.session.request import Request
from statex.session.unchanged import module_file


def recipe_request(
    path: str,
    program: options.ProgramOptions,
    running: options.Running,
    saying: options.Saying,
    *,
    force: bool = False,
    skip: bool | None = None,
    rehash: bool = False,
    dry_run: bool = False,
) -> Request:
    """Return what a recipe asks for, with what the command line says of it."""
    outside = requests.outside(program)
    overrides = Overrides(
        outside.given,
        outside.documents,
        requests.inputs(program.inputs),
        _outputs(running.out),
        requests.warnings(saying.warnings),
        running.allow_import,
        running.within,
        requests.size(running.max_memory, "--max-memory"),
        force,
        skip,
        rehash,
        dry_run,
        includes_from(program.include_path or ()),
    )
    return to_request(read_recipe(path), overrides)


def _outputs(given: list[str] | None) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, path in requests.pairs(given, "--out", "NAME=PATH"):
        if name in found:
            raise typer.BadParameter(f"the output `{name}` is given twice", param_hint="--out")
        found[name] = path
    return found


def plan_recipe(
    path: str,
    program: options.ProgramOptions,
    aim: options.Aim,
    running: options.Running,
    saying: options.Saying,
    *,
    format: str | None,
    keys: bool,
    fold: bool,
    layout: bool = False,
) -> None:
    """Say what a recipe does, and all that it reads and writes."""
    wanted, done = _previewed(path, program, aim, running, saying, format)
    assert done.plan is not None
    if saying.json:
        named = {"reads": _as_rows(reads(wanted, done)), "writes": _as_rows(writes(wanted, done))}
        layouts = (
            {"layouts": {one.label: one.layout.to_data() for one in done.outputs if one.layout is not None}}
            if layout
            else {}
        )
        print_json(as_json(wanted, done) | named | {"unchecked": held_back(wanted)} | layouts)
        return
    print_diagnostics(done.warnings, concise=saying.concise)
    if not saying.quiet:
        for line in (
            *plan_lines(done.plan, keys=keys, fold=fold, room=room()),
            *places(wanted, done),
            *unchecked(wanted),
            *(_layouts(wanted, done) if layout else ()),
        ):
            typer.echo(line)


def _layouts(wanted: Request, done: Conversion) -> Iterator[str]:
    from statex.cli.layouts import layout_lines

    for spec, one in zip(wanted.outputs, done.outputs, strict=True):
        if one.layout is not None:
            yield from layout_lines(str(Path(spec.path)), one.layout, room())


def check_recipe(
    path: str, program: options.ProgramOptions, aim: options.Aim, running: options.Running, saying: options.Saying
) -> None:
    """Check a recipe against its checkpoints and targets."""
    wanted, done = _previewed(path, program, aim, running, saying)
    if saying.json:
        print_json({"ok": True, "warnings": [to_json(w) for w in done.warnings], "unchecked": held_back(wanted)})
        return
    print_diagnostics(done.warnings, concise=saying.concise)
    if not saying.quiet:
        count = sum(len(part.program.statements) for part in wanted.parts)
        typer.echo(f"{counted(count, 'statement')}, {counted(len(wanted.outputs), 'output')}: no errors")
        for line in unchecked(wanted):
            typer.echo(line)


def _previewed(
    path: str,
    program: options.ProgramOptions,
    aim: options.Aim,
    running: options.Running,
    saying: options.Saying,
    format: str | None = None,
) -> tuple[Request, Conversion]:
    refuse_rules_options(program, aim, format)
    wanted = recipe_request(path, program, running, saying)
    with redirect_stdout(sys.stderr):
        return wanted, preview(wanted)


def refuse_rules_options(program: options.ProgramOptions, aim: options.Aim, format: str | None) -> None:
    """Refuse options that a recipe says itself."""
    named = {"--root": program.root, "--target": aim.target, "--target-arg": aim.target_arg, "--like": aim.like,
             "--format": format}  # fmt: skip
    for name, value in named.items():
        if value:
            raise typer.BadParameter(f"a recipe says this itself; `{name}` is for rules", param_hint=name)


def held_back(wanted: Request) -> list[str]:
    """Return the targets that are code, and were not imported."""
    return [str(one.model) for one in wanted.named_targets if one.held_back]


def unchecked(wanted: Request) -> Iterator[str]:
    """Yield what was not checked, as it would run code."""
    for model in held_back(wanted):
        yield f"not checked against {escape(model)}, which is code: --allow-import imports it"


def reads(wanted: Request, done: Conversion) -> list[tuple[str, str]]:
    """Return all that a recipe reads, and what for."""
    rows = [(str(one.path), f"the input `{name or 'main'}`") for name, _, one in wanted.all_inputs]
    rows += [(str(Path(part.program.source.name)), "rules") for part in wanted.parts if not part.shared]
    rows += [(name, "rules, included") for name in done.included]
    rows += [(str(path), "parameters") for path in wanted.read]
    for target in wanted.named_targets:
        if target.like_path is not None:
            rows.append((str(target.like_path), "target"))
        elif target.is_code:
            file = module_file(str(target.model), target.folder)
            rows.append((os.path.relpath(file) if file is not None else str(target.model), "target, code"))
    rows += [(str(path), "copied along") for one in done.outputs for path in one.copied]
    return list(dict.fromkeys(rows))


def writes(wanted: Request, done: Conversion) -> list[tuple[str, str]]:
    """Return all that a recipe writes, and what that is."""
    rows = [
        (str(Path(spec.path)), f"the output `{one.label}`: {one.format}, {counted(one.keys, 'key')}")
        for spec, one in zip(wanted.outputs, done.outputs, strict=True)
    ]
    if done.reversal is not None:
        rows += [(str(path), "to undo it") for path in done.reversal.paths]
    return rows + ([(str(wanted.report), "report")] if wanted.report is not None else [])


def places(wanted: Request, done: Conversion) -> list[str]:
    """Return a line for all that is read, and for all that is written."""
    rows = [("reads", escape(path), escape(what)) for path, what in reads(wanted, done)]
    rows += [("writes", escape(path), escape(what)) for path, what in writes(wanted, done)]
    return [*columns(rows), *outcome(wanted, done, unwritten=False)]


def _as_rows(rows: list[tuple[str, str]]) -> list[dict[str, str]]:
    return [{"path": path, "what": what} for path, what in rows]
