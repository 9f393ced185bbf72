"""Migrates files: runs the rules of a chain of migrations on a checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

from statex.checkpoint import Format
from statex.core import garbage
from statex.core.header import Header
from statex.core.progress import Tell
from statex.diagnostics import Diagnostic
from statex.dsl.compile.embedded import inside
from statex.dsl.compile.given import check_outside
from statex.execute.verify.target import Target
from statex.migrating.chain import Chain, MigrationStep
from statex.migrating.descent import Descent, DownStep
from statex.migrating.layouts import check_layout
from statex.migrating.stamp import stamp
from statex.migrating.standing import Standing, Subject, standing, standing_or_why, subject
from statex.migrating.values import outside, plain_values
from statex.session import conversion
from statex.session.conversion import Conversion
from statex.session.opened import Opened
from statex.session.placing import place
from statex.session.request import Request
from statex.session.session import settled
from statex.session.settling import telling
from statex.session.targets import resolve


@dataclass(frozen=True)
class Migration:
    """A checkpoint on its way from one layout to another: where it stands, and the run that carries it on.

    `steps` are the names of what is carried out, in order. The version is noted in the output if `request.stamp` is
    set; a plain dict has no place for it. `settled` is what is to be said of interrupted runs that were settled for it.
    """

    subject: Subject
    standing: Standing
    to: int
    steps: tuple[str, ...]
    request: Request
    settled: tuple[Diagnostic, ...] = ()

    @property
    def before(self) -> int:
        """The layout of the input."""
        assert self.standing.layout is not None
        return self.standing.layout

    @property
    def params(self) -> dict[str, Any]:
        """The values of parameters that the state has come to its new layout with, as plain data."""
        return plain_values(self.subject.chain, self.subject.given)


def migration(
    request: Request,
    chain: Chain,
    *,
    to: int | None = None,
    assume: int | None = None,
    at: str | None = None,
    option: str = "--from ",
) -> Migration:
    """Return what carries the checkpoint of a request to a layout of a chain, the last one if none is said.

    The request says everything but the rules. `assume` is the layout of a checkpoint that carries no version (messages
    call it `option`), `at` the path in its state of the module that the chain is for.

    Raises:
        StatexError: SX812 for layouts that there are not, SX806 to SX809 and SX821 where the layout of the checkpoint
            cannot be told or is not what is said, SX822 for a step that nothing undoes, SX823 for a parameter that had
            another value before, SX824 and SX825 for paths, SX205 for a parameter that no step has, 6xx for files.
    """
    end = chain.version if to is None else to
    check_layout(chain, end)
    check_layout(chain, assume)
    before = settled(request)
    with telling(before):
        whole, format = _opened(request)
        found = _subject(request, chain, whole, at)
        target = resolve(request.target)
        stands = standing(found, to=end, target=_below(target, found.at), assume=assume, option=option)
        steps = _steps(found, stands, end, _below(target, found.at))
        wanted = _completed(replace(request, target=target), found, steps, end)
        if not _has_place(request, whole, format):
            wanted = replace(wanted, stamp=None)
        return Migration(found, stands, end, tuple([step.name for step in steps]), wanted, before)


def _steps(found: Subject, stands: Standing, to: int, below: Target | None) -> Sequence[MigrationStep | DownStep]:
    """Return what makes one layout of another, in order."""
    chain, layout = found.chain, stands.layout
    assert layout is not None
    if to < layout:
        return Descent(chain, found.given, found.header, layout, to, below).steps()
    return chain.steps[layout:to]


def _completed(request: Request, found: Subject, steps: Sequence[MigrationStep | DownStep], to: int) -> Request:
    """Return a request with the rules of some steps."""
    return replace(
        request,
        parts=tuple([part for step in steps for part in step.parts]),
        outside=outside(found.given),
        load=found.chain.load,
        at=found.at,
        stamp=stamp(found.chain, found.given, to),
    )


def _has_place(request: Request, whole: Header, format: Format) -> bool:
    """Say whether an output can carry a version: a plain dict of torch, which has no `_metadata`, is given none."""
    written = place(request.outputs[0], request.state.path).format or format.successor
    return whole.metadata is not None or not (format.successor.keeps_metadata and written.keeps_metadata)


def carry_out(found: Migration, tell: Tell | None = None) -> Conversion:
    """Write the output of a migration; it appears whole and verified, or not at all.

    Raises:
        StatexError: every error of the steps on this checkpoint, SX501 and SX504 for targets, 6xx for files.
    """
    return conversion.carry_out(found.request, tell, found.settled)


def status(request: Request, chain: Chain, *, at: str | None = None) -> tuple[Subject, Standing]:
    """Return where the checkpoint of a request stands in a chain.

    Raises:
        StatexError: as `migration`, except where the layout cannot be told.
    """
    whole, _ = _opened(request)
    found = _subject(request, chain, whole, at)
    return found, standing_or_why(found, _below(resolve(request.target), found.at))


def _opened(request: Request) -> tuple[Header, Format]:
    """Return the header of the state that is migrated, and the format of the file."""
    with garbage.paused(), closing(Opened(request.state.state)) as opened:
        return opened.header(request.state.root), opened.format


def _subject(request: Request, chain: Chain, whole: Header, at: str | None) -> Subject:
    up, down = chain.resolved(0, chain.version), chain.resolved(chain.version, 0)
    files = dict(up.files)
    files |= {stem: (*files.get(stem, ()), *names) for stem, names in down.files}
    check_outside(replace(up, files=tuple(files.items())), request.outside)
    return subject(chain, whole, at, request.outside.given)


def _below(target: Target | None, at: str) -> Target | None:
    return replace(target, header=inside(target.header, at)) if target is not None else None
