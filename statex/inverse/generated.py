"""Statements made from what a graph says alone, where turning the author's round does not do."""

from __future__ import annotations

from collections.abc import Collection, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from statex.grammar import factory as make
from statex.grammar import tree
from statex.inverse.folded import KeyMove, WrittenMove, folded_moves
from statex.inverse.history import KeyValues
from statex.inverse.inserting import inserted, insertions
from statex.inverse.recovery import Derivation, DerivedValue, StandingValue, StoredValue, Value
from statex.inverse.terms import CURRENT, by_current_key, call, expression, leaves


def generated(
    found: Mapping[Value, Derivation],
    before: KeyValues,
    after: KeyValues,
    *,
    fold: bool,
    taken: Container[str] = (),
    stored: Collection[str] = (),
    in_place: bool = False,
) -> list[tree.Statement]:
    """Return statements that make of the state `after` the state `before`, whose values all are in `found`.

    With `fold`, keys that differ in numbers alone are one statement, whose pattern may match more than these; captures
    have none of the names that are `taken`. `stored` are all names of the further input that values may come from. With
    `in_place` they are put where they stood in the old state.
    """
    return _Generator(found, before, after, fold, taken, stored, in_place).statements()


@dataclass
class _Cluster:
    """Keys that are made of the same keys, and of no others."""

    used: list[str] = field(default_factory=list)
    targets: list[str] = field(default_factory=list)


class _Generator:
    def __init__(
        self,
        found: Mapping[Value, Derivation],
        before: KeyValues,
        after: KeyValues,
        fold: bool,
        taken: Container[str],
        stored: Collection[str],
        in_place: bool,
    ) -> None:
        self._reserved = taken
        self._in_place = in_place
        self._stored = stored
        self._found = found
        self._before = before
        self._after = after
        self._fold = fold
        # A further key of a tensor that stands under several is left as it is.
        self._still = {
            key for key, value in before.items() if after.get(key) == value and found[value] != StandingValue(key)
        }
        self._leaves = {key: leaves(found, value) for key, value in before.items() if key not in self._still}
        self._names: dict[str, str] = {}
        """What each key of the old state is called until the renames."""
        self._free = set(after)
        self._count = 0
        self._sets: list[KeyMove] = []
        self._merges: list[KeyMove] = []
        self._splits: list[KeyMove] = []
        self._later: list[KeyMove] = []
        self._adds: list[tuple[str, tree.Expr]] = []
        self._put: dict[Value, list[str]] = {}
        self._fetched: list[tuple[StoredValue, str]] = []
        self._copies: list[tuple[str, str]] = []
        self._gone: list[str] = []

    def statements(self) -> list[tree.Statement]:
        used = {key for keys in self._leaves.values() for key in keys} | self._still
        unused = [key for key in self._after if key not in used and not self._replaced(key)]
        self._taken = set(self._after) - set(unused)
        for cluster in self._clusters():
            self._cluster(cluster)
        renames = [KeyMove((name,), (key,)) for key, name in self._names.items() if name != key]
        return [
            *self._dropped(unused),
            *folded_moves(self._splits, _split, self._fold, self._reserved),
            *folded_moves(self._merges, _merge, self._fold, self._reserved),
            *[make.add(make.key(name), value) for name, value in self._adds],
            *self._dropped(self._gone),
            *self._copied(),
            *folded_moves(self._later, _set, self._fold, self._reserved),
            *folded_moves(self._sets, _set, self._fold, self._reserved),
            *self._replacing(),
            *self._renamed(renames),
            *[make.copy(make.key(one), make.key(other)) for one, other in self._copies],
        ]

    def _replaced(self, key: str) -> bool:
        """Let a key that is in both states, and of no use, keep its place: it gets what the further input has."""
        if key not in self._leaves or not isinstance(self._found[self._before[key]], StoredValue):
            return False
        self._put.setdefault(self._before[key], []).append(key)
        self._names[key] = key
        del self._leaves[key]
        return True

    def _replacing(self) -> Iterator[tree.Statement]:
        """Give keys what the further input has: those of one tensor together, so that they are one again."""
        alone = [(value, keys[0]) for value, keys in self._put.items() if len(keys) == 1]
        moves = [KeyMove((key,), (), self._of_one(value, key)) for value, key in alone]
        yield from folded_moves(moves, _set, self._fold, self._reserved)
        for value, keys in self._put.items():
            if len(keys) > 1:
                yield replace(
                    make.assign(make.key(keys[0]), self._of_one(value, "")), targets=tuple(map(make.key, keys))
                )

    def _dropped(self, keys: Sequence[str]) -> Iterator[tree.Statement]:
        moves = folded_moves(
            [KeyMove((key,), ()) for key in keys], lambda move: make.drop(*move.sources), self._fold, self._reserved
        )
        patterns = [one for move in moves if isinstance(move, tree.Drop) for one in move.patterns]
        if patterns:
            yield make.drop(*patterns)

    def _copied(self) -> Iterator[tree.Statement]:
        """Take tensors from the further input as they are: all of them at once, where they have their names."""
        if not self._fetched:
            return
        input = self._fetched[0][0].input
        if self._in_place:
            missing = {name for one, name in self._fetched if one.name == name}
            there = {key for key, value in self._before.items() if isinstance(value, int) and key in self._after}
            places = insertions(self._before, missing, {key for key in there if self._names.get(key) == key})
            yield from inserted(places, input, self._fold, self._reserved)
            put = {key for one in places for key in (*one.before, *one.after)}
            self._fetched = [(one, name) for one, name in self._fetched if name not in put]
        elif self._fold and {one.name for one, name in self._fetched if one.name == name} == set(self._stored):
            yield make.copy(make.glob("**", input), make.glob("**"))
            return
        yield from folded_moves(
            [KeyMove((one.name,), (name,)) for one, name in self._fetched],
            lambda move: make.copy(replace(move.sources[0], input=input), move.targets[0]),
            self._fold,
            self._reserved,
        )

    def _renamed(self, moves: Sequence[KeyMove]) -> Iterator[tree.Statement]:
        heads = {new.removesuffix(old) for move in moves for old, new in zip(move.sources, move.targets, strict=True)}
        every = self._fold and len(moves) > 1 and len(heads) == 1 and len(moves) == len(self._before)
        if every and all(move.targets[0] == f"{min(heads)}{move.sources[0]}" for move in moves):
            # All keys, so that the prefix comes before whatever is there.
            yield make.rename(make.row(make.literal(""), make.literal(min(heads))), mode=tree.RenameMode.PREFIX)
            return
        rows = folded_moves(
            moves, lambda move: make.rename(make.row(move.sources[0], move.targets[0])), self._fold, self._reserved
        )
        found = [row for one in rows if isinstance(one, tree.Rename) for row in one.rows]
        if found:
            yield make.rename(*found)

    def _clusters(self) -> Iterator[_Cluster]:
        """Yield keys of the old state with those of the new one that they are made of, as few together as possible."""
        groups: dict[str, _Cluster] = {}
        for key, used in self._leaves.items():
            members = {id(groups[one]): groups[one] for one in used if one in groups}
            own, *others = [*members.values()] or [_Cluster()]
            for other in others:
                own.used += other.used
                own.targets += other.targets
            own.used += [one for one in used if one not in own.used]
            own.targets.append(key)
            groups.update(dict.fromkeys(own.used, own))
            if not used:
                yield own
        yield from {id(one): one for one in groups.values()}.values()

    def _cluster(self, cluster: _Cluster) -> None:
        standing = [key for key in cluster.targets if isinstance(self._found[self._before[key]], StandingValue)]
        values = {self._before[key] for key in cluster.targets}
        if not cluster.used:
            self._added(cluster)
        elif len(values) == 1 and len(cluster.used) == 1:
            self._single(cluster)
        elif len(values) == len(cluster.targets) == 1:
            self._merged(cluster)
        elif len(cluster.used) == 1 and not standing and len(values) == len(cluster.targets):
            if not self._cut(cluster):
                self._added(cluster)
        else:
            self._added(cluster)

    def _single(self, cluster: _Cluster) -> None:
        """One key is made of one: it gets a value, if that is another one, then its name."""
        (used,) = cluster.used
        first = used if used in cluster.targets else cluster.targets[0]
        value = self._before[first]
        if not isinstance(self._found[value], StandingValue):
            self._sets.append(KeyMove((used,), (), self._of_one(value, used)))
        self._names[first] = used
        self._copies += [(first, key) for key in cluster.targets if key != first]

    def _of_one(self, value: Value, key: str, stop: int | None = None) -> tree.Expr:
        """Return how a value is made of the current one, that of a key."""
        return expression(self._found, value, lambda _: CURRENT, stop, by_current_key(key))

    def _merged(self, cluster: _Cluster) -> None:
        (target,) = cluster.targets
        value = self._before[target]
        name = self._name(target, cluster.used)
        made = self._found[value]
        whole = isinstance(made, DerivedValue) and made.index is None
        parts = [self._found[one] for one in made.of] if isinstance(made, DerivedValue) and whole else []
        if isinstance(made, DerivedValue) and parts == [StandingValue(key) for key in cluster.used]:
            result = call(made.operation, made.arguments, [CURRENT])
            self._merges.append(KeyMove(tuple(cluster.used), (name,), result))
            return
        result = expression(self._found, value, make.tensor)
        self._merges.append(KeyMove(tuple(cluster.used), (name,), result, fixed=True))

    def _cut(self, cluster: _Cluster) -> bool:
        """Several keys are the pieces of one; say whether they are all of its pieces."""
        (used,) = cluster.used
        pieces: dict[int, str] = {}
        cuts = []
        for key in cluster.targets:
            at = self._piece(self._before[key])
            if at is None:
                return False
            made = self._found[at]
            assert isinstance(made, DerivedValue)
            assert made.index is not None
            cuts.append((made.operation, repr(made.arguments), made.of))
            pieces[made.index] = key
            first = made
        if any(cut != cuts[0] for cut in cuts) or sorted(pieces) != list(range(len(cluster.targets))):
            return False
        operand = expression(self._found, first.of[0], lambda _: CURRENT)
        names = tuple([self._name(pieces[number], cluster.used) for number in range(len(pieces))])
        self._splits.append(KeyMove((used,), names, call(first.operation, first.arguments, [operand])))
        for number, name in enumerate(names):
            value = self._before[pieces[number]]
            at = self._piece(value)
            assert isinstance(at, int)
            if at != value:
                self._later.append(KeyMove((name,), (), self._of_one(value, name, stop=at)))
        return True

    def _piece(self, value: Value) -> Value | None:
        """Return the value among those another is made of that is one of several pieces."""
        made = self._found[value]
        while isinstance(made, DerivedValue):
            if made.index is not None:
                return value
            if len(made.of) != 1:
                return None
            value = made.of[0]
            made = self._found[value]
        return None

    def _added(self, cluster: _Cluster) -> None:
        """Anything else: keys that are new, of what is there, which goes then."""
        first: dict[Value, str] = {}
        for key in cluster.targets:
            value = self._before[key]
            if value in first:
                self._copies.append((first[value], key))
                continue
            first[value] = key
            made = self._found[value]
            if isinstance(made, StandingValue):
                self._names[key] = made.key
                continue
            name = self._name(key, ())
            if isinstance(made, StoredValue):
                self._fetched.append((made, name))
                continue
            self._adds.append((name, expression(self._found, value, make.tensor)))
        kept = set(self._names.values())
        self._gone += [key for key in cluster.used if key not in kept]

    def _name(self, key: str, consumed: Sequence[str]) -> str:
        """Return what a new key is called at first: its name, or another where that one is not free yet."""
        name = key
        while (name != key and name in self._taken) or (name in self._taken and name not in consumed):
            self._count += 1
            name = f"inverse.{self._count}"
        self._taken.add(name)
        self._names[key] = name
        return name


def _split(move: WrittenMove) -> tree.Statement:
    value = move.value
    assert value is not None
    return tree.Split(make.NOWHERE, move.sources[0], None, move.targets, value)


def _merge(move: WrittenMove) -> tree.Statement:
    value = move.value
    assert value is not None
    sources = tuple([tree.MergeSource(make.NOWHERE, one) for one in move.sources])
    return tree.Merge(make.NOWHERE, sources, None, move.targets[0], value)


def _set(move: WrittenMove) -> tree.Statement:
    assert move.value is not None
    return make.assign(move.sources[0], move.value)
