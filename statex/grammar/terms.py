"""The terms of a rule file: patterns, templates and expressions, which hold one another.

As they were written; names are not looked up and keys are not matched here.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from statex.source import Span

# --- patterns and templates -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Text:
    """Characters that stand for themselves (dots included)."""

    span: Span
    text: str


@dataclass(frozen=True, slots=True)
class Star:
    """`*`: one or more characters of one segment."""

    span: Span


@dataclass(frozen=True, slots=True)
class DoubleStar:
    """`**`: whole segments."""

    span: Span


class CaptureKind(Enum):
    """What a capture was declared to match; `PLAIN` is `{i}`: the type of its first mention, or one segment's text."""

    PLAIN = "plain"
    SEGMENTS = "segments"
    INT = "int"
    CHOICE = "choice"


@dataclass(frozen=True, slots=True)
class Choice:
    """One alternative of `{p:query=q|key=k}`: it matches `text` and stands for `value`."""

    text: str
    value: str


@dataclass(frozen=True, slots=True)
class Capture:
    """`{i}`, `{m:**}`, `{i:int}`, `{p:q|k|v}`; the name `_` is a wildcard without a name."""

    span: Span
    name: str
    kind: CaptureKind = CaptureKind.PLAIN
    choices: tuple[Choice, ...] = ()


@dataclass(frozen=True, slots=True)
class Splice:
    """`{$name}`: the value of a parameter or macro argument."""

    span: Span
    name: str


@dataclass(frozen=True, slots=True)
class Field:
    """`{i + 1}`, `{i:02}`, `{1}`: an integer expression with an optional format, in a template only."""

    span: Span
    value: Expr
    format: str | None = None


Piece = Text | Star | DoubleStar | Capture | Splice | Field


class PatternKind(Enum):
    """How a pattern was written: bare, `'literal'`, `"quoted"`, or `/regex/`."""

    BARE = "bare"
    LITERAL = "literal"
    QUOTED = "quoted"
    REGEX = "regex"


@dataclass(frozen=True, slots=True)
class PatternNode:
    """A pattern or a template: which of the two, its place in the statement tells.

    `text` is what stands between the quotes or slashes with escapes resolved, or the bare token without its `ft::`.
    `pieces` is its parse; a literal is one `Text` (none if empty), a regex has none.
    """

    span: Span
    kind: PatternKind
    text: str
    pieces: tuple[Piece, ...]
    input: str | None = None


# --- expressions ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Number:
    """An integer or a float."""

    span: Span
    value: int | float


@dataclass(frozen=True, slots=True)
class String:
    """Quoted text. For `"…"` that is a well-formed pattern, `pattern` holds it (macro arguments splice it)."""

    span: Span
    value: str
    pattern: PatternNode | None = None


@dataclass(frozen=True, slots=True)
class Name:
    """An undotted bare word."""

    span: Span
    name: str


@dataclass(frozen=True, slots=True)
class KeyRef:
    """A tensor by its key: `model.norm.weight`, `{m}.weight`, `ft::{key}`, `::bias`, `::'odd key'`."""

    span: Span
    key: PatternNode


@dataclass(frozen=True, slots=True)
class Argument:
    """An argument of a call, with its name if it was given by name."""

    span: Span
    name: str | None
    value: Expr


@dataclass(frozen=True, slots=True)
class Call:
    """`f(x, dim=1)`; `name_span` is the span of `f` alone."""

    span: Span
    function: str
    name_span: Span
    arguments: tuple[Argument, ...]


@dataclass(frozen=True, slots=True)
class Pipe:
    """`value | stage`: the stage is a `Call` or a `Name`."""

    span: Span
    value: Expr
    stage: Call | Name


@dataclass(frozen=True, slots=True)
class Unary:
    """`-x`, `+x` or `not x`; `operator` is one of `-`, `+`, `not`."""

    span: Span
    operator: str
    operand: Expr


@dataclass(frozen=True, slots=True)
class Binary:
    """Two operands: `+ - * / // % ** @`, `== != < <= > >=`, `in`, `not in`, `and`, `or`."""

    span: Span
    operator: str
    operator_span: Span
    left: Expr
    right: Expr


@dataclass(frozen=True, slots=True)
class Matches:
    """`value matches PATTERN`."""

    span: Span
    value: Expr
    pattern: PatternNode


@dataclass(frozen=True, slots=True)
class Query:
    """`exists(PATTERN)` or `count(PATTERN)`; `function` says which."""

    span: Span
    function: str
    pattern: PatternNode


@dataclass(frozen=True, slots=True)
class ListExpr:
    """`[a, b]`."""

    span: Span
    items: tuple[Expr, ...]


@dataclass(frozen=True, slots=True)
class Slice:
    """`start:stop:step` inside a subscript."""

    span: Span
    start: Expr | None
    stop: Expr | None
    step: Expr | None


@dataclass(frozen=True, slots=True)
class Ellipsis:
    """`...` inside a subscript."""

    span: Span


@dataclass(frozen=True, slots=True)
class Subscript:
    """`value[index, …]`."""

    span: Span
    value: Expr
    indices: tuple[Expr | Slice | Ellipsis, ...]


Expr = Number | String | Name | KeyRef | Call | Pipe | Unary | Binary | Matches | Query | ListExpr | Subscript
