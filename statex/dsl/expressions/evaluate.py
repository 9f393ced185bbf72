"""Expressions over headers: plain values are computed, tensors become values of the graph with their types."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field, replace
from typing import NoReturn, Protocol

from statex.core.dtypes import BY_NAME, DType
from statex.core.paths import Address
from statex.core.record import record
from statex.core.source import Span
from statex.diagnostics import StatexError, fail
from statex.diagnostics.codes import names as codes
from statex.dsl.expressions import scalars
from statex.dsl.expressions.calls import CallSite, Given, call_operation
from statex.dsl.expressions.computing import widened
from statex.dsl.expressions.queries import OF_PLAIN, ask
from statex.dsl.expressions.scope import CONSTANTS, CURRENT, QUERY_NAMES, Scope
from statex.dsl.keys.captures import Bindings
from statex.dsl.keys.templates import no_current
from statex.dsl.ops import OPERATIONS, OPERATORS, WORDS, Operation
from statex.dsl.ops.base import Index, IndexItem, whole
from statex.dsl.plan.graph import Graph
from statex.dsl.suggestions import unknown_name, unknown_operation
from statex.dsl.values import (
    UNKNOWN,
    PatternValue,
    TensorValue,
    Value,
    describe,
    has_tensor,
    is_tensors,
    is_unknown,
    kind_of,
)
from statex.grammar import tree


class World(Protocol):
    """What an expression can ask of the program around it."""

    graph: Graph

    def read(self, node: tree.KeyRef, scope: Scope, context: Context) -> Value:
        """Return the tensor (of a family: the tuple of tensors) under a key."""

    def count(self, node: tree.PatternNode, scope: Scope, context: Context) -> int:
        """Return the number of keys a pattern matches."""

    def key_matches(self, text: str, node: tree.PatternNode, scope: Scope, context: Context) -> bool:
        """Say whether a pattern matches a text."""

    def value_at(self, path: Address, span: Span) -> Value:
        """Return a plain value of the checkpoint; KeyError where it has none."""

    def text_at(self, name: str) -> str:
        """Return a text of the metadata; KeyError where it has none."""


@record
class Context:
    """What the current match gives to its expressions.

    `it` is the current tensor (or tuple), `None` where there is none; `header_only` is true for conditions and sizes,
    which may ask for types and never for data. `compute` is the dtype that a statement computes in, `None` where each
    tensor keeps its own; `own` that of the key it gives a value to, where there is one.
    """

    it: Value = None
    key: str | None = None
    bindings: Bindings = field(default_factory=dict)
    locals: Mapping[str, Value] = field(default_factory=dict)
    header_only: bool = False
    case: str = ""
    compute: DType | None = None
    own: DType | None = None


_NAMED_LAST = {
    "size": "dim",
    "shape": "dim",
    "value": "default",
    "metadata": "default",
    "lookup": "default",
    "lookup_regex": "default",
}
"""The questions whose last argument may be given by name."""


class Evaluator:
    """Evaluates the expressions of one statement for one match."""

    def __init__(self, world: World, scope: Scope, context: Context) -> None:
        self.world = world
        self.scope = scope
        self.context = context

    def condition(self, node: tree.Expr, what: str) -> bool:
        """Return whether a condition holds.

        Raises:
            StatexError: also without a diagnostic, where an error reported before makes it unknown.
        """
        value = Evaluator(self.world, self.scope, replace(self.context, header_only=True)).value(node)
        _check_known(value)
        if has_tensor(value):
            _tensor_in_condition(what, node.span, value)
        return scalars.truth(value, node.span, what)

    def plain(self, node: tree.Expr, what: str) -> Value:
        """Return a value that is known from the header alone."""
        value = Evaluator(self.world, self.scope, replace(self.context, header_only=True)).value(node)
        if has_tensor(value):
            _tensor_in_condition(what, node.span, value)
        return value.text if isinstance(value, PatternValue) else value

    def value(self, node: tree.Expr) -> Value:
        """Return the value of an expression."""
        match node:
            case tree.Number():
                return scalars.bounded(node.value, node.span)
            case tree.String():
                return PatternValue(node.pattern) if node.pattern is not None else node.value
            case tree.Name():
                return self._name(node)
            case tree.KeyRef():
                return self._taken(self.world.read(node, self.scope, self.context), node.span)
            case tree.Call():
                return self._call(node, node.function, node.name_span, node.arguments)
            case tree.Pipe():
                return self._pipe(node)
            case tree.Unary():
                return self._unary(node)
            case tree.Binary():
                return self._binary(node)
            case tree.Matches():
                return self._matches(node)
            case tree.Query():
                found = self.world.count(node.pattern, self.scope, self.context)
                return found > 0 if node.function == "exists" else found
            case tree.Conditional():
                return self.value(node.value if self.condition(node.condition, "`if`") else node.otherwise)
            case tree.ListExpr():
                return tuple(self.value(item) for item in node.items)
            case tree.Subscript():
                return self._subscript(node)

    def _taken(self, value: Value, span: Span) -> Value:
        """Return what an expression takes for a tensor it reads: that in the dtype that the statement computes in."""
        if self.context.compute is None or self.context.header_only:
            return value
        return widened(value, self.context.compute, span, self.world.graph)

    @property
    def _own(self) -> DType | None:
        return self.context.own if self.context.compute is None else None

    # --- names -------------------------------------------------------------------------------------------------

    def _name(self, node: tree.Name) -> Value:
        name = node.name
        if name in self.context.locals:
            return self._taken(self.context.locals[name], node.span)
        if name in self.context.bindings:
            return self.context.bindings[name].value
        definition = self.scope.find(name)
        if definition is not None:
            return definition.value
        if name in CURRENT:
            return self._current(name, node.span)
        if name in CONSTANTS:
            return CONSTANTS[name]
        if name in OPERATIONS:
            return self._call(node, name, node.span, ())
        if name in BY_NAME:
            return BY_NAME[name]
        if name in WORDS:
            return name
        candidates = [*self.context.locals, *self.context.bindings, *self.scope.names(), *OPERATIONS, *CURRENT]
        raise StatexError([unknown_name(name, node.span, candidates)])

    def _current(self, name: str, span: Span) -> Value:
        if name == "key":
            if self.context.key is None:
                no_current("key", span)
            return self.context.key
        if self.context.it is None:
            no_current(name, span)
        return self._taken(self.context.it, span) if name == "it" else ask(name, (self.context.it,), span, self.world)

    # --- calls -------------------------------------------------------------------------------------------------

    def _pipe(self, node: tree.Pipe) -> Value:
        piped = self.value(node.value)
        stage = node.stage
        if isinstance(stage, tree.Call):
            return self._call(stage, stage.function, stage.name_span, stage.arguments, piped)
        return self._call(stage, stage.name, stage.span, (), piped)

    def _call(
        self,
        node: tree.Expr,
        name: str,
        name_span: Span,
        arguments: Sequence[tree.Argument],
        piped: Value = None,
    ) -> Value:
        if name in QUERY_NAMES:
            return self._query(name, name_span, arguments, piped)
        if name not in OPERATIONS:
            if isinstance(node, tree.Call):
                raise StatexError([unknown_operation(node)])
            raise StatexError([unknown_name(name, name_span, [*OPERATIONS])])
        positional = [(self.value(a.value), a.span) for a in arguments if a.name is None]
        named = {a.name: (self.value(a.value), a.span) for a in arguments if a.name is not None}
        number = positional[0][0] if len(positional) == 1 else piped
        of_number, alone = OPERATIONS[name].of_number, len(positional) + len(named) == (number is not piped)
        if of_number is not None and alone and scalars.is_number(number):
            return scalars.called(of_number, number, node.span)
        it = self._taken(self.context.it, name_span)
        site = CallSite(node.span, name_span, positional, named, it, piped, self._own)
        return call_operation(OPERATIONS[name], site, self.world.graph)

    def _query(self, name: str, span: Span, arguments: Sequence[tree.Argument], piped: Value) -> Value:
        inner = Evaluator(self.world, self.scope, replace(self.context, header_only=True))
        for argument in arguments:
            if argument.name is not None and argument.name != _NAMED_LAST.get(name):
                fail(codes.WRONG_KIND, f"`{name}` has no argument `{argument.name}`", argument.span)
        values = [inner.value(a.value) for a in arguments]
        values = [v.text if isinstance(v, PatternValue) else v for v in values]
        if name not in OF_PLAIN and not (values and (has_tensor(values[0]) or values[0] is UNKNOWN)):
            current = piped if piped is not None else self.context.it
            if current is None:
                no_current(name, span)
            values.insert(0, current)
        if any(is_unknown(v) for v in values):
            return UNKNOWN
        asked = arguments[0].span if arguments and has_tensor(values[0]) and len(values) == len(arguments) else None
        return ask(name, values, span, self.world, asked)

    # --- operators ---------------------------------------------------------------------------------------------

    def _unary(self, node: tree.Unary) -> Value:
        if node.operator == "not":
            return not self._truth(node.operand, "`not`")
        value = self.value(node.operand)
        if has_tensor(value) or is_unknown(value):
            if node.operator == "+":
                return value
            return self._apply(OPERATORS["-x"], node.span, [(value, node.operand.span)])
        return scalars.negative(value, node.span) if node.operator == "-" else value

    def _binary(self, node: tree.Binary) -> Value:
        if node.operator in ("and", "or"):
            first = self._truth(node.left, f"`{node.operator}`")
            return self._truth(node.right, f"`{node.operator}`") if first is (node.operator == "and") else first
        left, right = self.value(node.left), self.value(node.right)
        if is_unknown(left) or is_unknown(right):
            return UNKNOWN
        if not has_tensor(left) and not has_tensor(right):
            return scalars.binary(node.operator, left, right, node.span)
        operation = OPERATORS.get(node.operator)
        if self.context.header_only or operation is None:
            one, value = (node.left, left) if has_tensor(left) else (node.right, right)
            _tensor_in_condition(f"`{node.operator}`", one.span, value)
        return self._apply(operation, node.operator_span, [(left, node.left.span), (right, node.right.span)])

    def _truth(self, node: tree.Expr, what: str) -> bool:
        value = self.value(node)
        _check_known(value)
        if has_tensor(value):
            _tensor_in_condition(what, node.span, value)
        return scalars.truth(value, node.span, what)

    def _matches(self, node: tree.Matches) -> Value:
        text = self.value(node.value)
        if isinstance(text, PatternValue):
            text = text.text
        _check_known(text)
        if not isinstance(text, str):
            fail(codes.WRONG_KIND, f"`matches` needs text on its left, not {kind_of(text)}", node.value.span)
        return self.world.key_matches(text, node.pattern, self.scope, self.context)

    # --- subscripts --------------------------------------------------------------------------------------------

    def _subscript(self, node: tree.Subscript) -> Value:
        value = self.value(node.value)
        if is_unknown(value):
            return UNKNOWN
        indices = tuple(self._index(index) for index in node.indices)
        if isinstance(value, TensorValue):
            return self._apply(OPERATORS["x[]"], node.span, [(value, node.value.span), (indices, node.span)])
        if isinstance(value, PatternValue):
            value = value.text
        if isinstance(value, tuple | str):
            if len(indices) == 1:
                return _pick(value, indices[0], node)
            one = "text" if isinstance(value, str) else "list"
            fail(codes.WRONG_KIND, f"a {one} takes one index, not {len(indices)}", node.span, values=[describe(value)])
        fail(
            codes.WRONG_KIND,
            f"`[…]` needs a tensor or a list, not {kind_of(value)}",
            node.span,
            values=[describe(value)],
        )

    def _index(self, node: tree.Expr | tree.Slice | tree.Ellipsis) -> IndexItem:
        if isinstance(node, tree.Ellipsis):
            return Ellipsis
        if isinstance(node, tree.Slice):
            return Index(self._bound(node.start), self._bound(node.stop), self._bound(node.step))
        value = _whole(self.plain(node, "an index"))
        _check_known(value)
        if value is None or type(value) is int:
            return value
        ints = tuple(item for item in value if type(item) is int) if isinstance(value, tuple) else ()
        if not isinstance(value, tuple) or len(ints) < len(value):
            fail(codes.WRONG_KIND, f"an index is an int, a slice or a list of ints, not {kind_of(value)}", node.span)
        return ints

    def _bound(self, node: tree.Expr | None) -> int | None:
        value = None if node is None else whole(self.plain(node, "a slice"))
        if value is None or type(value) is int:
            return value
        assert node is not None
        _check_known(value)
        fail(codes.WRONG_KIND, f"the bounds of a slice are ints, not {kind_of(value)}", node.span)

    def _apply(self, operation: type[Operation], span: Span, operands: list[Given]) -> Value:
        site = CallSite(operands[0][1].to(operands[-1][1]), span, operands, {}, None, None, self._own)
        return call_operation(operation, site, self.world.graph)


def _pick(value: tuple[Value, ...] | str, index: IndexItem, node: tree.Subscript) -> Value:
    if isinstance(index, Index):
        return value[index.start : index.stop : index.step]
    if type(index) is int and -len(value) <= index < len(value):
        return value[index]
    what = f"{len(value)} tensors" if is_tensors(value) else f"{len(value)} items"
    fail(codes.WRONG_KIND, f"there is no item {describe(index)} among {what}", node.span, values=[describe(value)])


def _whole(value: Value) -> Value:
    return tuple(whole(item) for item in value) if isinstance(value, tuple) else whole(value)


def _check_known(value: Value) -> None:
    """Refuse a value that an error made unknown, without a word: what is wrong with it has been said."""
    if is_unknown(value):
        raise StatexError(())


def _tensor_in_condition(what: str, span: Span, value: Value) -> NoReturn:
    fail(
        codes.TENSOR_IN_CONDITION,
        f"{what} cannot read the values of a tensor: they are not known before the data is read",
        span,
        values=[f"{span.text} = {describe(value)}"],
        help=f"ask for what the header knows: `shape({span.text})`, `numel({span.text})`",
    )
