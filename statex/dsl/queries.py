"""Questions to the header: `size`, `shape`, `ndim`, `numel`, `dtype`, `is_floating_point`, `is_complex`, `value`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from statex.diagnostics import fail
from statex.diagnostics.codes import names as codes
from statex.dsl.operators import bounded
from statex.dsl.values import UNKNOWN, TensorValue, Value, describe, is_tensors, kind_of
from statex.source import Span


class Values(Protocol):
    """Where plain values of a nested checkpoint come from."""

    def value_at(self, path: str) -> Value:
        """Return the plain value at a dotted path; KeyError where there is none."""


def ask(name: str, arguments: Sequence[Value], span: Span, values: Values) -> Value:
    """Return the answer to a question; its first argument is the tensor asked about, or the path for `value`.

    Raises:
        StatexError: SX207 where the arguments are of the wrong kind or number, SX221 where the checkpoint has no
            such value.
    """
    if name == "value":
        return _value(arguments, span, values)
    tensor, *rest = arguments
    if tensor is UNKNOWN:
        return UNKNOWN
    if is_tensors(tensor) and name in ("shape", "ndim", "numel", "dtype", "size"):
        fail(
            codes.WRONG_KIND,
            f"`{name}` needs one tensor, and this is {describe(tensor)}",
            span,
            help=f"`{name}(it[0])` asks the first",
        )
    if not isinstance(tensor, TensorValue):
        fail(codes.WRONG_KIND, f"`{name}` needs a tensor, not {kind_of(tensor)}", span, values=[describe(tensor)])
    if name in ("size", "shape"):
        return _size(name, tensor, rest, span)
    if rest:
        fail(codes.WRONG_KIND, f"`{name}` takes one tensor and nothing else", span)
    answers: dict[str, Value] = {
        "ndim": tensor.ndim,
        "numel": tensor.numel,
        "dtype": tensor.dtype,
        "is_floating_point": tensor.dtype.is_floating_point,
        "is_complex": tensor.dtype.is_complex,
    }
    return answers[name]


def _size(name: str, tensor: TensorValue, rest: Sequence[Value], span: Span) -> Value:
    if not rest:
        return tensor.shape
    dim = rest[0]
    if len(rest) > 1 or type(dim) is not int:
        fail(codes.WRONG_KIND, f"`{name}` takes a tensor and one dim, an int", span)
    if not -tensor.ndim <= dim < tensor.ndim:
        fail(
            codes.WRONG_KIND,
            f"there is no dim {dim}: the tensor has {tensor.ndim} dimensions",
            span,
            values=[describe(tensor)],
        )
    return tensor.shape[dim]


def _value(arguments: Sequence[Value], span: Span, values: Values) -> Value:
    if not 1 <= len(arguments) <= 2 or not isinstance(arguments[0], str):
        fail(codes.WRONG_KIND, "`value` takes the dotted path of a plain value as text, and perhaps a default", span)
    try:
        found = values.value_at(arguments[0])
    except KeyError:
        if len(arguments) == 2:
            return arguments[1]
        fail(
            codes.VALUE_MISSING,
            f"the checkpoint has no plain value at `{arguments[0]}`",
            span,
            help=f"give a default: `value('{arguments[0]}', 0)`",
        )
    return bounded(_as_value(found), span)


def _as_value(found: object) -> Value:
    return tuple(_as_value(item) for item in found) if isinstance(found, list | tuple) else found
