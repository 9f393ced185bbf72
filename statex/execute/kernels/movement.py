"""Values whose elements are in inputs: follows operations that only move them, and computes nothing."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from statex.checkpoint.blobs.contents import ByteRun, merged
from statex.checkpoint.blobs.gather import Gather
from statex.checkpoint.io.input_file import Stored
from statex.core.dtypes import DType, Kind
from statex.core.header import OpaqueInfo, RawType, TensorInfo, TensorType
from statex.core.strides import Fill, Tiling
from statex.dsl.ops import OPERATIONS
from statex.dsl.ops.base import Moved
from statex.dsl.plan.graph import Graph, InputTensor, Ref, ResultPiece, Settled, SourceKey, arguments_of
from statex.execute.kernels import by_numpy
from statex.execute.kernels.sequential import SequentialBuffers, SequentialBytes, SequentialReader

Runs = tuple[ByteRun, ...]

_FEW, _LONG = 16, 1 << 16
"""So many runs, or runs of so many bytes on average, are copied as they are; others are put in order in memory."""


class Movement:
    """Finds where the elements of values stand; `info_of` gives the header of a source."""

    def __init__(self, graph: Graph, info_of: Callable[[SourceKey], TensorInfo | OpaqueInfo]) -> None:
        self._graph = graph
        self._info_of = info_of
        self._found: dict[int, Moved] = {}
        self._runs: dict[int, Runs | None] = {}

    def of(self, wanted: int) -> Tiling | None:
        """Return where the elements of a value stand, or `None` where it has to be computed."""
        pending = [wanted]
        while pending:
            id = pending[-1]
            todo = [operand for operand in self._graph.operands(id) if operand not in self._found]
            if todo and id not in self._found:
                pending.extend(todo)
                continue
            pending.pop()
            if id not in self._found:
                self._found[id] = self._find(id)
        found = self._found[wanted]
        return found if isinstance(found, Tiling) else None

    def runs(self, id: int) -> Runs | None:
        """Return the runs whose bytes, one after the other, are a value, where they are worth copying one by one."""
        if id not in self._runs:
            self._runs[id] = self._copied(id)
        return self._runs[id]

    def gather(self, id: int) -> Gather:
        """Return the elements of a value whose places are known."""
        tiling = self.of(id)
        assert tiling is not None
        return Gather(tiling, self._size(id), partial(by_numpy.element, self._type(id).dtype))

    def reader(self, id: int) -> SequentialReader:
        """Return what reads the bytes of a value whose places are known, from its start to its end."""
        runs = self.runs(id)
        return SequentialBuffers(self.gather(id).buffers()) if runs is None else SequentialBytes(runs)

    def _copied(self, id: int) -> Runs | None:
        tiling = self.of(id)
        if tiling is None or any(isinstance(part.source, Fill) for part in tiling.parts):
            return None
        size, pieces = self._size(id), tiling.pieces
        if pieces > _FEW and self._type(id).nbytes < _LONG * pieces:
            return None
        return merged(
            [ByteRun(stored, offset * size, count * size) for stored, offset, count in tiling.runs()]  # type: ignore[arg-type]
        )

    def _find(self, id: int) -> Moved:
        node = self._graph[id]
        if isinstance(node, InputTensor):
            return _standing(self._info_of(node.key))
        if isinstance(node, ResultPiece):
            pieces = self._found[node.call]
            return pieces[node.index] if isinstance(pieces, tuple) else None
        if isinstance(node, Settled):
            return self._found[node.value]
        operation = OPERATIONS[node.operation]
        dtypes = {self._type(operand).dtype for operand in self._graph.operands(id)}
        kinds = node.type if isinstance(node.type, tuple) else (node.type,)
        if operation.moves is None or (operation.takes_data and dtypes - {kinds[0].dtype}):
            return None
        if operation.takes_data and any(self._found[operand] is None for operand in self._graph.operands(id)):
            return None
        found = operation.moves(**arguments_of(node, partial(self._argument, operation.takes_data)))
        return found if not isinstance(found, Tiling) or _can_fill(found, kinds[0].dtype) else None

    def _argument(self, takes_data: bool, value: Any) -> Any:
        if isinstance(value, Ref):
            return self._found[value.id] if takes_data else Tiling(self._type(value.id).shape, ())
        return tuple([self._argument(takes_data, one) for one in value]) if isinstance(value, tuple) else value

    def _type(self, id: int) -> TensorType:
        kind = self._graph[id].type
        assert isinstance(kind, TensorType)
        return kind

    def _size(self, id: int) -> int:
        dtype = self._type(id).dtype
        return 1 if dtype.kind is Kind.RAW else dtype.itemsize


def _standing(info: TensorInfo | OpaqueInfo) -> Tiling | None:
    if not isinstance(info, TensorInfo) or not isinstance(info.handle, Stored):
        return None
    if isinstance(info.type, RawType):
        return Tiling.of(info.handle, info.offset, (info.type.nbytes,), (1,))
    return Tiling.of(info.handle, info.offset, info.type.shape, info.strides)


def _can_fill(tiling: Tiling, dtype: DType) -> bool:
    """Say whether numbers among the elements can be made without torch."""
    fills = {part.source for part in tiling.parts if isinstance(part.source, Fill)}
    return all(by_numpy.has_element(dtype, fill.value) for fill in fills)
