"""Nodes that are built, not parsed: parts of rules that a program builds and `printer` writes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from statex.core.paths import path_from_text
from statex.core.quoting import is_plain
from statex.core.source import Source, Span
from statex.grammar import tree

NOWHERE = Span(Source("<made>", ""), 0, 0)
"""The place of a node that stands in no text."""

_GAP = Span(Source("<made>", "…"), 0, 1)


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
    from statex.grammar.printer import show_flat

    made = tuple(tree.Text(NOWHERE, one) if isinstance(one, str) else one for one in pieces)
    bare = tree.PatternNode(NOWHERE, tree.PatternKind.BARE, "".join(map(show_flat, made)), made)
    if show_flat(bare) == bare.text:
        return replace(bare, input=input)
    return tree.PatternNode(NOWHERE, tree.PatternKind.QUOTED, bare.text, made, input)


def glob(text: str, input: str | None = None) -> tree.PatternNode:
    """Return a pattern of a text in which `*` and `**` are what they are in patterns."""
    stars: dict[str, tree.Piece] = {"*": tree.Star(NOWHERE), "**": tree.DoubleStar(NOWHERE)}
    return pattern([stars.get(part, part) for part in re.split(r"(\*+)", text) if part], input)


def capture(name: str, kind: tree.CaptureForm = tree.CaptureForm.PLAIN) -> tree.Capture:
    """Return `{name}`, or `{name:**}` or `{name:int}`."""
    return tree.Capture(NOWHERE, name, kind)


def gap_pattern() -> tree.PatternNode:
    """Return `…` in the place of a pattern, for the reader to fill in."""
    return tree.PatternNode(_GAP, tree.PatternKind.BARE, "…", (tree.Text(_GAP, "…"),))


def gap() -> tree.Name:
    """Return `…` in the place of an expression, for the reader to fill in."""
    return tree.Name(_GAP, "…")


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


def subscript(value: tree.Expr, *indices: tree.Expr) -> tree.Subscript:
    """Return `value[indices]`."""
    return tree.Subscript(NOWHERE, value, indices)


def row(source: tree.PatternNode, target: tree.PatternNode, *, optional: bool = False) -> tree.Row:
    """Return `source -> target`."""
    return tree.Row(NOWHERE, source, target, optional)


def rename(*rows: tree.Row, mode: tree.RenameMode = tree.RenameMode.KEY, optional: bool = False) -> tree.Rename:
    """Return `rename …` of one row, or of a table of them."""
    if len(rows) == 1:
        return tree.Rename(NOWHERE, mode, rows, optional=optional)
    return tree.Rename(NOWHERE, mode, rows, is_table=True, optional=optional)


def renumber(pattern: tree.PatternNode) -> tree.Renumber:
    """Return `renumber PATTERN`."""
    return tree.Renumber(NOWHERE, pattern)


def copy(source: tree.PatternNode, target: tree.PatternNode) -> tree.Copy:
    """Return `copy PATTERN -> TEMPLATE`."""
    return tree.Copy(NOWHERE, source, target)


def drop(*patterns: tree.PatternNode) -> tree.Drop:
    """Return `drop PATTERNS`."""
    return tree.Drop(NOWHERE, patterns)


def keep(*patterns: tree.PatternNode) -> tree.Drop:
    """Return `keep PATTERNS`."""
    return tree.Drop(NOWHERE, patterns, keep=True)


def order() -> tree.Order:
    """Return `order natural`."""
    return tree.Order(NOWHERE)


def allow_missing(*patterns: tree.PatternNode) -> tree.Allow:
    """Return `allow missing PATTERNS`."""
    return tree.Allow(NOWHERE, "missing", patterns)


# --- values -----------------------------------------------------------------------------------------------------


def assign(target: tree.PatternNode, value: tree.Expr, where: tree.Expr | None = None) -> tree.Set:
    """Return `set PATTERN = EXPR [where EXPR]`."""
    return tree.Set(NOWHERE, (target,), value, where=where)


def add(target: tree.PatternNode, value: tree.Expr, each: tree.PatternNode | None = None) -> tree.Add:
    """Return `add TEMPLATE = EXPR [for PATTERN]`."""
    return tree.Add(NOWHERE, target, value, each)


def split(source: tree.PatternNode, target: tree.PatternNode, value: tree.Expr, over: str) -> tree.Split:
    """Return `split PATTERN over NAME -> TEMPLATE = EXPR`."""
    return tree.Split(NOWHERE, source, name(over), (target,), value)


# --- what stands around the state -------------------------------------------------------------------------------


def path(written: str) -> tree.PathNode:
    """Return a path that is written as a dotted text, or as a list in brackets."""
    try:
        found = path_from_text(written)
    except ValueError:
        # A dotted text that begins with a bracket.
        found = written
    return tree.PathNode(NOWHERE, found if isinstance(found, str) else tuple(found))


def value_of(written: str) -> tree.ValueOf:
    """Return `value('PATH')`."""
    return tree.ValueOf(NOWHERE, path(written))


def metadata_of(text: str) -> tree.MetadataOf:
    """Return `metadata('NAME')`."""
    return tree.MetadataOf(NOWHERE, literal(text))


def assign_value(place: tree.Around, value: tree.Expr) -> tree.SetValue:
    """Return `set value('PATH') = EXPR`, or that of metadata."""
    return tree.SetValue(NOWHERE, (place,), value)


def add_value(place: tree.Around, value: tree.Expr) -> tree.AddValue:
    """Return `add value('PATH') = EXPR`, or that of metadata."""
    return tree.AddValue(NOWHERE, place, value)


def drop_value(place: tree.Around) -> tree.DropValue:
    """Return `drop value('PATH')`, or that of metadata."""
    return tree.DropValue(NOWHERE, (place,))


# --- the program itself -----------------------------------------------------------------------------------------


def param(text: str, type_: str | None = None) -> tree.Param:
    """Return `param NAME[: TYPE]`."""
    return tree.Param(NOWHERE, name(text), None if type_ is None else name(type_))


def input_(text: str, *, family: bool = False) -> tree.Input:
    """Return `input NAME`, or `input NAME[]`."""
    return tree.Input(NOWHERE, name(text), family)


def follow(written: str) -> tree.Follow:
    """Return `follow PATH`."""
    return tree.Follow(NOWHERE, (path(written),))


def root(written: str, target: str | None = None, *, flat: bool = False) -> tree.Root:
    """Return `root PATH [-> PATH] [flat]`."""
    return tree.Root(NOWHERE, path(written), None if target is None else path(target), flat)


def program(*statements: tree.Statement) -> tree.Program:
    """Return a rule file."""
    return tree.Program(NOWHERE.source, statements)
