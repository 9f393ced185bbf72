"""Carries out a plan piece by piece: data that only moves is described, the rest is computed when it is written."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeVar

from statex.checkpoint.blobs.contents import Again, Blob, ByteRun, Made, Moved, OutTensor
from statex.checkpoint.blobs.gather import Gather
from statex.checkpoint.blobs.write_plan import WritePlan
from statex.checkpoint.io.input_file import Buffer, Stored
from statex.core.dtypes import FLOAT32
from statex.core.header import OpaqueInfo, TensorInfo, TensorType, contiguous
from statex.dsl.plan.entry import Entry
from statex.dsl.plan.followed import Place
from statex.dsl.plan.graph import InputTensor, SourceKey
from statex.dsl.plan.plan import Cost, Plan
from statex.execute.cost import cost, live_set
from statex.execute.heap import Heap
from statex.execute.kernels.by_torch import TorchValues
from statex.execute.kernels.elementwise import Chunks
from statex.execute.kernels.movement import Movement
from statex.execute.kernels.unpacking import is_packed, loaded
from statex.execute.readable import readable, readable_attributes, tensor_bytes
from statex.execute.stretched import computed_of_stretched

K = TypeVar("K")
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
        self._movement = Movement(plan.graph, info_of)
        self._chunks = Chunks(plan.graph, self._movement, lambda id: self._values.take(id))
        self._groups = self._whole()
        """The values that are written, each with those that are computed as whole tensors for it."""
        roots = [id for _, group in self._groups for id in group]
        self._values = TorchValues(plan.graph, roots, lambda key: loaded(info_of(key), lambda: load(key)))
        self._heap = Heap()

    def state(self) -> OrderedDict[str, Any]:
        """Return the result: `TensorInfo` and `OpaqueInfo` of what moves, `OutTensor` of what is made."""
        result = OrderedDict(self._results(self._plan.outputs))
        if self._plan.metadata is not None:
            result._metadata = self._plan.metadata  # type: ignore[attr-defined]
        return result

    def followed(self) -> Mapping[Place, Any]:
        """Return the tensors of what follows beside the result, as `state` does."""
        return {place: made for one in self._plan.followed for place, made in self._results(one.outputs)}

    def _results(self, outputs: Mapping[K, Entry]) -> Iterator[tuple[K, Any]]:
        made: dict[object, OutTensor] = {}
        for key, output in outputs.items():
            if output.origin is not None:
                info = self._info_of(output.origin)
                known = type(info) is TensorInfo and type(info.handle) is Stored
                yield key, info if known else self._moved(output.origin, info)
            else:
                if output.tie not in made:
                    made[output.tie] = self._tensor(output)
                yield key, made[output.tie]

    def cost(self, output: WritePlan, *, torch: bool, distributed: bool, further_keys: int, pickled: int = 0) -> Cost:
        """Return what it takes to write an output.

        `torch` says that it is there for other reasons than to compute, `distributed` that its library of distributed
        checkpoints reads or writes tensors, each as a whole, `further_keys` how many keys further inputs have,
        `pickled` how many bytes the pickles of all inputs have.
        """
        blobs = output.blobs
        ids = self._computed_ids()
        made = [blob for blob in blobs if isinstance(blob, Made)]
        held = [blob.held for blob in made]
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
        return any(self._movement.of(id) is None and self._chunks.needs_torch(id) for id in ids)

    @property
    def of_stretched(self) -> Mapping[SourceKey, int]:
        """The views of inputs that repeat elements and are computed with, and the bytes that this takes."""
        return computed_of_stretched(self._plan, self._movement, self._info_of)

    def _computed_ids(self) -> list[int]:
        """Return the values that are computed for this output."""
        computed = [o.value for o in self._plan.made if o.origin is None and o.value is not None]
        return [id for id in computed if id not in self._earlier and self._movement.runs(id) is None]

    def _live(self) -> int:
        """Return the bytes that whole values take, in whichever of the formats' orders they are written."""
        graph, groups = self._plan.graph, self._groups
        by_size = sorted(groups, key=lambda group: -graph[group[0]].type.dtype.itemsize)  # type: ignore[union-attr]
        orders = [groups] if self._shares or by_size == groups else [groups, by_size]
        held = {id: self._held(id) for id, _ in groups}
        return max(
            live_set(graph, [ids for _, ids in order], [held[id] for id, _ in order], self._needed, self._is_plain)
            for order in orders
        )

    def _held(self, id: int) -> int:
        """Return the bytes that computing a value in chunks has in memory at once, but for whole tensors."""
        if not self._chunks.can(id):
            return 0
        return self._chunks.held(id) + sum([gather.held for gather in self._gathers(self._chunks.moved(id))])

    def _needed(self, source: InputTensor) -> int:
        info = self._info_of(source.key)
        assert isinstance(info, TensorInfo)
        if is_packed(info):
            return info.type.numel * FLOAT32.itemsize
        return max(info.type.nbytes, info.span * info.type.dtype.itemsize)

    def _is_plain(self, source: InputTensor) -> bool:
        info = self._info_of(source.key)
        return isinstance(info, TensorInfo) and info.is_contiguous

    def _read(self, ids: Iterable[int]) -> int:
        """Return the bytes that computing values reads: parts of inputs, and whole storages for their checksums."""
        whole = [one for id in ids for one in self._chunks.whole(id)]
        moved = [one for id in ids for one in self._chunks.moved(id)]
        runs = [run for id in moved for run in self._movement.runs(id) or ()]
        for key in {self._plan.graph[s].key for id in whole for s in self._plan.graph.sources(id)}:  # type: ignore[union-attr]
            info = self._info_of(key)
            if isinstance(info, TensorInfo) and isinstance(info.handle, Stored):
                if is_packed(info):
                    runs.append(ByteRun(info.handle, 0, info.type.nbytes))
                    continue
                size = info.type.dtype.itemsize
                runs.append(ByteRun(info.handle, info.offset * size, info.span * size))
        gathers = self._gathers(moved)
        checked = {run.stored for run in runs if run.stored.unverified and not run.is_whole}
        checked |= {stored for gather in gathers for stored in gather.checked_apart}
        read = sum([run.nbytes for run in runs]) + sum([gather.read for gather in gathers])
        return read + sum(stored.nbytes for stored in checked)

    def _gathers(self, moved: Iterable[int]) -> list[Gather]:
        """Return what puts elements in order in memory, of values that stand in inputs."""
        return [self._movement.gather(id) for id in moved if self._movement.runs(id) is None]

    def _moved(self, key: SourceKey, info: TensorInfo | OpaqueInfo) -> Any:
        return self.readable(info, lambda: self._load(key)) if isinstance(info, TensorInfo) else info

    def readable(self, info: TensorInfo, load: Callable[[], Any]) -> TensorInfo | OutTensor:
        """Return a tensor whose bytes a writer can get: itself, or what `load` gives where no reader of ours has it."""
        return readable(info, load, self._heap)

    def _tensor(self, output: Entry) -> OutTensor:
        assert output.value is not None
        assert output.type is not None
        blob = self._blob(output.value, output.type)
        return OutTensor(
            output.type, blob, 0, contiguous(output.type.shape), output.is_parameter, output.requires_grad,
            readable_attributes(output.attributes, self._heap),
        )  # fmt: skip

    def _blob(self, id: int, kind: TensorType) -> Blob:
        runs = self._movement.runs(id)
        if runs is not None:
            return Moved(runs)
        if id in self._earlier:
            return Again(self._earlier[id])
        self.made[id] = made = self._made(id, kind)
        return made

    def _made(self, id: int, kind: TensorType) -> Made:
        if self._movement.of(id) is not None:
            gather = self._movement.gather(id)
            return Made(kind.nbytes, gather.buffers, held=gather.held, in_parts=True)
        if self._chunks.can(id):
            return Made(kind.nbytes, lambda: self._in_chunks(id), held=self._held(id), in_parts=True)
        return Made(kind.nbytes, lambda: self._computed(id))

    def _in_chunks(self, id: int) -> Iterator[Buffer]:
        yield from self._chunks.buffers(id)
        self._freed(self._chunks.whole(id))

    def _computed(self, id: int) -> Iterator[Buffer]:
        yield tensor_bytes(self._values.take(id))
        self._freed([id])

    def _freed(self, ids: Iterable[int]) -> None:
        """Note that whole tensors, and what they were computed of, are no longer used."""
        kinds = [self._plan.graph[one].type for id in ids for one in (id, *self._plan.graph.sources(id))]
        self._heap.freed(sum([kind.nbytes for kind in kinds if isinstance(kind, TensorType)]))

    def _whole(self) -> list[tuple[int, list[int]]]:
        written: dict[object, tuple[int, list[int]]] = {}
        for number, output in enumerate(self._plan.made):
            id = output.value
            if output.origin is None and id is not None and id not in self._earlier:
                written[output.tie if self._shares else number] = id, self._chunks.whole(id)
        return [one for one in written.values() if one[1]]
