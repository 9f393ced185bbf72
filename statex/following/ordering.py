"""The order of the parameters of a result, as far as anything tells it: a target, the keys, or how they were before."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise

from statex.core.record import record
from statex.diagnostics.codes import following as codes
from statex.dsl.plan.entry import Entry
from statex.dsl.plan.plan import Plan
from statex.following.module_order import module_order
from statex.following.noted import NamesByGroup, by_group, flat
from statex.following.optimizer import Optimizer
from statex.following.parameters import Hints
from statex.following.problems import CannotFollowError


@record
class ResultParameter:
    """A parameter of the result: the members it is made of, those whose group it joins, and the first one's place."""

    key: str
    output: Entry
    of: tuple[int, ...]
    group: int
    rank: int
    is_new: bool


Ordered = list[ResultParameter]


class ResultOrder:
    """Puts the parameters of a result in order; `keys` are those of the members of the optimizer, in their order.

    `said` is what the positions follow, as a `FollowAccount` has it. `is_plain` where both the order of the keys and
    the positions of before lead to it.
    """

    def __init__(self, plan: Plan, optimizer: Optimizer, hints: Hints, keys: Sequence[str]) -> None:
        self._plan = plan
        self._optimizer = optimizer
        self._hints = hints
        pairs = [*zip(optimizer.members, keys, strict=True)]
        groups = by_group([(member.group, key) for member, key in pairs], optimizer.groups)
        self._before = _Before([*plan.header.entries], groups)
        self.said = "names"
        self.is_plain = True

    def of(self, found: Ordered) -> Ordered:
        """Return parameters in the order in which the model of the result has them.

        Raises:
            CannotFollowError: SX341 where nothing tells it.
        """
        before, target = self._before, self._hints.target
        if target is not None:
            ordered = self._by_target(found, target)
        elif not self._optimizer.by_position:
            return before.as_named(found)
        else:
            ordered = self._in_former_order(found) or (
                self._by_keys(found) if self._hints.ordered else self._in_old_places(found)
            )
        if self._optimizer.by_position:
            there = [one for one in found if one in ordered] if len(ordered) < len(found) else found
            by_keys = self._same(ordered, before.arranged(there))
            self.is_plain = by_keys and self._same(ordered, before.arranged(before.by_position(there)))
            told = "keys" if by_keys else "former"
            self.said = "target" if target is not None else told if self._hints.ordered else "before"
        return ordered

    def _same(self, one: Ordered, other: Ordered) -> bool:
        return self._apart(one, other) is None

    def _apart(self, one: Ordered, other: Ordered) -> ResultParameter | None:
        """Return the first parameter that is in another place of its group in the other order."""
        for number in range(self._optimizer.groups):
            for a, b in zip(_in_group(one, number), _in_group(other, number), strict=True):
                if a.key != b.key:
                    return a
        return None

    # --- a target ------------------------------------------------------------------------------------------------

    def _by_target(self, found: Ordered, target: Sequence[str]) -> Ordered:
        places = {name: place for place, name in enumerate(target)}
        keys = self._tied_keys()
        first = {
            one.key: min((places[key] for key in keys.get(one.output.tie, [one.key]) if key in places), default=-1)
            for one in found
        }
        return sorted((one for one in found if first[one.key] >= 0), key=lambda one: first[one.key])

    def _tied_keys(self) -> Mapping[object, list[str]]:
        keys: dict[object, list[str]] = {}
        for key, output in self._plan.outputs.items():
            keys.setdefault(output.tie, []).append(key)
        return keys

    # --- no target -----------------------------------------------------------------------------------------------

    def _in_former_order(self, found: Ordered) -> Ordered | None:
        """Return them as they were before the last run, if this one takes that back: they have these names again."""
        note = self._optimizer.note
        former = {name: rank for rank, name in enumerate(flat(note.before))} if note is not None else {}
        if not all(one.key in former for one in found) or all(one.key in self._before.ranks for one in found):
            return None
        return sorted(found, key=lambda one: former[one.key])

    def _by_keys(self, found: Ordered) -> Ordered:
        """Return the order of the keys; where the positions are in another one, only if both give the same.

        An order that the program has given the keys itself is meant.
        """
        before = self._before
        ordered = before.as_named(found)
        if before.agrees or not before.keeps_order(found):
            return ordered
        apart = self._apart(ordered, before.as_named(before.by_position(found)))
        if apart is not None:
            raise _unplaced(
                apart,
                "its parameters are not in the order of the keys of the state, so nothing says where "
                f"`{apart.key}` comes in the result",
            )
        return ordered

    def _in_old_places(self, found: Ordered) -> Ordered:
        ranks = Counter((one.group, one.rank) for one in found)
        unplaced = next((one for one in found if one.is_new or ranks[one.group, one.rank] > 1), None)
        if unplaced is not None:
            raise _unplaced(
                unplaced,
                f"files of this format do not have the model's order, so nothing says where `{unplaced.key}` comes",
            )
        return sorted(found, key=lambda one: one.rank)


class _Before:
    """The parameters before: their keys in the order of the state, and those of the optimizer group by group.

    `agrees` where the positions are in the order of the keys, or in that of modules, which `arrange` makes of it.
    `ranks` are the places of all keys, with those of a group in the order of its positions.
    """

    def __init__(self, keys: Sequence[str], groups: NamesByGroup) -> None:
        self._keys = {key: place for place, key in enumerate(keys)}
        self._sources = flat(groups)
        self.arrange: Callable[[Iterable[str]], list[str]] = module_order
        for arrange in (module_order, list):
            ranks = {key: rank for rank, key in enumerate(arrange(keys))}
            if all(a < b for group in groups for a, b in pairwise([ranks[key] for key in group])):
                self.arrange, self.ranks, self.agrees = arrange, ranks, True
                return
        self.agrees = False
        self.ranks = {key: rank for rank, key in enumerate(module_order(keys))}
        for group in groups:
            self.ranks |= dict(zip(group, sorted(self.ranks[key] for key in group), strict=True))

    def arranged(self, found: Ordered) -> Ordered:
        """Return parameters in the order of their keys, those of one module together."""
        by_key = {one.key: one for one in found}
        return [by_key[key] for key in self.arrange(by_key)]

    def as_named(self, found: Ordered) -> Ordered:
        """Return them arranged, and those with names of before in the order of before.

        A model with names of before has what these name in the order of before.
        """
        ordered = self.arranged(found)
        known = iter(sorted((one for one in ordered if one.key in self.ranks), key=lambda one: self.ranks[one.key]))
        return [next(known) if one.key in self.ranks else one for one in ordered]

    def keeps_order(self, found: Ordered) -> bool:
        """Say whether the program has left the keys in their order, whatever it calls them."""
        places = [self._keys[self._sources[one.rank]] for one in found if not one.is_new]
        return places == sorted(places)

    def by_position(self, found: Ordered) -> Ordered:
        """Return parameters in the order of the positions of what they are made of; new ones stay behind another."""
        placed: list[tuple[int, ResultParameter]] = []
        rank = -1
        for one in found:
            rank = rank if one.is_new else self.ranks[self._sources[one.rank]]
            placed.append((rank, one))
        return [one for _, one in sorted(placed, key=lambda pair: pair[0])]


def _in_group(found: Ordered, number: int) -> Ordered:
    return [one for one in found if one.group == number]


def _unplaced(one: ResultParameter, why: str) -> CannotFollowError:
    return CannotFollowError(
        codes.AMBIGUOUS_PARAMETERS,
        why,
        help=("name the model, whose order counts: --target package.module:callable",),
        step=one.output.step,
    )
