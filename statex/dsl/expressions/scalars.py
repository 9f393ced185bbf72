"""Arithmetic and comparison of plain values: ints, floats, text, bools, dtypes and lists."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any, NoReturn, TypeGuard

from statex.core.dtypes import DType
from statex.core.source import Span
from statex.diagnostics import fail
from statex.diagnostics.codes import names as codes
from statex.dsl.values import PatternValue, Value, describe, kind_of

_LIMIT = 2**63

_ARITHMETIC: Mapping[str, Callable[[Any, Any], Any]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
    "//": operator.floordiv,
    "%": operator.mod,
}

_ORDER: Mapping[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def is_number(value: object) -> TypeGuard[int | float]:
    """True for ints and floats; a bool is no number here."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def bounded(value: Value, span: Span) -> Value:
    """Return a number (or a list of them) that came from outside, after checking that torch could hold it.

    Raises:
        StatexError: SX217 for ints of more than 64 bits.
    """
    for item in value.values() if isinstance(value, Mapping) else value if isinstance(value, tuple) else ():
        bounded(item, span)
    if isinstance(value, int) and not -_LIMIT <= value < _LIMIT:
        fail(codes.NUMBER_RANGE, "the number has more than 64 bits", span)
    return value


def binary(symbol: str, left: Value, right: Value, span: Span) -> Value:
    """Return the result of an operator on two plain values.

    Raises:
        StatexError: SX207 where the operands are of kinds that do not go together, SX217 for a division by zero and
            for results of more than 64 bits.
    """
    left, right = (v.text if isinstance(v, PatternValue) else v for v in (left, right))
    if symbol in ("==", "!="):
        _check_comparable(symbol, left, right, span)
        return (left == right) is (symbol == "==")
    if symbol in ("in", "not in"):
        return _contains(left, right, span) is (symbol == "in")
    if symbol in _ORDER:
        if (is_number(left) and is_number(right)) or (isinstance(left, str) and isinstance(right, str)):
            return _ORDER[symbol](left, right)
        _mismatch(symbol, left, right, span)
    if symbol == "+" and isinstance(left, str) and isinstance(right, str):
        return left + right
    if symbol == "+" and isinstance(left, tuple) and isinstance(right, tuple):
        return left + right
    if is_number(left) and is_number(right):
        return _calculate(symbol, left, right, span)
    _mismatch(symbol, left, right, span)


def negative(value: Value, span: Span) -> Value:
    """Return `-value`.

    Raises:
        StatexError: SX207 where it is no number.
    """
    if is_number(value):
        return -value
    fail(codes.WRONG_KIND, f"`-` needs a number or a tensor, not {kind_of(value)}", span, values=[describe(value)])


def called(function: Callable[[float], float], value: float, span: Span) -> float:
    """Return what a function makes of a number.

    Raises:
        StatexError: SX217 for a number that it is not defined for.
    """
    try:
        return function(value)
    except ValueError as error:
        fail(codes.NUMBER_RANGE, f"{describe(value)} {error}", span)


def truth(value: Value, span: Span, what: str) -> bool:
    """Return a bool as it is; nothing else counts as true or false.

    Raises:
        StatexError: SX207 for any other kind.
    """
    if isinstance(value, bool):
        return value
    fail(
        codes.WRONG_KIND,
        f"{what} needs true or false, and this is {kind_of(value)}",
        span,
        values=[f"{span.text} = {describe(value)}"],
        help=f"{span.text} > 0" if is_number(value) else (),
    )


def _calculate(symbol: str, left: Any, right: Any, span: Span) -> Value:
    if symbol in ("/", "//", "%") and right == 0:
        fail(codes.NUMBER_RANGE, "division by zero", span, values=[f"{describe(left)} {symbol} {describe(right)}"])
    result = _power(left, right, span) if symbol == "**" else _ARITHMETIC[symbol](left, right)
    if isinstance(result, int) and not -_LIMIT <= result < _LIMIT:
        fail(codes.NUMBER_RANGE, "the result has more than 64 bits", span)
    return result


def _power(left: Any, right: Any, span: Span) -> Value:
    # An int power is bounded before it is computed: 9 ** 9 ** 9 would never end.
    if isinstance(left, int) and isinstance(right, int) and right >= 0 and left not in (0, 1, -1) and right > 63:
        fail(codes.NUMBER_RANGE, "the result has more than 64 bits", span)
    try:
        result = left**right
    except (ZeroDivisionError, OverflowError):
        result = None
    if isinstance(result, int | float):
        return result
    fail(codes.NUMBER_RANGE, f"{describe(left)} ** {describe(right)} is not a real number", span)


def _contains(item: Value, container: Value, span: Span) -> bool:
    if isinstance(container, tuple):
        for other in container:
            _check_comparable("in", item, other, span)
        return item in container
    if isinstance(container, str | Mapping) and isinstance(item, str):
        return item in container
    _mismatch("in", item, container, span)


def _check_comparable(symbol: str, left: Value, right: Value, span: Span) -> None:
    if left is None or right is None or type(left) is type(right) or (is_number(left) and is_number(right)):
        return
    _mismatch(symbol, left, right, span)


def _mismatch(symbol: str, left: Value, right: Value, span: Span) -> NoReturn:
    helps = []
    for one, other in ((left, right), (right, left)):
        if isinstance(one, str) and is_number(other) and (symbol != "in" or one is left):
            helps.append("a capture is text unless it is declared an int: `{i:int}`")
        if isinstance(one, str) and isinstance(other, DType):
            helps.append(f"a dtype is written without quotes: `{other}`")
    fail(
        codes.WRONG_KIND,
        f"`{symbol}` cannot take {kind_of(left)} and {kind_of(right)}",
        span,
        values=[f"{describe(left)} {symbol} {describe(right)}"],
        help=helps[:1],
    )
