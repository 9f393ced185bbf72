"""What relations come to, by kind of statement: which keys are renamed, split, merged, set, added, copied, dropped."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from statex.core.header import TensorType
from statex.core.record import record
from statex.grammar import factory as make
from statex.grammar import tree
from statex.relating.gathering import Family, family, names_for
from statex.relating.names.changes import NameChange
from statex.relating.relations import Constant, MadeTensor, Relations
from statex.relating.values import (
    ElementMove,
    Joined,
    MovedValue,
    SourceTensor,
    Value,
    computed,
    expression,
    moved,
    piped,
    sources,
)


@record
class Splitting:
    """An old key in pieces: the expression that cuts it, and the new keys, as a family where they are one."""

    source: str
    targets: tuple[str, ...]
    family: Family | None
    value: tree.Expr
    other: tree.Expr | None = None
    """The same for a vector, written as it is for matrices whose last dim is cut."""


@record
class Merging:
    """Old keys as one: families where there are any, with the names that the expression has for them."""

    sources: tuple[str, ...]
    names: tuple[str | None, ...]
    capture: tree.Capture | None
    target: str
    value: tree.Expr
    keys: tuple[str, ...]


@dataclass
class Sorted:
    """Relations by what they are written as.

    `renamed` has every old key that stays one tensor, with its new name; `set` its new value where it has another.
    `copied` are ties of new keys, `added` further keys: of another, with a value of it, or of a constant.
    """

    renamed: dict[str, str] = field(default_factory=dict)
    set: dict[str, Value] = field(default_factory=dict)
    split: list[Splitting] = field(default_factory=list)
    merged: list[Merging] = field(default_factory=list)
    copied: list[tuple[str, str]] = field(default_factory=list)
    added: list[tuple[str, str, Value]] = field(default_factory=list)
    joined: list[MadeTensor] = field(default_factory=list)
    constants: list[Constant] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)

    def rename_sources(self, change: NameChange) -> None:
        """Give what is split and merged the names that a change of all keys gave it."""
        self.split = [replace(one, source=change.of(one.source)) for one in self.split]
        self.merged = [
            replace(one, sources=tuple(map(change.of, one.sources)), keys=tuple(map(change.of, one.keys)))
            for one in self.merged
        ]


def sorted_out(relations: Relations, shapes: Mapping[str, TensorType]) -> Sorted:
    """Return relations by what they are written as; `shapes` are the types of the old tensors."""
    found = Sorted()
    uses = relations.uses
    tied = {key: number for number, keys in enumerate(relations.ties) for key in keys}
    done: set[str] = set()
    for key in relations.old:
        own = uses.get(key, [])
        if not own:
            if not relations.unexplained or key in relations.made:
                found.dropped.append(key)
            continue
        single = [one for one in own if len(one.keys) == 1]
        if len(own) == len(single):
            _single(found, key, single, shapes, tied)
            done.update(one.target for one in single)
    _several(found, relations, uses, done)
    found.constants = [one for one in relations.made.values() if isinstance(one, Constant)]
    return found


def _single(
    found: Sorted, key: str, made: Sequence[MadeTensor], shapes: Mapping[str, TensorType], tied: Mapping[str, int]
) -> None:
    """Sort out what is made of one old key alone."""
    if len(made) > 1 and key in shapes and (split := splitting(key, made, shapes[key].shape)) is not None:
        found.split.append(split)
        return
    first = next((one for one in made if one.target == key and one.is_whole), None)
    first = first or next((one for one in made if one.is_whole), made[0])
    found.renamed[key] = first.target
    if not first.is_whole:
        found.set[first.target] = first.value
    for one in made:
        if one is first:
            continue
        if one.value == first.value and tied.get(one.target, -1) == tied.get(first.target, -2):
            found.copied.append((first.target, one.target))
        elif one.value == first.value:
            found.added.append((first.target, one.target, SourceTensor()))
        elif first.is_whole:
            found.added.append((first.target, one.target, one.value))
        else:
            found.joined.append(one)


def _several(found: Sorted, relations: Relations, uses: Mapping[str, list[MadeTensor]], done: set[str]) -> None:
    """Sort out what is made of several old keys: a merge where they are used for nothing else."""
    consumed: set[str] = set()
    for made in relations.made.values():
        if not isinstance(made, MadeTensor) or made.target in done:
            continue
        alone = all(len(uses[key]) == 1 for key in made.keys)
        if len(made.keys) > 1 and alone:
            found.merged.append(merging(made))
            consumed.update(made.keys)
        elif len(made.keys) == 1 and made.is_whole and made.keys[0] not in found.renamed:
            found.renamed[made.keys[0]] = made.target
        else:
            found.joined.append(made)
    if relations.unexplained:
        return
    staying = {*found.renamed, *consumed, *(one.source for one in found.split), *found.dropped}
    going = dict.fromkeys(key for made in found.joined for key in made.keys)
    found.dropped += [key for key in going if key not in staying]


# --- one into several --------------------------------------------------------------------------------------------


def splitting(key: str, made: Sequence[MadeTensor], shape: tuple[int, ...]) -> Splitting | None:
    """Return how an old key is cut into several, `None` where its pieces are not all of it."""
    runs = [_moves(one.value) for one in made]
    if any(base != runs[0][0] for base, _ in runs):
        return None
    moves = [own for _, own in runs]
    start = 0
    while all(len(own) > start for own in moves) and len({own[start] for own in moves}) == 1:
        start += 1
    if any(len(own) <= start for own in moves) or len({own[start + 1 :] for own in moves}) > 1:
        return None
    before, after = moves[0][:start], moves[0][start + 1 :]
    shape = computed(moved(SourceTensor(), *before), lambda _: _dummy(shape)).shape
    ordered = sorted(zip([own[start] for own in moves], made, strict=True), key=lambda pair: pair[0].arguments[1:])
    own = [move for move, _ in ordered]
    dim = own[0].arguments[0] if own[0].arguments else 0
    cut = _cut(own, shape, -1 if dim and dim == len(shape) - 1 else dim)
    stages = [expression(MovedValue(SourceTensor(), (move,)), lambda _: None) for move in after]
    if cut is None or not all(isinstance(one, tree.Call | tree.Name) for one in stages):
        return None
    targets = tuple(one.target for _, one in ordered)
    first = expression(moved(runs[0][0], *before), lambda _: None)
    last = _cut(own, shape, -1) if len(shape) == 1 else None
    other = _staged(first, last, stages) if last is not None else None
    return Splitting(key, targets, family(targets), _staged(first, cut, stages), other)


def _staged(first: tree.Expr | None, cut: tree.Call | tree.Name, stages: Sequence[tree.Expr | None]) -> tree.Expr:
    value = piped(first, cut)
    for stage in stages:
        assert isinstance(stage, tree.Call | tree.Name)
        value = piped(value, stage)
    return value


def _end(move: ElementMove, shape: tuple[int, ...]) -> int:
    """Return where a slice ends."""
    dim, _, stop = move.arguments
    return int(shape[dim] if stop is None else stop)


def _integer(value: int) -> tree.Expr:
    return make.number(value) if value >= 0 else tree.Unary(make.NOWHERE, "-", make.number(-value))


def _dummy(shape: tuple[int, ...]) -> Any:
    import numpy

    return numpy.broadcast_to(numpy.uint8(0), shape)


def _moves(value: Value) -> tuple[Value, tuple[ElementMove, ...]]:
    return (value.value, value.moves) if isinstance(value, MovedValue) else (value, ())


def _cut(moves: Sequence[ElementMove], shape: tuple[int, ...], written: int) -> tree.Call | tree.Name | None:
    """Return `chunk`, `sections` or `unstack` for slices, or items, that are all there is along a dim.

    `written` is how the dim is called.
    """
    name: str = moves[0].name
    dim: Any = moves[0].arguments[0] if moves[0].arguments else None
    if any(one.name != name or not one.arguments or one.arguments[0] != dim for one in moves):
        return None
    named = {"dim": _integer(written)} if written else {}
    if name == "item":
        whole = [one.arguments[1] for one in moves] == list(range(shape[dim]))
        if not whole:
            return None
        return make.call("unstack", **named) if named else make.name("unstack")
    if name != "getitem":
        return None
    at = 0
    for one in moves:
        if one.arguments[1] != at:
            return None
        at = _end(one, shape)
    if at != shape[dim]:
        return None
    sizes = [_end(one, shape) - one.arguments[1] for one in moves]
    if len(set(sizes)) == 1:
        return make.call("chunk", make.number(len(sizes)), **named)
    listed = tree.ListExpr(make.NOWHERE, tuple(map(make.number, sizes)))
    return make.call("sections", listed, **named)


# --- several into one --------------------------------------------------------------------------------------------


def merging(made: MadeTensor) -> Merging:
    """Return how old keys become one: as families, where their values are alike, else each under a name."""
    return _one_family(made) or _families(made) or _named(made)


def _one_family(made: MadeTensor) -> Merging | None:
    """Return a merge in which `it` is all sources: of each the same is made, and they are joined once."""
    base, after = _moves(made.value)
    if not isinstance(base, Joined) or len({_moved_alike(one) for one in base.values}) > 1:
        return None
    if [one.number for one in sources(base)] != list(range(len(made.keys))):
        return None
    found = family(made.keys)
    if found is None:
        return None
    inner = expression(_moved_alike(base.values[0]), lambda _: None)
    written = expression(Joined(base.name, (), base.dim), lambda _: None)
    assert isinstance(written, tree.Call | tree.Name)
    value = _after(piped(inner, written), after)
    return Merging((found.key,), (None,), found.capture, made.target, value, made.keys)


def _moved_alike(value: Value) -> Value:
    """Return a value of one source with that as the only one."""
    match value:
        case SourceTensor():
            return SourceTensor(0, value.cast)
        case MovedValue():
            return MovedValue(_moved_alike(value.value), value.moves)
        case Joined():
            return value


def _families(made: MadeTensor) -> Merging | None:
    """Return a merge of several families, each joined by itself: `cat(stack(a), stack(b), dim=1)`."""
    base, after = _moves(made.value)
    if not isinstance(base, Joined):
        return None
    names = names_for(base.values)
    found: list[Family] = []
    parts: list[tree.Expr] = []
    for name, part in zip(names, base.values, strict=False):
        inner, moves = _moves(part)
        if not isinstance(inner, Joined) or len({_moved_alike(one) for one in inner.values}) > 1:
            return None
        own = family([made.keys[one.number] for one in sources(inner)])
        if own is None or not own.counts:
            return None
        found.append(own)
        each = expression(_moved_alike(inner.values[0]), lambda _, name=name: make.name(name))  # type: ignore[misc]
        named = {"dim": make.number(inner.dim)} if inner.dim else {}
        joined = make.call(inner.name, *([each] if each is not None else []), **named)
        parts.append(_after(joined, moves))
    if len(found) < len(base.values) or not found:
        return None
    named = {"dim": make.number(base.dim)} if base.dim or base.name == "stack" else {}
    value = _after(make.call(base.name, *parts, **named), after)
    keys = tuple(one.key for one in found)
    return Merging(keys, tuple(names[: len(keys)]), found[0].capture, made.target, value, made.keys)


def _after(value: tree.Expr, moves: Sequence[ElementMove]) -> tree.Expr:
    found = expression(moved(SourceTensor(), *moves), lambda _: value)
    assert found is not None
    return found


def _named(made: MadeTensor) -> Merging:
    names = names_for(made.keys)
    if len(names) < len(made.keys):
        names = [f"s{number}" for number in range(len(made.keys))]
    value = expression(made.value, lambda source: make.name(names[source.number]))
    assert value is not None
    return Merging(made.keys, tuple(names), None, made.target, value, made.keys)


def by_value(items: Mapping[str, Value]) -> dict[Value, list[str]]:
    """Return keys by their values."""
    found: defaultdict[Value, list[str]] = defaultdict(list)
    for key, value in items.items():
        found[value].append(key)
    return dict(found)
