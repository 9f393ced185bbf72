"""Which key of a state is which parameter of an optimizer: the one way to put them in line, if there is just one.

torch numbers parameters group by group. In each group they stand in the order of the model, which is that of the keys
of its state; keys may be left over (buffers, frozen parameters), and how groups share the keys is not said. So all ways
are counted in which every group is a subsequence of the keys with the shapes that its moments have.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import accumulate

from statex.core.record import record
from statex.following.module_order import module_order
from statex.following.optimizer import KnownParameter, Optimizer

Shapes = Mapping[str, tuple[int, ...]]

_MOST = 200_000
"""So many ways to have got somewhere are followed, besides a few for each key; where there are more, too many fit."""


@record
class Aligned:
    """The keys of the members of an optimizer, by their ids."""

    keys: Mapping[int | str, str]


@record
class Ambiguous:
    """Two keys that a member could be, both with the same shape; all are empty where there are too many ways."""

    member: KnownParameter | None = None
    keys: tuple[str, ...] = ()


@record
class Misfit:
    """No key, or no way at all: what does not fit."""

    why: str


Alignment = Aligned | Ambiguous | Misfit


def by_name(optimizer: Optimizer, shapes: Shapes) -> Alignment:
    """Align by the names that the optimizer has for its parameters."""
    names = [one.name or "" for one in optimizer.members]
    before, after = wrapping(names, shapes)
    found: dict[int | str, str] = {}
    for one, name in zip(optimizer.members, names, strict=True):
        key = f"{after}{name.removeprefix(before)}"
        if key not in shapes:
            return Misfit(f"the state has no key for its parameter `{name}`")
        if one.shape is not None and one.shape != shapes[key]:
            return Misfit(
                f"what it keeps of `{name}` has the shape {list(one.shape)}, and `{key}` has {list(shapes[key])}"
            )
        found[one.id] = key
    twice = next((key for key, count in Counter(found.values()).items() if count > 1), None)
    return Aligned(found) if twice is None else Misfit(f"`{twice}` is named for two of its parameters")


def wrapping(names: Sequence[str], keys: Shapes) -> tuple[str, str]:
    """Return what all names begin with and keys do not, and the other way round: `module.` of a wrapper."""
    if not names or all(name in keys for name in names):
        return "", ""
    firsts = {name.partition(".")[0] for name in names}
    prefix = f"{firsts.pop()}." if len(firsts) == 1 else ""
    if prefix and all(name.removeprefix(prefix) in keys for name in names):
        return prefix, ""
    of_keys = {key.partition(".")[0] for key in keys}
    prefix = f"{of_keys.pop()}." if len(of_keys) == 1 else ""
    return "", prefix if all(prefix + name in keys for name in names) else ""


def by_order(optimizer: Optimizer, shapes: Shapes) -> Alignment:
    """Align by the order of the keys and the shapes."""
    groups = [[one for one in optimizer.members if one.group == number] for number in range(optimizer.groups)]
    misfit = _too_few(optimizer, shapes)
    return misfit or _Frontier(groups, shapes).run()


def by_keys(optimizer: Optimizer, shapes: Shapes) -> Alignment:
    """Align by the order of the keys, or by that of the modules in them, where these differ and only one of them fits.

    They never differ in states that torch has made.
    """
    modules = {key: shapes[key] for key in module_order(shapes)}
    found = by_order(optimizer, modules)
    other = by_order(optimizer, shapes) if [*modules] != [*shapes] else found
    if isinstance(found, Misfit) or found == other:
        return other
    if isinstance(found, Aligned) and isinstance(other, Aligned):
        one = next(one for one in optimizer.members if found.keys[one.id] != other.keys[one.id])
        return Ambiguous(one, (found.keys[one.id], other.keys[one.id]))
    return other if isinstance(other, Ambiguous) else found


def by_shape(optimizer: Optimizer, shapes: Shapes) -> Alignment:
    """Align by shapes alone, for keys in no order that means anything."""
    misfit = _too_few(optimizer, shapes)
    if misfit is not None:
        return misfit
    found: dict[int | str, str] = {}
    for one in optimizer.members:
        keys = [key for key, shape in shapes.items() if one.shape in (None, shape)]
        if len(keys) != 1:
            return Ambiguous(one, tuple(keys[:2]))
        found[one.id] = keys[0]
    return Aligned(found) if len({*found.values()}) == len(found) else Ambiguous()


def _too_few(optimizer: Optimizer, shapes: Shapes) -> Misfit | None:
    if len(optimizer.members) > len(shapes):
        return Misfit(f"it knows {len(optimizer.members)} parameters, and the state has {len(shapes)}")
    known = {*shapes.values()}
    for one in optimizer.members:
        if one.shape is not None and one.shape not in known:
            return Misfit(
                f"what it keeps of its parameter {one.id} has the shape {list(one.shape)}, which no parameter has"
            )
    return None


_Done = tuple[int, ...]
"""How many members of each group have their keys."""
_Steps = dict[_Done, list[tuple[_Done, int | None]]]
"""How one got here: what was done before, and the group that took the key; two ways at most."""


class _Frontier:
    """The keys one after the other, with all that may have been done by then."""

    def __init__(self, groups: Sequence[Sequence[KnownParameter]], shapes: Shapes) -> None:
        self._groups = groups
        self._keys = list(shapes.items())
        self._wanted = [[one.shape for one in group] for group in groups]
        self._starts = list(accumulate([0, *map(len, groups)]))

    def run(self) -> Alignment:
        """Return the one way, or two of them."""
        start = tuple([0] * len(self._groups))
        end = tuple(map(len, self._groups))
        spare = len(self._keys) - sum(end)
        layers: list[_Steps] = [{start: []}]
        left = _MOST + 4 * len(self._keys)
        for number, (_, shape) in enumerate(self._keys):
            layers.append(self._next(layers[-1], shape, number + 1 - spare))
            if not layers[-1]:
                return self._stuck(layers)
            left -= len(layers[-1])
            if left < 0:
                return Ambiguous()
        if end not in layers[-1]:
            return self._stuck(layers)
        return self._told(layers, end)

    def _next(self, before: _Steps, shape: tuple[int, ...], least: int) -> _Steps:
        after: _Steps = {}
        for done in before:
            for group, wanted in enumerate(self._wanted):
                if done[group] < len(wanted) and wanted[done[group]] in (None, shape):
                    taken = (*done[:group], done[group] + 1, *done[group + 1 :])
                    _note(after, taken, done, group)
            if sum(done) >= least:
                _note(after, done, done, None)
        return after

    def _told(self, layers: list[_Steps], end: _Done) -> Alignment:
        """Return the way that leads to the end; two ways part where something was come to in two ways."""
        one = self._way(layers, end, {})
        for place in range(len(layers) - 1, 0, -1):
            done = one.at[place]
            if len(layers[place][done]) > 1:
                other = self._way(layers, end, {place: 1})
                return self._parting(one.keys, other.keys)
        return Aligned({self._member(*place).id: key for place, key in one.keys.items()})

    def _way(self, layers: list[_Steps], end: _Done, choices: Mapping[int, int]) -> _Way:
        at: dict[int, _Done] = {}
        keys: dict[tuple[int, int], str] = {}
        done = end
        for place in range(len(layers) - 1, 0, -1):
            at[place] = done
            before, group = layers[place][done][choices.get(place, 0)]
            if group is not None:
                keys[group, before[group]] = self._keys[place - 1][0]
            done = before
        return _Way(at, keys)

    def _parting(self, one: Mapping[tuple[int, int], str], other: Mapping[tuple[int, int], str]) -> Ambiguous:
        place = next(place for place in sorted(one) if one[place] != other[place])
        return Ambiguous(self._member(*place), (one[place], other[place]))

    def _stuck(self, layers: list[_Steps]) -> Misfit:
        """Say which parameter has no key, on the way that got furthest."""
        last = next(layer for layer in reversed(layers) if layer)
        done = max(last, key=sum)
        left = [group[count] for group, count in zip(self._groups, done, strict=True) if count < len(group)]
        first = min(left, key=lambda one: str(one.id), default=None)
        if first is None or first.shape is None:
            return Misfit("its parameters are not in the order of the keys of the state")
        return Misfit(
            f"what it keeps of its parameter {first.id} has the shape {list(first.shape)}, and no parameter that has "
            "it comes where this one would have to be"
        )

    def _member(self, group: int, place: int) -> KnownParameter:
        return self._groups[group][place]


@record
class _Way:
    at: Mapping[int, _Done]
    keys: Mapping[tuple[int, int], str]


def _note(after: _Steps, taken: _Done, before: _Done, group: int | None) -> None:
    ways = after.setdefault(taken, [])
    if len(ways) < 2:
        ways.append((before, group))
