"""Statements turned round: the author's patterns, names and tables, read from right to left.

Whether what comes out undoes the statement is not known here: it is compiled, and compared with what was before.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from statex.core.source import Span
from statex.dsl.ops import OPERATIONS
from statex.dsl.ops.base import ArgKind
from statex.dsl.plan.plan import Change
from statex.grammar import factory as make
from statex.grammar import tree
from statex.grammar.walk import nodes
from statex.inverse.history import KeyValues
from statex.inverse.recovery import Derivation, DerivedValue, Recovery, StandingValue, StoredValue, Value
from statex.inverse.regexes import turned_regex
from statex.inverse.swapping import CannotTurnError, as_pattern, as_template, swapped
from statex.inverse.terms import CURRENT, by_current_key, call, expression

_NOTHING = (
    tree.Param, tree.Let, tree.Input, tree.Macro, tree.Expect, tree.ExpectKeys, tree.ExpectEach, tree.ExpectSame,
    tree.Allow, tree.Order, tree.Root, tree.SetValue, tree.AddValue, tree.DropValue,
)  # fmt: skip
"""Statements that change no tensor and no key."""


@dataclass(frozen=True)
class StatementDone:
    """What a statement did: its changes, and the states around it."""

    changes: tuple[Change, ...]
    before: KeyValues
    after: KeyValues


@dataclass
class Turner:
    """Turns the statements of a text round; `done` is what each did, by its place, as often as it was carried out.

    `conditions` says whether a `where` stays. `stored` are values that a further input has.
    """

    recovery: Recovery
    done: Mapping[Span, Sequence[StatementDone]]
    macros: Mapping[str, tree.Macro]
    conditions: bool = True
    stored: Mapping[int, StoredValue] = field(default_factory=dict)
    turned_macros: dict[str, tree.Macro] = field(default_factory=dict)
    _prefix: tuple[tree.Piece, ...] = ()
    """What keys begin with inside `within`."""

    def turned(self, node: tree.Statement) -> list[tree.Statement]:
        """Return what may undo a statement.

        Raises:
            CannotTurnError: where its text says too little.
        """
        if isinstance(node, _NOTHING):
            return []
        if isinstance(node, tree.Within):
            body = self._inside(node)
            return [tree.Within(make.NOWHERE, node.pattern, tuple(body))] if body else []
        if isinstance(node, tree.If):
            return self._if(node)
        if isinstance(node, tree.Use):
            return self._use(node)
        if not any(one.changes for one in self.done.get(node.span, ())):
            return []
        if isinstance(node, tree.Merge) and node.over is not None and len(node.sources) > 1:
            return self.merge_of_several(node, node.over)
        found = _TURNED.get(type(node))
        if found is None:
            raise CannotTurnError
        return [found(self, node)]

    def _inside(self, node: tree.Within) -> list[tree.Statement]:
        """Turn the statements round whose keys are short."""
        outer = self._prefix
        self._prefix = (*outer, *node.pattern.pieces, tree.Text(make.NOWHERE, "."))
        try:
            return self.all(node.body)
        finally:
            self._prefix = outer

    def all(self, body: Sequence[tree.Statement]) -> list[tree.Statement]:
        """Return what may undo statements that follow one another."""
        return [one for statement in reversed(body) for one in self.turned(statement)]

    def _if(self, node: tree.If) -> list[tree.Statement]:
        then, otherwise = self.all(node.then), self.all(node.otherwise)
        if any(isinstance(one, tree.KeyRef | tree.Query | tree.Call) for one in nodes(node.condition)):
            # What is asked of the state may have another answer by now; only one of the branches was taken.
            return then or otherwise
        return [tree.If(make.NOWHERE, node.condition, tuple(then), tuple(otherwise))] if then or otherwise else []

    def _use(self, node: tree.Use) -> list[tree.Statement]:
        macro = self.macros.get(node.name.name)
        if macro is None:
            raise CannotTurnError
        body = self.all(macro.body)
        if not body:
            return []
        made = tree.Macro(make.NOWHERE, macro.name, macro.parameters, tuple(body))
        if self.turned_macros.setdefault(macro.name.name, made) != made:
            raise CannotTurnError
        return [node]

    def where(self, node: Any) -> tree.Expr | None:
        """Return the condition of a statement, if it stays."""
        found: tree.Expr | None = node.where
        return found if self.conditions else None

    # --- names -----------------------------------------------------------------------------------------------------

    def rename(self, node: tree.Rename) -> tree.Statement:
        """Exchange the sides of the rows."""
        rows = []
        for row in node.rows:
            if node.mode is tree.RenameMode.KEY and row.source.kind is tree.PatternKind.REGEX:
                source, target = turned_regex(row.source, row.target)
                rows.append(tree.Row(make.NOWHERE, source, target, row.optional))
                continue
            if node.mode in (tree.RenameMode.KEY, tree.RenameMode.PART):
                source, target = swapped(row.source, row.target)
                if not source.text:
                    raise CannotTurnError
            else:
                source, target = row.target, row.source
            if tree.PatternKind.REGEX in (source.kind, target.kind):
                raise CannotTurnError
            rows.append(tree.Row(make.NOWHERE, source, target, row.optional))
        return tree.Rename(
            make.NOWHERE, node.mode, tuple(rows), node.is_table, node.first, node.optional, self.where(node)
        )

    def renumber(self, node: tree.Renumber) -> tree.Statement:
        """Give back the numbers, which the text does not say: a row for each that became another."""
        pieces = node.pattern.pieces
        texts = ["" if isinstance(piece, tree.Capture) else getattr(piece, "text", None) for piece in pieces]
        if texts.count("") != 1 or None in texts or node.where is not None:
            raise CannotTurnError
        at = texts.index("")
        head, tail = "".join(map(str, texts[:at])), "".join(map(str, texts[at:]))
        found = re.compile(rf"{re.escape(head)}([0-9]+){re.escape(tail)}(\..+)?", re.S)
        rows: dict[tuple[str, bool], str] = {}
        for done in self.done[node.span]:
            for change in done.changes:
                old, new = (found.fullmatch(key) for key in (*change.before, *change.after))
                if old is None or new is None or rows.setdefault((new[1], old[2] is None), old[1]) != old[1]:
                    raise CannotTurnError
        rest = make.capture("rest", tree.CaptureForm.SEGMENTS)
        made = [
            (_with_rest(f"{head}{new}{tail}", None if ends else rest),
             _with_rest(f"{head}{old}{tail}", None if ends else make.capture("rest")))
            for (new, ends), old in sorted(rows.items(), key=lambda row: int(row[0][0]))
            if new != old
        ]  # fmt: skip
        return make.rename(*[make.row(source, target) for source, target in made])

    def copy(self, node: tree.Copy) -> tree.Statement:
        """Drop what was put under further keys."""
        return tree.Drop(make.NOWHERE, (as_pattern(node.target, (node.source,)),), optional=node.optional)

    def add(self, node: tree.Add) -> tree.Statement:
        """Drop the new keys."""
        sources = (node.each,) if node.each is not None else ()
        return tree.Drop(make.NOWHERE, (as_pattern(node.target, sources),), optional=node.optional)

    # --- values ----------------------------------------------------------------------------------------------------

    def set(self, node: tree.Set) -> tree.Statement:
        """Undo an expression that can be undone alike for every key."""
        value = self._one(self._before(one, change) for one in self.done[node.span] for change in one.changes)
        value = as_author(value, stages_of(node.value))
        return tree.Set(make.NOWHERE, node.targets, value, node.each, node.optional, self.where(node))

    def _before(self, done: StatementDone, change: Change) -> tree.Expr:
        (key,) = change.after
        value = done.before[key]
        found = self.recovery.near({key: done.after[key]}, self.stored, value)
        if value not in found:
            raise CannotTurnError
        return expression(found, value, lambda _: CURRENT, stored=by_current_key(key, self._template()))

    def _template(self) -> list[tree.Piece]:
        """Return what keys begin with inside `within`, from its captures."""
        found: list[tree.Piece] = []
        for piece in self._prefix:
            if isinstance(piece, tree.Capture) and piece.name != "_":
                found.append(make.capture(piece.name))
            elif isinstance(piece, tree.Text):
                found.append(piece)
            else:
                return []
        return found

    def _one(self, values: Any) -> tree.Expr:
        """Return what all cases have in common."""
        first, *others = list(values) or [None]
        if first is None or any(other != first for other in others):
            raise CannotTurnError
        return first  # type: ignore[no-any-return]

    def split(self, node: tree.Split) -> tree.Statement:
        """Merge the pieces."""
        value = self._one(self._joined(one, change, node) for one in self.done[node.span] for change in one.changes)
        target = as_template(node.source, node.targets[0])
        over = node.over
        sources = []
        for template in node.targets:
            source = as_pattern(template, (node.source,), numbered=over.name if over is not None else None)
            sources.append(tree.MergeSource(make.NOWHERE, source))
        free = _free(node.targets, node.source)
        if free and (len(free) > 1 or len(sources) > 1 or over is not None):
            raise CannotTurnError
        over = make.name(free[0]) if free else over
        value = as_author(value, stages_of(node.value))
        return tree.Merge(make.NOWHERE, tuple(sources), over, target, value, node.optional, self.where(node))

    def _joined(self, done: StatementDone, change: Change, node: tree.Split) -> tree.Expr:
        """Return how the source of a split is made of its pieces, taken together as `it`."""
        (source,), pieces = change.before, change.after
        found = self.recovery.near({key: done.after[key] for key in pieces}, self.stored, done.before[source])
        if done.before[source] not in found:
            raise CannotTurnError
        return _of_all(found, done.before[source], pieces, stages_of(node.value))

    def merge(self, node: tree.Merge) -> tree.Statement:
        """Split the result."""
        value = self._one(self._cut(one, change, node) for one in self.done[node.span] for change in one.changes)
        over = node.over
        patterns = [source.pattern for source in node.sources]
        if over is not None:
            (capture,) = [p for p in patterns[0].pieces if isinstance(p, tree.Capture) and p.name == over.name]
            targets = [as_template(patterns[0], node.target, free=capture)]
            over = None if capture.choices else over
        else:
            targets = [as_template(pattern, node.target) for pattern in patterns]
        source = as_pattern(node.target, patterns)
        value = as_author(value, stages_of(node.value))
        return tree.Split(make.NOWHERE, source, over, tuple(targets), value, node.optional, self.where(node))

    def _cut(self, done: StatementDone, change: Change, node: tree.Merge) -> tree.Expr:
        """Return how the sources of a merge are made of its result, as pieces."""
        (result,), sources = change.after, change.before
        found = self.recovery.of({result: done.after[result]})
        made = []
        for number, key in enumerate(sources):
            if done.before[key] not in found:
                raise CannotTurnError
            first, after = _piece(found, done.before[key], number)
            written = stages_of(node.value)
            made.append((first, as_author(after, written[: len(stages_of(after))], written)))
        if any(one != made[0] for one in made):
            raise CannotTurnError
        first, after = made[0]
        value = call(first.operation, first.arguments, [expression(found, first.of[0], lambda _: CURRENT)])
        for stage in stages_of(after):
            if not isinstance(stage, tree.Call | tree.Name):
                raise CannotTurnError
            value = make.pipe(value, stage)
        return value

    def merge_of_several(self, node: tree.Merge, over: tree.Name) -> list[tree.Statement]:
        """Split the result twice: into what the sources have each, and by the numbers."""
        outer, inner, by_source = self._cut_twice(node)
        patterns = [source.pattern for source in node.sources]
        free = make.capture(over.name)
        targets = [as_template(pattern, node.target, free=free) for pattern in patterns]
        whole = as_pattern(node.target, patterns)
        if by_source:
            between = [_with_text(target, over.name, _TOGETHER) for target in targets]
            first = tree.Split(make.NOWHERE, whole, None, tuple(between), outer, node.optional, self.where(node))
            further = zip(between, targets, strict=True)
            return [first, *[
                tree.Split(make.NOWHERE, as_pattern(one, patterns), over, (target,), inner, node.optional)
                for one, target in further
            ]]  # fmt: skip
        each = make.pattern([*node.target.pieces, ".", free])
        numbered = as_pattern(each, patterns)
        first = tree.Split(make.NOWHERE, whole, over, (each,), outer, node.optional, self.where(node))
        return [first, tree.Split(make.NOWHERE, numbered, None, tuple(targets), inner, node.optional)]

    def _cut_twice(self, node: tree.Merge) -> tuple[tree.Expr, tree.Expr, bool]:
        """Return the two cuts by which the sources are had from a result, and whether the first one is by source."""
        for by_source in (True, False):
            try:
                first, second = self._cut_by(node, by_source)
            except CannotTurnError:
                continue
            return first, second, by_source
        raise CannotTurnError

    def _cut_by(self, node: tree.Merge, by_source: bool) -> tuple[tree.Expr, tree.Expr]:
        cuts = []
        for done in self.done[node.span]:
            for change in done.changes:
                (result,) = change.after
                found = self.recovery.of({result: done.after[result]})
                each = len(change.before) // len(node.sources)
                for number, key in enumerate(change.before):
                    if done.before[key] not in found:
                        raise CannotTurnError
                    indices = list(divmod(number, each))
                    cuts.append(_two_cuts(found, done.before[key], indices if by_source else indices[::-1]))
        if not cuts or any(cut != cuts[0] for cut in cuts):
            raise CannotTurnError
        return cuts[0]


_TOGETHER = "all"
"""What stands in the place of a number in the name of what has all numbers."""


def _two_cuts(found: Mapping[Value, Derivation], value: Value, indices: list[int]) -> tuple[tree.Expr, tree.Expr]:
    """Return the cuts that a value is a piece of, as these numbers: the result is cut, and that piece is cut again."""
    path: list[DerivedValue] = []
    one = found[value]
    while isinstance(one, DerivedValue):
        if len(one.of) != 1:
            raise CannotTurnError
        path.insert(0, one)
        one = found[one.of[0]]
    at = [place for place, made in enumerate(path) if made.index is not None]
    if len(at) != 2 or [path[place].index for place in at] != indices:
        raise CannotTurnError
    return _chain(path[: at[1]]), _chain(path[at[1] :])


def _chain(path: Sequence[DerivedValue]) -> tree.Expr:
    """Return operations one after the other, as stages of a pipe."""
    value: tree.Expr = CURRENT
    for made in path:
        value = call(made.operation, made.arguments, [value])
    return value


def _with_text(node: tree.PatternNode, name: str, text: str) -> tree.PatternNode:
    """Return a template with a text in the place of a capture."""
    return make.pattern([text if isinstance(p, tree.Capture) and p.name == name else p for p in node.pieces])


def _with_rest(start: str, rest: tree.Capture | None) -> tree.PatternNode:
    return make.key(start) if rest is None else make.pattern([f"{start}.", rest])


def _piece(found: Mapping[Value, Derivation], value: Value, number: int) -> tuple[DerivedValue, tree.Expr]:
    """Return the cut that a value is a piece of, as if it was the first, and what is done with that piece."""
    after: list[DerivedValue] = []
    one = found[value]
    while isinstance(one, DerivedValue) and one.index is None and len(one.of) == 1:
        after.insert(0, one)
        one = found[one.of[0]]
    if not isinstance(one, DerivedValue) or one.index != number:
        raise CannotTurnError
    return replace(one, index=0), _chain(after)


def _of_all(
    found: Mapping[Value, Derivation], value: Value, keys: Sequence[str], written: Sequence[tree.Expr]
) -> tree.Expr:
    """Return how a value is made of what stands under several keys, of which `it` has all.

    `written` are the stages by which the author made the keys of the value.
    """
    one = found[value]
    if isinstance(one, DerivedValue) and one.index is None and len(one.of) == 1 and len(keys) > 1:
        inner = _of_all(found, one.of[0], keys, written)
        return call(one.operation, one.arguments, [inner])
    if not isinstance(one, DerivedValue) or len(one.of) != len(keys):
        raise CannotTurnError
    parts = []
    for key, part in zip(keys, one.of, strict=True):
        if set(_keys(found, part)) != {key}:
            raise CannotTurnError
        own = expression(found, part, lambda _: CURRENT)
        parts.append(as_author(own, written[len(written) - len(stages_of(own)) :], written))
    if any(part != parts[0] for part in parts):
        raise CannotTurnError
    made = call(one.operation, one.arguments, [CURRENT])
    if parts[0] == CURRENT:
        return made
    if not isinstance(made, tree.Call | tree.Name):
        raise CannotTurnError
    return make.pipe(parts[0], made)


def _keys(found: Mapping[Value, Derivation], value: Value) -> list[str]:
    one = found[value]
    if isinstance(one, StoredValue):
        return []
    return [one.key] if isinstance(one, StandingValue) else [key for part in one.of for key in _keys(found, part)]


def _free(targets: Sequence[tree.PatternNode], source: tree.PatternNode) -> list[str]:
    """Return the choices of templates that their pattern does not bind: the pieces are told apart by them."""
    bound = {one.name for one in source.pieces if isinstance(one, tree.Capture)}
    captures = [one for target in targets for one in target.pieces if isinstance(one, tree.Capture)]
    return list(dict.fromkeys(one.name for one in captures if one.choices and one.name not in bound))


def as_author(value: tree.Expr, theirs: Sequence[tree.Expr], every: Sequence[tree.Expr] | None = None) -> tree.Expr:
    """Return an inverse with the author's names of lengths, if its stages undo these stages of theirs one by one.

    `every` are all stages of the author, which may name further lengths.
    """
    named = {one.name: one for stage in every or theirs for one in _lengths(stage)}
    ours = stages_of(value)
    if len(ours) != len(theirs) or not ours:
        return value
    made = [_as_author(one, other, named) for one, other in zip(ours, reversed(theirs), strict=True)]
    result = made[0]
    for stage in made[1:]:
        assert isinstance(stage, tree.Call | tree.Name)
        result = make.pipe(result, stage)
    return result


def stages_of(value: tree.Expr) -> list[tree.Expr]:
    """Return the stages of a pipe that begins with the current tensor, said or not."""
    stages: list[tree.Expr] = []
    while isinstance(value, tree.Pipe):
        stages.append(value.stage)
        value = value.value
    stages.append(value)
    return [one for one in reversed(stages) if not (isinstance(one, tree.Name) and one.name == CURRENT.name)]


def _lengths(stage: tree.Expr) -> list[tree.Argument]:
    """Return the lengths of axes that a stage names."""
    if not isinstance(stage, tree.Call) or stage.function not in OPERATIONS:
        return []
    names_axes = any(one.kind is ArgKind.AXES for one in OPERATIONS[stage.function].parameters)
    return [one for one in stage.arguments if one.name is not None] if names_axes else []


def _as_author(ours: tree.Expr, theirs: tree.Expr, named: Mapping[str | None, tree.Argument]) -> tree.Expr:
    if not isinstance(ours, tree.Call) or not isinstance(theirs, tree.Call) or ours.function != theirs.function:
        return ours
    literal = {one.name: one for one in _lengths(ours)}
    if not literal:
        return ours
    own = _lengths(theirs)
    texts = [one for one in ours.arguments if one.name is None]
    notation = "".join([one.value.value for one in texts if isinstance(one.value, tree.String)])
    further = [named.get(name, literal[name]) for name in _needed(notation, {one.name for one in own}, named)]
    return tree.Call(make.NOWHERE, ours.function, make.NOWHERE, (*texts, *own, *further))


def _needed(notation: str, known: Container[str | None], named: Container[str | None]) -> list[str]:
    """Return the axes whose lengths have to be given besides those known: in each group all but one are.

    That one is, if it can be, an axis that the author has not `named`.
    """
    found: list[str] = []
    for group in re.findall(r"\(([^)]*)\)", notation.partition("->")[0]):
        axes = [name for name in re.findall(r"\w+", group) if name not in known and name != "1"]
        found += sorted(axes, key=lambda name: name not in named)[:-1]
    return found


_TURNED: Mapping[type, Callable[[Turner, Any], tree.Statement]] = {
    tree.Rename: Turner.rename,
    tree.Renumber: Turner.renumber,
    tree.Copy: Turner.copy,
    tree.Add: Turner.add,
    tree.Set: Turner.set,
    tree.Split: Turner.split,
    tree.Merge: Turner.merge,
}
