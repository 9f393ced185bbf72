"""A call of an operation: fills in the current value for a missing tensor, checks types, and gives a value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NoReturn, TypeAlias

from statex.core.dtypes import DType, Kind
from statex.core.record import record
from statex.core.source import Span
from statex.diagnostics import fail
from statex.diagnostics.codes import names as codes
from statex.diagnostics.codes import types as type_codes
from statex.dsl.expressions.operand_help import Operand, fix
from statex.dsl.ops import OPERATIONS, bind
from statex.dsl.ops.base import REQUIRED, ArgKind, IndexItem, Operation, OperationError
from statex.dsl.plan.graph import Graph
from statex.dsl.values import (
    UNKNOWN,
    PatternValue,
    Tensors,
    TensorValue,
    Value,
    describe,
    flatten_tensors,
    has_tensor,
    is_tensors,
    is_unknown,
)

Given: TypeAlias = "tuple[Value | tuple[IndexItem, ...], Span]"
"""An argument (of a subscript, its indices) and where it was written."""

_TENSOR_KINDS = (ArgKind.TENSOR, ArgKind.OPERAND)

_SHOWN = 6
"""So many operands are shown at most."""


@record
class CallSite:
    """A call as written, and what is current there: `it`, and the value piped into it (`None` where there is none)."""

    span: Span
    name_span: Span
    positional: Sequence[Given]
    named: Mapping[str, Given]
    it: Value
    piped: Value
    own: DType | None = None
    """The dtype of the key that the statement gives a value to, where it could compute in a wider one."""

    @property
    def current(self) -> Value:
        """The value that is inserted where a tensor is lacking."""
        return self.it if self.piped is None else self.piped


def call_operation(operation: type[Operation], site: CallSite, graph: Graph) -> Value:
    """Return the value of a call.

    An operation of one tensor, given a tuple of them, maps over it; of two tuples it takes pairs.

    Raises:
        StatexError: the code of the type rule (4xx) with the argument at fault, SX218 where no tensor is current,
            SX219 where a piped value would not be used.
    """
    site = _with_current(operation, site)
    if any(is_unknown(value) for value, _ in (*site.positional, *site.named.values())):
        return UNKNOWN
    operation = _for_several(operation, site)
    leading = operation.leading()
    if leading is not None and leading.kind is not ArgKind.TENSORS:
        given = (*site.positional, *site.named.values())
        tuples = [(value, span) for value, span in given if is_tensors(value)]
        if tuples:
            count = _common_length(tuples)
            return tuple(call_operation(operation, _item(site, number), graph) for number in range(count))
    return _typed_call(operation, site, graph)


def _with_current(operation: type[Operation], site: CallSite) -> CallSite:
    if _lacks_leading(operation, site):
        if site.current is None:
            fail(
                codes.NO_CURRENT,
                f"`{operation.name}` needs a tensor, and there is no current tensor here",
                site.span,
                help=f"name the tensor: `{operation.name}(KEY)`",
            )
        return replace(site, positional=[(site.current, site.name_span), *site.positional])
    if site.piped is not None:
        fail(
            codes.UNUSED_STAGE,
            f"`{operation.name}` does not take the value piped into it",
            site.span,
            values=[f"piped = {describe(site.piped)}"] if has_tensor(site.piped) else (),
        )
    return site


def _lacks_leading(operation: type[Operation], site: CallSite) -> bool:
    leading = operation.leading()
    if leading is None or leading.name in site.named:
        return False
    given = [value for value, _ in site.positional]
    if leading.kind is ArgKind.TENSORS:
        return not any(value is UNKNOWN or has_tensor(value) for value in given)
    needed = [p for p in operation.parameters if p.kind in _TENSOR_KINDS and p.default is REQUIRED]
    if len(needed) == 1:
        return not given or not (given[0] is UNKNOWN or has_tensor(given[0]))
    plain = leading.kind is ArgKind.OPERAND
    count = sum(1 for value in given if plain or value is UNKNOWN or has_tensor(value))
    return count + sum(1 for p in needed if p.name in site.named) < len(needed)


def _for_several(operation: type[Operation], site: CallSite) -> type[Operation]:
    other = operation.over_several
    tensors = [value for value, _ in site.positional if has_tensor(value)]
    several = len(tensors) > 1 or any(is_tensors(value) for value in tensors)
    return OPERATIONS[other] if other is not None and several else operation


def _common_length(tuples: Sequence[tuple[Tensors, Span]]) -> int:
    first = len(tuples[0][0])
    for value, span in tuples[1:]:
        if len(value) != first:
            shown = [describe(given) for given, _ in tuples]
            fail(type_codes.SHAPE, f"{first} and {len(value)} tensors make no pairs", span, values=shown)
    return first


def _item(site: CallSite, number: int) -> CallSite:
    """Return the call on one item of each tuple of tensors."""

    def item(given: Given) -> Given:
        value, span = given
        return (value[number], span) if is_tensors(value) else given

    named = {name: item(given) for name, given in site.named.items()}
    return replace(site, positional=[item(given) for given in site.positional], named=named, piped=None)


def _typed_call(operation: type[Operation], site: CallSite, graph: Graph) -> Value:
    try:
        bound = _bound(operation, site)
        _check_known(operation, bound)
        result = operation.infer(**bound)
    except OperationError as error:
        _report(operation, site, error)
    return graph.call(operation.name, bound, result)


def _check_known(operation: type[Operation], bound: Mapping[str, Any]) -> None:
    """Refuse tensors whose elements nobody knows here, and dtypes of such results.

    Raises:
        OperationError: SX403.
    """
    for name, value in bound.items():
        dtypes = [one.dtype for one in flatten_tensors(value)] if has_tensor(value) else [value]
        if operation.unpacks and has_tensor(value):
            dtypes = [dtype for dtype in dtypes if dtype.block is None or not dtype.block.is_known]
        raw = next((one for one in dtypes if isinstance(one, DType) and one.kind is Kind.RAW), None)
        if raw is not None:
            headline = f"`{operation.name}` is not defined for {raw}, whose tensors are only moved, as bytes"
            raise OperationError(type_codes.DTYPE, headline, name)


def _bound(operation: type[Operation], site: CallSite) -> dict[str, Any]:
    """Return a value for every parameter of an operation.

    Raises:
        OperationError: SX404, SX405.
    """
    leading = operation.leading()
    positional = [_as_plain(value) for value, _ in site.positional]
    if leading is not None and leading.kind is ArgKind.TENSORS and leading.name not in site.named:
        positional.sort(key=lambda value: not has_tensor(value))
    return bind(operation, positional, {name: _as_plain(value) for name, (value, _) in site.named.items()})


def _as_plain(value: object) -> Any:
    return value.text if isinstance(value, PatternValue) else value


def _report(operation: type[Operation], site: CallSite, error: OperationError) -> NoReturn:
    given = [*site.positional, *site.named.values()]
    operands = [Operand(value, span, operation.name if span == site.name_span else "") for value, span in given]
    argument = _argument_span(operation, site, error.argument)
    place, helps = fix(error, argument, operands, lambda changed: _has_type(operation, site, changed), site.own)
    values = dict.fromkeys(f"{_label(span, site)} = {describe(value)}" for value, span in given if has_tensor(value))
    shown = [*values][:_SHOWN] + ([f"and {len(values) - _SHOWN} more"] if len(values) > _SHOWN else [])
    fail(error.code, error.headline, place, values=["   ".join(shown)] if shown else (), help=helps)


def _has_type(operation: type[Operation], site: CallSite, changed: Mapping[int, TensorValue]) -> bool:
    """Say whether a call has a type where some of its arguments are other tensors."""
    count = len(site.positional)
    positional = [(changed.get(n, value), span) for n, (value, span) in enumerate(site.positional)]
    named = {name: (changed.get(count + n, v), span) for n, (name, (v, span)) in enumerate(site.named.items())}
    try:
        operation.infer(**_bound(operation, replace(site, positional=positional, named=named)))
    except OperationError:
        return False
    return True


def _label(span: Span, site: CallSite) -> str:
    if span == site.name_span:
        return "it" if site.piped is None else "piped"
    text = " ".join(span.text.split())
    return text if len(text) <= 40 else text[:37] + "…"


def _argument_span(operation: type[Operation], site: CallSite, argument: str | None) -> Span:
    if argument is None:
        return site.span
    if argument in site.named:
        return site.named[argument][1]
    names = [p.name for p in operation.parameters]
    if argument in names and site.positional:
        position = min(names.index(argument), len(site.positional) - 1)
        if names.index(argument) <= position:
            return site.positional[position][1]
    return site.span


def expect_tensor(value: Value, span: Span) -> TensorValue | None:
    """Return the one tensor an expression gives; `None` if it is unknown.

    Raises:
        StatexError: SX207 where it gives a plain value or several tensors.
    """
    if is_unknown(value):
        return None
    if isinstance(value, TensorValue):
        return value
    helps = ()
    if isinstance(value, int | float):
        helps = (f"`full_like(it, {describe(value)})` is a tensor of that value",)  # type: ignore[assignment]
    if is_tensors(value):
        helps = ("`cat`, `stack` or `mean` make one tensor of several; `split` takes the pieces",)  # type: ignore[assignment]
    fail(codes.WRONG_KIND, f"a tensor is needed here, and this is {_shown(value)}", span, help=helps)


def _shown(value: Value) -> str:
    from statex.dsl.values import kind_of

    return describe(value) if is_tensors(value) else f"{kind_of(value)}, {describe(value)}"
