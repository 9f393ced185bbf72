"""Finds the layout of a state, and the plan that brings it to the present one."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise
from typing import Any, NoReturn

from statex.core.header import Header, TensorInfo
from statex.diagnostics import Diagnostic, StatexError, fail
from statex.diagnostics.codes import Code
from statex.diagnostics.codes import migrations as codes
from statex.diagnostics.codes import names as name_codes
from statex.diagnostics.folding import without_numbers
from statex.diagnostics.suggest import join_words
from statex.dsl.compile.given import check_outside
from statex.dsl.plan.leaving import leaving
from statex.dsl.plan.plan import Plan
from statex.dsl.planner import compile_plan
from statex.execute.verify.target import Target
from statex.execute.verify.verification import Comparison, compare
from statex.inverse.proof import gives_back
from statex.migrating.chain import Chain
from statex.migrating.values import outside

OF_PARAMETERS: tuple[Code, ...] = (name_codes.MISSING_PARAM, name_codes.PARAM_VALUE, name_codes.NUMBER_RANGE)

_ALIKE, _LOOKED_AT = 8, 500
"""So many keys of those that differ in numbers alone, and of all, are looked at before plans are made."""


def check_given(chain: Chain, given: Mapping[str, Any]) -> None:
    """Refuse values that no step declares, values of a wrong type, and parameters that lack one.

    Raises:
        StatexError: SX204, SX205, SX206, SX217.
    """
    check_outside(chain.resolved(0, chain.version), outside(given, strict=True))
    try:
        planned(chain, 0, Header({}), given)
    except StatexError as error:
        problems = [one for one in error.diagnostics if one.code in OF_PARAMETERS]
        if problems:
            raise StatexError(problems) from None


def check_layout(chain: Chain, layout: int | None) -> None:
    """Refuse a layout that a chain does not have.

    Raises:
        StatexError: SX812.
    """
    last = chain.version
    if layout is not None and not (type(layout) is int and 0 <= layout <= last):
        fail(
            codes.NO_LAYOUT,
            f"the chain `{chain.label}` has no layout {layout}",
            notes=[f"it has the layouts 0 to {last}: 0 is before the first step, {last} after the last"],
        )


def planned(
    chain: Chain,
    layout: int,
    header: Header,
    given: Mapping[str, Any],
    *,
    target: Header | None = None,
    to: int | None = None,
    brief: bool = False,
) -> Plan:
    """Return the plan of the steps that follow a layout, up to the last one or to another.

    Raises:
        StatexError: every error of these steps on this header; the first one alone if they shall be `brief`.
    """
    end = chain.version if to is None else to
    return compile_plan(
        chain.resolved(layout, end),
        header,
        inputs={},
        target=target,
        outside=outside(given),
        brief=brief,
    )


@dataclass(frozen=True)
class Fit:
    """How the steps that follow a layout go with a state: their plan and how its result differs from the module.

    There is neither where they cannot be carried out.
    """

    plan: Plan | None = None
    comparison: Comparison | None = None

    @property
    def exact(self) -> bool:
        """True where keys, shapes and dtypes are those of the module."""
        return self.comparison is not None and self.comparison.fits

    @property
    def loose(self) -> bool:
        """True where keys and shapes are; torch casts dtypes when it loads."""
        found = self.comparison
        return found is not None and not (found.missing or found.unexpected or found.shapes)


@dataclass(frozen=True)
class Layouts:
    """The layouts of a chain, each compared with a state: the steps after it carried out on the header.

    What is below the prefixes that stand `apart` is not compared: it belongs to modules with a chain of their own.
    `way` is how help says that a state is of a layout.
    """

    chain: Chain
    given: Mapping[str, Any]
    target: Target
    header: Header
    apart: tuple[str, ...] = ()
    way: str = "assume={}, if states without a version are of layout {}"
    _found: dict[int, Fit] = field(default_factory=dict)

    @property
    def present(self) -> int:
        """The layout of the module."""
        return self.chain.version

    def fit(self, layout: int) -> Fit:
        """Return how a layout fits."""
        if layout not in self._found:
            self._found[layout] = self._planned(layout)
        return self._found[layout]

    def _planned(self, layout: int) -> Fit:
        try:
            plan = planned(self.chain, layout, self.header, self.given, target=self.target.header, brief=True)
        except StatexError:
            return Fit()
        types = self._compared({key: output.type for key, output in plan.outputs.items()})

        def is_allowed(kind: str, key: str) -> bool:
            tied = kind == "missing" and any(other in types for other in self._ties.get(key, ()))
            return tied or plan.is_allowed(kind, key)

        return Fit(plan, compare(types, self._own, is_allowed))

    @cached_property
    def _ties(self) -> Mapping[str, Sequence[str]]:
        """The keys of the module that hold one tensor: files of safetensors keep one of them, as a rule."""
        together: dict[Hashable, list[str]] = {}
        for key, info in self._own.header.entries.items():
            if isinstance(info, TensorInfo) and info.identity is not None:
                together.setdefault(info.identity, []).append(key)
        return {key: keys for keys in together.values() if len(keys) > 1 for key in keys}

    @cached_property
    def _own(self) -> Target:
        """The module without what stands apart."""
        header = self.target.header
        return replace(self.target, header=replace(header, entries=self._compared(header.entries)))

    def _compared(self, entries: Mapping[str, Any]) -> Mapping[str, Any]:
        return {key: one for key, one in entries.items() if not key.startswith(self.apart)} if self.apart else entries

    def recognised(self) -> int | None:
        """Return the layout that the header tells, or `None` where it is none of the chain.

        The dtypes of the module decide where they can; a state of other dtypes is recognised by keys and shapes.

        Raises:
            StatexError: SX806 where it could be several.
        """
        for fitting in (self._fitting(lambda fit: fit.exact), self._fitting(lambda fit: fit.loose)):
            layouts = self._distinct(fitting)
            if len(layouts) > 1:
                self._ambiguous(layouts)
            if layouts:
                return layouts[0]
        return None

    def _fitting(self, fits: Callable[[Fit], bool]) -> list[int]:
        return [layout for layout in self._possible if fits(self.fit(layout))]

    @cached_property
    def _possible(self) -> list[int]:
        """The layouts that may fit; to rule the others out costs a fraction of a plan.

        Where no step after a layout takes a key that the module does not have, that key is in the result.
        """
        foreign = [key for key in self._compared(self.header.entries) if key not in self.target.header.entries]
        some = _samples(foreign)
        return [layout for layout in range(self.present + 1) if not any(map(self._leaving(layout), some))]

    def _leaving(self, layout: int) -> Callable[[str], bool]:
        parts = self.chain.between(layout, self.chain.version)
        return leaving(statement for part in parts for statement in part.program.statements)

    def _distinct(self, layouts: list[int]) -> list[int]:
        """Leave out a layout where the steps up to the next one that fits do nothing to this state."""
        return [one for one, later in pairwise(layouts) if not self._is_nothing(one, later)] + layouts[-1:]

    def _is_nothing(self, before: int, after: int) -> bool:
        try:
            plan = planned(self.chain, before, self.header, self.given, target=self.target.header, to=after, brief=True)
        except StatexError:
            return False
        return gives_back(plan)

    def _ambiguous(self, layouts: list[int]) -> None:
        named = join_words([str(one) for one in layouts], limit=8)
        silent = [step.name for step in self.chain.steps[layouts[0] : layouts[-1]]]
        fail(
            codes.AMBIGUOUS_LAYOUT,
            f"{self.header.label} carries no version, and could be of any of the layouts {named}",
            notes=[f"keys, shapes and dtypes do not tell whether it has been through {join_words(silent, limit=4)}"],
            help=[self.way.format(one, one) for one in (layouts[0], layouts[-1])],
        )

    def stated(self, layout: int, said: str) -> int:
        """Return a layout that is stated by a version or by `assume`; `said` begins the sentence that names it.

        Part of a state of that layout will do: torch says what is missing.

        Raises:
            StatexError: SX807 where its steps cannot be carried out, or the header is that of another layout.
        """
        fit = self.fit(layout)
        if fit.loose:
            return layout
        others = self._fitting(lambda other: other.loose)
        if not others and fit.plan is not None:
            return layout
        if others:
            where = f"fits layout {join_words([str(one) for one in others], limit=4)} and not this one"
            fail(
                codes.STAMP_CONTRADICTED,
                f"{said} layout {layout}, and {self.header.label} {where}",
                notes=self._of_target(layout, others),
            )
        cannot_be_carried_out(self._errors(layout), layout, said, self.header.label)

    def _of_target(self, layout: int, others: Sequence[int]) -> list[str]:
        """Say what may be wrong instead of the layout that is stated: that of the module."""
        if layout == self.present:
            return []
        if self.present in others:
            here = f"of layout {layout} and not of layout {self.present}: {self.header.label} fits it as it is"
            return [f"unless {self.target.name} is {here}"]
        return [f"unless {self.target.name} is not of layout {self.present}: the steps after {layout} do not make it"]

    def _errors(self, layout: int) -> Sequence[Diagnostic]:
        """Return what keeps the steps after a layout from being carried out."""
        try:
            planned(self.chain, layout, self.header, self.given, target=self.target.header)
        except StatexError as error:
            return error.diagnostics
        return ()


def cannot_be_carried_out(errors: Sequence[Diagnostic], layout: int, said: str, label: str) -> NoReturn:
    """Refuse a stated layout whose steps cannot be carried out.

    Raises:
        StatexError: SX807.
    """
    first, *more = errors
    fail(
        codes.STAMP_CONTRADICTED,
        f"{said} layout {layout}, and the steps after it cannot be carried out on {label}",
        first.span,
        at=first.headline,
        notes=[first.headline, *(one.headline for one in more[:2])] if first.span is None else (),
        rows=first.rows,
    )


def _samples(keys: Iterable[str]) -> list[str]:
    """Return some keys of every kind: the first of those that differ in numbers alone."""
    kinds: dict[str, list[str]] = {}
    for key in keys:
        alike = kinds.setdefault(without_numbers(key), [])
        if len(alike) < _ALIKE:
            alike.append(key)
    return [key for alike in kinds.values() for key in alike][:_LOOKED_AT]
