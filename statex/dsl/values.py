"""The values of expressions while planning: plain Python values, tensors known by their type, and the unknown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final, TypeAlias, TypeGuard

from statex.core.dtypes import DType
from statex.core.header import RawType, TensorType
from statex.core.record import record
from statex.dsl.ops.base import show_value
from statex.grammar.tree import PatternNode


@record
class TensorValue(TensorType):
    """A tensor of the plan: its type and the id of its value in the graph; `size` is its bytes if the dtype is raw."""

    id: int
    size: int | None = None

    @property
    def type(self) -> TensorType:
        """The type alone."""
        return TensorType(self.dtype, self.shape) if self.size is None else RawType(self.dtype, self.shape, self.size)

    def __str__(self) -> str:
        return str(self.type)


@record
class PatternValue:
    """A macro argument written in double quotes: a pattern to splice, or plain text elsewhere."""

    node: PatternNode

    @property
    def text(self) -> str:
        """The text between the quotes."""
        return self.node.text


class Unknown:
    """A value after an error: whatever is made of it is unknown too, and nothing more is reported of it."""

    def __repr__(self) -> str:
        return "unknown"


UNKNOWN: Final = Unknown()

Value: TypeAlias = (
    "bool | int | float | str | DType | TensorValue | PatternValue | Unknown | tuple[Value, ...] "
    "| Mapping[str, Value] | None"
)
"""What an expression gives; lists are tuples here."""

Tensors: TypeAlias = "tuple[TensorValue | Tensors, ...]"
"""Several tensors, perhaps in groups."""


def is_unknown(value: object) -> bool:
    """True if the value, or an item of it, is unknown."""
    return value is UNKNOWN or (isinstance(value, tuple) and any(is_unknown(v) for v in value))


def is_tensors(value: object) -> TypeGuard[Tensors]:
    """True for a tuple (even nested) of tensors, of at least one."""
    return isinstance(value, tuple) and bool(value) and all(isinstance(v, TensorValue) or is_tensors(v) for v in value)


def has_tensor(value: object) -> bool:
    """True for a tensor and for a tuple that holds one."""
    return isinstance(value, TensorValue) or (isinstance(value, tuple) and any(has_tensor(v) for v in value))


def flatten_tensors(value: object) -> Iterator[TensorValue]:
    """Yield the tensors among a value and, of a tuple, its items, in order."""
    if isinstance(value, TensorValue):
        yield value
    elif isinstance(value, tuple):
        for item in value:
            yield from flatten_tensors(item)


def describe(value: object) -> str:
    """Say what a value is, as an operand is shown: `bf16[4, 4]`, `3`, `'text'`, `2 tensors f32[3], f32[3]`."""
    if isinstance(value, TensorValue):
        return str(value)
    if is_tensors(value):
        types = [str(t) for t in flatten_tensors(value)]
        shown = ", ".join(types[:3]) + (f" and {len(types) - 3} more" if len(types) > 3 else "")
        return f"{len(types)} tensors {shown}" if len(types) != 1 else f"1 tensor {shown}"
    if isinstance(value, PatternValue):
        return show_value(value.text)
    return show_value(value)


def kind_of(value: object) -> str:
    """Name the kind of a value for a message: `an int`, `a tensor`, `text`."""
    if value is None:
        return "none"
    if is_tensors(value):
        return "a tuple of tensors"
    for python, name in (
        (bool, "a bool"), (int, "an int"), (float, "a float"), ((str, PatternValue), "text"), (DType, "a dtype"),
        (TensorValue, "a tensor"), (tuple, "a list"), (Mapping, "a dict"),
    ):  # fmt: skip
        if isinstance(value, python):
            return name
    return "unknown" if value is UNKNOWN else f"of type {type(value).__name__}"
