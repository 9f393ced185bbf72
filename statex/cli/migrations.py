"""Output of commands about chains of migrations: the layout of a checkpoint, and the result of a migration."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import typer

from statex.cli.options import Saying
from statex.cli.output import columns, escape, print_diagnostics, print_json
from statex.cli.results import as_json, say_done
from statex.diagnostics import Diagnostic, fail
from statex.diagnostics.amounts import counted
from statex.diagnostics.codes import migrations as codes
from statex.diagnostics.render import to_json
from statex.diagnostics.suggest import join_words
from statex.migrating.chain import Chain
from statex.migrating.files import Migration
from statex.migrating.folder import read_chain
from statex.migrating.standing import ASSUMED, NOTED, RECOGNISED, Standing, Subject
from statex.session.conversion import Conversion
from statex.session.request import Request

FOLDER = "migrations"
"""The folder of the chain if none is named."""
_KNOWN = {NOTED: "noted in it", ASSUMED: "as --from says", RECOGNISED: "recognised by its keys and shapes"}


def chain_at(folder: Path | None) -> Chain:
    """Return the chain in a folder, or in the one that is looked for if none is named.

    Raises:
        StatexError: SX801 to SX805 for what is not a chain, and every error of its rules.
    """
    if folder is None and not os.path.isdir(FOLDER):
        fail(
            codes.CHAIN_UNREADABLE,
            f"no chain is named, and there is no folder `{FOLDER}` in the current one",
            help=["--chain DIR", 'a chain begins with: statex migrate new "what changes"'],
        )
    return read_chain(folder if folder is not None else FOLDER)


def say_migrated(found: Migration, done: Conversion, assumed: int | None, saying: Saying) -> None:
    """Say what became of a checkpoint that was carried along a chain; `assumed` is the layout that --from named."""
    if saying.json:
        print_json(as_json(found.request, done) | {"migration": _migration_json(found)})
        return
    if not saying.quiet:
        typer.echo(_way(found))
        if found.standing.known == NOTED and assumed not in (None, found.before):
            typer.echo(f"--from {assumed} was not needed: it is for checkpoints that carry no version")
    say_done(found.request, done, saying)
    if not saying.quiet and not found.request.policy.dry_run:
        typer.echo(_noted(found))


def _way(found: Migration) -> str:
    known = _KNOWN[found.standing.known]
    where = f"{escape(found.subject.at)}: " if found.subject.at else ""
    if not found.steps:
        return f"{where}layout {found.before} ({known}) already: no step is carried out"
    names = join_words([escape(name) for name in found.steps], limit=6)
    return f"{where}layout {found.before} ({known}) to {found.to}: {names}"


def _noted(found: Migration) -> str:
    if found.request.stamp is not None:
        return f"layout {found.to} is noted in the output"
    return (
        f"layout {found.to} is not noted: the state is a plain dict without `_metadata`, which has no place for it; "
        f"next time it is recognised, or --from {found.to} says it"
    )


def _migration_json(found: Migration) -> dict[str, Any]:
    return {
        "chain": found.subject.chain.label,
        "at": found.subject.at,
        "from": found.before,
        "known": found.standing.known,
        "to": found.to,
        "steps": found.steps,
        "noted": found.request.stamp is not None,
        "params": found.params,
    }


def say_standing(
    wanted: Request, found: Subject, stands: Standing, warnings: Sequence[Diagnostic], saying: Saying
) -> None:
    """Say where a checkpoint stands in a chain."""
    if saying.json:
        print_json(_standing_json(found, stands, warnings))
        return
    if not saying.quiet:
        for line in _standing_lines(str(wanted.state.path), found, stands):
            typer.echo(line)
    print_diagnostics((*warnings, *stands.problems), concise=saying.concise)


def _standing_lines(name: str, found: Subject, stands: Standing) -> Iterator[str]:
    chain, layout = found.chain, stands.layout
    whose = f"{escape(found.at)} in {escape(name)}" if found.at else escape(name)
    if layout is None:
        yield f"{whose}: the layout is unknown; {escape(chain.label)} has the layouts 0 to {chain.version}"
        return
    yield f"{whose}: layout {layout} of {chain.version} in {escape(chain.label)}, {_KNOWN[stands.known]}"
    yield from columns([(str(s.number), escape(s.name), _state(s.number, layout)) for s in chain.steps])
    for full, value in found.params.items():
        yield f"  noted: {escape(full)} = {escape(json.dumps(value))}"
    pending = chain.version - layout
    yield f"{counted(pending, 'step')} pending" if pending else "no step is pending"


def _state(number: int, layout: int) -> str:
    return "done" if number <= layout else "pending"


def _standing_json(found: Subject, stands: Standing, warnings: Sequence[Diagnostic]) -> dict[str, Any]:
    layout = stands.layout
    steps = [
        {"number": step.number, "name": step.name, "done": None if layout is None else step.number <= layout}
        for step in found.chain.steps
    ]
    return {
        "ok": True,
        "chain": found.chain.label,
        "at": found.at,
        "layout": layout,
        "known": stands.known or "unknown",
        "last": found.chain.version,
        "pending": None if layout is None else found.chain.version - layout,
        "steps": steps,
        "params": dict(found.params),
        "diagnostics": [to_json(one) for one in stands.problems],
        "warnings": [to_json(one) for one in warnings],
    }
