"""Values of a graph made anew of other tensors than those they were made of."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable
from typing import Any

from statex.dsl.ops import OPERATIONS
from statex.dsl.ops.base import OperationError
from statex.dsl.plan.graph import Graph
from statex.dsl.values import TensorValue


class NoMomentsError(Exception):
    """An operation that moments, or averages, do not follow, and why."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


def below(wanted: int, known: Container[int], made_of: Callable[[int], Iterable[int]]) -> list[int]:
    """Return the values that one is made of and that are not known yet, itself included, in the order of the graph."""
    seen: set[int] = set()
    pending = [wanted]
    while pending:
        id = pending.pop()
        if id not in seen and id not in known:
            seen.add(id)
            pending += made_of(id)
    return sorted(seen)


def called(graph: Graph, name: str, arguments: dict[str, Any]) -> TensorValue | tuple[TensorValue, ...]:
    """Return what an operation makes of arguments, among which tensors are values of the graph.

    Raises:
        NoMomentsError: for an operation that cannot take them.
    """
    try:
        result = OPERATIONS[name].infer(**{argument: _typed(value) for argument, value in arguments.items()})
    except OperationError as error:
        raise NoMomentsError(f"`{name}` cannot take it: {error.headline}") from None
    return graph.call(name, arguments, result)


def _typed(value: Any) -> Any:
    """Return an argument with the types of tensors in their places."""
    if isinstance(value, TensorValue):
        return value.type
    return tuple(_typed(one) for one in value) if isinstance(value, tuple) else value
