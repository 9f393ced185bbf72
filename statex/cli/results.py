"""Output of commands about a run: its warnings, its plan, and the fate of its outputs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import typer

from statex.checkpoint import is_never_copied
from statex.cli.options import Saying
from statex.cli.output import escape, print_diagnostics, print_json
from statex.core.header import Header, TensorInfo
from statex.diagnostics.amounts import counted, show_bytes
from statex.diagnostics.render import to_json
from statex.diagnostics.suggest import join_words
from statex.dsl.plan.around import around_lines
from statex.dsl.plan.data import plan_data
from statex.dsl.plan.plan import Plan
from statex.dsl.plan.text import plan_lines, totals
from statex.inverse.program import InverseRules
from statex.session.conversion import Conversion, Written
from statex.session.request import OutputSpec, Request
from statex.session.reversing import Reversal


def say_done(request: Request, done: Conversion, saying: Saying) -> None:
    """Say what a run did, or what it would do."""
    if saying.json:
        print_json(as_json(request, done))
        return
    print_diagnostics(done.warnings, concise=saying.concise)
    if saying.quiet:
        return
    if done.plan is None:
        typer.echo("nothing has changed since the last run: nothing to do")
        for model in _in_code(request):
            typer.echo(f"(of {escape(model)} only its own source file was compared, not what that imports)")
        return
    for line in plan_lines(done.plan, keys=False) if request.policy.dry_run else _summary(done):
        typer.echo(line)
    for line in outcome(request, done):
        typer.echo(line)


def _in_code(request: Request) -> list[str]:
    return list(dict.fromkeys(str(one.model) for one in request.named_targets if one.is_code))


def _summary(done: Conversion) -> list[str]:
    assert done.plan is not None
    return [totals(done.plan), *around_lines(done.plan)]


def outcome(request: Request, done: Conversion, *, unwritten: bool = True) -> Iterator[str]:
    """Yield what became of the outputs; with `unwritten` also that a dry run has not written them."""
    several = len(done.outputs) > 1
    targeted = request.target is not None or any(one.target is not None for one in request.outputs)
    for spec, one in zip(request.outputs, done.outputs, strict=True):
        name = f"{one.label}: " if several else ""
        unverified = targeted and spec.target is None and (bool(spec.keep) or request.target is None)
        yield from (f"{name}{escape(str(change))}" for change in one.updated)
        yield from _not_copied(one, name, "copy_files: true" if request.recipe is not None else "--copy-files")
        yield from _verdict(one, name, unverified)
        if one.path is not None:
            yield f"{name}wrote {escape(str(one.path))}"
        elif unwritten:
            yield _unwritten(spec, name)
    if done.report is not None:
        yield f"wrote the report {escape(str(done.report))}"
    if done.reversal is not None:
        yield from _reversal(done, done.reversal, unwritten=unwritten)


def _reversal(done: Conversion, back: Reversal, *, unwritten: bool) -> Iterator[str]:
    names = join_words([escape(str(path)) for path in back.paths])
    if done.outputs[0].path is not None:
        yield f"wrote {names}"
    elif unwritten:
        yield f"dry run: {names} {'was' if len(back.paths) == 1 else 'were'} not written"
    yield f"  to undo it: {escape(back.command)}"
    if back.inverse.stored:
        assert done.plan is not None
        yield f"  {said_of_stored(back.inverse, done.plan.header, 'tensor')}"
    yield from (f"  not undone: {one}" for one in not_undone(back.inverse))
    if done.plan is not None:
        yield from (f"  not undone: {one}" for one in not_undone_beside(done.plan, back.inverse))
    if back.is_noted:
        yield "  not undone: the version of the layout, which is noted in the output"


def not_undone_beside(plan: Plan, inverse: InverseRules) -> Iterator[str]:
    """Yield what optimizers and averages do not get back, as they follow the inverse as they did the rules."""
    from statex.inverse.losses import lost_beside

    lost = [one for one, _ in lost_beside(plan, inverse.stored)]
    for one in plan.followed:
        name, account = f"`{escape(one.dotted)}`", one.account
        if one in lost:
            yield f"what {name} keeps of tensors that come from the input `{inverse.input}`"
        if not inverse.in_order and account.order != "names" and not account.is_noted:
            yield f"the positions in {name}, which follow the order of the keys: name the old model by --target"


def said_of_stored(inverse: InverseRules, header: Header, what: str) -> str:
    """Say how many tensors come from a further input, and how many bytes it has of them; they are called `what`."""
    keys = {key for one in inverse.tensors if one.is_part for key in one.of}
    come = "comes" if len(inverse.stored) == 1 else "come"
    several = what if what.startswith("of") else f"{what}s"
    said = f"{counted(len(inverse.stored), what, several)} {come} from the input `{inverse.input}`"
    kept = sum(one.type.nbytes for one in inverse.tensors)
    if not keys:
        return f"{said}: {show_bytes(kept)}"
    lost = {one.identity or key: one.type.nbytes for key, one in header.entries.items()
            if key in inverse.stored and isinstance(one, TensorInfo)}  # fmt: skip
    part = "in part" if len(keys) == len(inverse.stored) else f"{len(keys)} of them in part"
    return f"{said}, {part}: {show_bytes(kept)} of {show_bytes(sum(lost.values()))}"


def stored_data(inverse: InverseRules) -> list[dict[str, Any]]:
    """Return what a further input has, as plain data."""
    return [
        {"name": one.name, "bytes": one.type.nbytes, "of": list(one.of), "in_part": one.is_part}
        for one in inverse.tensors
    ]


def not_undone(inverse: InverseRules) -> Iterator[str]:
    """Yield what does not come back besides tensors."""
    for what, keys in (
        ("tensors that do not come back", inverse.lost),
        ("keys that shared a tensor with another one, and have one of their own", inverse.apart),
        ("Parameters that come back as tensors", inverse.parameters),
        ("tensors that the header does not show to come back", inverse.unshown),
        ("what is changed around the state", inverse.around),
    ):
        if keys:
            yield f"{what}: {join_words([escape(key) for key in keys], limit=4)}"
    if not inverse.in_order:
        yield "the order of the keys"
    if not inverse.metadata:
        yield "what `_metadata` notes of modules"


def _not_copied(one: Written, name: str, fix: str) -> Iterator[str]:
    if one.left_files:
        names = join_words([escape(file) for file in one.left_files], limit=3)
        files = [file for file in one.left_files if not file.endswith(("/", "@")) and not is_never_copied(file)]
        shown = join_words([escape(file) for file in files], limit=3)
        copies = f" ({fix})" if len(files) == len(one.left_files) else f" ({fix} copies {shown})" if files else ""
        yield f"{name}not copied: {names}{copies}"


def _verdict(one: Written, name: str, unverified: bool) -> Iterator[str]:
    if one.comparison is not None:
        verb = "fits" if one.path is None else "verified against"
        yield f"{name}{verb} {escape(one.comparison.target)}: {one.comparison.agreement}"
    elif unverified:
        yield f"{name}unverified: it holds {counted(one.keys, 'key')} of the result, and has no target of its own"


def _unwritten(spec: OutputSpec, name: str) -> str:
    path = escape(str(Path(spec.path)))
    return f"{name}{path} was not written (dry run)" if name else f"dry run: {path} was not written"


def as_json(request: Request, done: Conversion) -> dict[str, Any]:
    """Return a run as plain data: the plan, each output, and what was left."""
    if done.plan is None:
        warnings = [to_json(one) for one in done.warnings]
        return {"ok": True, "skipped": True, "report": str(done.report), "warnings": warnings}
    outputs = [
        {
            "name": one.label,
            "path": str(Path(spec.path)),
            "written": one.path is not None,
            "format": one.format,
            "keys": one.keys,
            "bytes": one.nbytes,
            "verified": one.verified,
            "left": list(one.left_files),
            "updated": [asdict(change) for change in one.updated],
        }
        for spec, one in zip(request.outputs, done.outputs, strict=True)
    ]
    first = done.outputs[0]
    alone = {"output": str(first.path) if first.path is not None else None, "verified": first.verified,
             "left": list(first.left_files), "updated": [asdict(change) for change in first.updated]}  # fmt: skip
    plan = plan_data(done.plan)
    said = {"keys": plan["outputs"], "outputs": outputs} if request.recipe is not None else alone
    back = done.reversal
    reversal = None if back is None else _reversal_data(back)
    report = str(done.report) if done.report is not None else None
    return plan | said | {"skipped": False, "report": report, "reversal": reversal}


def _reversal_data(back: Reversal) -> dict[str, Any]:
    return {
        "files": [str(path) for path in back.paths],
        "command": back.command,
        "stored": stored_data(back.inverse),
    }
