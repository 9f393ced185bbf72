"""The cost of carrying out a plan: bytes read, copied, computed and written, and the peak memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from importlib.util import find_spec
from pathlib import Path

from statex.checkpoint.blobs.contents import Again, Blob, Made, Moved
from statex.checkpoint.io.input_file import Stored
from statex.core.header import TensorType
from statex.dsl.ops import OPERATIONS
from statex.dsl.ops.base import Aliasing
from statex.dsl.plan.graph import Graph, InputTensor, Node, OperationCall, ResultPiece, Settled
from statex.dsl.plan.plan import Cost
from statex.execute.kernels.by_torch import count_uses
from statex.execute.scratch import scratch

_MB = 1 << 20
_BASE, _NUMPY, _TORCH, _DISTRIBUTED = 52 * _MB, 32 * _MB, 270 * _MB, 128 * _MB
"""The resident set of the process, and what numpy, torch and its library of distributed checkpoints add to it;
measured on Linux, rounded up."""
_DEVICES, _FOR_DEVICES = ("cuda", "hip", "xpu"), 350 * _MB
"""What a build of torch has libraries for, and what these add although nothing is computed with them."""
_KEY = 2560
"""What headers and plan take for each key of input and output; measured with 100,000 keys, rounded up."""
_PICKLED, _OBJECTS = 512, 6
"""Bytes of a pickle for each key that headers account for, and what a byte beyond these takes: arrays of numpy and
other values that are no tensors are read, and written again, as a whole."""
_BUFFERS = 12 * _MB


def cost(
    blobs: Sequence[Blob],
    read: int,
    live: int,
    *,
    records: bool,
    keys: int,
    numpy: bool,
    torch: bool,
    distributed: bool = False,
    pickled: int = 0,
) -> Cost:
    """Return the cost of writing blobs; computing them reads `read` bytes, and has `live` in memory at once.

    `records` says that the output records checksums, `pickled` how many bytes the pickles of the inputs have.
    """
    moved = [blob for blob in blobs if isinstance(blob, Moved)]
    copied = sum([blob.nbytes for blob in blobs if isinstance(blob, Moved | Again)])
    computed = sum([blob.nbytes for blob in blobs if isinstance(blob, Made)]) - sum(
        [blob.nbytes for blob in blobs if isinstance(blob, Again)]
    )
    read += copied + _read_again(moved, records)
    memory = _BASE + _BUFFERS + keys * _KEY + live + _OBJECTS * max(0, pickled - keys * _PICKLED)
    memory += (_NUMPY if numpy or torch else 0) + (_torch() if torch else 0) + (_DISTRIBUTED if distributed else 0)
    return Cost(read=read, copied=copied, computed=computed, written=copied + computed, memory=memory)


def _torch() -> int:
    """Return what the installed build of torch adds to the resident set; it is not imported for that."""
    found = find_spec("torch")
    folders = found.submodule_search_locations or [] if found is not None else []
    libraries = [file.name for folder in folders for file in Path(folder, "lib").glob("*torch_*")]
    return _TORCH + (_FOR_DEVICES if any(f"torch_{name}" in one for one in libraries for name in _DEVICES) else 0)


def _read_again(blobs: Iterable[Moved], records: bool) -> int:
    """Return the bytes that are read for checksums alone: of storages of which parts move.

    Where checksums are recorded, parts are read anyway, and those that follow one another make up the whole.
    """
    reach: dict[Stored, int] = {}
    for run in [run for blob in blobs for run in blob.runs]:
        if not run.is_whole and run.stored.unverified:
            before = reach.setdefault(run.stored, 0)
            reach[run.stored] = before + run.nbytes if run.start == before else before
    return sum(stored.nbytes for stored, end in reach.items() if not records or end < stored.nbytes)


_HOLE = 32 * _MB
"""Blocks of up to this size may leave holes in the heap when they are freed: the allocator gives only larger ones back
at once."""


def live_set(
    graph: Graph,
    groups: Sequence[Sequence[int]],
    held: Sequence[int],
    loaded: Callable[[InputTensor], int],
    plain: Callable[[InputTensor], bool],
) -> int:
    """Return the bytes that are alive at once, at most, while values are computed one after the other.

    The values of a group are needed at the same time; `held` bytes are needed besides while they are. `loaded` says how
    many bytes it takes to have a source, `plain` whether its elements lie one after the other.
    """
    uses = count_uses(graph, [root for group in groups for root in group])
    buffers = _Buffers(graph, loaded, plain)
    highest = largest = 0

    def use(id: int) -> None:
        uses[id] -= 1
        if uses[id] <= 0:
            buffers.free(id)

    for group, besides in zip(groups, held, strict=True):
        for root in group:
            pending = [root]
            while pending:
                id = pending[-1]
                todo = [operand for operand in graph.operands(id) if operand not in buffers]
                if id not in buffers and todo:
                    pending.extend(todo)
                    continue
                pending.pop()
                if id in buffers:
                    continue
                buffers.add(id)
                highest = max(highest, buffers.size + buffers.scratch(id))
                largest = max(largest, _size(graph[id].type))
                for operand in graph.operands(id):
                    use(operand)
        # What does not lie as the file shall hold it is copied when it is written.
        copies = sum([_size(graph[root].type) for root in group if not buffers.are_plain([root])])
        highest = max(highest, buffers.size + copies + besides)
        for root in group:
            use(root)
    return highest + min(largest, _HOLE)


class _Buffers:
    """The memory that values keep: each its own, and that of what it is a view of."""

    def __init__(
        self, graph: Graph, loaded: Callable[[InputTensor], int], plain: Callable[[InputTensor], bool]
    ) -> None:
        self._graph = graph
        self._loaded = loaded
        self._plain = plain
        self._laid_out: set[int] = set()
        self._kept: dict[int, frozenset[int]] = {}
        self._sizes: dict[int, int] = {}
        self._users: Counter[int] = Counter()
        self.size = 0

    def __contains__(self, id: int) -> bool:
        return id in self._kept

    def add(self, id: int) -> None:
        node = self._graph[id]
        aliasing = self._aliasing(node)
        is_view = aliasing is Aliasing.VIEW
        kept: frozenset[int] = frozenset()
        if aliasing is not Aliasing.COPY:
            kept = kept.union(*(self._kept[operand] for operand in self._graph.operands(id)))
        if not is_view:
            kept |= {id}
            self._sizes[id] = self._loaded(node) if isinstance(node, InputTensor) else _size(node.type)
        if self._lies_plainly(node, id):
            self._laid_out.add(id)
        self._kept[id] = kept
        for buffer in kept:
            if not self._users[buffer]:
                self.size += self._sizes[buffer]
            self._users[buffer] += 1

    def _aliasing(self, node: Node) -> Aliasing:
        if isinstance(node, Settled):
            # What lies as it shall is not copied.
            return Aliasing.VIEW if node.value in self._laid_out else Aliasing.MAYBE
        if isinstance(node, OperationCall):
            return OPERATIONS[node.operation].aliasing
        return Aliasing.VIEW if isinstance(node, ResultPiece) else Aliasing.COPY

    def scratch(self, id: int) -> int:
        """Return the bytes that an operation needs while it works, at most."""
        node = self._graph[id]
        if not isinstance(node, OperationCall):
            return 0
        plain = self.are_plain(self._graph.operands(id))
        return scratch(node, node.type, lambda one: self._graph[one].type, plain=plain)

    def are_plain(self, ids: Iterable[int]) -> bool:
        """Say whether it is known of values that their elements lie as a file would hold them."""
        return self._laid_out.issuperset(ids)

    def _lies_plainly(self, node: Node, id: int) -> bool:
        """Say whether it is known that the elements of a value lie as a file would hold them."""
        if isinstance(node, OperationCall):
            return OPERATIONS[node.operation].lays_out and self.are_plain(self._graph.operands(id))
        return isinstance(node, Settled) or (isinstance(node, InputTensor) and self._plain(node))

    def free(self, id: int) -> None:
        for buffer in self._kept.pop(id, ()):
            self._users[buffer] -= 1
            if not self._users[buffer]:
                self.size -= self._sizes[buffer]


def _size(kind: TensorType | tuple[TensorType, ...]) -> int:
    return sum(one.nbytes for one in kind) if isinstance(kind, tuple) else kind.nbytes
