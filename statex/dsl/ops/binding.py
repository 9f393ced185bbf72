"""Binds arguments to parameters: each is checked, and converted to the form that `infer` and `run` expect."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from statex.core.dtypes import BY_NAME, DType
from statex.core.header import TensorType
from statex.diagnostics.codes import types as codes
from statex.diagnostics.suggest import did_you_mean
from statex.dsl.ops.base import REQUIRED, ArgKind, Operation, OperationError, Parameter, show_value, whole

_KIND_NAMES = {
    ArgKind.TENSOR: "a tensor",
    ArgKind.TENSORS: "tensors",
    ArgKind.OPERAND: "a tensor or a number",
    ArgKind.INT: "an int",
    ArgKind.INTS: "ints",
    ArgKind.NUMBER: "a number",
    ArgKind.BOOL: "true or false",
    ArgKind.TEXT: "text",
    ArgKind.WORD: "a word",
    ArgKind.DTYPE: "a dtype",
    ArgKind.INDEX: "an index",
    ArgKind.AXES: "ints",
}


def bind(operation: type[Operation], positional: Sequence[Any], named: Mapping[str, Any]) -> dict[str, Any]:
    """Return a value for every parameter of an operation; tensors are `TensorType`, lists become tuples.

    Raises:
        OperationError: SX404 for an unknown name, SX405 for missing, surplus and wrong arguments.
    """
    bound: dict[str, Any] = {}
    rest = list(positional)
    for number, parameter in enumerate(operation.parameters):
        if parameter.kind is ArgKind.AXES:
            bound[parameter.name] = _axes(operation, parameter, named)
        elif parameter.name in named:
            bound[parameter.name] = _checked(operation, parameter, named[parameter.name])
        elif rest and not parameter.keyword_only:
            bound[parameter.name] = _take(operation, number, rest)
        elif parameter.default is REQUIRED:
            raise OperationError(
                codes.ARGUMENTS, f"`{operation.name}` lacks `{parameter.name}`", None, help=operation.signature()
            )
        else:
            bound[parameter.name] = parameter.default
    if rest:
        raise OperationError(
            codes.ARGUMENTS, f"`{operation.name}` takes fewer arguments than these", None, help=operation.signature()
        )
    _check_names(operation, positional, named)
    return bound


def _check_names(operation: type[Operation], positional: Sequence[Any], named: Mapping[str, Any]) -> None:
    names = [p.name for p in operation.parameters]
    if any(p.kind is ArgKind.AXES for p in operation.parameters):
        return
    for name in named:
        if name not in names:
            near = did_you_mean(name, names)
            raise OperationError(
                codes.UNKNOWN_ARGUMENT,
                f"`{operation.name}` has no argument `{name}`",
                name,
                help=f"did you mean `{near[0]}`?" if near else operation.signature(),
            )


def _axes(operation: type[Operation], parameter: Parameter, named: Mapping[str, Any]) -> dict[str, int]:
    names = {p.name for p in operation.parameters if p is not parameter}
    axes = {name: value for name, value in named.items() if name not in names}
    axes = {name: whole(value) for name, value in axes.items()}
    for name, value in axes.items():
        if type(value) is not int or value < 0:
            raise OperationError(
                codes.ARGUMENTS,
                f"the length of the axis `{name}` is an int of 0 or more, and not {show_value(value)}",
                name,
            )
    return axes


def _take(operation: type[Operation], number: int, rest: list[Any]) -> Any:
    parameter, *after = operation.parameters[number:]
    if parameter.kind is ArgKind.TENSORS:
        count = 0
        while count < len(rest) and _is_tensors(rest[count]):
            count += 1
        taken, rest[:] = rest[:count], rest[count:]
        return _checked(operation, parameter, tuple(taken) if len(taken) != 1 else taken[0])
    one_each = bool(after) and after[0].kind is ArgKind.INTS  # roll(1, 0): a shift, and its dim
    if parameter.kind is ArgKind.INTS and type(whole(rest[0])) is int and not one_each:
        count = 0
        while count < len(rest) and type(whole(rest[count])) is int:
            count += 1
        taken, rest[:] = rest[:count], rest[count:]
        return tuple(whole(length) for length in taken)
    return _checked(operation, parameter, rest.pop(0))


def _is_tensors(value: Any) -> bool:
    return isinstance(value, TensorType) or (isinstance(value, tuple) and any(_is_tensors(v) for v in value))


def _checked(operation: type[Operation], parameter: Parameter, value: Any) -> Any:
    if value is None and (parameter.nullable or parameter.default is None):
        return None
    good, result = _converted(parameter, value)
    if good:
        return result
    what = _KIND_NAMES[parameter.kind]
    if parameter.kind is ArgKind.WORD:
        near = did_you_mean(str(value), parameter.choices)
        raise OperationError(
            codes.ARGUMENTS,
            f"`{parameter.name}` of `{operation.name}` is one of {', '.join(parameter.choices)}",
            parameter.name,
            help=f"did you mean `{near[0]}`?" if near else "",
        )
    odd = next((i for i in _flat(value) if isinstance(i, float)), None) if parameter.kind is ArgKind.INTS else None
    raise OperationError(
        codes.ARGUMENTS,
        f"`{parameter.name}` of `{operation.name}` takes {what}, and "
        + (f"this is {_kind(value)}" if odd is None else f"{odd} is not a whole number"),
        parameter.name,
        help=operation.signature(),
    )


def _converted(parameter: Parameter, value: Any) -> tuple[bool, Any]:
    kind = parameter.kind
    value = whole(value) if kind is ArgKind.INT else value
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if kind is ArgKind.TENSOR:
        return isinstance(value, TensorType), value
    if kind is ArgKind.TENSORS:
        tensors = _flat(value)
        return bool(tensors) and all(isinstance(t, TensorType) for t in tensors), tensors
    if kind is ArgKind.OPERAND:
        return isinstance(value, TensorType) or number, value
    if kind is ArgKind.INTS:
        items = tuple(whole(i) for i in value) if isinstance(value, tuple) else (whole(value),)
        return all(type(i) is int for i in items), items
    if kind is ArgKind.DTYPE:
        value = BY_NAME.get(value, value) if isinstance(value, str) else value
        return isinstance(value, DType), value
    if kind is ArgKind.WORD:
        return value in parameter.choices, value
    if kind is ArgKind.INDEX:
        return value is None or isinstance(value, int | tuple), (value,) if not isinstance(value, tuple) else value
    if kind is ArgKind.NUMBER:
        return number, value
    python = {ArgKind.INT: int, ArgKind.BOOL: bool, ArgKind.TEXT: str}[kind]
    return type(value) is python, value


def _flat(value: Any) -> tuple[Any, ...]:
    if isinstance(value, tuple):
        return tuple(one for item in value for one in _flat(item))
    return (value,)


def _kind(value: Any) -> str:
    if value is None:
        return "none"
    for python, name in (
        (bool, "a bool"),
        (int, "an int"),
        (float, "a float"),
        (str, f"the text {value!r}"),
        (TensorType, "a tensor"),
        (DType, "a dtype"),
        (tuple, "a list"),
        (Mapping, "a dict"),
    ):
        if isinstance(value, python):
            return name
    return type(value).__name__
