"""Takes an optimizer through a plan: the parameters of the result in its groups, and the moments of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from statex.core.header import KeyPath, TensorInfo, TensorType
from statex.core.paths import joined
from statex.diagnostics.codes import following as codes
from statex.dsl.compile.state import source_value
from statex.dsl.plan.entry import Entry
from statex.dsl.plan.followed import FollowAccount, Followed, Place
from statex.dsl.plan.graph import SourceKey
from statex.dsl.plan.plan import Plan
from statex.dsl.values import TensorValue
from statex.following.alignment import wrapping
from statex.following.moments import CarriedMoments, Slot
from statex.following.noted import NOTE, NamesNote
from statex.following.optimizer import KnownParameter, read_optimizer
from statex.following.ordering import ResultParameter
from statex.following.parameters import Hints
from statex.following.problems import CannotFollowError
from statex.following.remaking import NoMomentsError
from statex.following.result import ResultParameters
from statex.following.slots import COUNTERS, PER_MATRIX, why_not_from_zero
from statex.following.writing import Renewed, ids_of, written_optimizer


def follow_optimizer(plan: Plan, path: KeyPath, tree: Mapping[Any, Any], hints: Hints, file: str = "") -> Followed:
    """Return an optimizer beside the state as it is beside the result; `path` is where its own `tree` stands.

    `file` is the name of the input that it stands in, if that is a file of its own.

    Raises:
        CannotFollowError: SX341 to SX347.
    """
    return _Following(plan, path, tree, hints, file).run()


class _Following:
    def __init__(self, plan: Plan, path: KeyPath, tree: Mapping[Any, Any], hints: Hints, file: str) -> None:
        self._plan = plan
        self._path = path
        self._file = file
        self._input = f"({file}){joined(path)}"
        self._tree = tree
        self._hints = hints
        self._optimizer = read_optimizer(tree)
        self._result = ResultParameters(plan, self._optimizer, hints)
        self._members = self._result.members
        self._infos: dict[str, TensorInfo] = {}
        self._slots: dict[str, Slot] = {}
        self._outputs: dict[Place, Entry] = {}
        self._used: set[SourceKey] = set()
        self._grown: list[str] = []

    def run(self) -> Followed:
        found = self._result.by_group()
        names = self._names(found)
        ids = ids_of(self._optimizer, names)
        renewed = [
            Renewed(name, one.group, self._entry(one, id)) for name, one, id in zip(names, found, ids, strict=True)
        ]
        note = self._note(found, renewed)
        return Followed(
            self._path, "optimizer", self._input, self._infos, self._outputs,
            written_optimizer(self._tree, self._optimizer, renewed, note), self._account(found, names, note),
            self._file,
        )  # fmt: skip

    def _note(self, found: Sequence[ResultParameter], renewed: Sequence[Renewed]) -> NamesNote | None:
        members = [KnownParameter(number, None, one.group, self._kept(one.entry)) for number, one in enumerate(renewed)]
        return self._result.note(found, members, ordered=self._hints.ordered and not self._file)

    def _kept(self, entry: Mapping[str, Any] | None) -> dict[str, TensorInfo] | None:
        types = {name: self._outputs[one].type for name, one in (entry or {}).items() if isinstance(one, Place)}
        return {name: TensorInfo(kind) for name, kind in types.items() if kind is not None} or None

    def _account(self, found: Sequence[ResultParameter], names: Sequence[str], note: NamesNote | None) -> FollowAccount:
        reached = {id for one in found for id in one.of}
        slots = dict.fromkeys(name for one in self._optimizer.members for name in one.moments)
        return FollowAccount(
            tuple(slots),
            sum(not one.is_new for one in found),
            tuple(self._grown),
            tuple(one.key for one in found if one.is_new),
            tuple(key for key, id in zip(self._result.keys, self._members, strict=True) if id not in reached),
            self._result.order,
            tuple(key for key, one in zip(self._result.keys, self._optimizer.members, strict=True) if one.entry),
            self._is_same(found, names) and _data(note) == self._tree.get(NOTE),
            note is not None,
        )

    def _is_same(self, found: Sequence[ResultParameter], names: Sequence[str]) -> bool:
        """Say whether every parameter is in its place as it was, under its name if the optimizer has one for it."""
        unmoved = [one.of for one in found if one.output.origin is not None] == [(id,) for id in self._members]
        named = [(known.name, name) for known, name in zip(self._optimizer.members, names, strict=False)]
        return len(found) == len(self._members) and unmoved and all(old in (None, new) for old, new in named)

    def _names(self, found: Sequence[ResultParameter]) -> list[str]:
        shapes = dict.fromkeys(self._plan.header.entries, ())
        before, after = wrapping([one.name or "" for one in self._optimizer.members], shapes)
        if not self._optimizer.is_named:
            before = after = ""
        return [f"{before}{one.key.removeprefix(after)}" for one in found]

    # --- entries -------------------------------------------------------------------------------------------------

    def _entry(self, one: ResultParameter, id: int | str) -> dict[str, Any] | None:
        entries = [self._members[source].entry for source in one.of]
        if not any(entry is not None for entry in entries):
            return None
        if one.output.origin is not None:
            return {slot: self._as_it_is(one.of[0], slot, id) for slot in entries[0] or {}}
        self._check_together(one)
        return {slot: self._of_slot(one, slot, id) for slot in entries[0] or {}}

    def _check_together(self, one: ResultParameter) -> None:
        """Refuse parameters that the optimizer has treated differently, and optimizers that look at whole matrices."""
        first, *others = one.of
        slots = {*(self._members[first].entry or {})}
        for other in others:
            if {*(self._members[other].entry or {})} != slots:
                self._result.apart(one.key, one.output, self._not_the_same(first, other))
        option = next((name for name in PER_MATRIX if name in self._optimizer.options[one.group]), None)
        sizes = {self._numel(id) for id in one.of}
        assert one.output.type is not None
        if option is not None and (len(one.of) > 1 or sizes != {one.output.type.numel}):
            raise CannotFollowError(
                codes.MOMENTS_OF_OTHER_SHAPE,
                f"its step depends on whole matrices (it has the option `{option}`), and `{one.key}` is not the whole "
                f"of {self._result.said(one.of)}",
                step=one.output.step,
            )

    def _not_the_same(self, first: int, other: int) -> str:
        without = [id for id in (first, other) if not self._members[id].entry]
        if without:
            return f"it has kept nothing of {self._result.said(without)}, which has had no step"
        return f"it has not kept the same of {self._result.said([first])} and of {self._result.said([other])}"

    def _numel(self, id: int) -> int:
        kind = self._plan.graph[id].type
        assert isinstance(kind, TensorType)
        return kind.numel

    def _of_slot(self, one: ResultParameter, slot: str, id: int | str) -> Any:
        kept = {source: (self._members[source].entry or {})[slot] for source in one.of}
        shapes = [self._plan.graph[source].type.shape for source in one.of]  # type: ignore[union-attr]
        tensors = [value for value in kept.values() if isinstance(value, TensorInfo)]
        if slot not in COUNTERS and [value.type.shape for value in tensors] == shapes:
            return self._moment(one, slot, id)
        wide = next(
            (source for source, value in kept.items() if isinstance(value, TensorInfo) and value.type.numel != 1), None
        )
        if wide is not None:
            raise CannotFollowError(
                codes.MOMENTS_OF_OTHER_SHAPE,
                f"its `{slot}` of {self._result.said([wide])} is {kept[wide].type}, not one number for each element",
                step=one.output.step,
            )
        return self._counter(one, slot, id, kept)

    def _counter(self, one: ResultParameter, slot: str, id: int | str, kept: Mapping[int, Any]) -> Any:
        first, *others = kept.values()
        infos = [value for value in kept.values() if isinstance(value, TensorInfo)]
        same = self._hints.equal(infos) if len(infos) == len(kept) else all(value == first for value in others)
        if not same:
            sources = list(kept)
            self._result.apart(one.key, one.output, f"`{slot}` of {self._result.said(sources)} is not the same number")
        return self._as_it_is(one.of[0], slot, id)

    def _as_it_is(self, source: int, slot: str, id: int | str) -> Any:
        """Return what is kept of a parameter under its new place."""
        member = self._members[source]
        value = (member.entry or {})[slot]
        if not isinstance(value, TensorInfo):
            return value
        key, held = self._held(member, slot, value)
        first = key not in self._used
        self._used.add(key)
        return self._put(id, slot, held, key if first else None)

    def _moment(self, one: ResultParameter, slot: str, id: int | str) -> Place:
        if slot not in self._slots:
            of = {source: (member, (member.entry or {}).get(slot)) for source, member in self._members.items()}
            held = {
                source: self._held(member, slot, value)[1]
                for source, (member, value) in of.items()
                if isinstance(value, TensorInfo) and value.type.shape == self._plan.graph[source].type.shape  # type: ignore[union-attr]
            }
            self._slots[slot] = Slot(slot, self._plan.graph, held)
        carried = self._carried(one, slot)
        why = why_not_from_zero(slot) if carried.grown else ""
        if why:
            raise CannotFollowError(
                codes.MOMENTS_UNKNOWN, f"`{one.key}` has new elements, and {why}", step=one.output.step
            )
        if carried.grown and one.key not in self._grown:
            self._grown.append(one.key)
        return self._put(id, slot, carried.value, None)

    def _carried(self, one: ResultParameter, slot: str) -> CarriedMoments:
        info = (self._members[one.of[0]].entry or {})[slot]
        assert one.output.value is not None
        try:
            return self._slots[slot].carried(one.output.value, info.type.dtype)
        except NoMomentsError as error:
            raise CannotFollowError(
                codes.MOMENTS_UNKNOWN,
                f"the `{slot}` of the new `{one.key}` does not follow from that of {self._result.said(one.of)}: "
                f"{error.why}",
                step=one.output.step,
            ) from None

    def _held(self, member: KnownParameter, slot: str, info: TensorInfo) -> tuple[SourceKey, TensorValue]:
        """Return a tensor of the optimizer as a source of the graph."""
        key = SourceKey(self._input, 0, f"{member.id}.{slot}")
        self._infos[key.key] = info
        return key, source_value(self._plan.graph, key, info)

    def _put(self, id: int | str, slot: str, value: TensorValue, origin: SourceKey | None) -> Place:
        inner: KeyPath = (f"state.{id}.{slot}",) if self._optimizer.is_flat else ("state", id, slot)
        place = Place(self._path, inner, self._file)
        graph = self._plan.graph
        made = None if origin is not None else graph.inner(value.id)
        self._outputs[place] = Entry(("followed", place), value.type, origin, made)
        return place


def _data(note: NamesNote | None) -> Any:
    return note.as_data() if note is not None else None
