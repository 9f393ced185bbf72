"""Makes the nodes of the tree from Lark's, bottom up and without recursion, so that depth cannot exhaust a stack."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Protocol

from lark import Token, Transformer_NonRecursive, v_args
from lark.tree import Meta

from statex.core.source import Source, Span
from statex.diagnostics import StatexError, fail
from statex.diagnostics.codes import syntax as codes
from statex.grammar import tree
from statex.grammar.pieces import parse_pieces, read_int
from statex.grammar.quoted import unquoted


class ParseField(Protocol):
    """Parses the inside of braces as an expression with an optional format."""

    def __call__(self, span: Span, *, groups: bool) -> tree.Field: ...


DEPTH = 150
"""How deep an expression may be nested; whatever walks the tree may recurse so far."""

_STEP = re.compile(r"(?:[0-9]+|[A-Za-z_]\w*)\Z")


@v_args(meta=True)
class Builder(Transformer_NonRecursive[Token, Any]):
    """One method for each rule of the grammar; `source` is set before each parse."""

    def __init__(self, parse_field: ParseField) -> None:
        super().__init__()
        self.source: Source = Source("", "")
        self.groups = False
        """Whether parentheses are nodes."""
        self._make_field = parse_field
        self._depths: dict[int, int] = {}

    def begin(self, source: Source, *, groups: bool = False) -> None:
        """Get ready for a text."""
        self.source = source
        self.groups = groups
        self._depths = {}

    # --- places and depth --------------------------------------------------------------------------------------

    def _span(self, meta: Meta) -> Span:
        if meta.empty:
            return Span(self.source, 0, 0)
        return Span(self.source, meta.start_pos, meta.end_pos)

    def _token_span(self, token: Token) -> Span:
        assert token.start_pos is not None
        return Span(self.source, token.start_pos, token.start_pos + len(token))

    def _deep(self, node: Any, *parts: Any) -> Any:
        depth = 1 + max((self._depths.get(id(part), 0) for part in parts), default=0)
        if depth > DEPTH:
            fail(
                codes.TOO_DEEP,
                f"this expression is nested more than {DEPTH} deep",
                node.span,
                help="break it up: a `let` for sizes, several statements for tensors",
            )
        self._depths[id(node)] = depth
        return node

    def _name(self, token: Token) -> tree.Name:
        return tree.Name(self._token_span(token), str(token))

    def _parse_field(self, span: Span) -> tree.Field:
        return self._make_field(span, groups=self.groups)

    # --- the program -------------------------------------------------------------------------------------------

    def start(self, meta: Meta, items: Sequence[Any]) -> tree.Program:
        return tree.Program(self.source, tuple(i for i in items if _is_node(i)))

    def field(self, meta: Meta, items: Sequence[Any]) -> tree.Field:
        value, format_ = items
        return tree.Field(self._span(meta), value, str(format_) if format_ is not None else None)

    def block(self, meta: Meta, items: Sequence[Any]) -> tuple[tree.Statement, ...]:
        return tuple(i for i in items if _is_node(i))

    def param(self, meta: Meta, items: Sequence[Any]) -> tree.Param:
        name, type_, path, default = items
        return tree.Param(
            self._span(meta),
            self._name(name),
            self._name(type_) if type_ else None,
            default,
            self._string(path) if path is not None else None,
        )

    def let(self, meta: Meta, items: Sequence[Any]) -> tree.Let:
        return tree.Let(self._span(meta), self._name(items[0]), items[1])

    def input_(self, meta: Meta, items: Sequence[Any]) -> tree.Input:
        name, family, root = items
        return tree.Input(self._span(meta), self._name(name), family is not None, root)

    def include(self, meta: Meta, items: Sequence[Any]) -> tree.Include:
        return tree.Include(self._span(meta), self._string(items[0]), items[1] or ())

    def bindings(self, meta: Meta, items: Sequence[Any]) -> tuple[tree.Binding, ...]:
        return tuple(items)

    def binding(self, meta: Meta, items: Sequence[Any]) -> tree.Binding:
        return tree.Binding(self._span(meta), self._name(items[0]), items[1])

    def macro(self, meta: Meta, items: Sequence[Any]) -> tree.Macro:
        name, names, body = items
        return tree.Macro(self._span(meta), self._name(name), names or (), body)

    def names(self, meta: Meta, items: Sequence[Any]) -> tuple[tree.Name, ...]:
        return tuple(self._name(item) for item in items)

    def use(self, meta: Meta, items: Sequence[Any]) -> tree.Use:
        return tree.Use(self._span(meta), self._name(items[0]), items[1] or ())

    def within(self, meta: Meta, items: Sequence[Any]) -> tree.Within:
        return tree.Within(self._span(meta), items[0], items[1])

    def if_(self, meta: Meta, items: Sequence[Any]) -> tree.If:
        condition, then, otherwise = items
        node = tree.If(
            self._span(meta), condition, then, (otherwise,) if isinstance(otherwise, tree.If) else otherwise or ()
        )
        return self._deep(node, *node.otherwise) if isinstance(otherwise, tree.If) else node

    def follow(self, meta: Meta, items: Sequence[Any]) -> tree.Follow:
        return tree.Follow(self._span(meta), tuple(items))

    def root(self, meta: Meta, items: Sequence[Any]) -> tree.Root:
        path, target, flat = items
        return tree.Root(self._span(meta), path, target, flat is not None)

    def dotted_path(self, meta: Meta, items: Sequence[Any]) -> tree.PathNode:
        text = self._string(items[0])
        return tree.PathNode(text.span, text.value)

    def listed_path(self, meta: Meta, items: Sequence[Any]) -> tree.PathNode:
        return tree.PathNode(self._span(meta), tuple(item for item in items if item is not None))

    def key_place(self, meta: Meta, items: Sequence[Any]) -> str:
        return self._string(items[0]).value

    def number_place(self, meta: Meta, items: Sequence[Any]) -> int:
        sign, number = items
        text, span = str(number), self._span(meta)
        if not text.isdigit() or sign == "+":
            fail(codes.UNEXPECTED, f"`{span.text}` is not a place in a list, nor an int that is a key of a dict", span)
        return read_int(text, span) * (-1 if sign is not None else 1)

    def order(self, meta: Meta, items: Sequence[Any]) -> tree.Order:
        name = next((i for i in items if i is not None), None)
        return tree.Order(self._span(meta), self._name(name) if name is not None else None)

    def allow(self, meta: Meta, items: Sequence[Any]) -> tree.Allow:
        return tree.Allow(self._span(meta), str(items[0]), items[1])

    # --- keys --------------------------------------------------------------------------------------------------

    def rename(self, meta: Meta, items: Sequence[Any]) -> tree.Rename:
        optional, row, where = items
        return tree.Rename(
            self._span(meta), tree.RenameMode.KEY, (row,), optional=optional is not None, where=where
        )  # fmt: skip

    def rename_mode(self, meta: Meta, items: Sequence[Any]) -> tree.Rename:
        optional, mode, row, where = items
        kind = tree.RenameMode(str(mode))
        return tree.Rename(self._span(meta), kind, (row,), optional=optional is not None, where=where)

    def rename_table(self, meta: Meta, items: Sequence[Any]) -> tree.Rename:
        optional, first, rows, where = items
        return tree.Rename(
            self._span(meta), tree.RenameMode.KEY, rows, True, first is not None, optional is not None, where
        )  # fmt: skip

    def rename_mode_table(self, meta: Meta, items: Sequence[Any]) -> tree.Rename:
        optional, mode, rows, where = items
        kind = tree.RenameMode(str(mode))
        return tree.Rename(self._span(meta), kind, rows, True, False, optional is not None, where)

    def rows(self, meta: Meta, items: Sequence[Any]) -> tuple[tree.Row, ...]:
        return tuple(i for i in items if isinstance(i, tree.Row))

    def row(self, meta: Meta, items: Sequence[Any]) -> tree.Row:
        return tree.Row(self._span(meta), items[0], items[-1], len(items) == 3)

    def renumber(self, meta: Meta, items: Sequence[Any]) -> tree.Renumber:
        optional, pattern, where = items
        return tree.Renumber(self._span(meta), pattern, optional is not None, where)

    def copy(self, meta: Meta, items: Sequence[Any]) -> tree.Copy:
        optional, source, target, where = items
        return tree.Copy(self._span(meta), source, target, optional is not None, where)

    def drop(self, meta: Meta, items: Sequence[Any]) -> tree.Drop:
        optional, patterns, where = items
        return tree.Drop(self._span(meta), patterns, False, optional is not None, where)

    def drop_value(self, meta: Meta, items: Sequence[Any]) -> tree.DropValue:
        optional, *places = items
        return tree.DropValue(self._span(meta), tuple(places), optional is not None)

    def value_of(self, meta: Meta, items: Sequence[Any]) -> tree.ValueOf:
        return tree.ValueOf(self._span(meta), items[-1])

    def metadata_of(self, meta: Meta, items: Sequence[Any]) -> tree.MetadataOf:
        return tree.MetadataOf(self._span(meta), self._quoted(items[-1], None, 0))

    def metadata_like(self, meta: Meta, items: Sequence[Any]) -> tree.MetadataOf:
        return tree.MetadataOf(self._span(meta), self.regex_pattern(meta, items[-1:]))

    def keep(self, meta: Meta, items: Sequence[Any]) -> tree.Drop:
        optional, patterns, where = items
        return tree.Drop(self._span(meta), patterns, True, optional is not None, where)

    # --- values ------------------------------------------------------------------------------------------------

    def set_(self, meta: Meta, items: Sequence[Any]) -> tree.Set:
        optional, patterns, compute, value, each, where = items
        return tree.Set(self._span(meta), patterns, value, each, optional is not None, where, compute)

    def set_value(self, meta: Meta, items: Sequence[Any]) -> tree.SetValue:
        *places, value = items
        return tree.SetValue(self._span(meta), tuple(places), value)

    def add_value(self, meta: Meta, items: Sequence[Any]) -> tree.AddValue:
        place, value = items
        return tree.AddValue(self._span(meta), place, value)

    def add(self, meta: Meta, items: Sequence[Any]) -> tree.Add:
        optional, target, value, each, where = items
        return tree.Add(self._span(meta), target, value, each, optional is not None, where)

    def split(self, meta: Meta, items: Sequence[Any]) -> tree.Split:
        optional, source, over, targets, compute, value, where = items
        return tree.Split(self._span(meta), source, over, targets, value, optional is not None, where, compute)

    def merge(self, meta: Meta, items: Sequence[Any]) -> tree.Merge:
        optional, sources, over, target, compute, value, where = items
        return tree.Merge(self._span(meta), sources, over, target, value, optional is not None, where, compute)

    def sources(self, meta: Meta, items: Sequence[Any]) -> tuple[tree.MergeSource, ...]:
        return tuple(items)

    def source_(self, meta: Meta, items: Sequence[Any]) -> tree.MergeSource:
        pattern, name = items
        return tree.MergeSource(self._span(meta), pattern, self._name(name) if name is not None else None)

    def over(self, meta: Meta, items: Sequence[Any]) -> tree.Name:
        return self._name(items[0])

    def compute(self, meta: Meta, items: Sequence[Any]) -> tree.Name:
        return self._name(items[-1])

    def each(self, meta: Meta, items: Sequence[Any]) -> tree.PatternNode:
        return items[0]  # type: ignore[no-any-return]

    def where(self, meta: Meta, items: Sequence[Any]) -> tree.Expr:
        return items[0]  # type: ignore[no-any-return]

    def patterns(self, meta: Meta, items: Sequence[Any]) -> tuple[tree.PatternNode, ...]:
        return tuple(items)

    # --- expectations ------------------------------------------------------------------------------------------

    def expect_none(self, meta: Meta, items: Sequence[Any]) -> tree.ExpectKeys:
        return tree.ExpectKeys(self._span(meta), items[-1], False)

    def expect_each(self, meta: Meta, items: Sequence[Any]) -> tree.ExpectEach:
        subject, pattern, operator, value = items
        return tree.ExpectEach(self._span(meta), str(subject), pattern, str(operator), value)

    def expect_count(self, meta: Meta, items: Sequence[Any]) -> tree.Expect:
        word, pattern, operator, value = items
        left = tree.Query(self._token_span(word).to(pattern.span), "count", pattern)
        condition = tree.Binary(left.span.to(value.span), str(operator), self._token_span(operator), left, value)
        return tree.Expect(self._span(meta), condition)

    def expect_same(self, meta: Meta, items: Sequence[Any]) -> tree.ExpectSame:
        _, pattern, other = items
        same_as = other if isinstance(other, tree.KeyRef) else tree.KeyRef(other.span, other)
        return tree.ExpectSame(self._span(meta), pattern, same_as)

    def expect(self, meta: Meta, items: Sequence[Any]) -> tree.Expect | tree.ExpectKeys:
        condition = items[0]
        is_key = isinstance(condition, tree.Matches) and isinstance(condition.value, tree.Name)
        if is_key and condition.value.name == "key":
            return tree.ExpectKeys(self._span(meta), condition.pattern, True)
        return tree.Expect(self._span(meta), condition)

    # --- patterns and keys -------------------------------------------------------------------------------------

    def bare_pattern(self, meta: Meta, items: Sequence[Any]) -> tree.PatternNode:
        return self._bare(items[0])

    def literal_pattern(self, meta: Meta, items: Sequence[Any]) -> tree.PatternNode:
        return self._quoted(items[0], None, 0)

    quoted_pattern = literal_pattern

    def input_literal_pattern(self, meta: Meta, items: Sequence[Any]) -> tree.PatternNode:
        name, _, _ = str(items[0]).partition("::")
        return self._quoted(items[0], name, len(name) + 2)

    input_quoted_pattern = input_literal_pattern

    def regex_pattern(self, meta: Meta, items: Sequence[Any]) -> tree.PatternNode:
        token = items[0]
        name, _, text = str(token).partition("/")
        return tree.PatternNode(
            self._token_span(token),
            tree.PatternKind.REGEX,
            text[:-1].replace("\\/", "/"),
            (),
            name.removesuffix("::") or None,
        )

    def _bare(self, token: Token) -> tree.PatternNode:
        span = self._token_span(token)
        input_, colons, text = str(token).rpartition("::")
        skipped = len(input_) + len(colons)
        places = list(range(span.start + skipped, span.end + 1))
        pieces = parse_pieces(text, places, span, bare=True, field=self._parse_field)
        return tree.PatternNode(span, tree.PatternKind.BARE, text, pieces, input_ or None)

    def _quoted(self, token: Token, input_: str | None, skipped: int) -> tree.PatternNode:
        span = self._token_span(token)
        inside = unquoted(span, skipped)
        text = inside.text
        if str(token)[skipped] == "'":
            pieces: tuple[tree.Piece, ...] = (tree.Text(span.at(skipped, len(token)), text),) if text else ()
            return tree.PatternNode(span, tree.PatternKind.LITERAL, text, pieces, input_)
        pieces = parse_pieces(text, inside.places, span, bare=False, field=self._parse_field, escaped=inside.escaped)
        return tree.PatternNode(span, tree.PatternKind.QUOTED, text, pieces, input_)

    def _string(self, token: Token) -> tree.String:
        span = self._token_span(token)
        return tree.String(span, unquoted(span).text)

    # --- expressions -------------------------------------------------------------------------------------------

    def pipe(self, meta: Meta, items: Sequence[Any]) -> tree.Pipe:
        return self._deep(tree.Pipe(self._span(meta), *items), *items)  # type: ignore[no-any-return]

    def binary(self, meta: Meta, items: Sequence[Any]) -> tree.Binary:
        left, operator, right = items
        text = " ".join(str(operator).split())
        node = tree.Binary(self._span(meta), text, self._token_span(operator), left, right)
        return self._deep(node, left, right)  # type: ignore[no-any-return]

    def unary(self, meta: Meta, items: Sequence[Any]) -> tree.Unary:
        operator, operand = items
        return self._deep(tree.Unary(self._span(meta), str(operator), operand), operand)  # type: ignore[no-any-return]

    def matches(self, meta: Meta, items: Sequence[Any]) -> tree.Matches:
        return self._deep(tree.Matches(self._span(meta), items[0], items[-1]), items[0])  # type: ignore[no-any-return]

    def group(self, meta: Meta, items: Sequence[Any]) -> Any:
        if not self.groups:
            return items[0]
        node = tree.Group(self._span(meta), items[0])
        self._depths[id(node)] = self._depths.get(id(items[0]), 0)
        return node

    def conditional(self, meta: Meta, items: Sequence[Any]) -> tree.Conditional:
        return self._deep(tree.Conditional(self._span(meta), *items), *items)  # type: ignore[no-any-return]

    def number(self, meta: Meta, items: Sequence[Any]) -> tree.Number:
        text = str(items[0])
        span = self._span(meta)
        return tree.Number(span, read_int(text, span) if text.isdigit() else float(text))

    def string(self, meta: Meta, items: Sequence[Any]) -> tree.String:
        return self._string(items[0])

    def template_string(self, meta: Meta, items: Sequence[Any]) -> tree.String:
        text = unquoted(self._token_span(items[0])).text
        try:
            pattern = self._quoted(items[0], None, 0)
        except StatexError:
            # Text that is no pattern is still text; where a pattern is needed, its value is refused.
            return tree.String(self._span(meta), text)
        return tree.String(self._span(meta), text, pattern)

    def key(self, meta: Meta, items: Sequence[Any]) -> tree.KeyRef:
        return tree.KeyRef(self._span(meta), self._bare(items[0]))

    def input_literal_key(self, meta: Meta, items: Sequence[Any]) -> tree.KeyRef:
        name, _, _ = str(items[0]).partition("::")
        return tree.KeyRef(self._span(meta), self._quoted(items[0], name, len(name) + 2))

    input_quoted_key = input_literal_key

    def main_key(self, meta: Meta, items: Sequence[Any]) -> tree.KeyRef:
        token = items[0]
        if str(token)[2] in "'\"":
            return tree.KeyRef(self._span(meta), self._quoted(token, None, 2))
        span = self._span(meta)
        text = str(token)[2:]
        node = tree.PatternNode(span, tree.PatternKind.BARE, text, (tree.Text(span.at(2, len(token)), text),))
        return tree.KeyRef(span, node)

    def name(self, meta: Meta, items: Sequence[Any]) -> tree.Name:
        return self._name(items[0])

    def call(self, meta: Meta, items: Sequence[Any]) -> tree.Call:
        name, arguments = items
        node = tree.Call(self._span(meta), str(name), self._token_span(name), arguments or ())
        return self._deep(node, *(a.value for a in node.arguments))  # type: ignore[no-any-return]

    def query(self, meta: Meta, items: Sequence[Any]) -> tree.Query:
        return tree.Query(self._span(meta), str(items[0]), items[-1])

    def args(self, meta: Meta, items: Sequence[Any]) -> tuple[tree.Argument, ...]:
        return tuple(i for i in items if isinstance(i, tree.Argument))

    def positional(self, meta: Meta, items: Sequence[Any]) -> tree.Argument:
        return tree.Argument(self._span(meta), None, items[0])

    def keyword(self, meta: Meta, items: Sequence[Any]) -> tree.Argument:
        return tree.Argument(self._span(meta), str(items[0]), items[1])

    def list_(self, meta: Meta, items: Sequence[Any]) -> tree.ListExpr:
        values = tuple(i for i in items if i is not None and not isinstance(i, Token))
        return self._deep(tree.ListExpr(self._span(meta), values), *values)  # type: ignore[no-any-return]

    def subscript(self, meta: Meta, items: Sequence[Any]) -> tree.Subscript:
        value, *indices = items
        node = tree.Subscript(self._span(meta), value, tuple(indices))
        return self._deep(node, value, *indices)  # type: ignore[no-any-return]

    def index(self, meta: Meta, items: Sequence[Any]) -> Any:
        node = items[0]
        if isinstance(node, tree.KeyRef) and node.span.text.startswith("::") and node.key.kind is tree.PatternKind.BARE:
            # `x[::n]`: what reads as the key `::n` elsewhere is a step here.
            return tree.Slice(node.span, None, None, tree.Name(node.span.at(2, len(node.span.text)), node.key.text))
        if isinstance(node, tree.KeyRef) and node.key.input and _STEP.match(node.key.text):
            # `x[n::2]`: no tensor is an index, so what reads as the key `2` of an input `n` is a start and a step.
            start, text = tree.Name(node.span.at(0, len(node.key.input)), node.key.input), node.key.text
            place = node.span.at(len(node.key.input) + 2, len(node.span.text))
            step = tree.Number(place, int(text)) if text.isdigit() else tree.Name(place, text)
            return tree.Slice(node.span, start, None, step)
        return node

    def ellipsis(self, meta: Meta, items: Sequence[Any]) -> tree.Ellipsis:
        return tree.Ellipsis(self._span(meta))

    def slice(self, meta: Meta, items: Sequence[Any]) -> tree.Slice:
        start, stop, step = items
        return self._deep(tree.Slice(self._span(meta), start, stop, step), *items)  # type: ignore[no-any-return]

    def slice_step(self, meta: Meta, items: Sequence[Any]) -> tree.Slice:
        start, step = items
        return self._deep(tree.Slice(self._span(meta), start, None, step), *items)  # type: ignore[no-any-return]


def _is_node(item: Any) -> bool:
    return item is not None and not isinstance(item, Token)
