"""The inverse of a program: rules that are shown on the header, statement by statement, to undo those of the author."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from itertools import chain, count

from statex.core.dtypes import DType
from statex.core.record import record
from statex.core.source import Span
from statex.core.surroundings import Surroundings
from statex.diagnostics import StatexError
from statex.dsl.plan.plan import AROUND, Plan
from statex.grammar import factory as make
from statex.grammar import tree
from statex.grammar.printer import show
from statex.inverse.around import around_undone, still_changed
from statex.inverse.comments import AuthorComments
from statex.inverse.generated import generated
from statex.inverse.history import KeyValues, after_all, before_all, between, statement_of, states
from statex.inverse.losses import is_computed
from statex.inverse.proof import HeldEntry, StateLayout, compiled, differences, header_of, untied
from statex.inverse.recovery import Recovery, StoredValue
from statex.inverse.stored import StoredTensor, stored_tensors
from statex.inverse.swapping import CannotTurnError
from statex.inverse.terms import plain
from statex.inverse.turning import StatementDone, Turner

_LONGER = 40
"""So many more lines rules may have for the order of the keys."""
_LOST = "lost"
"""How the input is called that has what is lost."""


@record
class InverseRules:
    """The rules that undo a plan: their `text`, and what the proof on the header says of them.

    `kept` are the keys of the checkpoint that come back, `lost` all others. `apart` are those that shared a tensor with
    another key, and come back with one of their own. `in_order` says whether the keys come back in their order.
    `unshown` are those that the header does not show to come back as they were, though they do. `parameters` names
    those that come back as plain tensors, `around` what is changed around the state and not undone. `turned` and
    `generated` count the statements of the author that were turned round, and those that were undone by what the graph
    says. `stored` are keys that come, whole or in part, from a further input, whose name is `input`; `tensors` is what
    that has to have. `nan` are keys of tensors that
    are computed back, by which NaNs may change.
    """

    text: str
    kept: tuple[str, ...]
    lost: tuple[str, ...]
    apart: tuple[str, ...] = ()
    in_order: bool = True
    unshown: tuple[str, ...] = ()
    parameters: tuple[str, ...] = ()
    around: tuple[str, ...] = ()
    turned: int = 0
    generated: int = 0
    stored: tuple[str, ...] = ()
    tensors: tuple[StoredTensor, ...] = ()
    input: str = _LOST
    nan: tuple[str, ...] = ()

    def __str__(self) -> str:
        return self.text


@record
class _Section:
    """The inverse of one statement of the author's."""

    statements: tuple[tree.Statement, ...]
    macros: Mapping[str, tree.Macro]
    of: tree.Statement | None
    is_turned: bool


def inverse(
    plan: Plan, statements: Sequence[tree.Statement], *, keep: bool = False, on_data: Collection[int] = ()
) -> InverseRules:
    """Return the rules that make the checkpoint of the result of a plan, as far as it can be had.

    With `keep`, what is lost comes from a further input, of tensors that are lost in part these parts alone. `on_data`
    are calls of the graph that are undone though only the data tell whether that gives back every bit.
    """
    found = _Inversion(plan, statements, keep, on_data).run()
    if found.in_order or not found.tensors:
        return found
    placed = _Inversion(plan, statements, keep, on_data, in_place=True).run()
    same = (placed.apart, placed.unshown, placed.parameters) == (found.apart, found.unshown, found.parameters)
    longer = placed.text.count("\n") - found.text.count("\n")
    return placed if placed.in_order and same and longer <= _LONGER else found


class _Inversion:
    def __init__(
        self,
        plan: Plan,
        statements: Sequence[tree.Statement],
        keep: bool,
        on_data: Collection[int],
        *,
        in_place: bool = False,
    ) -> None:
        self._in_place = in_place
        self._plan = plan
        self._statements = [one for one in statements if not isinstance(one, tree.Root | tree.Follow)]
        self._roots = [one for one in statements if isinstance(one, tree.Root)]
        self._following = [one for one in statements if isinstance(one, tree.Follow)]
        self._states = states(plan)
        self._tensors = stored_tensors(plan, self._states, on_data) if keep else ()
        self._recovery = Recovery(plan.graph, on_data)
        self._on_data = bool(on_data)
        self._macros = {one.name.name: one for one in statements if isinstance(one, tree.Macro)}
        self._made_macros: dict[str, tree.Macro] = {}
        own = (one.name.name for one in statements if isinstance(one, tree.Param | tree.Let | tree.Macro | tree.Input))
        self._taken = frozenset([*plan.parameters, *own])
        names = chain([_LOST], (f"{_LOST}{number}" for number in count(2)))
        self._input = next(name for name in names if name not in self._taken)
        self._layout = {one.name: HeldEntry(one.id, ("stored", one.name)) for one in self._tensors}
        self._stored = {one.id: StoredValue(self._input, one.name) for one in self._tensors}

    def run(self) -> InverseRules:
        """Turn one statement after the other round, from the last to the first."""
        sections: list[_Section] = []
        after = self._states[-1]
        for number, steps in self._groups():
            before = self._states[steps.start]
            stored = {one.id: self._stored[one.id] for one in self._tensors if one.step in steps}
            found = self._recovery.of(after, stored)
            wanted = {key: value for key, value in before.items() if value in found}
            made = self._section(self._statements[number], steps, wanted, after, stored)
            if made is not None:
                sections.append(made)
                after = wanted
        every = self._recovery.of(self._states[-1], self._stored)
        sources = self._states[0]
        wanted = {key: value for key, value in sources.items() if value in every}
        if after.keys() != wanted.keys() or any(after[key] != value for key, value in wanted.items()):
            # What comes back along another way than the statements took.
            sections = [self._explicit(wanted, self._states[-1], self._stored)]
        return self._finished(sections, wanted)

    def _groups(self) -> Iterator[tuple[int, range]]:
        """Yield the statements that did something, the last one first, with the steps of each."""
        owners = [statement_of(self._statements, step) for step in self._plan.steps]
        end = len(owners)
        while end:
            start = end - 1
            while start and owners[start - 1] == owners[start]:
                start -= 1
            if any(c.kind not in AROUND for step in self._plan.steps[start:end] for c in step.changes):
                yield owners[start], range(start, end)
            end = start

    # --- one statement -----------------------------------------------------------------------------------------------

    def _section(
        self,
        node: tree.Statement,
        steps: range,
        wanted: KeyValues,
        after: KeyValues,
        stored: Mapping[int, StoredValue],
    ) -> _Section | None:
        if wanted == after:
            return None
        for conditions in (True, False):
            made_macros = dict(self._made_macros)
            turner = Turner(self._recovery, self._done(steps), self._macros, conditions, stored, made_macros)
            try:
                made = _Section(tuple(turner.turned(node)), turner.turned_macros, node, True)
            except CannotTurnError:
                break
            if self._holds(made, wanted, after):
                self._made_macros.update(turner.turned_macros)
                return made
        return self._explicit(wanted, after, stored, node)

    def _explicit(
        self,
        wanted: KeyValues,
        after: KeyValues,
        stored: Mapping[int, StoredValue],
        node: tree.Statement | None = None,
    ) -> _Section:
        found = self._recovery.of(after, stored)
        names, in_place = self._layout.keys(), self._in_place
        folded = generated(found, wanted, after, fold=True, taken=self._taken, stored=names, in_place=in_place)
        short = _Section(tuple(folded), {}, node, False)
        if self._holds(short, wanted, after):
            return short
        return _Section(tuple(generated(found, wanted, after, fold=False, in_place=in_place)), {}, node, False)

    def _done(self, steps: range) -> dict[Span, list[StatementDone]]:
        found: dict[Span, list[StatementDone]] = {}
        for number in steps:
            step = self._plan.steps[number]
            done = StatementDone(step.changes, self._states[number], self._states[number + 1])
            found.setdefault(step.span, []).append(done)
        return found

    def _holds(self, section: _Section, wanted: KeyValues, after: KeyValues) -> bool:
        """Say whether statements make of one state the other, which their composition with the program shows."""
        before, result = between(self._plan, wanted), between(self._plan, after)
        text = self._text([section], bare=True)
        try:
            plan = self._compiled(text, result)
        except StatexError:
            return False
        return not differences(self._plan.graph, before, result, plan, self._layout, on_data=self._on_data)

    def _compiled(
        self,
        text: str,
        layout: StateLayout,
        surroundings: Surroundings | None = None,
    ) -> Plan:
        given = {name: value for name, value in self._plan.parameters.items() if _literal(value) is None}
        inputs = {self._input: [header_of(self._plan.graph, self._layout)]} if self._layout else {}
        header = replace(header_of(self._plan.graph, layout), surroundings=surroundings)
        return compiled(text, header, given, inputs)

    # --- the text ----------------------------------------------------------------------------------------------------

    def _text(self, sections: Sequence[_Section], *, bare: bool = False) -> str:
        """Return statements as text, with the declarations that they need."""
        remarks = AuthorComments()
        body: list[str] = []
        macros: dict[str, tree.Macro] = {}
        for section in sections:
            macros.update(section.macros)
            lines = [show(one) for one in section.statements]
            if lines and not bare and section.of is not None:
                lines = remarks.around(section.of, lines)
            body += lines
        used = [one for section in sections for one in section.statements]
        declared = [show(one) for one in self._declarations([*macros.values(), *used])]
        roots = [] if bare else [show(one) for one in (*map(_turned_root, self._roots), *self._following)]
        if self._layout and self._input in {one.input for one in _patterns([*macros.values(), *used])}:
            declared.insert(0, show(make.input_(self._input)))
        head = [*roots, *declared]
        parts = ["\n".join(part) for part in (head, [show(one) for one in macros.values()], body) if part]
        return "\n\n".join(parts) + "\n" if parts else ""

    def _declarations(self, used: Sequence[tree.Statement]) -> list[tree.Statement]:
        """Return the parameters and names that statements use, with the values that they had."""
        names = set(_names(used))
        found: list[tree.Statement] = []
        for node in self._statements:
            if not isinstance(node, tree.Param | tree.Let) or node.name.name not in names:
                continue
            value = self._plan.parameters.get(node.name.name)
            literal = _literal(value)
            if isinstance(node, tree.Let):
                found.append(node if literal is None else tree.Let(make.NOWHERE, node.name, literal))
            else:
                found.append(tree.Param(make.NOWHERE, node.name, node.type, literal))
        declared = {one.name.name for one in found if isinstance(one, tree.Param | tree.Let)}
        for name, value in self._plan.parameters.items():
            # Those of a recipe are known without a declaration.
            if name in names - declared and (literal := _literal(value)) is not None:
                found.append(tree.Param(make.NOWHERE, make.name(name), None, literal))
        return found

    def _finished(self, sections: Sequence[_Section], wanted: KeyValues) -> InverseRules:
        plan = self._plan
        before, after = before_all(plan), after_all(plan)
        layout: StateLayout = {key: held for key, held in before.items() if key in wanted}
        around = around_undone(plan, moves=any(one.target is not None for one in self._roots))
        if around.statements:
            sections = [*sections, _Section(around.statements, {}, None, True)]
        text = self._text(sections)
        undone = self._compiled(text, after, around.surroundings)
        if list(undone.outputs) != list(layout):
            natural = [*sections, _Section((tree.Order(make.NOWHERE),), {}, None, False)]
            sorted_again = self._compiled(self._text(natural), after, around.surroundings)
            if list(sorted_again.outputs) == list(layout):
                sections, text, undone = natural, self._text(natural), sorted_again
        wrong = differences(plan.graph, layout, after, undone, self._layout)
        every = self._recovery.of(self._states[-1], self._stored)
        stored = {key for one in self._tensors for key in one.of}
        values = self._states[0]
        parameters = [
            key for key, held in layout.items()
            if (held.is_parameter, held.requires_grad)
            != (undone.outputs[key].is_parameter, undone.outputs[key].requires_grad)
        ]  # fmt: skip
        return InverseRules(
            text,
            tuple(layout),
            tuple([key for key in before if key not in wanted]),
            tuple(untied(layout, undone)),
            list(undone.outputs) == list(layout),
            tuple(wrong),
            tuple(parameters),
            tuple(dict.fromkeys([*around.left, *(still_changed(plan, undone) if around.statements else ())])),
            sum(one.is_turned for one in sections),
            sum(not one.is_turned for one in sections),
            tuple([key for key in layout if key in stored]),
            self._tensors,
            self._input,
            tuple([key for key in layout if is_computed(plan.graph, every, values[key])]),
        )


def _turned_root(node: tree.Root) -> tree.Statement:
    target = node.target if node.target is not None else node.path
    return tree.Root(make.NOWHERE, target, node.path if node.target is not None else None)


def _names(root: object) -> Iterator[str]:
    """Yield the words of statements, those inside patterns too."""
    return (node.name for node in _every(root) if isinstance(node, tree.Name | tree.Splice))


def _patterns(root: object) -> Iterator[tree.PatternNode]:
    return (node for node in _every(root) if isinstance(node, tree.PatternNode))


def _every(root: object) -> Iterator[object]:
    """Yield the nodes of statements, those inside patterns too."""
    pending = [root]
    while pending:
        node = pending.pop()
        if isinstance(node, Sequence) and not isinstance(node, str):
            pending.extend(node)
        elif is_dataclass(node) and not isinstance(node, Span):
            yield node
            pending.extend(getattr(node, one.name) for one in fields(node))


def _literal(value: object) -> tree.Expr | None:
    """Return a plain value as it is written; `None` for what cannot be."""
    if isinstance(value, tuple | list):
        items = [_literal(one) for one in value]
        return None if None in items else tree.ListExpr(make.NOWHERE, tuple([one for one in items if one is not None]))
    return plain(value) if value is not None and isinstance(value, bool | int | float | str | DType) else None
