"""What a further input has to have for all tensors to come back: of those that are lost, the parts that are lost.

A part is a stretch of a dim that no known slice has, or a piece of a tensor that was cut, of which others are known.
What is lost in another way is stored whole.
"""

from __future__ import annotations

from collections.abc import Collection, Container, Iterable, Iterator, Mapping, Sequence
from functools import cache
from itertools import count

from statex.core.header import TensorType
from statex.core.record import record
from statex.dsl.ops import CUTTING
from statex.dsl.plan.graph import Graph
from statex.dsl.plan.plan import Plan
from statex.dsl.values import TensorValue
from statex.grammar import factory as make
from statex.grammar import tree
from statex.inverse.history import KeyValues
from statex.inverse.recovery import Recovery, StoredValue, Uses, Value, cut_of, inverse_of, type_of
from statex.inverse.terms import made_of


@record
class StoredTensor:
    """A tensor that a further input has under a name: a value of a graph, and how it is made of the checkpoint.

    `of` are the keys of the checkpoint that need it, `step` is the number of the statement that ended the value, or
    what it is a part of.
    """

    name: str
    id: int
    type: TensorType
    value: tree.Expr
    of: tuple[str, ...]
    is_part: bool
    step: int


@record
class _Stretch:
    """The indices of a dim of a value from `start` to `stop`."""

    value: int
    dim: int
    start: int
    stop: int


_Part = int | _Stretch
_Parts = frozenset[_Part]
_Users = Mapping[int, Sequence[int]]


@record
class _Group:
    """Tensors of the checkpoint that come back if these values are stored."""

    sources: tuple[int, ...]
    ids: tuple[int, ...]
    is_part: bool


def stored_tensors(plan: Plan, states: Sequence[KeyValues], on_data: Container[int] = ()) -> tuple[StoredTensor, ...]:
    """Return what has to be stored for every tensor of a checkpoint to come back.

    `states` are those before each statement, and the one after the last; `on_data` are calls that the data have shown
    to be undone. Parts become values of the graph.
    """
    graph = plan.graph
    found = Recovery(graph, on_data).of(states[-1])
    lost: dict[int, list[str]] = {}
    for key, value in states[0].items():
        if isinstance(value, int) and value not in found:
            lost.setdefault(value, []).append(key)
    groups = _in_parts(graph, found, lost, on_data)
    while failing := _failing(graph, states[-1], groups, on_data):
        groups = [group for group in groups if group not in failing]
    in_part = {value for group in groups for value in group.sources}
    groups = [*[_Group((value,), (value,), False) for value in lost if value not in in_part], *groups]
    places = _Places(graph, states) if groups else None
    return tuple([_stored(graph, places, lost, group, id) for group in groups for id in group.ids if places])


def rules_giving(tensors: Sequence[StoredTensor], keys: Collection[str]) -> list[tree.Statement]:
    """Return the rules that make what a further input has of the checkpoint with these keys."""
    names = (f"stored.{number}" for number in count())
    # Their names may be those of tensors that others are made of.
    free = [next(name for name in names if name not in keys) for _ in tensors]
    return [
        *[make.add(make.key(name), one.value) for name, one in zip(free, tensors, strict=True)],
        make.keep(*map(make.key, free)),
        make.rename(*[make.row(make.key(name), make.key(one.name)) for name, one in zip(free, tensors, strict=True)]),
    ]


def _stored(graph: Graph, places: _Places, lost: Mapping[int, Sequence[str]], group: _Group, id: int) -> StoredTensor:
    value = made_of(graph, id)
    assert value is not None
    name, step = places.of(id)
    keys = tuple([key for one in group.sources for key in lost[one]])
    return StoredTensor(name, id, type_of(graph, id), value, keys, group.is_part, step)


def _in_parts(graph: Graph, found: Collection[Value], lost: Collection[int], on_data: Container[int]) -> list[_Group]:
    """Return the lost tensors whose parts take less room than they do, those together that have parts in common."""
    if not lost:
        return []
    parts_of = _parts_of_all(graph, found, on_data)
    is_written = cache(lambda id: made_of(graph, id) is not None)
    owner: dict[_Part, int] = {}
    members: dict[int, tuple[list[int], set[_Part]]] = {}
    for value in lost:
        parts = parts_of[value]
        if parts is None or not all(map(is_written, map(_inside, parts))):
            continue
        first, *further = sorted({owner[part] for part in parts if part in owner}) or [value]
        sources, every = members.setdefault(first, ([], set()))
        for number in further:
            others = members.pop(number)
            sources += others[0]
            every |= others[1]
            owner.update(dict.fromkeys(others[1], first))
        sources.append(value)
        every |= parts
        owner.update(dict.fromkeys(parts, first))
    return [
        _Group(tuple(sorted(sources)), tuple([_value(graph, part) for part in sorted(every, key=_order)]), True)
        for sources, every in members.values()
        if _nbytes(graph, every) < _nbytes(graph, sources)
    ]


def _failing(graph: Graph, last: KeyValues, groups: Sequence[_Group], on_data: Container[int]) -> list[_Group]:
    """Return the groups of which a tensor does not follow from the result and from what is stored."""
    if not groups:
        return []
    stored = {id: StoredValue("", str(id)) for group in groups for id in group.ids}
    found = Recovery(graph, on_data).of(last, stored)
    return [group for group in groups if any(value not in found for value in group.sources)]


# --- parts ---------------------------------------------------------------------------------------------------------


def _parts_of_all(graph: Graph, found: Collection[Value], on_data: Container[int]) -> Mapping[int, _Parts | None]:
    """Return for each value the parts that it lacks: none where it is known, `None` where it is lost as a whole."""
    uses = Uses(graph)
    parts: dict[int, _Parts | None] = {}
    for id in reversed(range(len(graph))):
        # What is made of a value has a greater number.
        if isinstance(graph[id].type, TensorType):
            parts[id] = frozenset() if id in found else _lacking(graph, uses, parts, id, on_data)
    return parts


def _lacking(
    graph: Graph, uses: Uses, parts: Mapping[int, _Parts | None], id: int, on_data: Container[int]
) -> _Parts | None:
    ways: list[_Parts] = []
    slices: dict[int, list[tuple[int, int, _Parts]]] = {}
    for user in uses.users.get(id, ()):
        pieces = uses.pieces.get(user)
        lacking = _of_pieces(graph, parts, pieces) if pieces is not None else parts[user]
        if lacking is None:
            continue
        if inverse_of(graph, user, on_data) is not None:
            ways.append(lacking)
        elif pieces is None and len(graph.read(user)) == 1 and (cut := cut_of(graph, user)) is not None:
            slices.setdefault(cut[0], []).append((cut[1], cut[2], lacking))
    for dim, known in slices.items():
        length = type_of(graph, id).shape[dim]
        gaps = [_Stretch(id, dim, *gap) for gap in _gaps([(start, stop) for start, stop, _ in known], length)]
        ways.append(frozenset().union(gaps, *[lacking for _, _, lacking in known]))
    return min(ways, key=lambda way: _nbytes(graph, way), default=None)


def _of_pieces(graph: Graph, parts: Mapping[int, _Parts | None], pieces: Iterable[int]) -> _Parts | None:
    """Return what the pieces of a tensor lack, if some of them are there or there in part."""
    found: set[_Part] = set()
    is_whole = True
    for piece in pieces:
        lacking = parts[piece]
        if lacking is None or _nbytes(graph, lacking) >= _nbytes(graph, [piece]):
            found.add(piece)
        else:
            found |= lacking
            is_whole = False
    return None if is_whole else frozenset(found)


def _gaps(known: Iterable[tuple[int, int]], length: int) -> Iterator[tuple[int, int]]:
    """Yield the stretches of a dim between some."""
    at = 0
    for start, stop in sorted(known):
        if start > at:
            yield at, start
        at = max(at, stop)
    if at < length:
        yield at, length


def _inside(part: _Part) -> int:
    return part if isinstance(part, int) else part.value


def _order(part: _Part) -> tuple[int, ...]:
    return (part,) if isinstance(part, int) else (part.value, part.dim, part.start)


def _nbytes(graph: Graph, parts: Iterable[_Part]) -> int:
    return sum(_type(graph, part).nbytes for part in parts)


def _type(graph: Graph, part: _Part) -> TensorType:
    if isinstance(part, int):
        return type_of(graph, part)
    kind = type_of(graph, part.value)
    shape = (*kind.shape[: part.dim], part.stop - part.start, *kind.shape[part.dim + 1 :])
    return TensorType(kind.dtype, shape)


def _value(graph: Graph, part: _Part) -> int:
    if isinstance(part, int):
        return part
    kind = type_of(graph, part.value)
    arguments = {
        "x": TensorValue(kind.dtype, kind.shape, part.value),
        "dim": part.dim,
        "start": part.start,
        "length": part.stop - part.start,
    }
    made = graph.call(CUTTING.name, arguments, _type(graph, part))
    assert isinstance(made, TensorValue)
    return made.id


# --- names ---------------------------------------------------------------------------------------------------------


class _Places:
    """Says under which key a value, or what it is a part of, stood at last, and which statement ended it."""

    def __init__(self, graph: Graph, states: Sequence[KeyValues]) -> None:
        self._graph = graph
        self._stood = {value: (key, step) for step, state in enumerate(states) for key, value in state.items()}
        self._taken: set[str] = set()

    def of(self, id: int) -> tuple[str, int]:
        """Return a name for a value, which no other one has, and the number of the statement."""
        while id not in self._stood:
            id = self._graph.inner(next(iter(self._graph.operands(id))))
        key, step = self._stood[id]
        name, count = key, 1
        while name in self._taken:
            count += 1
            name = f"{key}.{count}"
        self._taken.add(name)
        return name, step
