"""`statex infer`."""

from __future__ import annotations

import sys
from collections import Counter
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
from statex.diagnostics.suggest import join_words

if TYPE_CHECKING:
    from statex.inferring.infer import Inferred


_LISTED = 12
"""So many keys are named in a line."""


@grouped
def infer(
    old: Annotated[Path, typer.Argument(metavar="OLD", help="A checkpoint as it was.")],
    new: Annotated[
        Path | None, typer.Argument(metavar="[NEW]", help="The checkpoint made from it; or use --like or --target.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="FILE", help="Where to write the rules; by default, stdout."),
    ] = None,
    *,
    aim: options.Aim,
    further: Annotated[
        list[str] | None,
        typer.Option("--in", metavar="NAME=PATH", help="A further checkpoint that went into NEW; repeatable."),
    ] = None,
    start: Annotated[
        Path | None,
        typer.Option("--from", metavar="RULES", help="Start with the rules of a file, and add what is missing."),
    ] = None,
    root: options.Root = None,
    new_root: Annotated[str | None, typer.Option("--new-root", metavar="PATH", help="The same for NEW.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing rule file.")] = False,
    events: options.ProgressEvents = None,
    saying: options.Saying,
) -> None:
    """Find the rules that make one checkpoint of another.

    They are applied to OLD, with nothing written, and compared with NEW in bits: the exit code is 0 if that proved
    them. What they do not explain is listed, and the exit code is 1; the rules for the rest are written all the same.

    For a model without data, --target or --like, rules are guessed from names and shapes. Nothing proves these; the
    exit code is 0 if their result has the keys, shapes and dtypes of the model.

    \b
    statex infer old.pth new.safetensors
    statex infer old.pth new.pth -o convert.sx
    statex infer old.pth --target mypkg.models:build
    statex infer base/ merged/ --in lora=adapter/
    """
    from statex.cli import requests
    from statex.grammar.rulefiles import read_rules
    from statex.inferring.infer import guess
    from statex.inferring.infer import infer as inferred

    model = requests.target(aim)
    if (new is None) == (model is None):
        raise typer.BadParameter("give NEW, or one of --like and --target")
    if model is not None and (further or start is not None):
        raise typer.BadParameter("--in and --from need NEW: without its data, nothing shows what was made of what")
    inputs = requests.inputs(further)
    if several := [name for name, paths in inputs.items() if len(paths) > 1]:
        raise typer.BadParameter(f"the input `{several[0]}` is given twice", param_hint="--in")
    begun = read_rules(start) if start is not None else None
    refuse_existing(output, force=force)
    with progress.shown(saying, events) as shown, redirect_stdout(sys.stderr):
        if model is not None:
            found = guess(old, model, root=requests.root(root))
        else:
            assert new is not None
            found = inferred(
                old,
                new,
                root=requests.root(root),
                new_root=requests.root(new_root, "--new-root"),
                inputs={name: path for name, (path,) in inputs.items()},
                start=begun,
                tell=shown,
            )
        if output is not None:
            write_rules(output, found.rules, force=force)
    if saying.json:
        print_json(_as_json(found, str(old), str(new) if new is not None else None))
    else:
        if output is None:
            print_text(found.rules)
        print_diagnostics(found.errors, concise=saying.concise)
        for line in [] if saying.quiet else _lines(found):
            typer.echo(line, err=output is None)
    if not found.fits:
        raise typer.Exit(1)


def _lines(found: Inferred) -> Iterator[str]:
    """Yield what is known of the rules."""
    if found.misfit is not None:
        yield from _guessed(found)
    elif found.proof is not None:
        total = len(found.proof.equal) + len(found.proof.different)
        verdict = "proved" if found.proved else "not proved"
        yield f"{verdict}: {len(found.proof.equal)} of {counted(total, 'tensor')} equal in bits"
        also = found.proof.also
        if good := [name for name, holds in also.items() if holds]:
            yield f"the same: {', '.join(good)}"
        if bad := [name for name, holds in also.items() if not holds]:
            yield f"not the same: {', '.join(bad)}"
        if found.proof.further:
            yield f"left over: {join_words(list(map(escape, found.proof.further)), limit=_LISTED)}"
    else:
        yield "not proved: the rules cannot be applied"
    if found.ambiguous:
        yield f"told apart by names alone, as their contents are equal: {counted(len(found.ambiguous), 'key')}"
    if found.carries_over is False:
        yield "warning: rules learned without the last layer do not make it: these may hold for this checkpoint alone"
    rows = [(key, f"near {near}" if near is not None else _why(found, key)) for key, near in found.unexplained.items()]
    yield from (f"unexplained  {line}" for line in columns([tuple(map(escape, row)) for row in rows]))


def _guessed(found: Inferred) -> Iterator[str]:
    """Yield by what rules were guessed, and whether their result fits."""
    counts = Counter(found.guesses.values())
    yield f"guessed from names and shapes, not proved: {len(found.guesses)} of {len(found.relations.new)} tensors"
    yield from (f"  {line}" for line in columns([(f"{count}", reason) for reason, count in counts.most_common()]))
    yield f"the result does not fit: {found.misfit}" if found.misfit else "the result fits in keys, shapes and dtypes"


def _why(found: Inferred, key: str) -> str:
    return found.proof.different.get(key, "") if found.proof is not None else ""


def _as_json(found: Inferred, old: str, new: str | None) -> dict[str, Any]:
    proof = found.proof
    return {
        "ok": found.fits,
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
        "guesses": dict(found.guesses),
        "misfit": found.misfit,
        "diagnostics": [to_json(one) for one in found.errors],
    }
