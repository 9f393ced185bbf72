"""The values of a plan made of other tensors than those of the state: of averages of them, say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from statex.dsl.ops import OPERATIONS
from statex.dsl.ops.base import ArgKind, OperationError
from statex.dsl.plan.graph import Graph, InputTensor, OperationCall, Ref, ResultPiece, Settled
from statex.dsl.values import TensorValue
from statex.following.moments import NoMomentsError, typed


class Substitution:
    """Other tensors in the place of those of the state; `tensors` are they, by the ids of the others in the graph."""

    def __init__(self, graph: Graph, tensors: Mapping[int, TensorValue]) -> None:
        self._graph = graph
        self._found: dict[int, Any] = dict(tensors)

    def value(self, id: int) -> TensorValue:
        """Return a value as it is made of the other tensors; those that have no other stand for themselves.

        Raises:
            NoMomentsError: for an operation that cannot take them.
        """
        for one in self._below(id):
            self._found[one] = self._made(one)
        found = self._found[id]
        assert isinstance(found, TensorValue)
        return found

    def _below(self, wanted: int) -> list[int]:
        seen: set[int] = set()
        pending = [wanted]
        while pending:
            id = pending.pop()
            if id not in seen and id not in self._found:
                seen.add(id)
                pending += self._graph.operands(id)
        return sorted(seen)

    def _made(self, id: int) -> Any:
        node = self._graph[id]
        if isinstance(node, InputTensor):
            return TensorValue(node.type.dtype, node.type.shape, id)
        if isinstance(node, Settled):
            inner = self._found[node.value]
            return self._graph.settled(inner.id, inner.type)
        if isinstance(node, ResultPiece):
            return self._found[node.call][node.index]
        return self._called(node)

    def _called(self, node: OperationCall) -> Any:
        operation = OPERATIONS[node.operation]
        axes = {one.name for one in operation.parameters if one.kind is ArgKind.AXES}
        arguments = {name: dict(value) if name in axes else self._argument(value) for name, value in node.arguments}
        try:
            result = operation.infer(**{name: typed(value) for name, value in arguments.items()})
        except OperationError as error:
            raise NoMomentsError(f"`{operation.name}` cannot take it: {error.headline}") from None
        return self._graph.call(operation.name, arguments, result)

    def _argument(self, argument: Any) -> Any:
        if isinstance(argument, Ref):
            return self._found[argument.id]
        return tuple(self._argument(one) for one in argument) if isinstance(argument, tuple) else argument
