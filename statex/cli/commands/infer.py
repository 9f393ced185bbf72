"""`statex infer`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from statex.cli import options, progress
from statex.cli.groups import grouped
from statex.cli.output import columns, escape, print_diagnostics, print_json, print_text, refuse_existing, write_rules
from statex.diagnostics.amounts import counted
from statex.diagnostics.render import to_json

if TYPE_CHECKING:
    from statex.inferring.infer import Inferred


@grouped
def infer(
    old: Annotated[Path, typer.Argument(metavar="OLD", help="A checkpoint as it was.")],
    new: Annotated[Path, typer.Argument(metavar="NEW", help="The checkpoint that was made of it.")],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE", help="Where to write the rules; else to stdout.")
    ] = None,
    *,
    root: options.Root = None,
    new_root: Annotated[str | None, typer.Option("--new-root", metavar="PATH", help="The same for NEW.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing rule file.")] = False,
    events: options.ProgressEvents = None,
    saying: options.Saying,
) -> None:
    """Find the rules that make one checkpoint of another.

    They are applied to OLD, with nothing written, and compared with NEW in bits: the exit code is 0 if that proved
    them. What they do not explain is listed, and the exit code is 1; the rules for the rest are written all the same.

    \b
    statex infer old.pth new.safetensors
    statex infer old.pth new.pth -o convert.sx
    """
    from statex.cli import requests
    from statex.inferring.infer import infer as inferred

    refuse_existing(output, force=force)
    with progress.shown(saying, events) as shown, redirect_stdout(sys.stderr):
        found = inferred(
            old,
            new,
            root=requests.root(root),
            new_root=requests.root(new_root, "--new-root"),
            tell=shown,
        )
        if output is not None:
            write_rules(output, found.rules, force=force)
    if saying.json:
        print_json(_as_json(found, str(old), str(new)))
    else:
        if output is None:
            print_text(found.rules)
        print_diagnostics(found.errors, concise=saying.concise)
        for line in [] if saying.quiet else _lines(found):
            typer.echo(line, err=True)
    if not found.proved:
        raise typer.Exit(1)


def _lines(found: Inferred) -> Iterator[str]:
    """Yield what is known of the rules."""
    if found.proof is not None:
        total = len(found.proof.equal) + len(found.proof.different)
        verdict = "proved" if found.proved else "not proved"
        yield f"{verdict}: {len(found.proof.equal)} of {counted(total, 'tensor')} equal in bits"
        also = found.proof.also
        if good := [name for name, holds in also.items() if holds]:
            yield f"the same: {', '.join(good)}"
        if bad := [name for name, holds in also.items() if not holds]:
            yield f"not the same: {', '.join(bad)}"
        if found.proof.further:
            yield f"left over: {', '.join(map(escape, found.proof.further))}"
    else:
        yield "not proved: the rules cannot be applied"
    if found.ambiguous:
        yield f"told apart by names alone, as their contents are equal: {counted(len(found.ambiguous), 'key')}"
    if found.carries_over is False:
        yield "warning: rules learned without the last layer do not make it: these may hold for this checkpoint alone"
    rows = [(key, f"near {near}" if near is not None else _why(found, key)) for key, near in found.unexplained.items()]
    yield from (f"unexplained  {line}" for line in columns([tuple(map(escape, row)) for row in rows]))


def _why(found: Inferred, key: str) -> str:
    return found.proof.different.get(key, "") if found.proof is not None else ""


def _as_json(found: Inferred, old: str, new: str) -> dict[str, Any]:
    proof = found.proof
    return {
        "ok": found.proved,
        "old": old,
        "new": new,
        "rules": found.rules,
        "proved": found.proved,
        "equal": len(proof.equal) if proof is not None else 0,
        "different": proof.different if proof is not None else {},
        "further": list(proof.further) if proof is not None else [],
        "also": proof.also if proof is not None else {},
        "unexplained": found.unexplained,
        "ambiguous": list(found.ambiguous),
        "carries_over": found.carries_over,
        "diagnostics": [to_json(one) for one in found.errors],
    }
