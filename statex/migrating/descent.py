"""The way down a chain of migrations: by the files that undo steps, or by inverses derived from the steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from statex.core.header import Header
from statex.core.source import ENDING, Source
from statex.diagnostics import Diagnostic, StatexError, diagnostic
from statex.diagnostics.codes import migrations as codes
from statex.diagnostics.suggest import join_words
from statex.dsl.parts import ProgramPart
from statex.dsl.plan.plan import Plan
from statex.execute.verify.target import Target
from statex.grammar import parse
from statex.inverse.history import after_all
from statex.inverse.losses import lossless, lossless_rows
from statex.inverse.program import inverse
from statex.inverse.proof import header_of
from statex.migrating.chain import Chain, MigrationStep
from statex.migrating.folder import down_of
from statex.migrating.layouts import planned

_SHOWN = 4
"""So many reasons are shown of one step."""


@dataclass(frozen=True)
class DownStep:
    """What undoes one step: the file written for that, or rules that are derived from the step."""

    name: str
    parts: tuple[ProgramPart, ...]


@dataclass(frozen=True)
class Descent:
    """The steps from one layout of a chain down to an earlier one, on a state with a header.

    The inverse of a step follows from the step and from what it was carried out on: `rename part bn -> norm` alone does
    not tell which of the keys with `norm` had that name before. So the layout that the state should come to has to be
    known, by a target.
    """

    chain: Chain
    given: Mapping[str, Any]
    header: Header
    before: int
    to: int
    target: Target | None = None

    def steps(self) -> tuple[DownStep, ...]:
        """Return what undoes each step, the last one first.

        Raises:
            StatexError: SX822 for steps that nothing undoes.
        """
        problems: list[Diagnostic] = []
        found = [
            DownStep(down_of(step.name), step.down) if step.down else self._derived(step, problems)
            for step in reversed(self.chain.steps[self.to : self.before])
        ]
        if problems:
            raise StatexError(problems)
        return tuple(found)

    def _derived(self, step: MigrationStep, problems: list[Diagnostic]) -> DownStep:
        """Return the inverse of a step, or note why there is none."""
        name = f"the inverse of {step.name}"
        plans, why = self._up
        if plans and not why:
            plan = plans[step.number]
            found = lossless(plan)
            if found.is_lossless:
                text = inverse(plan, [one for part in step.parts for one in part.program.statements]).text
                return DownStep(name, (ProgramPart(parse(Source(f"<{name}>", text))),))
            why = lossless_rows(found)[:_SHOWN]
        problems.append(_no_way_down(self.chain, step, why, None if self.target is not None else self.to))
        return DownStep(name, ())

    @cached_property
    def _up(self) -> tuple[Mapping[int, Plan], Sequence[str]]:
        """The plans of the steps on the target, and how what they make of it differs from the state."""
        found: dict[int, Plan] = {}
        if self.target is None:
            return found, ()
        header = self.target.header
        for number in range(self.to + 1, self.before + 1):
            try:
                plan = planned(self.chain, number - 1, header, self.given, to=number, brief=True)
            except StatexError as error:
                why = error.diagnostics[0].headline
                return found, [f"step {number} cannot be carried out on {self.target.name}: {why}"]
            found[number] = plan
            header = replace(header_of(plan.graph, after_all(plan)), label=header.label)
        return found, _unlike(found[self.before], self.header)


def _unlike(plan: Plan, header: Header) -> list[str]:
    """Say how what a step makes differs from a state, by keys and shapes: a checkpoint may have other dtypes."""
    made = {key: output.type.shape if output.type is not None else None for key, output in plan.outputs.items()}
    there = {key: getattr(getattr(info, "type", None), "shape", None) for key, info in header.entries.items()}
    further = [key for key in there if key not in made]
    missing = [key for key in made if key not in there]
    other = [key for key in made if key in there and made[key] != there[key]]
    said = (
        (further, "the steps do not make {} of the target"),
        (missing, "the steps make {} of the target, which {label} does not have"),
        (other, "the steps make {} of the target in another shape"),
    )
    named = [(join_words([f"`{key}`" for key in keys], limit=3), text) for keys, text in said if keys]
    return [text.format(names, label=header.label) for names, text in named]


def _no_way_down(chain: Chain, step: MigrationStep, why: Sequence[str], to: int | None) -> Diagnostic:
    path = f"{chain.label}/{down_of(step.name)}"
    is_file = step.name.endswith(ENDING)
    help = [f"write {path}: rules that make layout {step.number - 1} of layout {step.number}"] if is_file else []
    if to is not None:
        help.append(f"or name a target, the model or a checkpoint of layout {to}, from which the inverse is derived")
    return diagnostic(
        codes.NO_WAY_DOWN,
        f"nothing undoes step {step.number}, `{step.name}`" + (f": there is no `{path}`" if is_file else ""),
        notes=why,
        help=help,
    )
