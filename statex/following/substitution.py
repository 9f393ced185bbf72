"""The values of a plan made of other tensors than those of the state: of averages of them, say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from statex.dsl.plan.graph import Graph, InputTensor, Ref, ResultPiece, Settled, arguments_of
from statex.dsl.values import TensorValue
from statex.following.remaking import below, called


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
        for one in below(id, self._found, self._graph.operands):
            self._found[one] = self._made(one)
        found = self._found[id]
        assert isinstance(found, TensorValue)
        return found

    def _made(self, id: int) -> Any:
        node = self._graph[id]
        if isinstance(node, InputTensor):
            return TensorValue(node.type.dtype, node.type.shape, id)
        if isinstance(node, Settled):
            inner = self._found[node.value]
            return self._graph.settled(inner.id, inner.type)
        if isinstance(node, ResultPiece):
            return self._found[node.call][node.index]
        return called(self._graph, node.operation, arguments_of(node, self._argument))

    def _argument(self, argument: Any) -> Any:
        if isinstance(argument, Ref):
            return self._found[argument.id]
        return tuple(self._argument(one) for one in argument) if isinstance(argument, tuple) else argument
