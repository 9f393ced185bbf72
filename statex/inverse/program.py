"""The inverse of a program: rules that are shown on the header, statement by statement, to undo those of the author."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from itertools import chain, count

from statex.core.dtypes import DType
from statex.core.record import record
from statex.core.source import Span
from statex.diagnostics import StatexError
from statex.dsl.plan.plan import AROUND, Plan
from statex.grammar import factory as make
from statex.grammar import tree
from statex.grammar.printer import show
from statex.inverse.comments import AuthorComments
from statex.inverse.generated import generated
from statex.inverse.history import KeyValues, after_all, before_all, between, statement_of, states
from statex.inverse.losses import by_cast
from statex.inverse.proof import StateLayout, compiled, differences, header_of, untied
from statex.inverse.recovery import Recovery
from statex.inverse.swapping import CannotTurnError
from statex.inverse.terms import plain
from statex.inverse.turning import StatementDone, Turner

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
    says. `stored` are keys that come from a further input, whose name is `input`. `nan` are keys of tensors that come
    back by a cast, which may change the payloads of NaNs.
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


def inverse(plan: Plan, statements: Sequence[tree.Statement], *, keep: bool = False) -> InverseRules:
    """Return the rules that make the checkpoint of the result of a plan, as far as it can be had.

    With `keep`, tensors that are lost come from a further input, which has them under their keys.
    """
    return _Inversion(plan, statements, keep=keep).run()


class _Inversion:
    def __init__(self, plan: Plan, statements: Sequence[tree.Statement], *, keep: bool) -> None:
        self._plan = plan
        self._statements = [one for one in statements if not isinstance(one, tree.Root)]
        self._roots = [one for one in statements if isinstance(one, tree.Root)]
        self._recovery = Recovery(plan.graph)
        self._states = states(plan)
        self._macros = {one.name.name: one for one in statements if isinstance(one, tree.Macro)}
        self._made_macros: dict[str, tree.Macro] = {}
        own = (one.name.name for one in statements if isinstance(one, tree.Param | tree.Let | tree.Macro | tree.Input))
        self._taken = frozenset([*plan.parameters, *own])
        self._keep = keep
        names = chain([_LOST], (f"{_LOST}{number}" for number in count(2)))
        self._input = next(name for name in names if name not in self._taken)

    def run(self) -> InverseRules:
        """Turn one statement after the other round, from the last to the first."""
        sections: list[_Section] = []
        after = self._states[-1]
        for number, steps in self._groups():
            before = self._states[steps.start]
            found = self._recovery.of(after)
            wanted = {key: value for key, value in before.items() if value in found}
            made = self._section(self._statements[number], steps, wanted, after)
            if made is not None:
                sections.append(made)
                after = wanted
        every = self._recovery.of(self._states[-1])
        sources = self._states[0]
        wanted = {key: value for key, value in sources.items() if value in every}
        if after.keys() != wanted.keys() or any(after[key] != value for key, value in wanted.items()):
            # What comes back along another way than the statements took.
            sections = [self._explicit(wanted, self._states[-1])]
        stored = self._stored(wanted) if self._keep else {}
        if stored:
            wanted = {key: value for key, value in sources.items() if key in wanted or key in stored}
            everything = make.glob("**", self._input)
            sections.append(_Section((make.copy(everything, make.glob("**")),), {}, None, False))
        return self._finished(sections, wanted, stored)

    def _stored(self, wanted: KeyValues) -> StateLayout:
        """Return the tensors that are lost, which a further input will have."""
        return {
            key: held
            for key, held in before_all(self._plan).items()
            if key not in wanted and isinstance(held.value, int)
        }

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

    def _section(self, node: tree.Statement, steps: range, wanted: KeyValues, after: KeyValues) -> _Section | None:
        if wanted == after:
            return None
        for conditions in (True, False):
            turner = Turner(self._recovery, self._done(steps), self._macros, conditions, dict(self._made_macros))
            try:
                made = _Section(tuple(turner.turned(node)), turner.turned_macros, node, True)
            except CannotTurnError:
                break
            if self._holds(made, wanted, after):
                self._made_macros.update(turner.turned_macros)
                return made
        return self._explicit(wanted, after, node)

    def _explicit(self, wanted: KeyValues, after: KeyValues, node: tree.Statement | None = None) -> _Section:
        found = self._recovery.of(after)
        short = _Section(tuple(generated(found, wanted, after, fold=True, taken=self._taken)), {}, node, False)
        if self._holds(short, wanted, after):
            return short
        return _Section(tuple(generated(found, wanted, after, fold=False)), {}, node, False)

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
        return not differences(self._plan.graph, before, result, plan)

    def _compiled(self, text: str, layout: StateLayout, stored: StateLayout | None = None) -> Plan:
        given = {name: value for name, value in self._plan.parameters.items() if _literal(value) is None}
        inputs = {self._input: [header_of(self._plan.graph, stored)]} if stored else {}
        return compiled(text, header_of(self._plan.graph, layout), given, inputs)

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
        roots = [] if bare else [show(one) for one in map(_turned_root, self._roots)]
        if any(_reads(one, self._input) for one in used):
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
        return found

    def _finished(self, sections: Sequence[_Section], wanted: KeyValues, stored: StateLayout) -> InverseRules:
        plan = self._plan
        before, after = before_all(plan), after_all(plan)
        layout: StateLayout = {key: held for key, held in before.items() if key in wanted}
        text = self._text(sections)
        undone = self._compiled(text, after, stored)
        if list(undone.outputs) != list(layout):
            natural = [*sections, _Section((tree.Order(make.NOWHERE),), {}, None, False)]
            sorted_again = self._compiled(self._text(natural), after, stored)
            if list(sorted_again.outputs) == list(layout):
                sections, text, undone = natural, self._text(natural), sorted_again
        wrong = differences(plan.graph, layout, after, undone)
        every = self._recovery.of(self._states[-1])
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
            tuple(dict.fromkeys([*_changed_around(plan), *plan.left_around])),
            sum(one.is_turned for one in sections),
            sum(not one.is_turned for one in sections),
            tuple(stored),
            self._input,
            tuple([key for key in layout if key not in stored and by_cast(plan.graph, every, values[key])]),
        )


def _changed_around(plan: Plan) -> list[str]:
    return [key for step in plan.steps for c in step.changes if c.kind in AROUND for key in c.after]


def _reads(statement: tree.Statement, input: str) -> bool:
    return isinstance(statement, tree.Copy) and statement.source.input == input


def _turned_root(node: tree.Root) -> tree.Statement:
    target = node.target if node.target is not None else node.path
    return tree.Root(make.NOWHERE, target, node.path if node.target is not None else None)


def _names(root: object) -> Iterator[str]:
    """Yield the words of statements, those inside patterns too."""
    pending = [root]
    while pending:
        node = pending.pop()
        if isinstance(node, Sequence) and not isinstance(node, str):
            pending.extend(node)
        elif is_dataclass(node) and not isinstance(node, Span):
            if isinstance(node, tree.Name | tree.Splice):
                yield node.name
            pending.extend(getattr(node, one.name) for one in fields(node))


def _literal(value: object) -> tree.Expr | None:
    """Return a plain value as it is written; `None` for what cannot be."""
    if isinstance(value, tuple | list):
        items = [_literal(one) for one in value]
        return None if None in items else tree.ListExpr(make.NOWHERE, tuple([one for one in items if one is not None]))
    return plain(value) if value is not None and isinstance(value, bool | int | float | str | DType) else None
