"""Expressions to documents: parentheses where they are needed, and possible line breaks.

Outside of brackets a line goes on after an operator, or before `|` and `else`; inside of them operators begin lines.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import IntEnum
from functools import partial
from typing import Any

from statex.core.record import record
from statex.core.source import Span
from statex.grammar import tree
from statex.grammar.comments import Comments
from statex.grammar.printing.layout import (
    HARD,
    LINE,
    SOFT,
    CommentDoc,
    Doc,
    IfBroken,
    choice,
    concat,
    flat,
    group,
    indent,
)
from statex.grammar.printing.spelling import show_number, show_pattern, show_reference, show_string


class Level(IntEnum):
    """How tightly an expression holds together, loosest first, as the grammar's rules for expressions."""

    CONDITIONAL = 0
    PIPE = 1
    OR = 2
    AND = 3
    NOT = 4
    COMPARISON = 5
    SUM = 6
    PRODUCT = 7
    SIGN = 8
    POWER = 9
    ATOM = 10


_LEVELS = {"or": Level.OR, "and": Level.AND, "+": Level.SUM, "-": Level.SUM, "**": Level.POWER} | dict.fromkeys(
    ("*", "/", "//", "%", "@"), Level.PRODUCT
)
_CHAINS = (Level.OR, Level.AND, Level.SUM, Level.PRODUCT)
"""Operators of these levels follow one another without parentheses, from left to right."""


Items = Sequence[tuple[Span, Callable[[], "Doc"]]]
"""What stands between commas: where, and what makes its document."""


@record
class Shown:
    """An expression; `hug` is the same with only its last bracket broken, where it ends with one."""

    doc: Doc
    hug: Doc | None = None


def level_of(node: Any) -> Level:
    """Return how tightly an expression holds together."""
    match node:
        case tree.Conditional():
            return Level.CONDITIONAL
        case tree.Pipe():
            return Level.PIPE
        case tree.Binary(operator=operator):
            return _LEVELS.get(operator, Level.COMPARISON)
        case tree.Matches():
            return Level.COMPARISON
        case tree.Unary(operator=operator):
            return Level.NOT if operator == "not" else Level.SIGN
        case tree.Number(value=value) if value < 0:
            return Level.SIGN
    return Level.ATOM


class Expressions:
    """Makes documents of expressions and patterns; comments among them are taken where their places are reached."""

    def __init__(self, comments: Comments) -> None:
        self._comments = comments

    # --- comments ----------------------------------------------------------------------------------------------

    def gap(self, following: Span, line: Doc = LINE) -> Doc:
        """Return the place before a node: its line, and the comments there."""
        ends, own = self.comments_before(following)
        if not ends and not own:
            return line
        return concat(*map(CommentDoc, ends), line, *(part for text in own for part in (text, HARD)))

    def comments_before(self, following: Span) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Return the comments before a node: one at the end of a line, and those on lines of their own."""
        return self._divided(following.start)

    def _divided(self, offset: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
        found = self._comments.before(offset)
        texts = tuple(one.text for one in found)
        ends = 1 if found and not found[0].own_line else 0
        return texts[:ends], texts[ends:]

    def closing(self, end: int) -> Doc:
        """Return the comments before a bracket that closes."""
        ends, own = self._divided(end)
        return concat(*map(CommentDoc, ends), *(part for text in own for part in (HARD, text)))

    def listed(self, items: Items) -> Doc:
        """Return documents with commas between them, each made when its place is reached."""
        parts: list[Doc] = []
        for number, (span, make) in enumerate(items):
            if number:
                parts += [",", self.gap(span)]
            parts.append(make())
        return concat(*parts)

    def _bracketed(self, start: Doc, items: Items, close: str, end: int, comma: str = ",") -> Doc:
        """Return the parts of brackets that may break: not a group, so that what holds them decides."""
        if not items:
            return concat(start, close)
        first = self.gap(items[0][0], SOFT)
        inside = self.listed(items)
        return concat(start, indent(first, inside, IfBroken(comma), self.closing(end)), SOFT, close)

    # --- patterns ----------------------------------------------------------------------------------------------

    def field(self, node: tree.Field) -> str:
        """Write what stands in the braces of an integer expression."""
        value = _alone(node.value)
        return value if node.format is None else f"{value}:{node.format}"

    def pattern(self, node: tree.PatternNode) -> str:
        """Write a pattern."""
        return show_pattern(node, self.field)

    def reference(self, node: tree.KeyRef) -> str:
        """Write a key as the tensor it is."""
        return show_reference(node, self.field)

    # --- expressions -------------------------------------------------------------------------------------------

    def shown(self, node: Any, level: Level = Level.CONDITIONAL, *, inside: bool = False, alone: bool = False) -> Shown:
        """Return the document of an expression where one of a level is taken.

        `inside` of brackets a line may end anywhere; what stands `alone` there is not indented further.
        """
        if level_of(node) < level:
            return self._parenthesized(node, node.span.end)
        match node:
            case tree.Binary() if level_of(node) in _CHAINS:
                return self._chain(node, inside, alone)
            case tree.Binary(operator=operator):
                power = operator == "**"
                left = self.shown(node.left, Level.ATOM if power else Level.SUM, inside=inside).doc
                return self._operation(
                    [left], [node.operator], [(node.right, Level.SIGN if power else Level.SUM)], inside, alone
                )
            case tree.Pipe():
                return self._pipe(node, inside, alone)
            case tree.Conditional():
                return self._conditional(node, inside, alone)
            case tree.Unary(operator=operator, operand=operand):
                sign = "not " if operator == "not" else operator
                inner = self.shown(operand, Level.NOT if operator == "not" else Level.SIGN, inside=inside)
                return Shown(concat(sign, inner.doc), None if inner.hug is None else concat(sign, inner.hug))
            case tree.Matches(value=value, pattern=pattern):
                left = self.shown(value, Level.SUM, inside=inside).doc
                return Shown(concat(left, " matches ", self.pattern(pattern)))
        return self._atom(node, inside)

    def _atom(self, node: Any, inside: bool) -> Shown:
        match node:
            case tree.Number():
                return Shown(show_number(node))
            case tree.String():
                return Shown(show_string(node, self.field))
            case tree.Name(name=name):
                return Shown(name)
            case tree.KeyRef():
                return Shown(self.reference(node))
            case tree.Query(function=function, pattern=pattern):
                return Shown(f"{function}({self.pattern(pattern)})")
            case tree.Group(value=value):
                return self._parenthesized(value, node.span.end)
            case tree.Ellipsis():
                return Shown("...")
            case tree.Slice():
                return Shown(self._slice(node))
            case tree.Call():
                return self.arguments(f"{node.function}(", node.arguments, node.span.end)
            case tree.ListExpr():
                return _hugging(self._bracketed("[", self._items(node.items), "]", node.span.end))
            case tree.Subscript():
                whole = self.shown(node.value, Level.ATOM, inside=inside).doc
                indices = self._bracketed("[", self._items(node.indices), "]", node.span.end, "")
                start = flat(whole)
                return Shown(concat(whole, group(indices)), None if start is None else concat(start, indices))
        raise TypeError(f"a {type(node).__name__} is not an expression")

    def _items(self, nodes: Sequence[Any]) -> Items:
        return [(node.span, partial(self._item, node)) for node in nodes]

    def _item(self, node: Any) -> Doc:
        return self.shown(node, inside=True).doc

    def argument(self, node: tree.Argument, *, alone: bool = False) -> Doc:
        """Return an argument of a call."""
        value = self.shown(node.value, inside=True, alone=alone).doc
        return value if node.name is None else concat(f"{node.name}=", value)

    def arguments(self, start: str, items: Sequence[tree.Argument], end: int) -> Shown:
        """Return arguments in parentheses, after what stands before these."""
        alone = len(items) == 1
        made = [(one.span, partial(self.argument, one, alone=alone)) for one in items]
        return _hugging(self._bracketed(start, made, ")", end, "" if alone else ","))

    def _parenthesized(self, node: Any, end: int) -> Shown:
        first = self.gap(node.span, SOFT)
        inner = self.shown(node, inside=True, alone=True).doc
        return _hugging(concat("(", indent(first, inner, self.closing(end)), SOFT, ")"))

    def _chain(self, node: tree.Binary, inside: bool, alone: bool) -> Shown:
        """Return operators of one level that follow one another."""
        level = level_of(node)
        operators: list[str] = []
        operands: list[tuple[Any, Level]] = []
        first: Any = node
        while isinstance(first, tree.Binary) and level_of(first) is level:
            operators.append(first.operator)
            operands.append((first.right, Level(level + 1)))
            first = first.left
        left = self.shown(first, level, inside=inside).doc
        return self._operation([left], operators[::-1], operands[::-1], inside, alone)

    def _operation(
        self, parts: list[Doc], operators: list[str], operands: list[tuple[Any, Level]], inside: bool, alone: bool
    ) -> Shown:
        """Return operands and the operators between them; inside of brackets these begin lines, else they end them."""
        further: list[Doc] = []
        before: list[Doc] = [*parts]
        last = Shown("")
        plain = True
        for operator, (operand, level) in zip(operators, operands, strict=True):
            gap = self.gap(operand.span)
            plain = plain and gap is LINE
            last = self.shown(operand, level, inside=inside)
            if inside:
                further += [gap, f"{operator} ", last.doc]
            else:
                further += [f" {operator}", gap, last.doc]
            before += [f" {operator} ", last.doc]
        whole = group(*parts, *further) if alone else group(*parts, indent(*further))
        start = flat(concat(*before[:-1])) if plain else None
        if start is None or last.hug is None:
            return Shown(whole)
        hug = concat(start, last.hug)
        # A product that ends in parentheses reads better with these broken than with all its operators.
        product = _LEVELS.get(operators[0], Level.COMPARISON) >= Level.PRODUCT
        (operand, level) = operands[-1]
        tight = product and (isinstance(operand, tree.Group) or level_of(operand) < level)
        return Shown(choice(whole, hug) if inside and tight else whole, hug)

    def _pipe(self, node: tree.Pipe, inside: bool, alone: bool) -> Shown:
        stages: list[Any] = []
        first: Any = node
        while isinstance(first, tree.Pipe):
            stages.append(first.stage)
            first = first.value
        value = self.shown(first, Level.PIPE, inside=inside).doc
        further: list[Doc] = []
        for stage in reversed(stages):
            further += [self.gap(stage.span), "| ", self.shown(stage, Level.ATOM, inside=inside).doc]
        # Outside of brackets stages stand below the `=` they belong to.
        return Shown(group(value, indent(*further)) if inside and not alone else group(value, *further))

    def _conditional(self, node: tree.Conditional, inside: bool, alone: bool) -> Shown:
        value = self.shown(node.value, Level.PIPE, inside=inside).doc
        gap = self.gap(node.condition.span) if inside else " "
        condition = self.shown(node.condition, Level.OR, inside=inside).doc
        other = self.gap(node.otherwise.span)
        otherwise = self.shown(node.otherwise, inside=inside).doc
        further = [gap, "if ", condition, other, "else ", otherwise]
        return Shown(group(value, *further) if inside and alone else group(value, indent(*further)))

    def _slice(self, node: tree.Slice) -> str:
        start, stop, step = ("" if part is None else _alone(part) for part in (node.start, node.stop, node.step))
        if node.stop is not None or node.step is None:
            return _after_colon(start, stop) + (_after_colon("", step) if node.step is not None else "")
        # `n::step` and `::step` read as keys where a word stands on each side; more than a word is misread so.
        single = all(_is_word(part) for part in (node.start, node.step) if part is not None)
        return f"{start}::{step}" if single else f"{start}:: {step}"


def _alone(node: Any) -> str:
    """Write an expression on one line, without comments."""
    text = flat(Expressions(Comments()).shown(node, inside=True).doc)
    assert text is not None, "only comments break lines always"
    return text


def _after_colon(before: str, after: str) -> str:
    return f"{before}:{' ' if after.startswith(':') else ''}{after}"


def _is_word(node: Any) -> bool:
    return isinstance(node, tree.Name) or (isinstance(node, tree.Number) and isinstance(node.value, int))


def _hugging(brackets: Doc) -> Shown:
    return Shown(group(brackets), brackets)
