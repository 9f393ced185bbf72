"""The terms of a rule file: patterns, templates and expressions, which hold one another.

As they were written; names are not looked up and keys are not matched here.
"""

from __future__ import annotations

from dataclasses import field
from enum import Enum

from statex.core.record import node
from statex.core.source import Span

# --- patterns and templates -------------------------------------------------------------------------------------


@node
class Text:
    """Characters that stand for themselves (dots included)."""

    span: Span
    text: str


@node
class Star:
    """`*`: one or more characters of one segment."""

    span: Span


@node
class DoubleStar:
    """`**`: whole segments."""

    span: Span


class CaptureForm(Enum):
    """What a capture was declared to match; `PLAIN` is `{i}`: the type of its first mention, or one segment's text."""

    PLAIN = "plain"
    SEGMENTS = "segments"
    INT = "int"
    CHOICE = "choice"


@node
class Choice:
    """One alternative of `{p:query=q|key=k}`: it matches `text` and stands for `value`."""

    text: str
    value: str


@node
class Capture:
    """`{i}`, `{m:**}`, `{i:int}`, `{p:q|k|v}`; the name `_` is a wildcard without a name."""

    span: Span
    name: str
    kind: CaptureForm = CaptureForm.PLAIN
    choices: tuple[Choice, ...] = ()


@node
class Splice:
    """`{$name}`: the value of a parameter or macro argument."""

    span: Span
    name: str


@node
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


@node
class PatternNode:
    """A pattern or a template: which of the two, its place in the statement tells.

    `text` is what stands between the quotes or slashes with escapes resolved, or the bare token without its `ft::`.
    `pieces` is its parse; a literal is one `Text` (none if empty), a regex has none.

    What is compiled of it is looked up by it, often: its place is enough of a hash.
    """

    span: Span
    kind: PatternKind = field(hash=False)
    text: str = field(hash=False)
    pieces: tuple[Piece, ...] = field(hash=False)
    input: str | None = None


# --- expressions ------------------------------------------------------------------------------------------------


@node
class Number:
    """An integer or a float."""

    span: Span
    value: int | float


@node
class String:
    """Quoted text. For `"…"` that is a well-formed pattern, `pattern` holds it (macro arguments splice it)."""

    span: Span
    value: str
    pattern: PatternNode | None = None


@node
class Name:
    """An undotted bare word."""

    span: Span
    name: str


@node
class KeyRef:
    """A tensor by its key: `model.norm.weight`, `{m}.weight`, `ft::{key}`, `::bias`, `::'odd key'`."""

    span: Span
    key: PatternNode


@node
class Argument:
    """An argument of a call, with its name if it was given by name."""

    span: Span
    name: str | None
    value: Expr


@node
class Call:
    """`f(x, dim=1)`; `name_span` is the span of `f` alone."""

    span: Span
    function: str
    name_span: Span
    arguments: tuple[Argument, ...]


@node
class Pipe:
    """`value | stage`: the stage is a `Call` or a `Name`."""

    span: Span
    value: Expr
    stage: Call | Name


@node
class Unary:
    """`-x`, `+x` or `not x`; `operator` is one of `-`, `+`, `not`."""

    span: Span
    operator: str
    operand: Expr


@node
class Binary:
    """Two operands: `+ - * / // % ** @`, `== != < <= > >=`, `in`, `not in`, `and`, `or`."""

    span: Span
    operator: str
    operator_span: Span
    left: Expr
    right: Expr


@node
class Matches:
    """`value matches PATTERN`."""

    span: Span
    value: Expr
    pattern: PatternNode


@node
class Query:
    """`exists(PATTERN)` or `count(PATTERN)`; `function` says which."""

    span: Span
    function: str
    pattern: PatternNode


@node
class Conditional:
    """`value if condition else otherwise`; the condition asks headers, and the other branch is not evaluated."""

    span: Span
    value: Expr
    condition: Expr
    otherwise: Expr


@node
class ListExpr:
    """`[a, b]`."""

    span: Span
    items: tuple[Expr, ...]


@node
class Group:
    """`(value)`: parentheses of the author, only in the tree of `parse_lossless`; elsewhere the value stands alone."""

    span: Span
    value: Expr


@node
class Slice:
    """`start:stop:step` inside a subscript."""

    span: Span
    start: Expr | None
    stop: Expr | None
    step: Expr | None


@node
class Ellipsis:
    """`...` inside a subscript."""

    span: Span


@node
class Subscript:
    """`value[index, …]`."""

    span: Span
    value: Expr
    indices: tuple[Expr | Slice | Ellipsis, ...]


Expr = (
    Number
    | String
    | Name
    | KeyRef
    | Call
    | Pipe
    | Unary
    | Binary
    | Matches
    | Query
    | Conditional
    | ListExpr
    | Subscript
)
