"""What carrying out a plan will take: bytes read, copied, computed and written, and the memory at its highest."""

from __future__ import annotations

from collections.abc import Iterable

from statex.checkpoint.contents import Blob, Made, Moved
from statex.checkpoint.input_file import Stored
from statex.dsl.graph import Graph, Source
from statex.dsl.plan import Cost
from statex.execute.values import count_uses
from statex.header import TensorType

_MB = 1 << 20
_BASE, _NUMPY, _TORCH = 52 * _MB, 32 * _MB, 270 * _MB
"""The resident set of the process, and what numpy and torch add to it; measured on Linux, rounded up."""
_KEY = 2560
"""What headers and plan take for each key of input and output; measured with 100,000 keys, rounded up."""
_BUFFERS = 12 * _MB


def cost(blobs: Iterable[Blob], read: Iterable[Stored], live: int, *, keys: int, numpy: bool, torch: bool) -> Cost:
    """Return the cost of writing blobs, of which `live` bytes are in memory at once."""
    copied = computed = 0
    for blob in blobs:
        if isinstance(blob, Moved):
            copied += blob.nbytes
        elif isinstance(blob, Made):
            computed += blob.nbytes
    needed = sum(stored.nbytes for stored in read)
    memory = _BASE + _BUFFERS + keys * _KEY + live
    memory += (_NUMPY if numpy or torch else 0) + (_TORCH if torch else 0)
    return Cost(read=copied + needed, copied=copied, computed=computed, written=copied + computed, memory=memory)


def live_set(graph: Graph, roots: list[int]) -> int:
    """Return the bytes that are alive at once, at most, while values are computed one after the other.

    A result is counted twice: an operation may need as much besides, and a view is made contiguous in the end.
    """
    uses = count_uses(graph, roots)
    alive: dict[int, int] = {}
    highest = 0

    def use(id: int) -> None:
        uses[id] -= 1
        if uses[id] <= 0:
            alive.pop(id, None)

    for root in roots:
        pending = [root]
        while pending:
            id = pending[-1]
            todo = [operand for operand in graph.operands(id) if operand not in alive]
            if id not in alive and todo:
                pending.extend(todo)
                continue
            pending.pop()
            if id in alive:
                continue
            size = _size(graph[id].type)
            highest = max(highest, sum(alive.values()) + size * (1 if isinstance(graph[id], Source) else 2))
            alive[id] = size
            for operand in graph.operands(id):
                use(operand)
        highest = max(highest, sum(alive.values()) + _size(graph[root].type))
        use(root)
    return highest


def _size(kind: TensorType | tuple[TensorType, ...]) -> int:
    return sum(one.nbytes for one in kind) if isinstance(kind, tuple) else kind.nbytes
