"""Elementwise work in chunks that fit the cache, so that the size of a tensor does not set the memory.

Only operations whose every element follows exactly from IEEE arithmetic are done so: whatever the chunks are, the
result is torch's to the bit. Where numpy has the same result, torch is not imported.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from statex.checkpoint.contents import Buffer
from statex.dsl.graph import Call, Graph, Ref
from statex.dtypes import BOOL, Kind
from statex.execute import kernels
from statex.execute.movement import Movement
from statex.execute.readable import as_bytes
from statex.execute.sequential import Reader
from statex.execute.values import run_call
from statex.header import TensorType
from statex.torch_dtypes import torch_dtype

CHUNK = 128 * 1024
"""Elements that are computed at a time."""

_EXACT = frozenset(
    ["cast", "add", "sub", "mul", "div", "neg", "abs", "sqrt", "square", "floor", "ceil", "round", "clamp",
     "eq", "ne", "lt", "le", "gt", "ge"]
)  # fmt: skip
_DEPTH = 32

Step = Callable[[int, int], Any]
"""Gives the elements from a place on, so many, as a torch tensor or numpy array of one dimension."""


class Chunks:
    """Finds and does elementwise work over values that stand in inputs."""

    def __init__(self, graph: Graph, movement: Movement) -> None:
        self._graph = graph
        self._movement = movement
        self._possible: dict[int, bool] = {}

    def can(self, id: int, depth: int = 0) -> bool:
        """Say whether a value can be computed in chunks."""
        if id not in self._possible:
            self._possible[id] = depth < _DEPTH and self._can(id, depth)
        return self._possible[id]

    def _can(self, id: int, depth: int) -> bool:
        node = self._graph[id]
        if not isinstance(node, Call) or isinstance(node.type, tuple):
            return False
        if node.operation not in _EXACT or node.type.dtype.kind is Kind.COMPLEX:
            return False
        for operand in self._inner(id):
            kind = self._graph[operand].type
            if not isinstance(kind, TensorType) or kind.shape != node.type.shape or kind.dtype.kind is Kind.COMPLEX:
                return False
            if self._movement.of(operand) is None and not self.can(operand, depth + 1):
                return False
        return True

    def needs_torch(self, id: int) -> bool:
        """Say whether torch has to be imported to compute a value."""
        return not self.can(id) or self._by_numpy(id) is None

    def moved(self, id: int) -> list[int]:
        """Return the values that one is computed of, which stand in inputs."""
        return [one for one in self._order(id) if self._movement.of(one) is not None]

    def buffers(self, id: int) -> Iterator[Buffer]:
        """Yield the bytes of a value."""
        kind = self._graph[id].type
        assert isinstance(kind, TensorType)
        step = self._by_numpy(id) or self._by_torch(id)
        for start in range(0, kind.numel, CHUNK):
            yield as_bytes(step(start, min(CHUNK, kind.numel - start)))

    # --- numpy -------------------------------------------------------------------------------------------------

    def _by_numpy(self, id: int) -> Step | None:
        node = self._graph[id]
        kind = node.type
        assert isinstance(kind, TensorType)
        if self._movement.of(id) is not None:
            return _numpy_reader(self._movement.reader(id), kind) if kind.dtype.name in kernels.NUMPY else None
        assert isinstance(node, Call)
        if node.operation != "cast":
            return None
        operand = self._inner(id)[0]
        source = self._graph[operand].type
        assert isinstance(source, TensorType)
        cast, inner = kernels.casts(source.dtype, kind.dtype), self._by_numpy(operand)
        if cast is None or inner is None:
            return None
        return lambda start, count: cast(inner(start, count))

    # --- torch -------------------------------------------------------------------------------------------------

    def _by_torch(self, id: int) -> Step:
        """Return what computes each value that goes into this one once a chunk, and frees it after its last use."""
        order = self._order(id)
        last = {operand: one for one in order for operand in self._operands(one)}
        leaves = {one: self._leaf(one) for one in order if not self._operands(one)}
        inner = self._graph.inner

        def step(start: int, count: int) -> Any:
            values: dict[int, Any] = {}
            for one in order:
                if one in leaves:
                    values[one] = leaves[one](start, count)
                    continue
                values[one] = run_call(self._call(one), lambda a: values[inner(a.id)] if isinstance(a, Ref) else a)
                for operand in self._operands(one):
                    if last[operand] == one:
                        values.pop(operand, None)
            return values[id]

        return step

    def _order(self, id: int) -> list[int]:
        """Return a value and those it is computed from, operands first."""
        pending, seen = [id], {id}
        while pending:
            fresh = [operand for operand in self._operands(pending.pop()) if operand not in seen]
            pending += fresh
            seen.update(fresh)
        return sorted(seen)

    def _operands(self, id: int) -> tuple[int, ...]:
        """Return what a value is computed from; nothing where it stands in inputs."""
        return () if self._movement.of(id) is not None else self._inner(id)

    def _inner(self, id: int) -> tuple[int, ...]:
        """Return the operands of a call: how they lie in memory does not count, element by element."""
        return tuple(map(self._graph.inner, self._graph.operands(id)))

    def _call(self, id: int) -> Call:
        node = self._graph[id]
        assert isinstance(node, Call)
        return node

    def _leaf(self, id: int) -> Step:
        kind = self._graph[id].type
        assert isinstance(kind, TensorType)
        return _torch_reader(self._movement.reader(id), kind)


def _numpy_reader(source: Reader, kind: TensorType) -> Step:
    import numpy

    size = kind.dtype.itemsize
    name = kernels.NUMPY[kind.dtype.name]
    return lambda start, count: numpy.frombuffer(source.read(start * size, count * size), dtype=name)


def _torch_reader(source: Reader, kind: TensorType) -> Step:
    import torch

    size = kind.dtype.itemsize
    dtype = torch_dtype(torch, kind.dtype.name)
    if kind.dtype == BOOL:
        return lambda start, count: torch.frombuffer(source.read(start, count), dtype=torch.uint8).view(torch.bool)
    return lambda start, count: torch.frombuffer(source.read(start * size, count * size), dtype=dtype)
