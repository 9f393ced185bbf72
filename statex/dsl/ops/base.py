"""The form of an operation: one class declares its parameters, type rule, execution, inverse and documentation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from typing import Any, ClassVar, Final

from statex.diagnostics.codes import Code
from statex.header import TensorType
from statex.record import record
from statex.strides import Tiling


class ArgKind(Enum):
    """What a parameter takes. Only the first three take tensors; all others take values known while planning."""

    TENSOR = "tensor"
    TENSORS = "tensors"
    """Any number of tensors, given one after the other, as a list or as a tuple."""
    OPERAND = "tensor or number"
    INT = "int"
    INTS = "int or list of ints"
    """Arrives as a tuple; several ints may be given one after the other as in `x.permute(1, 0)`."""
    NUMBER = "number"
    BOOL = "bool"
    TEXT = "text"
    WORD = "word"
    """One of the parameter's `choices`, bare or quoted."""
    DTYPE = "dtype"
    INDEX = "index"
    AXES = "axis lengths"
    """The remaining named arguments, all ints, as a mapping (`h=heads, two=2` of `rearrange`)."""


class _Required(Enum):
    REQUIRED = "required"


REQUIRED: Final = _Required.REQUIRED


@record
class Parameter:
    """A parameter of an operation; one with `default` may be left out. `doc` is a phrase for `statex ops`."""

    name: str
    kind: ArgKind
    default: Any = REQUIRED
    choices: tuple[str, ...] = ()
    doc: str = ""
    keyword_only: bool = False
    nullable: bool = False
    """True where `none` may be given besides the kind's own values."""


class Fault(Exception):
    """Arguments an operation cannot take: the code, what is wrong, the argument at fault, and what to write instead."""

    def __init__(self, code: Code, headline: str, argument: str | None = None, help: str = "") -> None:
        super().__init__(headline)
        self.code = code
        self.headline = headline
        self.argument = argument
        self.help = help


@record
class Index:
    """A slice in a subscript; the other indices are ints, tuples of ints, `None` and `Ellipsis`."""

    start: int | None
    stop: int | None
    step: int | None


@record
class Inverse:
    """The call that takes a result back to the operand: the operation's name and its arguments but for the tensor."""

    operation: str
    arguments: Mapping[str, Any]


Result = TensorType | tuple[TensorType, ...]
"""What a type rule gives: one tensor, or the pieces of a `split`."""
Moved = Tiling | tuple[Tiling | None, ...] | None
"""Where the elements of a result stand: of one tensor, or of the pieces of a `split`."""


class Operation:
    """One operation. The docstring of a class is its documentation: one sentence, then details.

    `infer` is the type rule: called with every parameter by name, a `TensorType` (or a tuple of them for `TENSORS`)
    where execution has tensors; it raises `Fault`. `run` gets the torch module, then the same names with tensors; it
    raises `Fault` for numbers in them that the operation cannot take.
    `invert`, where there is one, gets the names too (types for tensors) and returns how to undo the call to the bit,
    or `None` where these arguments cannot be undone.
    """

    name: ClassVar[str]
    category: ClassVar[str]
    parameters: ClassVar[tuple[Parameter, ...]]
    example: ClassVar[str]
    """A complete statement that shows it."""
    infer: ClassVar[Callable[..., Result]]
    run: ClassVar[Callable[..., Any]]
    invert: ClassVar[Callable[..., Inverse | None] | None] = None
    moves: ClassVar[Callable[..., Moved] | None] = None
    """Where elements go, for an operation that only moves them or makes one number: called as `infer`, with a `Tiling`
    for each tensor; `None` where strides cannot describe the result."""
    exact: ClassVar[bool] = False
    """True where each element follows from those at its place by IEEE arithmetic alone: whatever parts a tensor is
    computed in, the result is the same to the bit."""
    commutes: ClassVar[bool] = False
    """True where the two operands can be exchanged."""
    numpy: ClassVar[Callable[..., Any] | None] = None
    """What numpy computes to the bit as torch does, for `exact` operations on floats: gets the module, then the names
    with arrays of float32 or float64, the first operand among them."""
    rounds_numbers: ClassVar[bool] = False
    """True where torch rounds a number to the tensor's dtype; false where it keeps the precision it computes with."""
    unpacks: ClassVar[bool] = False
    """True where it takes quantized blocks as well, as the float32 that they stand for."""
    takes_data: ClassVar[bool] = True
    """False where the types and devices of its tensors matter alone."""
    lays_out: ClassVar[bool] = False
    """True where results lie in memory as a file would hold them, element after element from its start, if all its
    tensors do; false where they may be views, or lie in another order."""

    @classmethod
    def in_parts(cls, arguments: Mapping[str, Any]) -> bool:
        """Say whether a call of these arguments can be computed part by part."""
        return cls.exact

    @classmethod
    def leading(cls) -> Parameter | None:
        """The parameter the current value is inserted for, or `None` for constructors."""
        first = cls.parameters[0] if cls.parameters else None
        return first if first and first.kind in (ArgKind.TENSOR, ArgKind.TENSORS, ArgKind.OPERAND) else None

    @classmethod
    def signature(cls) -> str:
        """The call as it would be written, with defaults."""
        return f"{cls.name}({', '.join(_show_parameter(p) for p in cls.parameters)})"


def _show_parameter(parameter: Parameter) -> str:
    name = {ArgKind.TENSORS: f"*{parameter.name}", ArgKind.AXES: f"**{parameter.name}"}.get(
        parameter.kind, parameter.name
    )
    return (
        name
        if parameter.default is REQUIRED or parameter.kind is ArgKind.AXES
        else f"{name}={show_value(parameter.default)}"
    )


def whole(value: Any) -> Any:
    """Return a float that is a whole number as the int it is; a length may come out of a division or a root."""
    return int(value) if type(value) is float and value.is_integer() else value


def show_value(value: object) -> str:
    """Write a value as a rule file would; of a dict, which comes from a file, what is in it is not shown."""
    if isinstance(value, Mapping):
        return f"{{{len(value)} key{'' if len(value) == 1 else 's'}}}"
    if value is None or isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Sequence) and not isinstance(value, str):
        return f"[{', '.join(show_value(v) for v in value)}]"
    return repr(value) if isinstance(value, str) else str(value)
