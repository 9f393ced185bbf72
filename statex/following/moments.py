"""The moments of parameters on their way through the graph of a plan: each slot is a state of its own there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from statex.core.dtypes import DType
from statex.core.header import TensorType, contiguous
from statex.core.record import record
from statex.core.strides import Fill, Tiling
from statex.dsl.ops import OPERATIONS, ZEROS
from statex.dsl.ops.base import Moments, Operation
from statex.dsl.plan.graph import Graph, InputTensor, OperationCall, Ref, ResultPiece, Settled, arguments_of
from statex.dsl.values import TensorValue
from statex.following.remaking import NoMomentsError, below, called
from statex.following.slots import SIGNED, UNSIGNED


@record
class CarriedMoments:
    """The moments of a value: `grown` where some of their elements are new, and zeros."""

    value: TensorValue
    grown: bool


_Found = TensorValue | tuple[TensorValue, ...] | None
"""The moments of a value, those of the pieces of a call, or `None` where there are none yet."""


class Slot:
    """One slot of an optimizer; `moments` are its tensors, by the ids of the parameters in the graph."""

    def __init__(self, name: str, graph: Graph, moments: Mapping[int, TensorValue]) -> None:
        self._name = name
        self._graph = graph
        self._found: dict[int, _Found] = dict(moments)
        self._grown: dict[int, bool] = dict.fromkeys(moments, False)

    def carried(self, id: int, dtype: DType) -> CarriedMoments:
        """Return the moments of a value; what has none yet is zeros of a dtype.

        Raises:
            NoMomentsError: for an operation that they do not follow.
        """
        for one in below(id, self._found, self._graph.read):
            self._found[one] = self._made(one)
        found = self._found[id]
        assert not isinstance(found, tuple)
        return CarriedMoments(found if found is not None else self._zeros(id, dtype), self._grown[id])

    def _made(self, id: int) -> _Found:
        node = self._graph[id]
        self._grown[id] = any(self._grown[one] for one in self._graph.read(id))
        if isinstance(node, InputTensor):
            return None  # of another checkpoint
        if isinstance(node, Settled):
            inner = self._found[node.value]
            return self._graph.settled(inner.id, inner.type) if isinstance(inner, TensorValue) else None
        if isinstance(node, ResultPiece):
            pieces = self._found[node.call]
            return pieces[node.index] if isinstance(pieces, tuple) else None
        return self._of_call(id, node)

    def _of_call(self, id: int, node: OperationCall) -> _Found:
        operation = OPERATIONS[node.operation]
        operands = self._graph.read(id)
        known = [one for one in operands if self._found[one] is not None]
        if operation.moments is Moments.NEW or not known:
            return None
        if operation.moments is Moments.UNKNOWN:
            raise NoMomentsError(f"`{operation.name}` does more than move elements")
        if operation.moments is Moments.KEPT or (operation.moments is Moments.TURNED and self._is_unsigned(operation)):
            return self._found[known[0]]
        dtypes = [one.dtype for one in map(self._found.__getitem__, known) if isinstance(one, TensorValue)]
        self._grown[id] |= len(known) < len(operands)
        return self._called(id, node, operation, dtypes[0])

    def _is_unsigned(self, operation: type[Operation]) -> bool:
        if self._name not in SIGNED | UNSIGNED:
            raise NoMomentsError(f"`{operation.name}` changes signs, and whether `{self._name}` has one is not known")
        return self._name in UNSIGNED

    def _called(self, id: int, node: OperationCall, operation: type[Operation], dtype: DType) -> _Found:
        arguments = arguments_of(node, lambda value: self._argument(value, dtype))
        if operation.fills_with is not None:
            arguments[operation.fills_with] = 0
            self._grown[id] |= self._fills(node, operation)
        return called(self._graph, operation.name, arguments)

    def _fills(self, node: OperationCall, operation: type[Operation]) -> bool:
        """Say whether a call puts new elements among those of its tensor, which may be as many as it takes away."""
        assert operation.moves is not None
        found = operation.moves(**arguments_of(node, self._whole))
        return isinstance(found, Tiling) and any(isinstance(part.source, Fill) for part in found.parts)

    def _whole(self, argument: Any) -> Any:
        if not isinstance(argument, Ref):
            return argument
        kind = self._graph[argument.id].type
        assert isinstance(kind, TensorType)
        return Tiling.of(argument.id, 0, kind.shape, contiguous(kind.shape))

    def _argument(self, argument: Any, dtype: DType) -> Any:
        if isinstance(argument, Ref):
            found = self._found[argument.id]
            return found if found is not None else self._zeros(argument.id, dtype)
        return tuple(self._argument(one, dtype) for one in argument) if isinstance(argument, tuple) else argument

    def _zeros(self, id: int, dtype: DType) -> TensorValue:
        kind = self._graph[id].type
        assert isinstance(kind, TensorType)
        shape = TensorType(dtype, kind.shape)
        made = self._graph.call(ZEROS.name, {"size": kind.shape, "dtype": dtype}, shape)
        assert isinstance(made, TensorValue)
        return made
