"""Carries a plan out piece by piece: what only moves is described, what is computed is computed when it is written."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from statex.checkpoint.contents import Again, Blob, Buffer, Made, Moved, OutTensor, Run
from statex.checkpoint.crc import crc32
from statex.checkpoint.input_file import Stored
from statex.checkpoint.write_plan import WritePlan
from statex.dsl.graph import Call, Source, SourceKey
from statex.dsl.plan import Cost, Output, Plan
from statex.execute import kernels
from statex.execute.chunks import Chunks
from statex.execute.cost import cost, live_set
from statex.execute.heap import Heap
from statex.execute.ranges import Ranges, Runs
from statex.execute.readable import readable, readable_attributes, tensor_bytes
from statex.execute.values import Values
from statex.header import OpaqueInfo, TensorInfo, TensorType, contiguous

InfoOf = Callable[[SourceKey], TensorInfo | OpaqueInfo]


class Stream:
    """A plan over files; `info_of` gives the header of an input's tensor, `load` its data as a torch tensor.

    `shares` is true for an output in which tied tensors are written once. `earlier` are computed values, by their ids,
    that outputs written before hold: they are read from there.
    """

    def __init__(
        self,
        plan: Plan,
        info_of: InfoOf,
        load: Callable[[SourceKey], Any],
        *,
        shares: bool,
        earlier: Mapping[int, Made] | None = None,
    ) -> None:
        self._plan = plan
        self._earlier = earlier or {}
        self.made: dict[int, Made] = {}
        """What is computed for this output, by the ids of its values."""
        self._shares = shares
        self._info_of = info_of
        self._load = load
        self._ranges = Ranges(plan.graph, info_of)
        self._chunks = Chunks(plan.graph, self._ranges)
        self._values = Values(plan.graph, self._whole(), load)
        self._heap = Heap()

    def state(self) -> OrderedDict[str, Any]:
        """Return the result: `TensorInfo` and `OpaqueInfo` of what moves, `OutTensor` of what is made."""
        made: dict[object, OutTensor] = {}
        result: OrderedDict[str, Any] = OrderedDict()
        for key, output in self._plan.outputs.items():
            if output.origin is not None:
                info = self._info_of(output.origin)
                known = type(info) is TensorInfo and type(info.handle) is Stored
                result[key] = info if known else self._moved(output.origin, info)
            else:
                if output.tie not in made:
                    made[output.tie] = self._tensor(output)
                result[key] = made[output.tie]
        if self._plan.metadata is not None:
            result._metadata = self._plan.metadata  # type: ignore[attr-defined]
        return result

    def cost(self, output: WritePlan, *, torch: bool, distributed: bool, further_keys: int, pickled: int = 0) -> Cost:
        """Return what it takes to write an output.

        `torch` says that it is there for other reasons than to compute, `distributed` that its library of distributed
        checkpoints reads or writes tensors, each as a whole, `further_keys` how many keys further inputs have,
        `pickled` how many bytes the pickles of all inputs have.
        """
        blobs = output.blobs
        ids = self._computed_ids()
        turned = [found[1].nbytes for id in ids if (found := self._transposed(id)) is not None]
        made = [blob for blob in blobs if isinstance(blob, Made)]
        held = [n + (n >> 3) for n in turned] + [blob.held for blob in made]
        if distributed:
            held += [2 * blob.nbytes for blob in blobs]
        return cost(
            blobs,
            self._read(ids),
            max([self._live(), *held]),
            records=output.format.records_checksums,
            keys=len(self._plan.header.entries) + len(self._plan.outputs) + further_keys,
            numpy=bool(made),
            torch=torch or distributed or self.needs_torch,
            distributed=distributed,
            pickled=pickled,
        )

    @property
    def needs_torch(self) -> bool:
        """True where torch computes some of the values."""
        ids = self._computed_ids()
        return any(self._is_whole(id) or (self._chunks.can(id) and self._chunks.needs_torch(id)) for id in ids)

    def _computed_ids(self) -> list[int]:
        """Return the values that are computed for this output."""
        computed = [o.value for o in self._plan.outputs.values() if o.origin is None and o.value is not None]
        return [id for id in computed if id not in self._earlier and self._ranges.of(id) is None]

    def _live(self) -> int:
        """Return the bytes that whole values take, in whichever of the formats' orders they are written."""
        graph, roots = self._plan.graph, self._whole()
        by_size = sorted(roots, key=lambda id: -graph[id].type.dtype.itemsize)  # type: ignore[union-attr]
        orders = [roots] if self._shares or by_size == roots else [roots, by_size]
        return max(live_set(graph, order, self._needed, self._is_plain) for order in orders)

    def _needed(self, source: Source) -> int:
        info = self._info_of(source.key)
        assert isinstance(info, TensorInfo)
        return max(info.type.nbytes, info.span * info.type.dtype.itemsize)

    def _is_plain(self, source: Source) -> bool:
        info = self._info_of(source.key)
        return isinstance(info, TensorInfo) and info.is_contiguous

    def _read(self, ids: Iterable[int]) -> int:
        """Return the bytes that computing values reads: parts of inputs, and whole storages for their checksums."""
        whole = [id for id in ids if self._is_whole(id)]
        runs = [run for id in ids if self._chunks.can(id) for run in self._chunks.runs(id)]
        runs += [run for id in ids if (turned := self._transposed(id)) is not None for run in turned[0]]
        for key in {self._plan.graph[s].key for id in whole for s in self._plan.graph.sources(id)}:  # type: ignore[union-attr]
            info = self._info_of(key)
            if isinstance(info, TensorInfo) and isinstance(info.handle, Stored):
                size = info.type.dtype.itemsize
                runs.append(Run(info.handle, info.offset * size, info.span * size))
        checked = {run.stored for run in runs if run.stored.due and not run.is_whole}
        return sum(run.nbytes for run in runs) + sum(stored.nbytes for stored in checked)

    def _moved(self, key: SourceKey, info: TensorInfo | OpaqueInfo) -> Any:
        return self.readable(info, lambda: self._load(key)) if isinstance(info, TensorInfo) else info

    def readable(self, info: TensorInfo, load: Callable[[], Any]) -> TensorInfo | OutTensor:
        """Return a tensor whose bytes a writer can get: itself, or what `load` gives where no reader of ours has it."""
        return readable(info, load, self._heap)

    def _tensor(self, output: Output) -> OutTensor:
        assert output.value is not None
        assert output.type is not None
        blob = self._blob(output.value, output.type)
        return OutTensor(
            output.type, blob, 0, contiguous(output.type.shape), output.is_parameter, output.requires_grad,
            readable_attributes(output.attributes, self._heap),
        )  # fmt: skip

    def _blob(self, id: int, kind: TensorType) -> Blob:
        runs = self._ranges.of(id)
        if runs is not None:
            return Moved(runs)
        if id in self._earlier:
            return Again(self._earlier[id])
        self.made[id] = made = self._made(id, kind)
        return made

    def _made(self, id: int, kind: TensorType) -> Made:
        if self._chunks.can(id):
            return Made(kind.nbytes, lambda: self._chunks.buffers(id), in_parts=True)
        turned = self._transposed(id)
        if turned is not None:
            return Made(kind.nbytes, lambda: _turned(*turned), in_parts=True)
        return Made(kind.nbytes, lambda: self._computed(id))

    def _computed(self, id: int) -> Iterator[Buffer]:
        yield tensor_bytes(self._values.take(id))
        kinds = [self._plan.graph[one].type for one in (id, *self._plan.graph.sources(id))]
        self._heap.freed(sum(kind.nbytes for kind in kinds if isinstance(kind, TensorType)))

    def _whole(self) -> list[int]:
        """Return the values that are computed as whole tensors, as often as they are written."""
        written: dict[object, int] = {}
        for key, output in self._plan.outputs.items():
            id = output.value
            if output.origin is None and id is not None and self._is_whole(id):
                written[output.tie if self._shares else key] = id
        return list(written.values())

    def _is_whole(self, id: int) -> bool:
        known = id in self._earlier or self._ranges.of(id) is not None
        return not known and not self._chunks.can(id) and self._transposed(id) is None

    def _transposed(self, id: int) -> tuple[Runs, TensorType] | None:
        """Return the matrix that a value is the transpose of, where its bytes stand in inputs."""
        node = self._plan.graph[id]
        if not isinstance(node, Call) or node.operation not in ("transpose", "permute"):
            return None
        operand = self._plan.graph.operands(id)[0]
        kind, runs = self._plan.graph[operand].type, self._ranges.of(operand)
        if runs is None or not isinstance(kind, TensorType) or kind.ndim != 2 or not kind.numel:
            return None
        return (runs, kind) if node.type == TensorType(kind.dtype, kind.shape[::-1]) else None


def _turned(runs: Runs, kind: TensorType) -> Iterator[Buffer]:
    import numpy

    data: memoryview = numpy.empty(kind.nbytes, numpy.uint8).data
    at = 0
    for run in runs:
        part = data[at : at + run.nbytes]
        run.extent.file.read_into(run.extent.offset, part)
        if not run.is_whole:
            run.stored.check()
        elif run.stored.due:
            run.stored.compare(crc32(part))
        at += run.nbytes
    rows, columns = kind.shape
    yield from kernels.transposed(data, rows, columns, kind.dtype.itemsize)
