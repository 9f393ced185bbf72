"""Derivations as expressions of a rule file, made as trees."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import EllipsisType
from typing import Any

from statex.core.dtypes import DType
from statex.dsl.ops import OPERATIONS, OPERATORS
from statex.dsl.ops.base import REQUIRED, ArgKind, Index
from statex.dsl.plan.graph import Graph, InputTensor, OperationCall, Ref, ResultPiece, Settled, arguments_of
from statex.grammar import factory as make
from statex.grammar import tree
from statex.inverse.recovery import Derivation, StandingValue, StoredValue, Value

CURRENT = make.name("it")


def read_stored(value: StoredValue) -> tree.Expr:
    """Return how a tensor of a further input is read."""
    return make.tensor(value.name, value.input)


def expression(
    found: Mapping[Value, Derivation],
    value: Value,
    leaf: Callable[[str], tree.Expr],
    stop: int | None = None,
    stored: Callable[[StoredValue], tree.Expr] = read_stored,
) -> tree.Expr:
    """Return how a value is made of what stands under keys; `leaf` says how a key is read, `stored` a further input.

    `stop` is a value that is the current one, whatever it is made of.
    """
    if value == stop:
        return CURRENT
    derivation = found[value]
    if isinstance(derivation, StandingValue):
        return leaf(derivation.key)
    if isinstance(derivation, StoredValue):
        return stored(derivation)
    operands = [expression(found, one, leaf, stop, stored) for one in derivation.of]
    made = call(derivation.operation, derivation.arguments, operands)
    return made if derivation.index is None else make.subscript(made, number(derivation.index))


def by_current_key(key: str, prefix: Sequence[tree.Piece | str] = ()) -> Callable[[StoredValue], tree.Expr]:
    """Return how tensors of a further input are read whose names begin with the current key, written `{key}`.

    `prefix` is what stands before that where keys are short inside `within`; `key` is the whole one.
    """

    def read(value: StoredValue) -> tree.Expr:
        rest = value.name.removeprefix(key)
        if not key or not value.name.startswith(key) or (rest and not rest.startswith(".")):
            return read_stored(value)
        pieces = [*prefix, make.capture("key"), *([rest] if rest else [])]
        return tree.KeyRef(make.NOWHERE, make.pattern(pieces, value.input))

    return read


def made_of(graph: Graph, id: int) -> tree.Expr | None:
    """Return how a value is made of tensors of the checkpoint, `None` where not of these alone by single operands."""
    node = graph[id]
    if isinstance(node, InputTensor):
        return make.tensor(node.key.key) if not node.key.input else None
    if isinstance(node, Settled):
        return made_of(graph, node.value)
    if isinstance(node, ResultPiece):
        whole = made_of(graph, node.call)
        return None if whole is None else make.subscript(whole, number(node.index))
    arguments = arguments_of(node)
    leading = OPERATIONS[node.operation].leading()
    plain_ones = {name: value for name, value in arguments.items() if not _has_tensor(value)}
    if leading is None or arguments.keys() - plain_ones.keys() != {leading.name}:
        return None
    operands = [made_of(graph, one) for one in graph.operands(id)]
    known = [one for one in operands if one is not None]
    return call(node.operation, plain_ones, known) if len(known) == len(operands) else None


def leaves(found: Mapping[Value, Derivation], value: Value) -> list[str]:
    """Return the keys a value is made of, in the order in which they are read, each once."""
    derivation = found[value]
    if isinstance(derivation, StandingValue):
        return [derivation.key]
    if isinstance(derivation, StoredValue):
        return []
    return list(dict.fromkeys(key for one in derivation.of for key in leaves(found, one)))


def call(operation: str, arguments: Mapping[str, Any], operands: Sequence[tree.Expr]) -> tree.Expr:
    """Return a call of an operation on tensors, as it would be written: a stage of a pipe where it has one tensor."""
    kind = OPERATIONS[operation]
    (first, *_) = operands
    if OPERATORS.get("x[]") is kind:
        return make.subscript(first, *[_index(item) for item in arguments["index"]])
    leading = kind.leading()
    assert leading is not None
    if leading.kind is ArgKind.OPERAND and kind.operator is not None:
        (other,) = arguments.items()
        sides = (first, plain(other[1])) if other[0] != leading.name else (plain(other[1]), first)
        return make.binary(sides[0], kind.operator, sides[1])
    several = leading.kind is ArgKind.TENSORS
    given = _given(operation, arguments, named=several)
    if several:
        own = [] if list(operands) == [CURRENT] else [tree.Argument(make.NOWHERE, None, one) for one in operands]
        everything = (*own, *given)
        return tree.Call(make.NOWHERE, operation, make.NOWHERE, everything) if everything else make.name(operation)
    stage = tree.Call(make.NOWHERE, operation, make.NOWHERE, tuple(given)) if given else make.name(operation)
    return stage if first == CURRENT else make.pipe(first, stage)


def _given(operation: str, arguments: Mapping[str, Any], *, named: bool) -> list[tree.Argument]:
    found: list[tree.Argument] = []
    for parameter in OPERATIONS[operation].parameters:
        if parameter.name not in arguments:
            continue
        value = arguments[parameter.name]
        if parameter.kind is ArgKind.AXES:
            found += [tree.Argument(make.NOWHERE, name, number(length)) for name, length in value.items()]
        elif type(value) is not type(parameter.default) or value != parameter.default:
            by_name = named or parameter.keyword_only or (bool(found) and parameter.default is not REQUIRED)
            found.append(tree.Argument(make.NOWHERE, parameter.name if by_name else None, plain(value, parameter.kind)))
            named = named or by_name
        else:
            named = True
    return found


def plain(value: Any, kind: ArgKind | None = None) -> tree.Expr:
    """Return a value that is no tensor as it is written."""
    if value is None or isinstance(value, bool):
        return make.name({None: "none", True: "true", False: "false"}[value])
    if isinstance(value, DType):
        return make.name(str(value))
    if isinstance(value, str):
        return make.name(value) if kind is ArgKind.WORD else make.string(value)
    if isinstance(value, tuple | list):
        return tree.ListExpr(make.NOWHERE, tuple([plain(one) for one in value]))
    return number(value)


def number(value: float) -> tree.Expr:
    """Return a number; one below zero is written with its sign before it."""
    return make.number(value) if value >= 0 else tree.Unary(make.NOWHERE, "-", make.number(-value))


def _index(item: Any) -> Any:
    if isinstance(item, EllipsisType):
        return tree.Ellipsis(make.NOWHERE)
    if isinstance(item, Index):
        start, stop, step = (None if one is None else number(one) for one in (item.start, item.stop, item.step))
        return tree.Slice(make.NOWHERE, start, stop, step)
    return plain(item)


def as_called(graph: Graph, id: int) -> tree.Expr:
    """Return the call that a value is the result of, with `it` for its tensors; for messages."""
    node = graph[id]
    assert isinstance(node, OperationCall)
    arguments = {name: value for name, value in arguments_of(node).items() if not _has_tensor(value)}
    kind = OPERATIONS[node.operation]
    leading = kind.leading()
    if leading is None or leading.kind is ArgKind.OPERAND or leading.name in arguments:
        # What takes several operands, or none, is named alone.
        return make.name(node.operation)
    if OPERATORS.get("x[]") is kind or leading.kind is ArgKind.TENSOR:
        return call(node.operation, arguments, [CURRENT])
    return make.name(node.operation)


def _has_tensor(value: Any) -> bool:
    return isinstance(value, Ref) or (isinstance(value, tuple) and any(map(_has_tensor, value)))
