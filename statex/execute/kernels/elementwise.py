"""Elementwise work in chunks that fit the cache, so that memory does not depend on the size of a tensor.

Only operations whose every element follows exactly from IEEE arithmetic are done so: whatever the chunks are, the
result is torch's to the bit. Where numpy has the same result, torch is not imported.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from statex.checkpoint.io.input_file import Buffer
from statex.core.dtypes import BOOL, FLOAT32, DType, Kind
from statex.core.header import TensorType
from statex.diagnostics.torch_dtypes import torch_dtype
from statex.dsl.ops import OPERATIONS
from statex.dsl.plan.graph import Graph, OperationCall, Ref, arguments_of
from statex.execute.kernels import by_numpy
from statex.execute.kernels.by_torch import run_call
from statex.execute.kernels.movement import Movement
from statex.execute.kernels.sequential import SequentialBuffers, SequentialReader
from statex.execute.kernels.unpacking import unpacked
from statex.execute.readable import as_bytes, tensor_bytes
from statex.execute.scratch import scratch

CHUNK = 128 * 1024
"""Elements that are computed at a time."""

_WAITING = 3
"""Chunks of a result that are there while another is computed: one that is written, and those after it."""
_BY_NUMPY = 16
"""Bytes that numpy needs for an element at most, while it casts or unpacks."""

Step = Callable[[int, int], Any]
"""Gives the elements from a place on, so many, as a torch tensor or numpy array of one dimension."""


class Chunks:
    """Finds and does elementwise work over values that stand in inputs, and over what is computed as a whole.

    `whole` gives the latter, as a torch tensor.
    """

    def __init__(self, graph: Graph, movement: Movement, whole: Callable[[int], Any]) -> None:
        self._graph = graph
        self._movement = movement
        self._take = whole
        self._possible: dict[int, bool] = {}
        self._orders: dict[int, list[int]] = {}

    def can(self, id: int) -> bool:
        """Say whether a value can be computed in chunks."""
        if id not in self._possible:
            self._possible[id] = self._can(id)
        return self._possible[id]

    def _can(self, id: int) -> bool:
        node = self._graph[id]
        if not isinstance(node, OperationCall) or isinstance(node.type, tuple):
            return False
        operation = OPERATIONS[node.operation]
        if not operation.in_parts(dict(node.arguments)) or node.type.dtype.kind is Kind.COMPLEX:
            return False
        for operand in self._inner(id):
            kind = self._graph[operand].type
            if not isinstance(kind, TensorType) or kind.shape != node.type.shape or kind.dtype.kind is Kind.COMPLEX:
                return False
        return True

    def whole(self, id: int) -> list[int]:
        """Return the values that one is computed of, which have to be computed as whole tensors: maybe itself."""
        if self._movement.of(id) is not None:
            return []
        return [one for one in self._order(id) if self._movement.of(one) is None and not self.can(one)]

    def needs_torch(self, id: int) -> bool:
        """Say whether torch has to be imported to compute a value."""
        return bool(self.whole(id)) or not self._is_by_numpy(id)

    def moved(self, id: int) -> list[int]:
        """Return the values that one is computed of, which stand in inputs."""
        return [one for one in self._order(id) if self._movement.of(one) is not None]

    def buffers(self, id: int) -> Iterator[Buffer]:
        """Yield the bytes of a value."""
        kind = self._graph[id].type
        assert isinstance(kind, TensorType)
        if self._is_by_numpy(id):
            step = self._steps(id, _numpy_reader, self._by_numpy)
        else:
            step = self._steps(id, _torch_reader, run_call)
        for start in range(0, kind.numel, CHUNK):
            yield as_bytes(step(start, min(CHUNK, kind.numel - start)))

    def held(self, id: int) -> int:
        """Return the bytes that are in memory at most while a value is computed in chunks, and those are written.

        What is computed as whole tensors, and what readers hold, is not counted.
        """
        last = self._last_uses(id)
        alive, highest = 0, 0
        for one in self._order(id):
            alive += self._chunk(one).nbytes
            highest = max(highest, alive + self._scratch(one))
            alive -= sum([self._chunk(operand).nbytes for operand in set(self._operands(one)) if last[operand] == one])
        return highest + _WAITING * self._chunk(id).nbytes

    def _scratch(self, id: int) -> int:
        chunk = self._chunk(id)
        by_torch = scratch(self._call(id), chunk, self._chunk, plain=True) if self._operands(id) else 0
        return max(by_torch, _BY_NUMPY * chunk.numel)

    def _chunk(self, id: int) -> TensorType:
        """Return the type of a chunk of a value; of blocks, the numbers that they stand for are computed with."""
        kind = self._graph[id].type
        assert isinstance(kind, TensorType)
        return TensorType(kind.dtype if kind.dtype.block is None else FLOAT32, (min(kind.numel, CHUNK),))

    def _is_by_numpy(self, id: int) -> bool:
        """Say whether numpy does all that is done in chunks."""
        return all(map(self._is_for_numpy, self._order(id)))

    def _is_for_numpy(self, id: int) -> bool:
        """Say whether numpy reads, or computes of its operands, the same bits as torch."""
        kind = self._graph[id].type
        assert isinstance(kind, TensorType)
        if not self._operands(id):
            return kind.dtype.name in by_numpy.NUMPY or kind.dtype.block is not None
        call, source = self._call(id), self._source_dtype(id)
        if source != kind.dtype:
            return by_numpy.casts(source, kind.dtype) is not None
        operation = OPERATIONS[call.operation]
        # torch rounds a number on the left to the dtype, or computes with it in another way.
        leads = operation.commutes or not isinstance(call.arguments[0][1], int | float)
        return operation.numpy is not None and by_numpy.computes(kind.dtype) and leads

    def _by_numpy(self, call: OperationCall, argument: Callable[[Any], Any]) -> Any:
        assert isinstance(call.type, TensorType)
        arguments = arguments_of(call, argument)
        operation = OPERATIONS[call.operation]
        if operation.numpy is not None:
            return by_numpy.computed(operation, call.type.dtype, arguments)
        (ref,) = [value for _, value in call.arguments if isinstance(value, Ref)]
        cast = by_numpy.casts(self._graph[ref.id].type.dtype, call.type.dtype)  # type: ignore[union-attr]
        assert cast is not None
        return cast(argument(ref))

    def _source_dtype(self, id: int) -> DType:
        """Return the dtype that all operands of a call have."""
        (dtype,) = {self._graph[operand].type.dtype for operand in self._inner(id)}  # type: ignore[union-attr]
        return dtype

    def _steps(
        self, id: int, reader: Callable[[SequentialReader, TensorType], Step], compute: Callable[..., Any]
    ) -> Step:
        """Return what computes each value that goes into this one once a chunk, and frees it after its last use."""
        order = self._order(id)
        last = self._last_uses(id)
        leaves = {one: self._leaf(one, reader) for one in order if not self._operands(one)}

        def step(start: int, count: int) -> Any:
            values: dict[int, Any] = {}
            for one in order:
                if one in leaves:
                    values[one] = leaves[one](start, count)
                    continue
                values[one] = compute(self._call(one), partial(self._argument, values))
                for operand in self._operands(one):
                    if last[operand] == one:
                        values.pop(operand, None)
            return values[id]

        return step

    def _last_uses(self, id: int) -> dict[int, int]:
        """Return the value that each of those a value is computed from is needed for last."""
        return {operand: one for one in self._order(id) for operand in self._operands(one)}

    def _argument(self, values: dict[int, Any], given: Any) -> Any:
        if isinstance(given, Ref):
            return values[self._graph.inner(given.id)]
        return tuple([self._argument(values, one) for one in given]) if isinstance(given, tuple) else given

    def _order(self, id: int) -> list[int]:
        """Return a value and those it is computed from, operands first."""
        if id not in self._orders:
            self._orders[id] = self._ordered(id)
        return self._orders[id]

    def _ordered(self, id: int) -> list[int]:
        pending, seen = [id], {id}
        while pending:
            fresh = [operand for operand in self._operands(pending.pop()) if operand not in seen]
            pending += fresh
            seen.update(fresh)
        return sorted(seen)

    def _operands(self, id: int) -> tuple[int, ...]:
        """Return what a value is computed from in chunks; nothing where it stands in inputs, or is computed whole."""
        return self._inner(id) if self._movement.of(id) is None and self.can(id) else ()

    def _inner(self, id: int) -> tuple[int, ...]:
        """Return the operands of a call: how they lie in memory does not count, element by element."""
        return tuple(map(self._graph.inner, self._graph.operands(id)))

    def _call(self, id: int) -> OperationCall:
        node = self._graph[id]
        assert isinstance(node, OperationCall)
        return node

    def _leaf(self, id: int, reader: Callable[[SequentialReader, TensorType], Step]) -> Step:
        kind = self._graph[id].type
        assert isinstance(kind, TensorType)
        if self._movement.of(id) is not None:
            return reader(self._movement.reader(id), kind)
        return reader(SequentialBuffers(iter([tensor_bytes(self._take(id))])), kind)


def _block_reader(source: SequentialReader, dtype: DType) -> Step:
    """Return what gives the numbers that blocks stand for; it is asked for whole blocks."""
    block = dtype.block
    assert block is not None

    def read(start: int, count: int) -> Any:
        return unpacked(source.read(start // block.numel * block.nbytes, count // block.numel * block.nbytes), dtype)

    return read


def _numpy_reader(source: SequentialReader, kind: TensorType) -> Step:
    import numpy

    if kind.dtype.block is not None:
        return _block_reader(source, kind.dtype)
    size = kind.dtype.itemsize
    name = by_numpy.NUMPY[kind.dtype.name]
    return lambda start, count: numpy.frombuffer(source.read(start * size, count * size), dtype=name)


def _torch_reader(source: SequentialReader, kind: TensorType) -> Step:
    import torch

    if kind.dtype.block is not None:
        blocks = _block_reader(source, kind.dtype)
        return lambda start, count: torch.from_numpy(blocks(start, count))
    size = kind.dtype.itemsize
    dtype = torch_dtype(torch, kind.dtype.name)
    if kind.dtype == BOOL:
        return lambda start, count: torch.frombuffer(source.read(start, count), dtype=torch.uint8).view(torch.bool)
    return lambda start, count: torch.frombuffer(source.read(start * size, count * size), dtype=dtype)
