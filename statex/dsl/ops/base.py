"""The form of an operation: one class declares its parameters, type rule, execution, inverse and documentation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from types import EllipsisType
from typing import Any, ClassVar, Final, TypeAlias

from statex.core.header import TensorType
from statex.core.record import record
from statex.core.strides import Tiling
from statex.diagnostics.codes import Code


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
    """A parameter of an operation; one with a `default` may be left out. `doc` is a phrase for `statex ops`."""

    name: str
    kind: ArgKind
    default: Any = REQUIRED
    choices: tuple[str, ...] = ()
    doc: str = ""
    keyword_only: bool = False
    nullable: bool = False
    """True where `none` may be given besides the kind's own values."""


class OperationError(Exception):
    """Arguments an operation cannot take: the code, what is wrong, the argument at fault, and what to write instead."""

    def __init__(self, code: Code, headline: str, argument: str | None = None, help: str = "") -> None:
        super().__init__(headline)
        self.code = code
        self.headline = headline
        self.argument = argument
        self.help = help


@record
class Index:
    """A slice in a subscript."""

    start: int | None
    stop: int | None
    step: int | None


IndexItem: TypeAlias = int | tuple[int, ...] | Index | EllipsisType | None
"""What stands between the commas of a subscript."""


@record
class Inverse:
    """The call that turns a result back into the operand: the operation's name and its arguments except the tensor.

    With `on_data` it does so for some elements only, and whether for all of a tensor its data tell.
    """

    operation: str
    arguments: Mapping[str, Any]
    on_data: bool = False


class Aliasing(Enum):
    """Whether results of an operation share the memory of its tensors."""

    COPY = "copy"
    """Never, not even with a tensor that stays as it is."""
    VIEW = "view"
    """Always, and whatever the size of the result is, all that memory is kept."""
    MAYBE = "maybe"
    """Where a view can be had; else it is a copy."""


class Moments(Enum):
    """What an operation makes of the moments that an optimizer keeps of its tensors, element for element."""

    SAME = "same"
    """It does the same to them."""
    KEPT = "kept"
    """They stay as they are."""
    TURNED = "turned"
    """Those that have the sign of the gradient get the other one, all others stay."""
    NEW = "new"
    """There are none yet: its result is made of no tensor's data."""
    UNKNOWN = "unknown"
    """They do not follow from those of its tensors."""


Result = TensorType | tuple[TensorType, ...]
"""What a type rule gives: one tensor, or the pieces of a `split`."""
Moved = Tiling | tuple[Tiling | None, ...] | None
"""Where the elements of a result stand: of one tensor, or of the pieces of a `split`."""


class Operation:
    """One operation. The docstring of a class is its documentation: one sentence, then details.

    `infer` is the type rule: called with every parameter by name, a `TensorType` (or a tuple of them for `TENSORS`)
    where execution has tensors; it raises `OperationError`. `run` gets the torch module, then the same names with
    tensors; it raises `OperationError` for numbers in them that the operation cannot take.
    `invert`, if there is one, gets the names too (types for tensors) and returns how to undo the call to the bit, but
    for what a NaN holds besides, or `None` if these arguments cannot be undone.
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
    aliasing: ClassVar[Aliasing]
    scratch: ClassVar[Callable[..., int]]
    """The bytes that `run` has in memory at most, besides its tensors and its result. It gets the names of `infer`,
    and `result` and `plain`: the type of the result, and whether all tensors are known to lie plainly, as in a file."""
    moments: ClassVar[Moments]
    """What becomes of the moments that an optimizer keeps of its tensors."""
    fills_with: ClassVar[str | None] = None
    """The argument that new elements have as their value; it is 0 for moments."""
    operator: ClassVar[str | None] = None
    """How it is written without its name: `+` between two operands, `-x` before one, `x[]` behind one."""
    over_several: ClassVar[str | None] = None
    """The operation that is meant where several tensors are given."""
    of_number: ClassVar[Callable[[float], float] | None] = None
    """What it makes of a number that is no tensor; raises `ValueError` with what is wrong with it."""
    changes_dtype: ClassVar[bool] = False
    """True for the one operation that makes tensors of another dtype of tensors: `x`, `dtype`."""
    turns_matrices: ClassVar[bool] = False
    """True for the one operation that exchanges rows and columns when called without arguments."""
    takes_data: ClassVar[bool] = True
    """False where the types and devices of its tensors matter alone."""
    lays_out: ClassVar[bool] = False
    """True where results lie in memory as a file would hold them, element after element from its start, if all its
    tensors do; false where they may be views, or lie in another order."""

    @classmethod
    def in_parts(cls, arguments: Mapping[str, Any]) -> bool:
        """Say whether a call with these arguments can be computed part by part."""
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


def no_scratch(result: Result, plain: bool, **arguments: Any) -> int:
    """The `scratch` of operations that need no memory besides their tensors and their result."""
    return 0


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
