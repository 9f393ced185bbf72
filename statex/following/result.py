"""The parameters of a result in the groups and the order that an optimizer has them in, and what each is made of."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NoReturn

from statex.core.header import TensorInfo
from statex.diagnostics.codes import following as codes
from statex.diagnostics.suggest import join_words
from statex.dsl.compile.state import source_value
from statex.dsl.plan.entry import Entry
from statex.dsl.plan.graph import InputTensor, SourceKey
from statex.dsl.plan.plan import Plan
from statex.following.noted import NamesNote, by_group
from statex.following.optimizer import KnownParameter, Optimizer
from statex.following.ordering import ResultOrder, ResultParameter
from statex.following.parameters import Hints, aligned, is_buffer_name, reads_as, result_shapes
from statex.following.problems import CannotFollowError


class ResultParameters:
    """The parameters of the result of a plan, as an optimizer of the state has to know them.

    `members` are those that it knows now, by their ids in the graph, and `keys` what they are called there.
    """

    def __init__(self, plan: Plan, optimizer: Optimizer, hints: Hints) -> None:
        self._plan = plan
        self._optimizer = optimizer
        self._hints = hints
        keys = aligned(optimizer, plan, hints)
        self.keys = [keys[one.id] for one in optimizer.members]
        self.members = self._by_source(optimizer.members)
        self._ranks = {id: rank for rank, id in enumerate(self.members)}
        self._order = ResultOrder(plan, optimizer, hints, self.keys)

    @property
    def order(self) -> str:
        """What their positions follow, as a `FollowAccount` says it."""
        return self._order.said

    def by_group(self) -> list[ResultParameter]:
        """Return them group by group, and in each group in the order of the model, as far as that is known.

        Raises:
            CannotFollowError: SX344 for parameters that cannot be joined, SX346 for new ones that have no group, SX341
                where nothing says where they come.
        """
        found = self._order.of(self._parameters())
        return [one for number in range(self._optimizer.groups) for one in found if one.group == number]

    def note(
        self, found: Sequence[ResultParameter], members: Sequence[KnownParameter], *, ordered: bool
    ) -> NamesNote | None:
        """Return what has to be noted for the next run: names that it would not find, or not in this order.

        `found` are the parameters of the result, group by group, and `members` what the optimizer of the result keeps
        of them. `ordered` says whether the next run can go by the order of the keys.
        """
        optimizer = self._optimizer
        if not optimizer.by_position:
            return None
        names = by_group([(one.group, one.key) for one in found], optimizer.groups)
        old = zip(optimizer.members, self.keys, strict=True)
        note = NamesNote(names, by_group([(member.group, key) for member, key in old], optimizer.groups))
        made = Optimizer(tuple(members), optimizer.groups, False, optimizer.options)
        keys, shapes = [one.key for one in found], result_shapes(self._plan)
        if not optimizer.is_named and not reads_as(made, shapes, keys, ordered=ordered):
            return note
        if optimizer.note is not None and optimizer.note.before == names:
            return None
        # What comes back of the parameters that were dropped has to find its group again.
        is_whole = optimizer.groups == 1 or len({id for one in found for id in one.of}) == len(self.members)
        return None if self._order.is_plain and is_whole else note

    def _by_source(self, members: Sequence[KnownParameter]) -> dict[int, KnownParameter]:
        found: dict[int, KnownParameter] = {}
        for key, member in zip(self.keys, members, strict=True):
            id = self._source(key)
            if id in found:
                one = self.keys[list(found).index(id)]
                raise CannotFollowError(
                    codes.OTHER_PARAMETERS, f"it knows `{one}` and `{key}` as two parameters, and they are one tensor"
                )
            found[id] = member
        return found

    def _source(self, key: str) -> int:
        info = self._plan.header.entries[key]
        assert isinstance(info, TensorInfo)
        return source_value(self._plan.graph, SourceKey("", 0, key), info).id

    def _parameters(self) -> list[ResultParameter]:
        found: list[ResultParameter] = []
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
        return [*found, *self._missing()]

    def _missing(self) -> Iterator[ResultParameter]:
        """Yield the parameters of the target that the result has not: the optimizer of the target has them."""
        for name in self._hints.target or ():
            if name not in self._plan.outputs:
                nothing = Entry(("missing", name), is_parameter=True, requires_grad=True)
                group = self._group_of_new(name, nothing)
                if group is not None:
                    yield ResultParameter(name, nothing, (), group, len(self._ranks), True)

    def _parameter(self, key: str, output: Entry) -> ResultParameter | None:
        own = self._own(output)
        known = tuple(id for id in own if id in self.members)
        if not own:
            group = self._group_of_new(key, output)
            return None if group is None else ResultParameter(key, output, (), group, len(self._ranks), True)
        if not known:
            return None
        if len(known) < len(own):
            other = next(id for id in own if id not in self.members)
            self.apart(key, output, f"it knows {self.said(known[:1])}, and not {self.said([other])}")
        groups = {self.members[id].group for id in known}
        if len(groups) > 1:
            one, two = self._two(known, lambda member: member.group)
            self.apart(key, output, f"{self.said([one])} and {self.said([two])} are in different groups")
        return ResultParameter(key, output, known, groups.pop(), min(self._ranks[id] for id in known), False)

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

    def said(self, ids: Iterable[int]) -> str:
        """Return the keys of tensors of the state, as messages write them."""
        return join_words([f"`{self._key(id)}`" for id in ids], limit=3)

    def _two(self, known: Sequence[int], of: Any) -> tuple[int, int]:
        first = known[0]
        return first, next(id for id in known if of(self.members[id]) != of(self.members[first]))

    def _group_of_new(self, key: str, output: Entry) -> int | None:
        """Return the group that a parameter joins whose data is not of the state; `None` if it is no parameter."""
        if is_buffer_name(key) or (self._hints.target is not None and key not in self._hints.target):
            return None
        if output.module_source is not None and self._is_tensor(output.module_source):
            return self._group_at(output.module_source)
        named = self._plan.graph.named([output.value]) if output.value is not None else {}
        like = [self.members.get(self._source(one.key)) for one in named if not one.input]
        groups = {one.group for one in like if one is not None} or {*range(self._optimizer.groups)}
        if len(groups) > 1 and self._is_tensor(key):
            # What had the name before has been dropped: the model has another parameter in its place.
            return self._group_at(key)
        note = self._optimizer.note
        if len(groups) > 1 and note is not None:
            groups = {number for number, names in enumerate(note.before) if key in names}
        if len(groups) == 1:
            return groups.pop()
        raise CannotFollowError(
            codes.NO_GROUP,
            f"nothing says which of the {self._optimizer.groups} groups the new parameter `{key}` belongs to",
            help=("make it of a parameter whose group it should join, as `zeros_like(OTHER)` does",),
            step=output.step,
        )

    def _is_tensor(self, key: str) -> bool:
        return isinstance(self._plan.header.entries.get(key), TensorInfo)

    def _group_at(self, key: str) -> int | None:
        """Return the group of a parameter of before; `None` where the optimizer does not know it."""
        member = self.members.get(self._source(key))
        return None if member is None else member.group

    def apart(self, key: str, output: Entry, why: str) -> NoReturn:
        """Refuse to give a parameter of the result moments.

        Raises:
            CannotFollowError: SX344.
        """
        raise CannotFollowError(
            codes.MOMENTS_APART, f"the moments for `{key}` cannot be joined: {why}", step=output.step
        )
