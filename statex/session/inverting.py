"""A session turned round: the rules that undo it, and the proof of these on the data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from statex.checkpoint import Format
from statex.checkpoint.formats.safetensors.format import SAFETENSORS
from statex.core.header import OpaqueInfo
from statex.core.progress import Tell
from statex.core.source import Source
from statex.diagnostics import StatexError, diagnostic
from statex.diagnostics.codes import keys as codes
from statex.dsl.parts import Outside, ProgramPart
from statex.grammar import factory as make
from statex.grammar import parse, tree
from statex.inverse.history import Retained
from statex.inverse.losses import LossReport, amount, lossless, lossless_rows
from statex.inverse.program import InverseRules, inverse
from statex.inverse.recovery import made_of_any, sources_of, undone_on_data
from statex.inverse.stored import rules_giving
from statex.session.compared import compared
from statex.session.request import InputSpec, OutputSpec, Policy, Request
from statex.session.session import Session
from statex.session.stamps import without_stamp

if TYPE_CHECKING:
    from statex.checkpoint.blobs.contents import OutTensor
    from statex.core.header import TensorType

_SHOWN = 8
"""So many losses are shown in an error."""


_REMEDIES = (
    "`--partial` gives the rules that bring back the others",
    "`--keep lost.safetensors` writes what is lost to a file, from which it comes back",
)
IN_PYTHON = (
    "`partial=True` gives the rules that bring back the others",
    "`statex.convert(…, reversible=True)` writes what is lost to a file, from which it comes back",
)
"""What an error offers in Python."""
_ON_DATA = "`--prove` finds out on the data whether rounding and scaling lose anything here"


def inverted(
    session: Session,
    *,
    partial: bool = False,
    keep: bool = False,
    on_data: bool = False,
    format: Format | None = None,
    remedies: Sequence[str] = _REMEDIES,
    tell: Tell | None = None,
) -> InverseRules:
    """Return the rules that undo the program of a session, shown on the header to give back every tensor.

    With `keep`, they take what is lost from a further input. With `on_data`, operations that may lose bits are undone
    where the data show that none is lost: these tensors are `unshown`. `format` is that of the output, if there is one;
    what it has no room for does not come back. `remedies` are what an error offers.

    Raises:
        StatexError: SX333 where a tensor does not come back, unless the inverse may be `partial`; 6xx for files.
    """
    plan = session.plan
    calls = undone_on_data(plan.graph)
    shown = _shown_by_data(session, calls, tell) if on_data and calls else frozenset()
    found = lossless(plan, shown)
    lost = [one for one in found.losses if not keep or isinstance(plan.header.entries[one.key], OpaqueInfo)]
    if lost and not partial:
        if remedies is _REMEDIES and calls and not on_data and not keep and lossless(plan, calls).kept != found.kept:
            remedies = (*remedies, _ON_DATA)
        raise _lossy(replace(found, losses=tuple(lost)), remedies[:1] if keep else remedies)
    retained = Retained() if format is None else Retained(format.shares, format.keeps_parameters, format.keeps_metadata)
    if session.request.stamp is not None:
        # The old version is gone from the header of the plan as well.
        rest = without_stamp(replace(plan.header, metadata=plan.metadata), session.request.at)
        plan = replace(plan, metadata=rest.metadata)
    return inverse(plan, _statements(session), keep=keep, on_data=shown, retained=retained)


def _statements(session: Session) -> list[tree.Statement]:
    return [one for part in session.request.parts for one in part.program.statements]


def _shown_by_data(session: Session, calls: frozenset[int], tell: Tell | None) -> frozenset[int]:
    """Return those of some calls by whose being undone no bit is lost.

    The tensors that depend on it are carried there and back.
    """
    plan = session.plan
    trial = inverse(plan, _statements(session), on_data=calls)
    doubtful = tuple([key for key in trial.unshown if key in trial.kept])
    if not doubtful:
        return frozenset()
    sources = sources_of(plan)
    wrong = [sources[key] for key in prove(session, replace(trial, kept=doubtful), tell).different]
    return calls - made_of_any(plan.graph, wrong)


def store(session: Session, found: InverseRules, path: Path, *, force: bool, tell: Tell | None = None) -> None:
    """Write the tensors that an inverse takes from a further input to a file of safetensors.

    Raises:
        StatexError: 6xx for files.
    """
    from statex.session.conversion import carry_out

    carry_out(storing(session, found, path, force=force), tell)


def storing(session: Session, found: InverseRules, path: Path, *, force: bool) -> Request:
    """Return the request that writes the tensors that an inverse takes from a further input to a file."""
    rules = rules_giving(found.tensors, session.plan.header.entries)
    if session.inputs.root:
        here = tree.PathNode(make.NOWHERE, tuple(session.inputs.root))
        rules.insert(0, tree.Root(make.NOWHERE, here, tree.PathNode(make.NOWHERE, "")))
    part = ProgramPart(tree.Program(Source("<lost>", ""), tuple(rules)))
    return replace(
        session.request,
        parts=(part,),
        inputs={},
        outside=Outside(),
        target=None,
        optimizers={},
        outputs=(OutputSpec(path, format=SAFETENSORS.name),),
        at="",
        stamp=None,
        policy=Policy(replace="always" if force else "never"),
    )


def _lossy(found: LossReport, remedies: Sequence[str]) -> StatexError:
    rows = [(line,) for line in lossless_rows(found)]
    more = len(rows) - _SHOWN
    lost, _ = amount([one.key for one in found.losses], found.plan.header, all_kinds=False)
    steps = [one.step for one in found.losses if one.step >= 0]
    return StatexError(
        [
            diagnostic(
                codes.LOSSY,
                f"{lost} cannot be had back from what these rules make",
                found.plan.steps[min(steps)].span if steps else None,
                rows=rows[:_SHOWN] + ([(f"and {more} more",)] if more > 0 else []),
                help=remedies,
            )
        ]
    )


@dataclass(frozen=True)
class InverseProof:
    """What the data say of an inverse: `equal` of `tensors` come back equal in bits, `different` are the others.

    `uncompared` are entries that are no dense tensors: they come back as they are, or not at all. `metadata` says
    whether `_metadata` comes back as it was.
    """

    tensors: int
    equal: int
    different: tuple[str, ...]
    uncompared: tuple[str, ...]
    metadata: bool

    @property
    def holds(self) -> bool:
        """True where all that should come back is equal in bits."""
        return self.equal == self.tensors


def prove(session: Session, found: InverseRules, tell: Tell | None = None, lost: Path | None = None) -> InverseProof:
    """Carry out a program and its inverse, one after the other, and compare with the checkpoint; nothing is written.

    `lost` is the file that has the tensors that the inverse takes from a further input.

    Raises:
        StatexError: 6xx for files.
    """
    request = session.request
    part = ProgramPart(_within(parse(Source("<inverse>", found.text))), stem="<inverse>")
    there_and_back = replace(request, parts=(*request.parts, part), target=None, outputs=())
    if lost is not None:
        there_and_back = replace(there_and_back, inputs={**request.inputs, found.input: (InputSpec(lost),)})
    state = replace(request.state, root=session.inputs.root)
    nothing = replace(request, state=state, parts=(), inputs={}, outside=Outside(), target=None, outputs=())
    with Session(there_and_back) as both, Session(nothing) as as_it_is:
        result = compared(_Some(both, found.kept), _Some(as_it_is, found.kept), tell=tell)
        # Modules may be noted in another order.
        metadata = dict(both.plan.metadata or {}) == dict(session.plan.header.metadata or {})
    wrong = (*result.only_first, *result.only_second, *result.types, *result.values)
    return InverseProof(result.equal + len(wrong), result.equal, tuple(wrong), result.uncompared, metadata)


def _within(program: tree.Program) -> tree.Program:
    """Return a program without the statements that say where in a file the state is: between two there is no file."""
    inner = tuple([one for one in program.statements if not isinstance(one, tree.Root)])
    return replace(program, statements=inner)


class _Some:
    """Some of the keys of a session."""

    def __init__(self, session: Session, keys: Sequence[str]) -> None:
        self._session = session
        self._keys = set(keys)
        self.label = session.label

    @property
    def types(self) -> Mapping[str, TensorType | None]:
        """The types of these keys."""
        return {key: kind for key, kind in self._session.types.items() if key in self._keys}

    def tensors(self) -> Mapping[str, OutTensor]:
        """Return the tensors of the session."""
        return self._session.tensors()
