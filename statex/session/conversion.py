"""Carries out a request: from its plan to outputs that appear together, whole and verified, or not at all."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from statex.checkpoint import check_space, open_checkpoint, stage_checkpoint
from statex.checkpoint.atomic.transaction import Transaction
from statex.checkpoint.blobs.earlier import Earlier
from statex.checkpoint.blobs.write_plan import WritePlan
from statex.core.progress import PLANNING, READING, READING_BACK, SYNCING, WRITING, Add, Phases, Tell, Watch
from statex.core.quoting import show_label
from statex.core.source import Span
from statex.diagnostics import Diagnostic, StatexError, pointing_at
from statex.diagnostics.amounts import counted, show_bytes
from statex.dsl.plan.entry import Entry
from statex.dsl.plan.plan import Plan
from statex.session.configs import ConfigChange
from statex.session.digests import Digests
from statex.session.folders import MadeFolders
from statex.session.placing import Placed, check_apart, check_report, checked, place, replaces_report
from statex.session.records import Records, included
from statex.session.report import LastRun, is_report, make_report, read_report
from statex.session.request import OutputSpec, Request
from statex.session.reversing import Reversal, reversal
from statex.session.sameness import check_same
from statex.session.session import Session, check, settled
from statex.session.settling import telling
from statex.session.shipping import Shipment, check_held_back, check_memory, in_order, priced, shipments
from statex.session.sources import folder_of
from statex.session.unchanged import changes, is_own, was_there
from statex.session.warnings import judged

_SHOWN = 3
"""So many outputs are named in the text of a conversion."""

if TYPE_CHECKING:
    from statex.execute.verify.verification import Comparison


@dataclass(frozen=True, repr=False)
class Written:
    """An output of a run: how it is called (`output` if it has no name), where it is, and what it holds.

    `path` is `None` if nothing was written. `comparison` is the one with its target, `None` if it has none.
    `left_files` are the names in the source's folder that were not copied, without those of its own weights; folders
    end in `/`. The files that were are `copied`; `updated` is what their copies say otherwise. `layout` says which
    bytes are where.
    """

    label: str
    path: Path | None
    format: str
    keys: int
    nbytes: int
    comparison: Comparison | None = None
    left_files: tuple[str, ...] = ()
    copied: tuple[Path, ...] = ()
    updated: tuple[ConfigChange, ...] = ()
    layout: WritePlan | None = None

    def __repr__(self) -> str:
        return f"<statex output {self}>"

    def __str__(self) -> str:
        where = show_label(str(self.path)) if self.path is not None else f"{self.label}, not written"
        fits = f", verified against {self.comparison.target}" if self.comparison is not None else ""
        return f"{where}: {counted(self.keys, 'key')}, {show_bytes(self.nbytes)}{fits}"

    @property
    def verified(self) -> dict[str, Any] | None:
        """The target it fits and how many keys agree, as plain data."""
        found = self.comparison
        return {"target": found.target, "keys": found.agreeing} if found is not None else None


@dataclass(frozen=True, repr=False)
class Conversion:
    """What a run did: the plan that was carried out (none if nothing had changed), and the outputs.

    `included` are the names of the rule files that rules include, `reversal` is what undoes a `reversible` run.
    """

    plan: Plan | None
    outputs: tuple[Written, ...]
    report: Path | None = None
    warnings: tuple[Diagnostic, ...] = ()
    included: tuple[str, ...] = ()
    reversal: Reversal | None = None

    def __repr__(self) -> str:
        return f"<statex.Conversion {self}>"

    def __str__(self) -> str:
        if self.skipped:
            return "skipped: nothing has changed since the last run"
        said = [str(one) for one in self.outputs[:_SHOWN]]
        if len(self.outputs) > _SHOWN:
            said.append(f"{len(self.outputs) - _SHOWN} more outputs")
        said += [counted(len(self.warnings), "warning")] if self.warnings else []
        said += [f"to undo it: {self.reversal.command}"] if self.reversal is not None else []
        return "; ".join(said)

    @property
    def skipped(self) -> bool:
        """True if nothing was done, as nothing had changed since the last run."""
        return self.plan is None

    @property
    def path(self) -> Path | None:
        """The first output; `None` after a dry run."""
        return self.outputs[0].path

    @property
    def comparison(self) -> Comparison | None:
        """The comparison of the first output with the target."""
        return self.outputs[0].comparison

    @property
    def left_files(self) -> tuple[str, ...]:
        """What was not copied into the first output."""
        return self.outputs[0].left_files


def preview(request: Request) -> Conversion:
    """Plan a run as `carry_out` would carry it out, whatever stands where its outputs are to be.

    Raises:
        StatexError: every error of the program on these checkpoints, and all that keeps outputs from being written but
            what is there already.
    """
    outputs = _placed(request)
    check_apart(outputs, request)
    with Session(request) as session, reversal(session, outputs, lambda one: True) as back:
        return _done(session, outputs, shipments(session, outputs, request.policy), back, wrote=False)


def carry_out(request: Request, tell: Tell | None = None, before: Sequence[Diagnostic] = ()) -> Conversion:
    """Write the outputs of a request and its report; all appear whole and verified, or none does.

    `tell` hears how far that is. `before` is what is to be said of interrupted runs that were settled for it already.

    Raises:
        StatexError: every error of the program on these checkpoints, SX501 and SX504 for targets, 6xx for files.
    """
    check_held_back(request)
    phases = Phases(tell)
    phases.begin(PLANNING)
    before = (*before, *settled(request))
    with telling(before):
        return _carried_out(request, before, phases)


def _carried_out(request: Request, before: Sequence[Diagnostic], phases: Phases) -> Conversion:
    outputs = _placed(request)
    last = read_report(request.report) if request.report is not None else None
    if request.policy.skip and last is not None and _is_done(request, last, phases):
        said = judged(before, request.policy.warnings)
        return Conversion(None, tuple(_as_before(one) for one in outputs), request.report, said)
    added = phases.phase(READING)
    outputs = _each((one.spec.span, partial(_free, one, request, last, added)) for one in outputs)
    check_apart(outputs, request)
    check_report(request)
    phases.begin(PLANNING)
    with Session(request, before) as session, _reversal(session, outputs, last, added) as back:
        found = shipments(session, outputs, request.policy)
        done = _done(session, outputs, found, back, wrote=not request.policy.dry_run)
        if not request.policy.dry_run:
            _write(session, found, done, phases)
        return done


def _reversal(
    session: Session, outputs: Sequence[Placed], last: LastRun | None, added: Add
) -> AbstractContextManager[Reversal | None]:
    request = session.request
    replaces = request.policy.replace != "never"
    return reversal(session, outputs, lambda one: replaces and is_own(request, one, last, added))


def _is_done(request: Request, last: LastRun, phases: Phases) -> bool:
    return changes(request, last, included(check(request), request), phases.phase(READING)) is None


def _placed(request: Request) -> list[Placed]:
    found = _each([(one.span, partial(place, one, _source(request, one))) for one in request.outputs])
    own = [one.path for one in request.optimizers.values() if one.path is not None]
    source = request.state.path
    followed = {path.name for path in own if source is not None and path.parent == folder_of(source)}
    return [replace(one, left=tuple(name for name in one.left if name not in followed)) for one in found]


def _source(request: Request, output: OutputSpec) -> Path | None:
    """Return the checkpoint that an output is made of."""
    return (request.optimizers[output.optimizer] if output.optimizer else request.state).path


def _each(works: Iterable[tuple[Span | None, Callable[[], Placed]]]) -> list[Placed]:
    """Return what works make of the outputs, or raise the errors of all; these show the places of the outputs."""
    problems: list[Diagnostic] = []
    done = []
    for span, work in works:
        try:
            with pointing_at(span):
                done.append(work())
        except StatexError as error:
            problems += error.diagnostics
    if problems:
        raise StatexError(problems)
    return done


def _free(placed: Placed, request: Request, last: LastRun | None, added: Add) -> Placed:
    replaces = request.policy.replace
    if last is not None and replaces != "never" and is_own(request, placed.spec, last, added):
        names = [name.rpartition("/")[2] for name in last.outputs[placed.spec.label].files]
        return checked(placed, request, force=True, own=names)
    why = _why_not_own(placed, request, last) if replaces == "own" else ""
    return checked(placed, request, force=replaces == "always", why=why)


def _why_not_own(placed: Placed, request: Request, last: LastRun | None) -> str:
    """Say why what is there is not taken for the last run's own."""
    if request.report is None:
        return "a run knows its own outputs by its report, and this recipe has none"
    if last is None:
        what = (
            f"what `{request.report}` says cannot be relied on"
            if is_report(request.report)
            else "there is no report to tell"
        )
        return f"only what the last run wrote may be replaced, and {what}"
    if not was_there(request, placed.spec, last):
        return "the last run did not write it"
    if None in last.outputs[placed.spec.label].files.values():
        return "the last run wrote it without taking its digest, and nothing else tells whether it has changed since"
    return "the last run wrote it, and it has been changed since"


def _as_before(placed: Placed) -> Written:
    return Written(placed.spec.label, placed.path, placed.format.name if placed.format is not None else "", 0, 0)


def _done(
    session: Session, outputs: Sequence[Placed], found: Sequence[Shipment], back: Reversal | None, *, wrote: bool
) -> Conversion:
    policy = session.request.policy
    plan = priced(session, found, policy)
    warnings = judged((*session.before, *plan.warnings), policy.warnings)
    plan = replace(plan, warnings=warnings)
    written = tuple(
        Written(
            one.placed.spec.label,
            one.placed.path if wrote else None,
            one.options.format.name,
            one.keys,
            sum(o.type.nbytes for o in _held(one) if o.type is not None),
            one.comparison,
            one.placed.left,
            tuple(file.path for file in one.placed.copy),
            one.upkeep.changes,
            one.layout,
        )
        for one in found
    )
    included = tuple(dict.fromkeys(source.name for source in session.resolved.included))
    return Conversion(plan, written, session.request.report if wrote else None, warnings, included, back)


def _held(one: Shipment) -> Iterable[Entry]:
    plan = one.delivery.plan
    return plan.outputs.values() or plan.made


def _write(session: Session, found: Sequence[Shipment], done: Conversion, phases: Phases) -> None:
    """Write all outputs under temporary names, then the report, and give them their names together."""
    request, plan = session.request, done.plan
    assert plan is not None
    assert plan.cost is not None
    check_memory(plan.cost.memory, request.policy)
    back = done.reversal
    sizes = {one.placed.path: one.layout.nbytes + sum(file.size for file in one.options.copy) for one in found}
    further = back.sizes if back is not None else {}
    check_space({**sizes, **further})
    check_same(plan, session.inputs, phases)
    written = plan.cost.written + sum(further.values())
    watch = Watch(phases.phase(WRITING, written), phases.phase(SYNCING, written))
    verify = _verifier(session, found, phases)
    finals = [one.placed.path for one in found] + ([request.report] if request.report is not None else [])
    finals += back.paths if back is not None else ()
    with (
        MadeFolders(finals),
        Digests() as digests,
        Transaction(alone=len(finals) == 1) as outputs,
        Earlier() as earlier,
    ):
        records = Records(session, digests)
        for one in in_order(found):
            options = replace(one.options, watch=watch, earlier=earlier if len(found) > 1 else None)
            staged = stage_checkpoint(outputs, one.placed.path, one.layout, options, partial(verify, one))
            earlier.complete()
            records.staged(one, staged.temporary)
        if back is not None:
            for spec, temporary in back.stage(outputs, watch, verify):
                records.beside(spec, temporary)
        prints = digests.taken(phases)
        records.check_expected(prints)
        records.check_copied(prints)
        session.inputs.check_unchanged()
        if request.report is not None:
            report = make_report(request, plan, done.outputs, records.said(prints))
            outputs.stage_bytes(request.report, report, force=replaces_report(request))
        outputs.commit()


def _verifier(session: Session, found: Sequence[Shipment], phases: Phases) -> Callable[[Shipment, Path], None]:
    """Return what looks at an output before it gets its name."""
    policy = session.request.policy
    if policy.verify_written:
        from statex.checkpoint.verify_written import bytes_compared, compare_written

        added = phases.phase(READING_BACK, sum(bytes_compared(one.layout) for one in found))

    def verify(one: Shipment, written: Path) -> None:
        if policy.check_input:
            session.inputs.check_stored(phases)
        session.inputs.check_unchanged()
        if policy.verify_written:
            with open_checkpoint(written) as reader:
                added(0)
                compare_written(reader, one.layout, added)

    return verify
