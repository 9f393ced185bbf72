"""Nodes that are made, not read: parts of rules that a program builds and prints."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from statex.diagnostics.quoting import is_plain
from statex.grammar import tree
from statex.grammar.printer import show_flat
from statex.source import Source, Span

NOWHERE = Span(Source("<made>", ""), 0, 0)
"""The place of a node that stands in no text."""


def key(text: str, input: str | None = None) -> tree.PatternNode:
    """Return the pattern, or template, of one key: bare where it can be, else between single quotes."""
    kind = tree.PatternKind.BARE if is_plain(text) else tree.PatternKind.LITERAL
    return tree.PatternNode(NOWHERE, kind, text, (tree.Text(NOWHERE, text),) if text else (), input)


def literal(text: str) -> tree.PatternNode:
    """Return a text between single quotes, as in `rename prefix`."""
    pieces = (tree.Text(NOWHERE, text),) if text else ()
    return tree.PatternNode(NOWHERE, tree.PatternKind.LITERAL, text, pieces)


def pattern(pieces: Sequence[tree.Piece | str], input: str | None = None) -> tree.PatternNode:
    """Return a pattern, or template, of pieces; texts are pieces that stand for themselves."""
    made = tuple(tree.Text(NOWHERE, one) if isinstance(one, str) else one for one in pieces)
    bare = tree.PatternNode(NOWHERE, tree.PatternKind.BARE, "".join(map(show_flat, made)), made)
    if show_flat(bare) == bare.text:
        return replace(bare, input=input)
    return tree.PatternNode(NOWHERE, tree.PatternKind.QUOTED, bare.text, made, input)


def capture(name: str, kind: tree.CaptureKind = tree.CaptureKind.PLAIN) -> tree.Capture:
    """Return `{name}`, or `{name:**}` or `{name:int}`."""
    return tree.Capture(NOWHERE, name, kind)


def tensor(text: str, input: str | None = None) -> tree.KeyRef:
    """Return a key, of the state or of an input, as the tensor it is in an expression."""
    return tree.KeyRef(NOWHERE, key(text, input))


def name(text: str) -> tree.Name:
    """Return a word."""
    return tree.Name(NOWHERE, text)


def number(value: float) -> tree.Number:
    """Return a number."""
    return tree.Number(NOWHERE, value)


def string(value: str) -> tree.String:
    """Return a text between single quotes."""
    return tree.String(NOWHERE, value)


def call(function: str, *arguments: tree.Expr, **named: tree.Expr) -> tree.Call:
    """Return `function(arguments, name=value)`."""
    given = [tree.Argument(NOWHERE, None, value) for value in arguments]
    given += [tree.Argument(NOWHERE, word, value) for word, value in named.items()]
    return tree.Call(NOWHERE, function, NOWHERE, tuple(given))


def pipe(value: tree.Expr, stage: tree.Call | tree.Name) -> tree.Pipe:
    """Return `value | stage`."""
    return tree.Pipe(NOWHERE, value, stage)


def binary(left: tree.Expr, operator: str, right: tree.Expr) -> tree.Binary:
    """Return `left operator right`."""
    return tree.Binary(NOWHERE, operator, NOWHERE, left, right)


def row(source: tree.PatternNode, target: tree.PatternNode, *, optional: bool = False) -> tree.Row:
    """Return `source -> target`."""
    return tree.Row(NOWHERE, source, target, optional)


def rename(*rows: tree.Row, mode: tree.RenameMode = tree.RenameMode.KEY, optional: bool = False) -> tree.Rename:
    """Return `rename …` of one row, or of a table of them."""
    if len(rows) == 1:
        return tree.Rename(NOWHERE, mode, rows, optional=optional)
    return tree.Rename(NOWHERE, mode, rows, is_table=True, optional=optional)


def program(*statements: tree.Statement) -> tree.Program:
    """Return a rule file."""
    return tree.Program(NOWHERE.source, statements)
