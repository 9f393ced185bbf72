"""The tree of a rule file: frozen nodes with spans, and no meaning yet.

Statements, patterns and expressions as they were written; names are not looked up and keys are not matched here.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from statex.source import Source, Span

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

# --- statements -------------------------------------------------------------------------------------------------


class RenameMode(Enum):
    """What of a key a rename changes."""

    KEY = "key"
    PART = "part"
    PREFIX = "prefix"
    SUFFIX = "suffix"
    TEXT = "text"


@dataclass(frozen=True, slots=True)
class Row:
    """`from -> to`; `->?` makes it optional."""

    span: Span
    source: PatternNode
    target: PatternNode
    optional: bool = False


@dataclass(frozen=True, slots=True)
class Rename:
    """`rename …`: one row, or a table of them; `first` lets the first row that matches win."""

    span: Span
    mode: RenameMode
    rows: tuple[Row, ...]
    is_table: bool = False
    first: bool = False
    optional: bool = False
    where: Expr | None = None


@dataclass(frozen=True, slots=True)
class Renumber:
    """`renumber PATTERN`."""

    span: Span
    pattern: PatternNode
    optional: bool = False
    where: Expr | None = None


@dataclass(frozen=True, slots=True)
class Set:
    """`set PATTERNS = EXPR [for PATTERN]`."""

    span: Span
    targets: tuple[PatternNode, ...]
    value: Expr
    each: PatternNode | None = None
    optional: bool = False
    where: Expr | None = None


@dataclass(frozen=True, slots=True)
class Add:
    """`add TEMPLATE = EXPR [for PATTERN]`."""

    span: Span
    target: PatternNode
    value: Expr
    each: PatternNode | None = None
    optional: bool = False
    where: Expr | None = None


@dataclass(frozen=True, slots=True)
class Copy:
    """`copy PATTERN -> TEMPLATE`."""

    span: Span
    source: PatternNode
    target: PatternNode
    optional: bool = False
    where: Expr | None = None


@dataclass(frozen=True, slots=True)
class Drop:
    """`drop PATTERNS`, or `keep PATTERNS` where `keep` is true."""

    span: Span
    patterns: tuple[PatternNode, ...]
    keep: bool = False
    optional: bool = False
    where: Expr | None = None


@dataclass(frozen=True, slots=True)
class Split:
    """`split PATTERN [over e] -> TEMPLATES = EXPR`."""

    span: Span
    source: PatternNode
    over: Name | None
    targets: tuple[PatternNode, ...]
    value: Expr
    optional: bool = False
    where: Expr | None = None


@dataclass(frozen=True, slots=True)
class MergeSource:
    """`PATTERN [as n]`."""

    span: Span
    pattern: PatternNode
    name: Name | None = None


@dataclass(frozen=True, slots=True)
class Merge:
    """`merge PATTERN [as n], … [over e] -> TEMPLATE = EXPR`."""

    span: Span
    sources: tuple[MergeSource, ...]
    over: Name | None
    target: PatternNode
    value: Expr
    optional: bool = False
    where: Expr | None = None


@dataclass(frozen=True, slots=True)
class Param:
    """`param NAME[: TYPE] [= DEFAULT]`."""

    span: Span
    name: Name
    type: Name | None = None
    default: Expr | None = None


@dataclass(frozen=True, slots=True)
class Let:
    """`let NAME = EXPR`."""

    span: Span
    name: Name
    value: Expr


@dataclass(frozen=True, slots=True)
class Input:
    """`input NAME`, `input NAME[]`, `input NAME root 'path'`."""

    span: Span
    name: Name
    family: bool = False
    root: String | None = None


@dataclass(frozen=True, slots=True)
class Binding:
    """`name = value` of an `include … with`."""

    span: Span
    name: Name
    value: Expr


@dataclass(frozen=True, slots=True)
class Include:
    """`include 'other.sx' [with a = 1, …]`."""

    span: Span
    path: String
    bindings: tuple[Binding, ...] = ()


@dataclass(frozen=True, slots=True)
class Macro:
    """`macro NAME(a, b) { … }`."""

    span: Span
    name: Name
    parameters: tuple[Name, ...]
    body: tuple[Statement, ...]


@dataclass(frozen=True, slots=True)
class Use:
    """`use NAME(…)`."""

    span: Span
    name: Name
    arguments: tuple[Argument, ...]


@dataclass(frozen=True, slots=True)
class Within:
    """`within PATTERN { … }`."""

    span: Span
    pattern: PatternNode
    body: tuple[Statement, ...]


@dataclass(frozen=True, slots=True)
class If:
    """`if COND { … } [else { … }]`; `else if` is an `If` alone in `otherwise`."""

    span: Span
    condition: Expr
    then: tuple[Statement, ...]
    otherwise: tuple[Statement, ...] = ()


@dataclass(frozen=True, slots=True)
class Root:
    """`root 'path' [-> 'path']`."""

    span: Span
    path: String
    target: String | None = None


@dataclass(frozen=True, slots=True)
class Order:
    """`order natural`, or `order like NAME` where `like` is set."""

    span: Span
    like: Name | None = None


@dataclass(frozen=True, slots=True)
class ExpectKeys:
    """`expect no key matches PATTERN` (`present` false) or `expect key matches PATTERN`."""

    span: Span
    pattern: PatternNode
    present: bool


@dataclass(frozen=True, slots=True)
class ExpectEach:
    """`expect shape PATTERN == EXPR` or `expect dtype PATTERN == EXPR`: holds for every match."""

    span: Span
    subject: str
    pattern: PatternNode
    operator: str
    value: Expr


@dataclass(frozen=True, slots=True)
class Expect:
    """`expect COND`; `expect count PATTERN == n` is `Binary` over a `Query` here."""

    span: Span
    condition: Expr


@dataclass(frozen=True, slots=True)
class Allow:
    """`allow missing PATTERNS` or `allow unexpected PATTERNS`; `kind` is that word."""

    span: Span
    kind: str
    patterns: tuple[PatternNode, ...]


Statement = (
    Rename
    | Renumber
    | Set
    | Add
    | Copy
    | Drop
    | Split
    | Merge
    | Param
    | Let
    | Input
    | Include
    | Macro
    | Use
    | Within
    | If
    | Root
    | Order
    | ExpectKeys
    | ExpectEach
    | Expect
    | Allow
)


@dataclass(frozen=True, slots=True)
class Program:
    """A whole rule file."""

    source: Source
    statements: tuple[Statement, ...]
