"""From relations to a program: statements of each kind, over as few patterns as cover their keys."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from statex.core.header import TensorType
from statex.core.record import record
from statex.grammar import factory as make
from statex.grammar import tree
from statex.relating.gathering import Family, marked
from statex.relating.names.covering import Item, cover
from statex.relating.names.renaming import renames
from statex.relating.names.rows import MARK, KeyRow, RowCapture
from statex.relating.relations import Constant, Relations
from statex.relating.statements import Merging, Sorted, Splitting, by_value, sorted_out
from statex.relating.values import SourceTensor, Value, expression


@record
class NotedRule:
    """A statement, and what is noted beside it; for a table, beside each of its rows."""

    statement: tree.Statement
    notes: tuple[str, ...] = ()


def written(relations: Relations, types: Mapping[str, TensorType]) -> list[NotedRule]:
    """Return rules that make the new keys of the old ones; `types` are those of the old tensors.

    Relations may come from wherever: nothing but what they say is looked at. The rules are not proved by this.
    """
    return _Writer(relations, sorted_out(relations, types), types).rules()


_WORTH = 80
"""What patterns may cost before a condition in place of them is looked for."""
_IT = make.name("it")
_CONDITIONS: list[tuple[tree.Expr, Callable[[TensorType], bool]]] = [
    (make.call("is_floating_point", _IT), lambda kind: kind.dtype.is_floating_point),
    (make.binary(make.name("ndim"), ">", make.number(1)), lambda kind: kind.ndim > 1),
    (make.binary(make.name("ndim"), "==", make.number(2)), lambda kind: kind.ndim == 2),
    (make.binary(make.name("ndim"), "==", make.number(1)), lambda kind: kind.ndim == 1),
]
"""Conditions on a type as they are written, and what they say."""


def _set_all(value: Value, where: tree.Expr) -> tree.Set:
    written = expression(value, lambda _: None)
    assert written is not None
    return make.assign(make.glob("**"), written, where)


class _Writer:
    def __init__(self, relations: Relations, found: Sorted, types: Mapping[str, TensorType]) -> None:
        self.relations = relations
        self.found = found
        self.types = types
        self.state = dict.fromkeys(relations.old)
        """The keys of the state, as the statements so far leave them."""

    def rules(self) -> list[NotedRule]:
        """Return the rules in an order in which no key is in the way of another."""
        found = [*self._joined_first(), *self._dropped()]
        stages: list[Callable[[], Iterable[NotedRule]]] = [self._renamed, self._split, self._merged]
        taken = {*(one.source for one in self.found.split), *(key for one in self.found.merged for key in one.keys)}
        if any(new in taken for old, new in self.found.renamed.items() if old != new):
            stages = [self._split, self._merged, self._renamed]
        for stage in stages:
            found += stage()
        return [*found, *self._set(), *self._copied(), *self._added(), *self._constants()]

    # --- keys that go and stay -------------------------------------------------------------------------------------

    def _dropped(self) -> Iterator[NotedRule]:
        gone = dict.fromkeys(self.found.dropped)
        if gone:
            rest = [key for key in self.state if key not in gone]
            away, stay = cover([(key,) for key in gone], rest), cover([(key,) for key in rest], list(gone))
            if stay and _cost(stay) < _cost(away):
                yield NotedRule(make.keep(*wild(stay)), (_note(len(rest)),))
            else:
                yield NotedRule(make.drop(*wild(away)), (_note(len(gone)) + _seen(away),))
            self.state = dict.fromkeys(rest)

    def _renamed(self) -> Iterator[NotedRule]:
        pairs = self.found.renamed
        consumed = {*(one.source for one in self.found.split), *(key for one in self.found.merged for key in one.keys)}
        free = [key for key in self.state if key in consumed and key not in pairs]
        others = [key for key in self.state if key not in pairs and key not in consumed]
        found, change = renames([(a, b) for a, b in pairs.items() if a in self.state], others, free)
        for statement, notes in found:
            yield NotedRule(statement, notes)
        moved = {key: pairs.get(key, change.of(key) if change is not None else key) for key in self.state}
        if change is not None:
            self.found.rename_sources(change)
        self.state = dict.fromkeys(moved.values())

    # --- one into several, several into one ------------------------------------------------------------------------

    def _split(self) -> Iterator[NotedRule]:
        groups: defaultdict[object, list[Splitting]] = defaultdict(list)
        values = {one.value for one in self.found.split if one.other is None}
        for one in self.found.split:
            value = one.other if one.other in values else one.value
            groups[value, one.family.capture if one.family else len(one.targets)].append(replace(one, value=value))
        for members in groups.values():
            items = [_split_item(one) for one in members]
            gone = {one.source for one in members}
            for row in cover(items, [key for key in self.state if key not in gone]):
                yield self._splitting(row, members[0], _count(row, items))
            self.state = dict.fromkeys(
                (*(k for k in self.state if k not in gone), *(t for o in members for t in o.targets))
            )

    def _splitting(self, row: KeyRow, one: Splitting, note: str) -> NotedRule:
        family = replace(one.family, capture=_free(one.family.capture, row)) if one.family is not None else None
        source, *targets = _patterns(row, family)
        over = make.name(family.capture.name) if family is not None and family.counts else None
        return NotedRule(tree.Split(make.NOWHERE, source, over, tuple(targets), one.value), (note,))

    def _merged(self) -> Iterator[NotedRule]:
        groups: defaultdict[object, list[Merging]] = defaultdict(list)
        for one in self.found.merged:
            groups[one.value, one.capture, one.names].append(one)
        for members in groups.values():
            items: list[Item] = [(*one.sources, one.target) for one in members]
            gone = {key for one in members for key in one.keys}
            for row in cover(items, self._others(gone, members)):
                yield self._merging(row, members[0], _count(row, items))
            self.state = dict.fromkeys([*(k for k in self.state if k not in gone), *(one.target for one in members)])

    def _others(self, gone: set[str], members: Sequence[Merging]) -> list[str]:
        """Return the keys that sources of a merge may not match, also as what they would be gathered as.

        The sources themselves may be gathered in one way alone: of `h.0.e.1` and so on, by the last number.
        """
        rest = [key for key in self.state if key not in gone]
        capture = members[0].capture
        if capture is None:
            return rest
        kind = Family(members[0].sources[0], capture)
        meant = {source for one in members for source in one.sources}
        forms = dict.fromkeys(form for key in (*rest, *gone) for form in marked(key, kind))
        return [*rest, *(form for form in forms if form not in meant)]

    def _merging(self, row: KeyRow, one: Merging, note: str) -> NotedRule:
        family = Family("", _free(one.capture, row)) if one.capture is not None else None
        *given, target = _patterns(row, family)
        named = [
            tree.MergeSource(make.NOWHERE, pattern, make.name(name) if name is not None else None)
            for pattern, name in zip(given, one.names, strict=True)
        ]
        over = make.name(family.capture.name) if family is not None else None
        return NotedRule(tree.Merge(make.NOWHERE, tuple(named), over, target, one.value), (note,))

    # --- values ----------------------------------------------------------------------------------------------------

    def _set(self) -> Iterator[NotedRule]:
        for value, keys in by_value(self.found.set).items():
            own = set(keys)
            rows = cover([(key,) for key in keys], [key for key in self.state if key not in own])
            where = self._where(own) if _cost(rows) > _WORTH else None
            if where is not None:
                yield NotedRule(_set_all(value, where), (_note(len(keys)),))
                continue
            for part in _together(rows):
                patterns = tuple(wild(part))
                written = expression(value, lambda _: None)
                assert written is not None
                count = sum(1 for key in keys if any(row.regex.fullmatch(key) for row in part))
                yield NotedRule(tree.Set(make.NOWHERE, patterns, written), (_note(count),))

    def _where(self, own: set[str]) -> tree.Expr | None:
        """Return a condition that is true for these keys of the state, and for no others, by their types."""
        before = {new: old for old, new in self.found.renamed.items()}
        types = {key: self.types.get(before.get(key, key)) for key in self.state}
        if any(kind is None for kind in types.values()):
            return None
        for condition, holds in _CONDITIONS:
            if all(kind is not None and holds(kind) == (key in own) for key, kind in types.items()):
                return condition
        return None

    def _copied(self) -> Iterator[NotedRule]:
        yield from self._further(
            [(a, b) for a, b in self.found.copied], lambda source, target: make.copy(source, target)
        )

    def _added(self) -> Iterator[NotedRule]:
        groups: defaultdict[Value, list[Item]] = defaultdict(list)
        for source, target, value in self.found.added:
            groups[value].append((source, target))
        for value, items in groups.items():
            written = expression(value, lambda _: None) or make.name("it")
            yield from self._further(items, lambda a, b, written=written: make.add(b, written, a))  # type: ignore[misc]

    def _further(
        self, items: Sequence[Item], statement: Callable[[tree.PatternNode, tree.PatternNode], tree.Statement]
    ) -> Iterator[NotedRule]:
        for group in _rounds(items):
            own = {item[0] for item in group}
            for row in cover(group, [key for key in self.state if key not in own]):
                source, target = row.patterns()
                yield NotedRule(statement(source, target), (_count(row, group),))
            self.state.update(dict.fromkeys(item[1] for item in group))

    def _joined_first(self) -> Iterator[NotedRule]:
        """Yield what is made of keys that are also used otherwise: read before any of these goes."""
        alone: defaultdict[Value, list[Item]] = defaultdict(list)
        for made in self.found.joined:
            if len(made.keys) == 1:
                alone[made.value].append((made.keys[0], made.target))
        for given, items in alone.items():
            written = expression(given, lambda _: None) or make.name("it")
            yield from self._further(items, lambda a, b, written=written: make.add(b, written, a))  # type: ignore[misc]
        for made in (one for one in self.found.joined if len(one.keys) > 1):
            value = expression(made.value, lambda source, made=made: make.tensor(made.keys[source.number]))  # type: ignore[misc]
            assert value is not None
            yield NotedRule(make.add(make.key(made.target), value), ("only seen here",))
            self.state[made.target] = None

    def _constants(self) -> Iterator[NotedRule]:
        groups: defaultdict[object, list[Constant]] = defaultdict(list)
        for one in self.found.constants:
            groups[one.type, one.number, isinstance(one.number, float)].append(one)
        anchors = _Anchors(self.state if groups else ())
        for members in groups.values():
            items = [(anchors.of(one.target), one.target) for one in members]
            anchors.add(one.target for one in members)
            value = _constant(members[0])
            if len(items) == 1 or any(anchor is None for anchor, _ in items) or len(dict(items)) < len(items):
                for _, target in items:
                    yield NotedRule(make.add(make.key(target), value), (_note(1),))
                    self.state[target] = None
            else:
                pairs = [(str(a), b) for a, b in items]
                yield from self._further(pairs, lambda a, b, value=value: make.add(b, value, a))  # type: ignore[misc]


class _Anchors:
    """For each module the key in it that has the fewest parts, the first of these by name."""

    def __init__(self, keys: Iterable[str]) -> None:
        self._first: dict[str, tuple[int, str]] = {}
        self.add(keys)

    def add(self, keys: Iterable[str]) -> None:
        """Take further keys into account."""
        for key in keys:
            own = (key.count("."), key)
            module = key.rpartition(".")[0]
            while module:
                if module not in self._first or own < self._first[module]:
                    self._first[module] = own
                module = module.rpartition(".")[0]

    def of(self, key: str) -> str | None:
        """Return a key that stands beside a new one, for which there is one for each of it."""
        module = key.rpartition(".")[0]
        while module:
            if module in self._first:
                return self._first[module][1]
            module = module.rpartition(".")[0]
        return None


def _split_item(one: Splitting) -> Item:
    return (one.source, one.family.key) if one.family is not None else (one.source, *one.targets)


def _patterns(row: KeyRow, family: Family | None) -> list[tree.PatternNode]:
    return row.patterns(marks={MARK: family.capture} if family is not None else None)


def _together(rows: Sequence[KeyRow]) -> Iterator[Sequence[KeyRow]]:
    """Yield rows that stand in one statement, a few at a time."""
    for start in range(0, len(rows), 6):
        yield rows[start : start + 6]


def _rounds(items: Sequence[Item]) -> Iterator[list[Item]]:
    """Yield items so that each source is there once at a time."""
    left = list(items)
    while left:
        seen: set[str] = set()
        now: list[Item] = []
        later: list[Item] = []
        for item in left:
            (later if item[0] in seen else now).append(item)
            seen.add(item[0])
        yield now
        left = later


def wild(rows: Sequence[KeyRow]) -> list[tree.PatternNode]:
    """Return the patterns of rows that make no keys, with stars in place of captures."""
    return [_without_names(row, "p" if len(rows) == 1 else "_") for row in rows]


def _without_names(row: KeyRow, name: str) -> tree.PatternNode:
    pieces: list[tree.Piece | str] = []
    choices = sum(one.kind == "choice" for one in row.captures.values())
    for number, segment in enumerate(row.keys[0]):
        if number:
            pieces.append(".")
        for piece in segment:
            if isinstance(piece, str):
                pieces.append(piece)
                continue
            assert isinstance(piece, RowCapture)
            if piece.kind == "choice":
                own = tuple(tree.Choice(text, text) for text, _ in piece.choices)
                called = name if choices == 1 else "_"
                pieces.append(tree.Capture(make.NOWHERE, called, tree.CaptureForm.CHOICE, own))
            elif piece.kind == "number" and row.typed:
                pieces.append(make.capture("_", tree.CaptureForm.INT))
            else:
                pieces.append(tree.DoubleStar(make.NOWHERE) if piece.kind == "many" else tree.Star(make.NOWHERE))
    return make.pattern(pieces)


def _cost(rows: Sequence[KeyRow]) -> int:
    return sum(row.cost for row in rows)


def _seen(rows: Sequence[KeyRow]) -> str:
    return ", only seen here" if any(row.is_overfit for row in rows) else ""


def _free(capture: tree.Capture, row: KeyRow) -> tree.Capture:
    """Return a capture under a name that a row does not have."""
    name = next(one for one in (capture.name, "p", "c", "s", "h", "y") if one not in row.captures)
    return replace(capture, name=name)


def _constant(one: Constant) -> tree.Expr:
    shape = tree.ListExpr(make.NOWHERE, tuple(map(make.number, one.type.shape)))
    named = {} if one.type.dtype.short == "f32" else {"dtype": make.name(one.type.dtype.short)}
    if one.number is None:
        counted = make.call("arange", make.number(one.type.numel), **named)
        if one.type.ndim == 1:
            return counted
        if one.type.shape[:-1] == (1,):
            return make.pipe(counted, make.call("unsqueeze", make.number(0)))
        return make.pipe(counted, make.call("reshape", shape))
    if one.number == 0 and str(one.number) != "-0.0":
        return make.call("zeros", shape, **named)
    if one.number == 1:
        return make.call("ones", shape, **named)
    return make.call("full", shape, _number(one.number), **named)


def _number(value: float) -> tree.Expr:
    if isinstance(value, bool):
        return make.name("true" if value else "false")
    if value < 0:
        return tree.Unary(make.NOWHERE, "-", make.number(-value))
    return make.number(value)


def _count(row: KeyRow, items: Sequence[Item]) -> str:
    count = sum(1 for item in items if row.regex.fullmatch(item[0]) is not None)
    return _note(count) + (", only seen here" if row.is_overfit else "")


def _note(count: int) -> str:
    return f"{count} key{'' if count == 1 else 's'}"


__all__ = ["NotedRule", "SourceTensor", "written"]
