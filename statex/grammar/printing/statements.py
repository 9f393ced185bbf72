"""Statements to documents: a head, and clauses that may start lines."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from statex.core.source import Span
from statex.grammar import tree
from statex.grammar.printing.expressions import Expressions, Level, Shown
from statex.grammar.printing.layout import CommentDoc, Doc, LineClause, clauses, concat, flat, group, indent
from statex.grammar.printing.spelling import is_main, show_choice, show_path, show_piece, show_string

Part = tuple[Span, str, Callable[[], Shown]]
"""A part of a statement that may begin a line: its place, the word it begins with, and what makes the rest."""


def rename_head(node: tree.Rename) -> str:
    """Return what a `rename` begins with."""
    mode = "" if node.mode is tree.RenameMode.KEY else f" {node.mode.value}"
    return f"rename{_mark(node.optional)}{mode}{' first' if node.first else ''}"


def _mark(optional: bool) -> str:
    return "?" if optional else ""


class Statements:
    """Makes documents of all that is neither a block nor a table."""

    def __init__(self, expressions: Expressions) -> None:
        self._expressions = expressions

    def doc(self, node: Any) -> Doc:
        """Return the document of a statement, a row, a piece of a pattern, or an expression."""
        match node:
            case tree.Rename() | tree.Row() | tree.Renumber() | tree.Copy() | tree.Drop() | tree.DropValue():
                return self._of_keys(node)
            case tree.SetValue() | tree.AddValue():
                return self._of_around(node)
            case tree.ValueOf() | tree.MetadataOf():
                return self._place(node)
            case tree.Set() | tree.Add() | tree.Split() | tree.Merge() | tree.MergeSource():
                return self._of_values(node)
            case tree.Expect() | tree.ExpectKeys() | tree.ExpectEach() | tree.ExpectSame():
                return self._expectation(node)
            case tree.PatternNode():
                return self._expressions.pattern(node)
            case tree.Text() | tree.Star() | tree.DoubleStar() | tree.Capture() | tree.Splice() | tree.Field():
                return show_piece(node, self._expressions.field)
            case tree.Choice():
                return show_choice(node)
            case tree.Argument():
                return self._expressions.argument(node)
        return self._of_the_program(node)

    # --- clauses -----------------------------------------------------------------------------------------------

    def _joined(self, head: Doc, parts: Sequence[Part | None]) -> Doc:
        """Return a head with clauses, each made when its place is reached."""
        made: list[LineClause] = []
        for part in parts:
            if part is None:
                continue
            span, word, make = part
            ends, own = self._expressions.comments_before(span)
            if made and ends:
                made[-1] = _ending(made[-1], ends)
            head = head if made else concat(head, *map(CommentDoc, ends))
            shown = make()
            hug = None if shown.hug is None else concat(f"{word} ", shown.hug)
            made.append(LineClause(concat(f"{word} ", shown.doc), own, hug, word == "for"))
        return clauses(head, tuple(made)) if made else head

    def where(self, node: Any) -> LineClause | None:
        """Return the condition of a statement."""
        part = self._where(node)
        if part is None:
            return None
        span, word, make = part
        ends, own = self._expressions.comments_before(span)
        return LineClause(concat(f"{word} ", make().doc), (*ends, *own))

    def _where(self, node: Any) -> Part | None:
        return None if node.where is None else self._expression("where", node.where)

    def _expression(self, word: str, node: Any) -> Part:
        return node.span, word, partial(self._expressions.shown, node)

    def _pattern(self, word: str, node: tree.PatternNode) -> Part:
        return node.span, word, lambda: Shown(self._expressions.pattern(node))

    def _patterns(self, nodes: Sequence[tree.PatternNode]) -> Doc:
        return self._listed([(node.span, partial(self._expressions.pattern, node)) for node in nodes])

    def _listed(self, items: Sequence[tuple[Span, Callable[[], Doc]]]) -> Doc:
        return group(indent(self._expressions.listed(items)))

    # --- keys --------------------------------------------------------------------------------------------------

    def _of_keys(self, node: Any) -> Doc:
        pattern = self._expressions.pattern
        match node:
            case tree.Row():
                arrow = f"->{_mark(node.optional)}"
                return self._joined(pattern(node.source), [self._pattern(arrow, node.target)])
            case tree.Rename(rows=(row, *_)):
                head = f"{rename_head(node)} {pattern(row.source)}"
                arrow = f"->{_mark(row.optional)}"
                return self._joined(head, [self._pattern(arrow, row.target), self._where(node)])
            case tree.Renumber():
                return self._joined(f"renumber{_mark(node.optional)} {pattern(node.pattern)}", [self._where(node)])
            case tree.Copy():
                head = f"copy{_mark(node.optional)} {pattern(node.source)}"
                return self._joined(head, [self._pattern("->", node.target), self._where(node)])
            case tree.Drop():
                head = f"{'keep' if node.keep else 'drop'}{_mark(node.optional)} "
                return self._joined(concat(head, self._patterns(node.patterns)), [self._where(node)])
        return concat(f"drop{_mark(node.optional)} ", self._around(node.places))

    # --- what stands around the state --------------------------------------------------------------------------

    def _of_around(self, node: tree.SetValue | tree.AddValue) -> Doc:
        verb, places = ("set", node.places) if isinstance(node, tree.SetValue) else ("add", (node.place,))
        return self._joined(concat(f"{verb} ", self._around(places)), [self._expression("=", node.value)])

    def _around(self, places: Sequence[tree.Around]) -> Doc:
        return self._listed([(place.span, partial(self._place, place)) for place in places])

    def _place(self, node: tree.Around) -> Doc:
        if isinstance(node, tree.ValueOf):
            return f"value({show_path(node.path)})"
        return f"metadata({self._expressions.pattern(node.pattern)})"

    # --- values ------------------------------------------------------------------------------------------------

    def _of_values(self, node: Any) -> Doc:
        match node:
            case tree.MergeSource():
                return self._source(node)
            case tree.Add():
                head: Doc = f"add{_mark(node.optional)} {self._expressions.pattern(node.target)}"
                target: list[Part | None] = []
            case tree.Set():
                head = concat(f"set{_mark(node.optional)} ", self._patterns(node.targets), _computed(node))
                target = []
            case tree.Split():
                head = f"split{_mark(node.optional)} {self._expressions.pattern(node.source)}"
                target = [_over(node), (node.targets[0].span, "->", partial(self._results, node, node.targets))]
            case _:
                sources = [(one.span, partial(self._source, one)) for one in node.sources]
                head = concat(f"merge{_mark(node.optional)} ", self._listed(sources))
                target = [_over(node), (node.target.span, "->", partial(self._results, node, (node.target,)))]
        each = getattr(node, "each", None)
        return self._joined(
            head,
            [
                *target,
                self._expression("=", node.value),
                None if each is None else self._pattern("for", each),
                self._where(node),
            ],
        )

    def _results(self, node: tree.Split | tree.Merge, targets: Sequence[tree.PatternNode]) -> Shown:
        return Shown(concat(self._patterns(targets), _computed(node)))

    def _source(self, node: tree.MergeSource) -> Doc:
        name = f" as {node.name.name}" if node.name is not None else ""
        return f"{self._expressions.pattern(node.pattern)}{name}"

    # --- expectations ------------------------------------------------------------------------------------------

    def _expectation(self, node: Any) -> Doc:
        pattern, shown = self._expressions.pattern, self._expressions.shown
        match node:
            case tree.ExpectKeys():
                return f"expect {'' if node.present else 'no '}key matches {pattern(node.pattern)}"
            case tree.ExpectEach():
                value = shown(node.value, Level.SUM).doc
                return concat(f"expect {node.subject} {pattern(node.pattern)} {node.operator} ", value)
            case tree.ExpectSame():
                first = pattern(node.pattern)
                gap = self._expressions.gap(node.other.span)
                other = self._expressions.reference(node.other) if is_main(node.other) else pattern(node.other.key)
                return concat(f"expect same {first},", group(indent(gap, other)))
        counted = _counted(node.condition)
        if counted is None:
            return concat("expect ", shown(node.condition).doc)
        value = shown(node.condition.right, Level.SUM).doc
        return concat(f"expect count {pattern(counted.pattern)} {node.condition.operator} ", value)

    # --- the program itself ------------------------------------------------------------------------------------

    def _of_the_program(self, node: Any) -> Doc:
        match node:
            case tree.Param():
                type_ = f": {node.type.name}" if node.type is not None else ""
                path = f" from {show_string(node.path, self._expressions.field)}" if node.path is not None else ""
                default = None if node.default is None else self._expression("=", node.default)
                return self._joined(f"param {node.name.name}{type_}{path}", [default])
            case tree.Let() | tree.Binding():
                word = "let " if isinstance(node, tree.Let) else ""
                return self._joined(f"{word}{node.name.name}", [self._expression("=", node.value)])
            case tree.Input():
                root = f" root {show_path(node.root)}" if node.root is not None else ""
                return f"input {node.name.name}{'[]' if node.family else ''}{root}"
            case tree.Include():
                path = f"include {show_string(node.path, self._expressions.field)}"
                given = [(one.span, partial(self._binding, one)) for one in node.bindings]
                return concat(path, " with ", self._listed(given)) if given else path
            case tree.Use():
                return self._expressions.arguments(f"use {node.name.name}(", node.arguments, node.span.end).doc
            case tree.Root():
                return self._root(node)
            case tree.Follow():
                return concat("follow ", self._listed([(one.span, partial(show_path, one)) for one in node.paths]))
            case tree.Order():
                return "order natural" if node.like is None else f"order like {node.like.name}"
            case tree.Allow():
                return concat(f"allow {node.kind} ", self._patterns(node.patterns))
            case tree.PathNode():
                return show_path(node)
            case tree.Bad(span=span):
                return span.text
        return self._expressions.shown(node).doc

    def _binding(self, node: tree.Binding) -> Doc:
        return concat(f"{node.name.name} = ", self._expressions.shown(node.value).doc)

    def _root(self, node: tree.Root) -> Doc:
        flat_ = " flat" if node.flat else ""
        if node.target is None:
            return f"root {show_path(node.path)}{flat_}"
        target = Shown(show_path(node.target) + flat_)
        return self._joined(f"root {show_path(node.path)}", [(node.target.span, "->", lambda: target)])


def _ending(clause: LineClause, comments: Sequence[str]) -> LineClause:
    ends = [*map(CommentDoc, comments)]
    return replace(clause, doc=concat(clause.doc, *ends), hug=None if clause.hug is None else concat(clause.hug, *ends))


def _computed(node: tree.Set | tree.Split | tree.Merge) -> str:
    return f" in {node.compute.name}" if node.compute is not None else ""


def _over(node: tree.Split | tree.Merge) -> Part | None:
    if node.over is None:
        return None
    name = node.over.name
    return node.over.span, "over", lambda: Shown(name)


def _counted(condition: Any) -> tree.Query | None:
    """Return the question of `expect count PATTERN == n`, which the tree has as `count(PATTERN) == n`."""
    match condition:
        case tree.Binary(operator="==" | "!=" | "<" | "<=" | ">" | ">=", left=tree.Query(function="count") as asked):
            return None if asked.span.text.endswith(")") else asked
    return None


class Flat:
    """Statements on one line, blocks and tables too: `;` stands between what is in their braces."""

    def __init__(self, expressions: Expressions) -> None:
        self._expressions = expressions
        self._statements = Statements(expressions)

    def text(self, node: Any) -> str:
        """Write a node."""
        match node:
            case tree.Program(statements=statements):
                return "; ".join(map(self.text, statements))
            case tree.If(condition=condition, then=then, otherwise=otherwise):
                chained = len(otherwise) == 1 and isinstance(otherwise[0], tree.If)
                last = self.text(otherwise[0]) if chained else self._braced(otherwise)
                shown = f"if {self.text(condition)} {self._braced(then)}"
                return f"{shown} else {last}" if otherwise else shown
            case tree.Within() | tree.Macro():
                return f"{block_head(node, self._expressions)} {self._braced(node.body)}"
            case tree.Rename(is_table=True):
                rest = f" where {self.text(node.where)}" if node.where is not None else ""
                return f"{rename_head(node)} {self._braced(node.rows)}{rest}"
        text = flat(self._statements.doc(node))
        assert text is not None, "only comments break lines always"
        return text

    def _braced(self, items: Sequence[Any]) -> str:
        return "{ " + "; ".join(map(self.text, items)) + " }" if items else "{ }"


def block_head(node: tree.Within | tree.Macro, expressions: Expressions) -> str:
    """Return what a block begins with, up to its brace."""
    if isinstance(node, tree.Within):
        return f"within {expressions.pattern(node.pattern)}"
    return f"macro {node.name.name}({', '.join(one.name for one in node.parameters)})"
