"""Takes an optimizer through a plan: the parameters of the result in its groups, and the moments of each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from statex.core.header import KeyPath, TensorInfo, TensorType
from statex.core.paths import joined
from statex.core.record import record
from statex.diagnostics.codes import following as codes
from statex.diagnostics.suggest import join_words
from statex.dsl.compile.state import source_entry
from statex.dsl.plan.entry import Entry
from statex.dsl.plan.followed import FollowAccount, Followed, Place
from statex.dsl.plan.graph import InputTensor, SourceKey
from statex.dsl.plan.plan import Plan
from statex.dsl.values import TensorValue
from statex.following.alignment import wrapping
from statex.following.moments import CarriedMoments, NoMomentsError, Slot
from statex.following.optimizer import KnownParameter, read_optimizer
from statex.following.parameters import Hints, aligned, is_buffer_name
from statex.following.problems import CannotFollowError
from statex.following.slots import COUNTERS, NOT_FROM_ZERO, PER_MATRIX
from statex.following.writing import Renewed, ids_of, written_optimizer


def follow_optimizer(plan: Plan, path: KeyPath, tree: Mapping[Any, Any], hints: Hints) -> Followed:
    """Return an optimizer beside the state as it is beside the result; `path` is where its own `tree` stands.

    Raises:
        CannotFollowError: SX341 to SX347.
    """
    return _Following(plan, path, tree, hints).run()


@record
class _Parameter:
    """A parameter of the result: the members it is made of, and those whose group it joins."""

    key: str
    output: Entry
    of: tuple[int, ...]
    group: int
    rank: int
    is_new: bool


class _Following:
    def __init__(self, plan: Plan, path: KeyPath, tree: Mapping[Any, Any], hints: Hints) -> None:
        self._plan = plan
        self._path = path
        self._tree = tree
        self._hints = hints
        self._optimizer = read_optimizer(tree)
        keys = aligned(self._optimizer, plan, hints)
        self._keys = [keys[one.id] for one in self._optimizer.members]
        self._members = {self._source(key): one for key, one in zip(self._keys, self._optimizer.members, strict=True)}
        self._ranks = {id: rank for rank, id in enumerate(self._members)}
        self._moments: dict[str, dict[int, TensorValue]] = {}
        self._infos: dict[str, TensorInfo] = {}
        self._slots: dict[str, Slot] = {}
        self._outputs: dict[Place, Entry] = {}
        self._used: set[SourceKey] = set()
        self._grown: list[str] = []

    def run(self) -> Followed:
        found = self._in_order(self._parameters())
        by_group = [one for number in range(self._optimizer.groups) for one in found if one.group == number]
        names = self._names(by_group)
        bare = [Renewed(name, one.group, None, None) for name, one in zip(names, by_group, strict=True)]
        ids = ids_of(self._optimizer, bare)
        renewed = [
            Renewed(name, one.group, self._entry(one, id), None)
            for name, one, id in zip(names, by_group, ids, strict=True)
        ]
        return Followed(
            self._path, "optimizer", self._input, self._infos, self._outputs,
            written_optimizer(self._tree, self._optimizer, renewed), self._account(by_group),
        )  # fmt: skip

    def _account(self, found: Sequence[_Parameter]) -> FollowAccount:
        reached = {id for one in found for id in one.of}
        order = "target" if self._hints.target is not None else "keys" if self._hints.ordered else "before"
        slots = dict.fromkeys(name for one in self._optimizer.members for name in one.moments)
        return FollowAccount(
            tuple(slots),
            sum(not one.is_new for one in found),
            tuple(self._grown),
            tuple(one.key for one in found if one.is_new),
            tuple(key for key, id in zip(self._keys, self._members, strict=True) if id not in reached),
            order if self._optimizer.by_position else "names",
        )

    # --- parameters ----------------------------------------------------------------------------------------------

    def _source(self, key: str) -> int:
        info = self._plan.header.entries[key]
        assert isinstance(info, TensorInfo)
        return self._value(SourceKey("", 0, key), info).id

    def _value(self, key: SourceKey, info: TensorInfo) -> TensorValue:
        value = source_entry(key, info).value_in(self._plan.graph)
        assert value is not None
        return value

    def _parameters(self) -> list[_Parameter]:
        found: list[_Parameter] = []
        tied = set()
        for key, output in self._plan.outputs.items():
            kind = output.type
            floating = kind is not None and (kind.dtype.is_floating_point or kind.dtype.is_complex)
            if not floating or output.tie in tied:
                continue
            one = self._parameter(key, output)
            if one is not None:
                tied.add(output.tie)
                found.append(one)
        return found

    def _parameter(self, key: str, output: Entry) -> _Parameter | None:
        own = self._own(output)
        known = tuple(id for id in own if id in self._members)
        if not own:
            group = self._group_of_new(key, output)
            return None if group is None else _Parameter(key, output, (), group, len(self._ranks), True)
        if not known:
            return None
        if len(known) < len(own):
            other = next(id for id in own if id not in self._members)
            self._apart(key, output, f"the optimizer knows {self._said(known[:1])}, and not {self._said([other])}")
        groups = {self._members[id].group for id in known}
        if len(groups) > 1:
            one, two = self._two(known, lambda member: member.group)
            self._apart(key, output, f"{self._said([one])} and {self._said([two])} are in different groups of it")
        return _Parameter(key, output, known, groups.pop(), min(self._ranks[id] for id in known), False)

    def _own(self, output: Entry) -> list[int]:
        """Return the tensors of the state that the data of an output is made of."""
        if output.origin is not None:
            return [] if output.origin.input else [self._source(output.origin.key)]
        assert output.value is not None
        graph = self._plan.graph
        return sorted(id for id in graph.sources(output.value) if self._key(id) is not None)

    def _key(self, id: int) -> str | None:
        """Return the key of a tensor of the state."""
        node = self._plan.graph[id]
        return node.key.key if isinstance(node, InputTensor) and not node.key.input else None

    def _said(self, ids: Iterable[int]) -> str:
        return join_words([f"`{self._key(id)}`" for id in ids], limit=3)

    def _two(self, known: Sequence[int], of: Any) -> tuple[int, int]:
        first = known[0]
        return first, next(id for id in known if of(self._members[id]) != of(self._members[first]))

    def _group_of_new(self, key: str, output: Entry) -> int | None:
        """Return the group that a parameter joins whose data is not of the state; `None` if it is no parameter."""
        if is_buffer_name(key) or (self._hints.target is not None and key not in self._hints.target):
            return None
        if output.module_source is not None and isinstance(self._plan.header.entries[output.module_source], TensorInfo):
            member = self._members.get(self._source(output.module_source))
            return None if member is None else member.group
        named = self._plan.graph.named([output.value]) if output.value is not None else {}
        like = [self._members.get(self._source(one.key)) for one in named if not one.input]
        groups = {one.group for one in like if one is not None} or {*range(self._optimizer.groups)}
        if len(groups) == 1:
            return groups.pop()
        raise CannotFollowError(
            codes.NO_GROUP,
            f"nothing says which of the {self._optimizer.groups} groups the new parameter `{key}` belongs to",
            help=("make it of a parameter whose group it should join, as `zeros_like(OTHER)` does",),
            step=output.step,
        )

    def _in_order(self, found: list[_Parameter]) -> list[_Parameter]:
        """Return the parameters of the result in the order in which its model has them, as far as that is known."""
        target = self._hints.target
        if target is not None:
            places = {name: place for place, name in enumerate(target)}
            keys = self._tied_keys()
            first = {
                one.key: min((places[key] for key in keys[one.output.tie] if key in places), default=-1)
                for one in found
            }
            return sorted((one for one in found if first[one.key] >= 0), key=lambda one: first[one.key])
        if self._hints.ordered or not self._optimizer.by_position:
            return self._as_before(found)
        new = next((one for one in found if one.is_new), None)
        if new is not None:
            raise CannotFollowError(
                codes.AMBIGUOUS_PARAMETERS,
                f"the keys are in the order of their names, so nothing says where the new parameter `{new.key}` comes",
                help=("name the model, whose order counts: --target package.module:callable",),
                step=new.output.step,
            )
        return sorted(found, key=lambda one: one.rank)

    def _as_before(self, found: list[_Parameter]) -> list[_Parameter]:
        """Put those with names of before into the order of before: a model with these names has them so."""
        ranks = {key: rank for rank, key in enumerate(self._plan.header.entries)}
        known = iter(sorted((one for one in found if one.key in ranks), key=lambda one: ranks[one.key]))
        return [next(known) if one.key in ranks else one for one in found]

    def _tied_keys(self) -> Mapping[object, list[str]]:
        keys: dict[object, list[str]] = {}
        for key, output in self._plan.outputs.items():
            keys.setdefault(output.tie, []).append(key)
        return keys

    def _names(self, found: Sequence[_Parameter]) -> list[str]:
        shapes = dict.fromkeys(self._plan.header.entries, ())
        before, after = wrapping([one.name or "" for one in self._optimizer.members], shapes)
        if not self._optimizer.is_named:
            before = after = ""
        return [f"{before}{one.key.removeprefix(after)}" for one in found]

    # --- entries -------------------------------------------------------------------------------------------------

    @property
    def _input(self) -> str:
        return f"({joined(self._path)})"

    def _entry(self, one: _Parameter, id: int | str) -> dict[str, Any] | None:
        entries = [self._members[source].entry for source in one.of]
        if not any(entry is not None for entry in entries):
            return None
        if one.output.origin is not None:
            return {slot: self._as_it_is(one.of[0], slot, id) for slot in entries[0] or {}}
        self._check_together(one)
        return {slot: self._of_slot(one, slot, id) for slot in entries[0] or {}}

    def _check_together(self, one: _Parameter) -> None:
        """Refuse parameters that the optimizer has treated differently, and optimizers that look at whole matrices."""
        first, *others = one.of
        slots = {*(self._members[first].entry or {})}
        for other in others:
            if {*(self._members[other].entry or {})} != slots:
                text = f"it has not kept the same of {self._said([first])} and of {self._said([other])}"
                self._apart(one.key, one.output, text)
        option = next((name for name in PER_MATRIX if name in self._optimizer.options[one.group]), None)
        sizes = {self._numel(id) for id in one.of}
        assert one.output.type is not None
        if option is not None and (len(one.of) > 1 or sizes != {one.output.type.numel}):
            raise CannotFollowError(
                codes.MOMENTS_OF_OTHER_SHAPE,
                f"its step depends on whole matrices (it has the option `{option}`), and `{one.key}` is not the whole "
                f"of {self._said(one.of)}",
                step=one.output.step,
            )

    def _numel(self, id: int) -> int:
        kind = self._plan.graph[id].type
        assert isinstance(kind, TensorType)
        return kind.numel

    def _of_slot(self, one: _Parameter, slot: str, id: int | str) -> Any:
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
                f"its `{slot}` of {self._said([wide])} is {kept[wide].type}, not one number for each element",
                step=one.output.step,
            )
        return self._counter(one, slot, id, kept)

    def _counter(self, one: _Parameter, slot: str, id: int | str, kept: Mapping[int, Any]) -> Any:
        first, *others = kept.values()
        infos = [value for value in kept.values() if isinstance(value, TensorInfo)]
        same = self._hints.equal(infos) if len(infos) == len(kept) else all(value == first for value in others)
        if not same:
            sources = list(kept)
            self._apart(one.key, one.output, f"`{slot}` of {self._said(sources)} is not the same number")
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

    def _moment(self, one: _Parameter, slot: str, id: int | str) -> Place:
        if slot not in self._slots:
            of = {source: (member, (member.entry or {}).get(slot)) for source, member in self._members.items()}
            held = {
                source: self._held(member, slot, value)[1]
                for source, (member, value) in of.items()
                if isinstance(value, TensorInfo) and value.type.shape == self._plan.graph[source].type.shape  # type: ignore[union-attr]
            }
            self._slots[slot] = Slot(slot, self._plan.graph, held)
        carried = self._carried(one, slot)
        if carried.grown and slot in NOT_FROM_ZERO:
            raise CannotFollowError(
                codes.MOMENTS_UNKNOWN,
                f"`{one.key}` has new elements, and its `{slot}` cannot begin with 0: {NOT_FROM_ZERO[slot]}",
                step=one.output.step,
            )
        if carried.grown and one.key not in self._grown:
            self._grown.append(one.key)
        return self._put(id, slot, carried.value, None)

    def _carried(self, one: _Parameter, slot: str) -> CarriedMoments:
        info = (self._members[one.of[0]].entry or {})[slot]
        assert one.output.value is not None
        try:
            return self._slots[slot].carried(one.output.value, info.type.dtype)
        except NoMomentsError as error:
            raise CannotFollowError(
                codes.MOMENTS_UNKNOWN,
                f"its `{slot}` of {self._said(one.of)} cannot go through `{error.operation}`: {error.why}",
                step=one.output.step,
            ) from None

    def _held(self, member: KnownParameter, slot: str, info: TensorInfo) -> tuple[SourceKey, TensorValue]:
        """Return a tensor of the optimizer as a source of the graph."""
        key = SourceKey(self._input, 0, f"{member.id}.{slot}")
        self._infos[key.key] = info
        return key, self._value(key, info)

    def _put(self, id: int | str, slot: str, value: TensorValue, origin: SourceKey | None) -> Place:
        inner: KeyPath = (f"state.{id}.{slot}",) if self._optimizer.is_flat else ("state", id, slot)
        place = Place(self._path, inner)
        graph = self._plan.graph
        made = None if origin is not None else graph.inner(value.id)
        self._outputs[place] = Entry(("followed", place), value.type, origin, made)
        return place

    def _apart(self, key: str, output: Entry, why: str) -> None:
        raise CannotFollowError(codes.MOMENTS_APART, f"`{key}` cannot have moments: {why}", step=output.step)
