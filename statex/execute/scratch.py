"""The memory that a call needs while it works, as its operation declares it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from statex.dsl.ops import OPERATIONS
from statex.dsl.ops.base import Result
from statex.dsl.plan.graph import OperationCall, Ref, arguments_of

TypeOf = Callable[[int], Result]


def scratch(call: OperationCall, result: Result, type_of: TypeOf, *, plain: bool) -> int:
    """Return the bytes that a call needs at most besides its tensors and its result.

    `type_of` gives the types of its tensors, `plain` says that they are known to lie as a file would hold them.
    """
    operation = OPERATIONS[call.operation]
    arguments = arguments_of(call, lambda argument: _types(argument, type_of))
    return operation.scratch(result=result, plain=plain, **arguments)


def _types(argument: Any, type_of: TypeOf) -> Any:
    """Return an argument of a call with the types of tensors in their places."""
    if isinstance(argument, Ref):
        return type_of(argument.id)
    return tuple(_types(one, type_of) for one in argument) if isinstance(argument, tuple) else argument
