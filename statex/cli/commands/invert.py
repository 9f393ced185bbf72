"""`statex invert`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from statex.cli import options, progress
from statex.cli.groups import grouped
from statex.cli.output import escape, print_diagnostics, print_json, print_text, refuse_existing, write_rules
from statex.diagnostics.amounts import counted
from statex.diagnostics.render import to_json

if TYPE_CHECKING:
    from statex.dsl.plan.plan import Plan
    from statex.inverse.program import InverseRules
    from statex.session.inverting import InverseProof


@grouped
def invert(
    ctx: typer.Context,
    paths: Annotated[
        list[str] | None, typer.Argument(metavar="[RULES…] IN", help="Rule files, and the checkpoint they are for.")
    ] = None,
    *,
    program: options.ProgramOptions,
    output: Annotated[
        Path | None, typer.Option("-o", metavar="FILE", help="Write the rules to a file instead of printing them.")
    ] = None,
    partial: Annotated[
        bool, typer.Option("--partial", help="Give the rules that bring back what can be had, if rules lose something.")
    ] = False,
    prove: Annotated[
        bool,
        typer.Option("--prove", help="Carry out both on the data, and compare with IN in bits; no tensor is written."),
    ] = False,
    keep: Annotated[
        Path | None,
        typer.Option(
            "--keep",
            metavar="LOST.safetensors",
            help="Write what is lost of tensors to a file, from which they come back.",
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace existing files.")] = False,
    events: options.ProgressEvents = None,
    saying: options.Saying,
) -> None:
    """Write the rules that undo rules.

    They make IN of what the rules make of IN. It is shown on the header that every tensor comes back as it was, each
    element from its own place; with --prove on the data as well (exit code 1 if a bit differs), which also undoes
    operations of which only the data tell whether they lose something. Rules that lose a tensor are an error that says
    where.

    \b
    statex invert rules.sx in.pth -o back.sx
    statex invert rules.sx in.safetensors -D heads=32 --prove
    statex invert rules.sx in.pth -o back.sx --keep lost.safetensors
    """
    from statex.cli import requests
    from statex.session.inverting import inverted, store
    from statex.session.inverting import prove as prove_it
    from statex.session.session import Session
    from statex.session.warnings import judged

    found = requests.arguments(ctx, ["IN"])
    policy = requests.warnings(saying.warnings)
    (source,) = found.paths
    wanted = requests.request(found.rules, source, program, options.Aim())
    refuse_existing(output, force=force)
    with progress.shown(saying, events) as shown, redirect_stdout(sys.stderr), Session(wanted) as session:
        warnings = judged(session.warnings, policy)
        inverse = inverted(session, partial=partial, keep=keep is not None, on_data=prove, tell=shown)
        lost = keep if inverse.stored else None
        if lost is not None:
            store(session, inverse, lost, force=force, tell=shown)
        proof = prove_it(session, inverse, shown, lost) if prove else None
    if output is not None:
        write_rules(output, inverse.text, force=force)
    if saying.json:
        print_json(_data(inverse, proof) | {"warnings": [to_json(one) for one in warnings]})
    else:
        print_diagnostics(warnings, concise=saying.concise)
        if output is None:
            print_text(inverse.text)
        for line in [] if saying.quiet else _lines(inverse, proof, session.plan):
            typer.echo(line, err=output is None)
    if proof is not None and not proof.holds:
        raise typer.Exit(1)


def _lines(inverse: InverseRules, proof: InverseProof | None, plan: Plan) -> Iterator[str]:
    from statex.cli.results import not_undone, not_undone_beside, said_of_stored
    from statex.inverse.losses import come_back, said_of_nan

    yield f"on the header: {come_back(set(inverse.kept) - set(inverse.unshown), plan.header)}"
    if inverse.stored:
        yield f"  {said_of_stored(inverse, plan.header, 'of these')}"
    if proof is not None:
        come = "comes" if proof.equal == 1 else "come"
        verdict = "proved" if proof.holds else "not proved"
        yield f"{verdict}: {proof.equal} of {counted(proof.tensors, 'tensor')} {come} back equal in bits"
        yield from (f"  {escape(key)} differs" for key in proof.different)
    if proof is None or not proof.holds:
        yield from (f"  {line}" for line in said_of_nan(inverse.nan))
    if proof is not None:
        unshown = tuple([key for key in inverse.unshown if key in proof.different])
        inverse = replace(inverse, unshown=unshown, metadata=proof.metadata)
    yield from (f"  not undone: {one}" for one in not_undone(inverse))
    yield from (f"  not undone: {one}" for one in not_undone_beside(plan, inverse))


def _data(inverse: InverseRules, proof: InverseProof | None) -> dict[str, object]:
    from statex.cli.results import stored_data

    return {
        "ok": proof is None or proof.holds,
        "rules": inverse.text,
        "kept": list(inverse.kept),
        "lost": list(inverse.lost),
        "stored": list(inverse.stored),
        "stored_tensors": stored_data(inverse),
        "unshown": list(inverse.unshown),
        "nan_payloads": list(inverse.nan),
        "untied": list(inverse.apart),
        "parameters": list(inverse.parameters),
        "around": list(inverse.around),
        "in_order": inverse.in_order,
        "metadata": inverse.metadata,
        "proof": None
        if proof is None
        else {
            "tensors": proof.tensors,
            "equal": proof.equal,
            "different": list(proof.different),
            "not_compared": list(proof.uncompared),
            "metadata": proof.metadata,
        },
    }
