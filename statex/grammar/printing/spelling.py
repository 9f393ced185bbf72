"""The spelling of patterns, keys, texts and numbers: the author's own, if the text still means the same."""

from __future__ import annotations

import math
import re
from collections.abc import Callable

from statex.core.quoting import show_text
from statex.core.source import Span
from statex.diagnostics import StatexError
from statex.grammar.quoted import MARKS, in_double_quotes, unquoted
from statex.grammar.terminals import terminal
from statex.grammar.tree import (
    Capture,
    CaptureForm,
    Choice,
    DoubleStar,
    Field,
    KeyRef,
    Number,
    PathNode,
    PatternKind,
    PatternNode,
    Piece,
    Splice,
    Star,
    String,
    Text,
)

ShowField = Callable[[Field], str]
"""Writes what stands in the braces of an integer expression."""

_PATTERN, _KEY, _NAME, _NUMBER = map(terminal, ("PATTERN", "KEY", "NAME", "NUMBER"))
_QUOTED = re.compile(f"{terminal('STRING').pattern}|{terminal('TEMPLATE').pattern}")
_MARK = re.compile(r"[{}*]")


def show_number(node: Number) -> str:
    """Write a number."""
    written = node.span.text
    if _NUMBER.fullmatch(written) and _same(float(written) if not written.isdigit() else int(written), node.value):
        return written
    if isinstance(node.value, float) and math.isinf(node.value):
        return "1e999" if node.value > 0 else "-1e999"
    return repr(node.value)


def _same(one: float, other: float) -> bool:
    return one == other and type(one) is type(other)


def show_string(node: String, show_field: ShowField) -> str:
    """Write a quoted text."""
    written = node.span.text
    if _quotes(written, 0) and _meant(node.span, 0) == node.value and _holds(node.pattern, node.span):
        return written
    if node.pattern is not None and node.pattern.kind is PatternKind.QUOTED:
        return _in_quotes(node.pattern, show_field)
    return show_text(node.value)


def show_path(node: PathNode) -> str:
    """Write a path in a checkpoint."""
    if isinstance(node.value, str):
        written = node.span.text
        return written if _quotes(written, 0) and _meant(node.span, 0) == node.value else show_text(node.value)
    return "[" + ", ".join(show_text(part) if isinstance(part, str) else str(part) for part in node.value) + "]"


def show_pattern(node: PatternNode, show_field: ShowField) -> str:
    """Write a pattern or a template."""
    if _is_as_written(node):
        return node.span.text.removeprefix("::")
    scope = "" if node.input is None else f"{node.input}::"
    if node.kind is PatternKind.REGEX:
        return f"{scope}/{_in_slashes(node.text)}/"
    if node.kind is PatternKind.LITERAL:
        return scope + show_text(node.text)
    bare = scope + "".join(_show_piece(piece, show_field, "") for piece in node.pieces)
    plain = not any(isinstance(piece, Text) and _MARK.search(piece.text) for piece in node.pieces)
    return (
        bare
        if node.kind is PatternKind.BARE and plain and _PATTERN.fullmatch(bare)
        else scope + _in_quotes(node, show_field)
    )


def show_reference(node: KeyRef, show_field: ShowField) -> str:
    """Write a key as the tensor it is in an expression."""
    key = node.key
    text = show_pattern(key, show_field)
    scope = f"{key.input}::" if key.input is not None else "::"
    if key.kind is not PatternKind.BARE:
        return text if key.input is not None else scope + text
    written_main = key.input is None and is_main(node)
    if _KEY.fullmatch(text) and not _NUMBER.fullmatch(text) and not written_main:
        return text
    if _NAME.fullmatch(text) and key.input is None:
        return scope + text
    plain = all(isinstance(piece, Text) and not _MARK.search(piece.text) for piece in key.pieces)
    return scope + (show_text(key.text) if plain else _in_quotes(key, show_field))


def is_main(node: KeyRef) -> bool:
    """Say whether a key was written with `::` alone before it, as a tensor of the state."""
    return node.span.text.startswith("::")


def _in_quotes(node: PatternNode, show_field: ShowField) -> str:
    return '"' + "".join(_show_piece(piece, show_field, MARKS) for piece in node.pieces) + '"'


def _in_slashes(text: str) -> str:
    return text.replace("/", "\\/").replace("\n", "\\n")


def show_piece(piece: Piece, show_field: ShowField) -> str:
    """Write a piece of a pattern as it stands outside of quotes."""
    return _show_piece(piece, show_field, "")


def _show_piece(piece: Piece, show_field: ShowField, marks: str) -> str:
    match piece:
        case Text(text=text):
            return in_double_quotes(text)[1:-1] if marks else text
        case Star():
            return "*"
        case DoubleStar():
            return "**"
        case Splice(name=name):
            return f"{{${name}}}"
        case Field():
            return f"{{{show_field(piece)}}}"
        case Capture():
            return f"{{{piece.name}{_type_of(piece)}}}"


def show_choice(choice: Choice) -> str:
    """Write one of the alternatives that a capture matches."""
    return choice.text if choice.text == choice.value else f"{choice.text}={choice.value}"


def _type_of(capture: Capture) -> str:
    if capture.kind is CaptureForm.CHOICE:
        choices = [*map(show_choice, capture.choices)]
        # A choice alone reads as the name of a type.
        return ":" + "|".join(choices if len(choices) > 1 else [f"{c.text}={c.value}" for c in capture.choices])
    return {CaptureForm.PLAIN: "", CaptureForm.INT: ":int", CaptureForm.SEGMENTS: ":**"}[capture.kind]


# --- is the text at a span still what a node says? --------------------------------------------------------------


def _is_as_written(node: PatternNode) -> bool:
    """Say whether a pattern is what stands at its span: not for one that was made, or made of another."""
    written = node.span.text
    scope = f"{node.input}::" if node.input is not None else ""
    if not written.startswith(scope) or not _holds(node, node.span):
        return False
    inside = written[len(scope) :]
    if node.kind is PatternKind.REGEX:
        return inside == f"/{_in_slashes(node.text)}/"
    if node.kind is PatternKind.BARE:
        return inside == node.text or (inside == f"::{node.text}" and not scope)
    quote = "'" if node.kind is PatternKind.LITERAL else '"'
    # A key without an input may have its `::` inside its span.
    skipped = 2 if not scope and inside.startswith("::") else len(scope)
    return _quotes(written, skipped) == quote and _meant(node.span, skipped) == node.text


def _holds(node: PatternNode | None, span: Span) -> bool:
    """Say whether the pieces of a pattern stand in a span."""
    return node is None or all(
        piece.span.source is span.source and span.start <= piece.span.start <= piece.span.end <= span.end
        for piece in node.pieces
    )


def _quotes(written: str, skipped: int) -> str:
    """Return the quote that a text stands in; empty where it stands in none."""
    found = _QUOTED.fullmatch(written, skipped)
    return found.group()[0] if found is not None else ""


def _meant(span: Span, skipped: int) -> str | None:
    try:
        return unquoted(span, skipped).text
    except StatexError:
        return None
