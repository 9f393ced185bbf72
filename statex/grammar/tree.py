"""The tree of a rule file: frozen nodes with spans, and no meaning yet.

The statements are here and their patterns and expressions in `terms`; this module gives out both.
"""

from __future__ import annotations

from enum import Enum

from statex.core.record import node
from statex.core.source import Source, Span
from statex.grammar.terms import (
    Argument,
    Binary,
    Call,
    Capture,
    CaptureForm,
    Choice,
    Conditional,
    DoubleStar,
    Ellipsis,
    Expr,
    Field,
    Group,
    KeyRef,
    ListExpr,
    Matches,
    Name,
    Number,
    PatternKind,
    PatternNode,
    Piece,
    Pipe,
    Query,
    Slice,
    Splice,
    Star,
    String,
    Subscript,
    Text,
    Unary,
)

__all__ = [
    "Add",
    "AddValue",
    "Allow",
    "Argument",
    "Around",
    "Bad",
    "Binary",
    "Binding",
    "Call",
    "Capture",
    "CaptureForm",
    "Choice",
    "Conditional",
    "Copy",
    "DoubleStar",
    "Drop",
    "DropValue",
    "Ellipsis",
    "Expect",
    "ExpectEach",
    "ExpectKeys",
    "ExpectSame",
    "Expr",
    "Field",
    "Follow",
    "Group",
    "If",
    "Include",
    "Input",
    "KeyRef",
    "Let",
    "ListExpr",
    "Macro",
    "Matches",
    "Merge",
    "MergeSource",
    "MetadataOf",
    "Name",
    "Number",
    "Order",
    "Param",
    "PathNode",
    "PatternKind",
    "PatternNode",
    "Piece",
    "Pipe",
    "Program",
    "Query",
    "Rename",
    "RenameMode",
    "Renumber",
    "Root",
    "Row",
    "Set",
    "SetValue",
    "Slice",
    "Splice",
    "Split",
    "Star",
    "Statement",
    "String",
    "Subscript",
    "Text",
    "Unary",
    "Use",
    "ValueOf",
    "Within",
]


class RenameMode(Enum):
    """What of a key a rename changes."""

    KEY = "key"
    PART = "part"
    PREFIX = "prefix"
    SUFFIX = "suffix"
    TEXT = "text"


@node
class Row:
    """`from -> to`; `->?` makes it optional."""

    span: Span
    source: PatternNode
    target: PatternNode
    optional: bool = False


@node
class Rename:
    """`rename …`: one row, or a table of them; `first` lets the first row that matches win."""

    span: Span
    mode: RenameMode
    rows: tuple[Row, ...]
    is_table: bool = False
    first: bool = False
    optional: bool = False
    where: Expr | None = None


@node
class Renumber:
    """`renumber PATTERN`."""

    span: Span
    pattern: PatternNode
    optional: bool = False
    where: Expr | None = None


@node
class Set:
    """`set PATTERNS [in DTYPE] = EXPR [for PATTERN]`."""

    span: Span
    targets: tuple[PatternNode, ...]
    value: Expr
    each: PatternNode | None = None
    optional: bool = False
    where: Expr | None = None
    compute: Name | None = None


@node
class Add:
    """`add TEMPLATE = EXPR [for PATTERN]`."""

    span: Span
    target: PatternNode
    value: Expr
    each: PatternNode | None = None
    optional: bool = False
    where: Expr | None = None


@node
class Copy:
    """`copy PATTERN -> TEMPLATE`."""

    span: Span
    source: PatternNode
    target: PatternNode
    optional: bool = False
    where: Expr | None = None


@node
class Drop:
    """`drop PATTERNS`, or `keep PATTERNS` where `keep` is true."""

    span: Span
    patterns: tuple[PatternNode, ...]
    keep: bool = False
    optional: bool = False
    where: Expr | None = None


@node
class ValueOf:
    """`value('a.b')`, `value(['a.b', 0])`: what stands around the state, by its path in the checkpoint."""

    span: Span
    path: PathNode


@node
class MetadataOf:
    """`metadata('k')`, `metadata(/ss_.*/)`: texts that a format keeps beside the tensors, by their names."""

    span: Span
    pattern: PatternNode


Around = ValueOf | MetadataOf
"""What stands around the state."""


@node
class SetValue:
    """`set value('a.b') = EXPR`, `set metadata('k') = EXPR`, also of several."""

    span: Span
    places: tuple[Around, ...]
    value: Expr


@node
class AddValue:
    """`add value('a.b') = EXPR`, `add metadata('k') = EXPR`."""

    span: Span
    place: Around
    value: Expr


@node
class DropValue:
    """`drop value('a.b'), metadata(/ss_.*/), …`."""

    span: Span
    places: tuple[Around, ...]
    optional: bool = False


@node
class Split:
    """`split PATTERN [over e] -> TEMPLATES [in DTYPE] = EXPR`."""

    span: Span
    source: PatternNode
    over: Name | None
    targets: tuple[PatternNode, ...]
    value: Expr
    optional: bool = False
    where: Expr | None = None
    compute: Name | None = None


@node
class MergeSource:
    """`PATTERN [as n]`."""

    span: Span
    pattern: PatternNode
    name: Name | None = None


@node
class Merge:
    """`merge PATTERN [as n], … [over e] -> TEMPLATE [in DTYPE] = EXPR`."""

    span: Span
    sources: tuple[MergeSource, ...]
    over: Name | None
    target: PatternNode
    value: Expr
    optional: bool = False
    where: Expr | None = None
    compute: Name | None = None


@node
class Param:
    """`param NAME[: TYPE] [from 'PATH'] [= DEFAULT]`."""

    span: Span
    name: Name
    type: Name | None = None
    default: Expr | None = None
    path: String | None = None


@node
class Let:
    """`let NAME = EXPR`."""

    span: Span
    name: Name
    value: Expr


@node
class PathNode:
    """A place in a checkpoint: a dotted text, or the keys of dicts and places in lists: `['a.b', 0, 'c']`."""

    span: Span
    value: str | tuple[str | int, ...]


@node
class Input:
    """`input NAME`, `input NAME[]`, `input NAME root PATH`."""

    span: Span
    name: Name
    family: bool = False
    root: PathNode | None = None


@node
class Binding:
    """`name = value` of an `include … with`."""

    span: Span
    name: Name
    value: Expr


@node
class Include:
    """`include 'other.sx' [with a = 1, …]`."""

    span: Span
    path: String
    bindings: tuple[Binding, ...] = ()


@node
class Macro:
    """`macro NAME(a, b) { … }`."""

    span: Span
    name: Name
    parameters: tuple[Name, ...]
    body: tuple[Statement, ...]


@node
class Use:
    """`use NAME(…)`."""

    span: Span
    name: Name
    arguments: tuple[Argument, ...]


@node
class Within:
    """`within PATTERN { … }`."""

    span: Span
    pattern: PatternNode
    body: tuple[Statement, ...]


@node
class If:
    """`if COND { … } [else { … }]`; `else if` is an `If` alone in `otherwise`."""

    span: Span
    condition: Expr
    then: tuple[Statement, ...]
    otherwise: tuple[Statement, ...] = ()


@node
class Root:
    """`root PATH [-> PATH] [flat]`."""

    span: Span
    path: PathNode
    target: PathNode | None = None
    flat: bool = False


@node
class Follow:
    """`follow PATH, …`: what stands beside the state and goes through the same plan."""

    span: Span
    paths: tuple[PathNode, ...]


@node
class Order:
    """`order natural`, or `order like NAME` where `like` is set."""

    span: Span
    like: Name | None = None


@node
class ExpectKeys:
    """`expect no key matches PATTERN` (`present` false) or `expect key matches PATTERN`."""

    span: Span
    pattern: PatternNode
    present: bool


@node
class ExpectEach:
    """`expect shape PATTERN == EXPR` or `expect dtype PATTERN == EXPR`: holds for every match."""

    span: Span
    subject: str
    pattern: PatternNode
    operator: str
    value: Expr


@node
class ExpectSame:
    """`expect same PATTERN, ft::{key}`: every match has the bits, the dtype and the shape of another tensor."""

    span: Span
    pattern: PatternNode
    other: KeyRef


@node
class Expect:
    """`expect COND`; `expect count PATTERN == n` is `Binary` over a `Query` here."""

    span: Span
    condition: Expr


@node
class Allow:
    """`allow missing PATTERNS` or `allow unexpected PATTERNS`; `kind` is that word."""

    span: Span
    kind: str
    patterns: tuple[PatternNode, ...]


Statement = (
    Rename
    | Renumber
    | Set
    | SetValue
    | Add
    | AddValue
    | Copy
    | Drop
    | DropValue
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
    | Follow
    | Order
    | ExpectKeys
    | ExpectEach
    | ExpectSame
    | Expect
    | Allow
)


@node
class Bad:
    """What cannot be read, as a statement, in the tree of `parse_lossless` where a text has syntax errors."""

    span: Span


@node
class Program:
    """A whole rule file."""

    source: Source
    statements: tuple[Statement, ...]
