"""Finds the possible layouts of a state without a module to compare it with: from the traces of a chain's steps.

The steps after its layout can be carried out on a state. That alone says little: nothing comes after the last layout,
and a step may go on and on, as `rename prefix '' -> 'model.'` does. So a state that steps can be carried out on is of
the layout before them, and not of the one after, if they take away or make a kind of key altogether, and cannot be
carried out on what they have made: what has been through them is not as this is. A state that no steps are left for is
of the last layout if it has a key that they make.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from statex.core.header import Header, OpaqueInfo, TensorInfo
from statex.diagnostics import Diagnostic, StatexError, fail
from statex.diagnostics.codes import migrations as codes
from statex.diagnostics.folding import without_numbers
from statex.diagnostics.suggest import join_words
from statex.dsl.compile.embedded import inside, prefix_of
from statex.dsl.plan.plan import Plan
from statex.inverse.proof import gives_back
from statex.migrating.chain import Chain
from statex.migrating.layouts import OF_PARAMETERS, cannot_be_carried_out, planned
from statex.migrating.made import made_keys

_LISTED = 8
"""So many layouts that a state cannot be of are listed in a message."""
_TRIED = 32
"""So many modules are looked at to find one that the chain may be for."""


@dataclass(frozen=True)
class Verdict:
    """Whether a state can be of a layout, and what says so."""

    layout: int
    possible: bool
    why: str


@dataclass(frozen=True)
class Walk:
    """Steps carried out on a header, one after the other, up to the first that cannot be.

    `headers` are what there was before each of them and after the last, `changed` says of each whether it did anything.
    """

    headers: Sequence[Header]
    changed: Sequence[bool]
    errors: Sequence[Diagnostic] = ()


@dataclass(frozen=True)
class Traces:
    """The layouts of a chain as a state can be of them, by its header alone.

    `given` are the values of parameters, `target` is what steps may ask for by that name. `way` is how help says that a
    state is of a layout, `at` is where it stands in a larger one.
    """

    chain: Chain
    given: Mapping[str, Any]
    header: Header
    way: str
    target: Header | None = None
    at: str = ""
    _walks: dict[int, Walk] = field(default_factory=dict)
    _steps_done: dict[tuple[int, int], tuple[Header, Header | Sequence[Diagnostic]]] = field(default_factory=dict)
    """By the id of a header, which is kept beside the result so that its id stays its own."""

    def recognised(self) -> int:
        """Return the layout that the header tells.

        Raises:
            StatexError: SX806 where it could be several, SX821 where nothing tells, SX204 for a parameter that lacks a
                value without which it cannot be told.
        """
        verdicts = list(self.verdicts())
        found = [one.layout for one in verdicts if one.possible]
        if len(found) > 1:
            self._lacking(found)
            self._ambiguous(found, verdicts)
        if found[0] == self.chain.version and self.made is None:
            self._nothing_tells(verdicts)
        return found[0]

    def stated(self, layout: int, said: str) -> int:
        """Return a layout that is stated by a version, or otherwise; `said` begins the sentence that names it.

        Raises:
            StatexError: SX807 where its steps cannot be carried out, or the header is that of an earlier layout.
        """
        errors = self._errors(layout)
        if errors:
            cannot_be_carried_out(errors, layout, said, self.header.label)
        for earlier in range(layout):
            shown = self._not_been_through(earlier, layout, surely=True)
            if shown:
                fail(
                    codes.STAMP_CONTRADICTED,
                    f"{said} layout {layout}, and {self.header.label} fits layout {earlier} and not this one",
                    notes=[shown],
                )
        return layout

    def verdicts(self) -> Iterator[Verdict]:
        """Yield for each layout whether the state can be of it."""
        for layout in range(self.chain.version + 1):
            against = self._against(layout)
            yield Verdict(layout, not against, against or self._for(layout))

    def _against(self, layout: int) -> str:
        for earlier in range(layout):
            shown = self._not_been_through(earlier, layout)
            if shown:
                return shown
        errors = self._errors(layout)
        if errors:
            span = errors[0].span
            place = f"{span.source.name.rpartition('/')[2]}:{span.line}: " if span is not None else ""
            return f"{place}{errors[0].headline}"
        unchanged = next((n for n, changed in enumerate(self._walk(layout).changed) if changed), None)
        later = self._reached(layout) if unchanged is None else layout + unchanged
        if later > layout:
            return f"{self._steps(layout, later)} would change nothing: it is as layout {later}"
        return ""

    def _for(self, layout: int) -> str:
        if layout < self.chain.version:
            return f"{self._steps(layout, self.chain.version)} can be carried out on it"
        if self.made is None:
            return "no step is left, but it has no key that the steps make"
        return f"it has `{self.made}`, which the steps make"

    def _not_been_through(self, before: int, after: int, *, surely: bool = False) -> str:
        """Return what shows that a state of the layout before has not been through steps yet; nothing if none does.

        Steps that would do nothing to what they have made may be for states of several kinds: then it is not `surely`.
        """
        if self._errors(before) or self._reached(before) < after:
            return ""
        result = self._walk(before).headers[after - before]
        has, had = _kinds(self.header.entries), _kinds(result.entries)
        lost = [key for kind, key in has.items() if kind not in had]
        made = [key for kind, key in had.items() if kind not in has]
        if not (lost or made) or self._goes_on(result, before, after, surely):
            return ""
        which = self._steps(before, after)
        return f"it has `{lost[0]}`, and {which} would not leave it" if lost else f"{which} would make `{made[0]}`"

    def _goes_on(self, result: Header, before: int, after: int, surely: bool) -> bool:
        """Say whether steps can be carried out on what they have made, and (unless `surely`) change it again."""
        again = self._walked(result, before, after)
        return not again.errors and (surely or any(again.changed))

    def _walk(self, layout: int) -> Walk:
        if layout not in self._walks:
            self._walks[layout] = self._walked(self.header, layout, self.chain.version)
        return self._walks[layout]

    def _reached(self, layout: int) -> int:
        """Return the layout to which the steps after one can be carried out."""
        return layout + len(self._walk(layout).changed)

    def _walked(self, header: Header, before: int, after: int) -> Walk:
        headers, changed = [header], list[bool]()
        for layout in range(before, after):
            done = self._step(headers[-1], layout)
            if not isinstance(done, Header):
                return Walk(headers, changed, done)
            changed.append(done is not headers[-1])
            headers.append(done)
        return Walk(headers, changed)

    def _step(self, header: Header, layout: int) -> Header | Sequence[Diagnostic]:
        """Return what the step after a layout makes of a header, the same object if it is nothing, or the errors."""
        known = self._steps_done.get((id(header), layout))
        if known is None:
            try:
                plan = planned(self.chain, layout, header, self.given, target=self.target, to=layout + 1)
                known = header, header if gives_back(plan) else _result(plan)
            except StatexError as error:
                known = header, error.diagnostics
            self._steps_done[id(header), layout] = known
        return known[1]

    def _errors(self, layout: int) -> list[Diagnostic]:
        """Return why the steps after a layout cannot be carried out; that a parameter lacks a value says nothing."""
        return [one for one in self._walk(layout).errors if one.code not in OF_PARAMETERS]

    @cached_property
    def made(self) -> str | None:
        """A key that steps of the chain make, if the state has one."""
        patterns = list(made_keys(self.chain.resolved(0, self.chain.version)))
        return next((key for key in self.header.entries if any(one.fullmatch(key) for one in patterns)), None)

    def _steps(self, before: int, after: int) -> str:
        names = [step.name for step in self.chain.steps[before:after]]
        return names[0] if len(names) == 1 else f"{names[0]} to {names[-1]}"

    def _lacking(self, layouts: Sequence[int]) -> None:
        """Say which parameters lack a value without which a layout cannot be told from others."""
        for layout in layouts:
            if self._walk(layout).errors:
                raise StatexError(self._walk(layout).errors)

    def _ambiguous(self, layouts: Sequence[int], verdicts: Sequence[Verdict]) -> None:
        named = join_words([str(one) for one in layouts], limit=8)
        fail(
            codes.AMBIGUOUS_LAYOUT,
            f"{self.header.label} carries no version, and could be of any of the layouts {named}",
            rows=_rows(verdicts),
            help=[*(self.way.format(one, one) for one in layouts[:4]), *self._further],
        )

    def _nothing_tells(self, verdicts: Sequence[Verdict]) -> None:
        last = self.chain.version
        place = self._fitting_module()
        fail(
            codes.LAYOUT_NOT_TOLD,
            f"{self.header.label} carries no version, and its keys fit no layout of `{self.chain.label}`",
            rows=_rows(verdicts),
            help=[*([f"--at {prefix_of(self.at)}{place}   the keys below it fit the chain"] if place else []),
                  self.way.format(last, last), *self._further],
        )  # fmt: skip

    @property
    def _further(self) -> list[str]:
        return (
            []
            if self.target is not None
            else ["--like FILE   or --target: the layout is that whose steps make what it has"]
        )

    def _fitting_module(self) -> str:
        """Return the path of a module near the root whose keys are those of some layout."""
        paths = [".".join(key.split(".")[:depth]) for depth in (1, 2) for key in self.header.entries if "." in key]
        for path in list(dict.fromkeys(paths))[:_TRIED]:
            own = replace(self, header=inside(self.header, path), _walks={}, _steps_done={})
            possible = [one.layout for one in own.verdicts() if one.possible]
            if (own.header.entries and possible != [self.chain.version]) or own.made is not None:
                return path
        return ""


def _result(plan: Plan) -> Header:
    """Return the header of what a plan makes."""
    entries = {
        key: TensorInfo(output.type) if output.type is not None else output.opaque or OpaqueInfo("")
        for key, output in plan.outputs.items()
    }
    return replace(plan.header, entries=entries, metadata=None)


def _kinds(keys: Iterable[str]) -> dict[str, str]:
    """Return keys by what those that differ in numbers alone have in common."""
    found: dict[str, str] = {}
    for key in keys:
        found.setdefault(without_numbers(key), key)
    return found


def _rows(verdicts: Sequence[Verdict]) -> list[tuple[str, ...]]:
    shown = [one for one in verdicts if one.possible or one.layout >= len(verdicts) - _LISTED]
    rows: list[tuple[str, ...]] = [(f"layout {one.layout}", one.why) for one in shown]
    more = len(verdicts) - len(shown)
    return [*rows, (f"and {more} more, whose steps cannot be carried out on it",)] if more else rows
