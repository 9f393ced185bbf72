"""Rows that cover pairs of keys: classes of keys that differ in numbers, made wider as far as nothing else is matched.

Every row is tried on one key of each class before it is on all: classes are few, keys are many.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property

from statex.core.record import record
from statex.relating.names.choices import joined
from statex.relating.names.fitting import fitted
from statex.relating.names.rows import Computed, Key, KeyRow, Piece, RowCapture, class_of, numbers_of, split_key

Item = tuple[str, ...]
"""A key that a pattern shall match, and the keys that its templates shall give for it."""

_NUMBER_NAMES = "ijklnuvw"
_FREE_INNER = 3
"""So many keys that differ in one number inside of a segment make it a number, and not part of a name."""


@record
class CoveredGroup:
    """Items whose keys are of one class each; `splits` are their keys, split."""

    items: tuple[Item, ...]
    splits: tuple[tuple[list[list[str | int]], ...], ...]

    @property
    def stays(self) -> bool:
        """True where keys become themselves."""
        return all(_stays(item) for item in self.items)


def _stays(item: Item) -> bool:
    return len(item) > 1 and len(set(item)) == 1


def cover(items: Sequence[Item], others: Iterable[str] = ()) -> list[KeyRow]:
    """Return rows that match the first keys of items, each to the others of its item, and none of `others`.

    Keys that stay as they are need no row, and may be matched.
    """
    others = list(others)
    table = _Table(items, others, _inner([*items, *((key,) for key in others)]))
    base = [row for group in table.groups if not group.stays for row in _base_rows(group, table)]
    chosen = joined(sorted(_greedy(base, table), key=table.place), table.is_right)
    return sorted(table.checked(chosen), key=table.place)


def _inner(items: Iterable[Item]) -> frozenset[str]:
    """Return the classes of segments in which numbers count, as there are several that differ in them alone."""
    found: defaultdict[str, set[str]] = defaultdict(set)
    for segment in {segment for item in items for key in item for segment in key.split(".")}:
        if not segment.isdecimal() and any(c.isdigit() for c in segment):
            found[class_of(split_key(segment, True))].add(segment)
    return frozenset(kind for kind, segments in found.items() if len(segments) >= (2 if "_#" in kind else _FREE_INNER))


class _Table:
    """All keys, by which rows are tried."""

    def __init__(self, items: Sequence[Item], others: Sequence[str], inner: frozenset[str]) -> None:
        self.inner = inner
        self._kinds: dict[str, str] = {}
        self._segments: dict[str, tuple[list[str | int], str]] = {}
        self.expected: dict[str, tuple[str, ...]] = {item[0]: item[1:] for item in items}
        self.due = dict.fromkeys(item[0] for item in items if not _stays(item))
        self.others = frozenset(others)
        self.groups = self._grouped(items)
        by_class: defaultdict[tuple[str, ...], list[str]] = defaultdict(list)
        for key in (*self.expected, *others):
            by_class[tuple(map(self.kind, (key, *self.expected.get(key, ()))))].append(key)
        self._places: defaultdict[str, set[int]] = defaultdict(set)
        self._few: list[tuple[str, ...]] = []
        self._classes = list(by_class.values())
        for number, keys in enumerate(self._classes):
            self._few.append(_some(keys, self.expected))
            for segment in {class_of([part]) for part in self.split(self._few[-1][0])}:
                if "#" not in segment:
                    self._places[segment].add(number)

    def split(self, key: str) -> list[list[str | int]]:
        """Return a key with its numbers apart."""
        return [self._segment(segment)[0] for segment in key.split(".")]

    def kind(self, key: str) -> str:
        """Return the class of a key."""
        found = self._kinds.get(key)
        if found is None:
            found = self._kinds[key] = ".".join([self._segment(segment)[1] for segment in key.split(".")])
        return found

    def _segment(self, segment: str) -> tuple[list[str | int], str]:
        """Return the parts of a segment, and its class; there are fewer segments than keys."""
        found = self._segments.get(segment)
        if found is None:
            (own,) = split_key(segment, False)
            (inner,) = split_key(segment, True)
            if own and isinstance(own[0], str) and class_of([inner]) in self.inner:
                own = inner
            found = self._segments[segment] = own, class_of([own])
        return found

    def _grouped(self, items: Sequence[Item]) -> list[CoveredGroup]:
        found: defaultdict[tuple[str, ...], list[Item]] = defaultdict(list)
        splits: dict[Item, tuple[list[list[str | int]], ...]] = {}
        for item in items:
            splits[item] = tuple(map(self.split, item))
            found[tuple(map(self.kind, item))].append(item)
        return [CoveredGroup(tuple(members), tuple(splits[one] for one in members)) for members in found.values()]

    def covered(self, row: KeyRow) -> set[int] | None:
        """Return the classes that a row is right for, by one or two keys of each; `None` where it is wrong for one."""
        found: set[int] = set()
        for number in self._possible(row):
            for key in self._few[number]:
                result = row.apply(key)
                if result is None:
                    continue
                if self.expected.get(key) != result:
                    return None
                found.add(number)
        return found

    def _possible(self, row: KeyRow) -> Iterable[int]:
        texts = (text for text in row.literals if "#" not in self.kind(text))
        sets = [self._places.get(text, set()) for text in texts if "." not in text]
        if not sets:
            return range(len(self._few))
        smallest, *more = sorted(sets, key=len)
        return set(smallest).intersection(*more)

    def keys_of(self, row: KeyRow) -> Iterator[str]:
        """Yield the keys that a row matches."""
        for keys in self._near(row):
            yield from (key for key in keys if row.regex.fullmatch(key) is not None)

    def _near(self, row: KeyRow) -> Iterator[list[str]]:
        """Yield the keys of the classes that a row may match."""
        return (self._classes[number] for number in sorted(self._possible(row)))

    def place(self, row: KeyRow) -> int:
        """Return the place of the first key that a row matches."""
        ranks = self._ranks
        return min((ranks[key] for key in self.keys_of(row)), default=0)

    @cached_property
    def _ranks(self) -> dict[str, int]:
        return {key: number for number, key in enumerate(self.expected)}

    def is_right(self, row: KeyRow) -> bool:
        """Say whether a row gives what is expected for every key that it matches, and matches some."""
        some = False
        for keys in self._near(row):
            for key in keys:
                result = row.apply(key)
                if result is not None:
                    if self.expected.get(key) != result:
                        return False
                    some = True
        return some

    def checked(self, rows: Sequence[KeyRow]) -> list[KeyRow]:
        """Return rows that are right for all keys; items for which there is none have rows of their own."""
        good = [row for row in rows if self.is_right(row)]
        left = dict(self.due)
        for row in good:
            for key in list(self.keys_of(row)):
                left.pop(key, None)
        for row in good:
            row.typed = list(self.keys_of(row)) != list(self.keys_of(row.relaxed()))
        literal = [KeyRow([((one,),) if one else () for one in (key, *self.expected[key])]) for key in left]
        return [*good, *literal]


def _some(keys: Sequence[str], expected: Mapping[str, object]) -> tuple[str, ...]:
    """Return a few keys of a class: the first, the last, and one of the other kind where some are expected."""
    found = [keys[0], keys[-1]]
    inside = [key in expected for key in keys]
    found += [keys[inside.index(kind)] for kind in (True, False) if kind in inside]
    return tuple(dict.fromkeys(found))


# --- rows of one class ------------------------------------------------------------------------------------------


def _base_rows(group: CoveredGroup, table: _Table) -> list[KeyRow]:
    """Return a row for a group of items; several where one does not tell its keys from others."""
    for literal in (False, True):
        row = _general(group, literal)
        if row is not None and table.is_right(row):
            return [row]
    row = _by_choice(group)
    if row is not None and table.is_right(row):
        return [row]
    parts = _by_value(group)
    if parts is not None:
        return [one for part in parts for one in _base_rows(part, table)]
    return [KeyRow([((key,),) if key else () for key in item]) for item in group.items]


def _columns(group: CoveredGroup, at: int) -> list[list[int]]:
    return [list(column) for column in zip(*(numbers_of(split[at]) for split in group.splits), strict=True)]


def _general(group: CoveredGroup, literal: bool = False) -> KeyRow | None:
    """Return a row with captures for the numbers, where those of the other keys follow from them.

    With `literal`, numbers that are the same in all keys are part of the names.
    """
    columns = _columns(group, 0)
    names = list(_NUMBER_NAMES[: len(columns)])
    if len(names) < len(columns):
        return None
    found: list[list[Computed | int]] = []
    for at in range(1, len(group.items[0])):
        own: list[Computed | int] = []
        for place, column in enumerate(_columns(group, at)):
            same = column[0] if literal and len(set(column)) == 1 else None
            one = fitted(column, columns, names, place) if same is None else same
            if one is None:
                return None
            own.append(one)
        found.append(own)
    used = {name for own in found for one in own if isinstance(one, Computed) for name in one.names}
    # What is the same in all keys, and nothing is made of it, is part of the name.
    fixed = {
        name: column[0]
        for name, column in zip(names, columns, strict=True)
        if len(set(column)) == 1 and name not in used and (len(group.items[0]) > 1 or len(group.items) > 1)
    }
    captures = [fixed.get(name, RowCapture(name, "number")) for name in names]
    keys = [_key(group.splits[0][0], captures)]
    for at, own in enumerate(found, 1):
        keys.append(_key(group.splits[0][at], [_plain(one) for one in own]))
    return KeyRow(keys)


def _plain(one: Computed | int) -> Piece | int:
    if isinstance(one, Computed) and one == Computed(one.name):
        return RowCapture(one.name, "number")
    return one


def _key(split: list[list[str | int]], numbers: Sequence[Piece | int]) -> Key:
    """Return a key with pieces in the place of its numbers; neighbouring texts are one."""
    given = iter(numbers)
    found = []
    for segment in split:
        pieces: list[Piece] = []
        for part in segment:
            piece = next(given) if isinstance(part, int) else part
            text = str(piece) if isinstance(piece, int) else piece
            if isinstance(text, str) and pieces and isinstance(pieces[-1], str):
                pieces[-1] += text
            else:
                pieces.append(text)
        found.append(tuple(pieces))
    return tuple(found)


_MOST_CHOICES = 24


def _by_choice(group: CoveredGroup) -> KeyRow | None:
    """Return a row that names the values of one number, each with what it becomes: what nothing else explains."""
    columns = _columns(group, 0)
    for at, column in enumerate(columns):
        values = sorted(set(column))
        if not 1 < len(values) <= _MOST_CHOICES:
            continue
        rest = [c for j, c in enumerate(columns) if j != at]
        names = list(_NUMBER_NAMES[: len(columns)])
        own = names.pop(at)
        keys, mapping = _with_choice(group, rest, names, column)
        if keys is None:
            continue
        choice = RowCapture(own, "choice", tuple((str(v), str(mapping.get(v, v))) for v in values))
        captures: list[Piece | int] = [RowCapture(name, "number") for name in names]
        captures.insert(at, choice)
        first = _key(group.splits[0][0], captures)
        others = [
            _key(group.splits[0][k], [choice if one is None else _plain(one) for one in numbers])
            for k, numbers in enumerate(keys, 1)
        ]
        return KeyRow([first, *others])
    return None


def _with_choice(
    group: CoveredGroup, rest: Sequence[list[int]], names: Sequence[str], column: Sequence[int]
) -> tuple[list[list[Computed | int | None]] | None, dict[int, int]]:
    """Return the numbers of the other keys, `None` for what a value of the column is mapped to, and that mapping."""
    mapping: dict[int, int] = {}
    keys: list[list[Computed | int | None]] = []
    for at in range(1, len(group.items[0])):
        own: list[Computed | int | None] = []
        for place, target in enumerate(_columns(group, at)):
            one = fitted(target, rest, names, place) if rest or len(set(target)) == 1 else None
            if one is None:
                for x, y in zip(column, target, strict=True):
                    if mapping.setdefault(x, y) != y:
                        return None, {}
            own.append(one)
        keys.append(own)
    return keys, mapping


def _by_value(group: CoveredGroup) -> list[CoveredGroup] | None:
    """Return the parts of a group by the values of the number that has fewest of them, if more than one."""
    columns = [column for column in _columns(group, 0) if len(set(column)) > 1]
    if not columns:
        return None
    column = min(columns, key=lambda one: len(set(one)))
    found: defaultdict[int, list[int]] = defaultdict(list)
    for number, value in enumerate(column):
        found[value].append(number)
    return [CoveredGroup(tuple(group.items[i] for i in m), tuple(group.splits[i] for i in m)) for m in found.values()]


# --- wider rows -------------------------------------------------------------------------------------------------


def _wider(row: KeyRow) -> Iterator[KeyRow]:
    """Yield rows that match more: whole segments at the start, at the end, or both, captured as they are."""
    least = min(map(len, row.keys))
    leading = 0
    while leading < least and len({key[leading] for key in row.keys}) == 1:
        leading += 1
    trailing = 0
    while trailing < least and len({key[-1 - trailing] for key in row.keys}) == 1:
        trailing += 1
    for start in range(leading + 1):
        for end in range(trailing + 1):
            if 0 < start + end < len(row.keys[0]) and start + end <= least:
                yield from _widened(row, start, end)
    if len(row.keys) == 1:
        yield KeyRow([((RowCapture("m", "many"),),)])


def _widened(row: KeyRow, start: int, end: int) -> Iterator[KeyRow]:
    kinds = ["many"] if end != 1 else ["segment", "many"]
    for kind in kinds:
        keys: list[Key] = []
        for key in row.keys:
            inner = key[start : len(key) - end]
            before: Key = ((RowCapture("m", "many"),),) if start else ()
            after: Key = ((RowCapture("t" if kind == "segment" else "x", kind),),) if end else ()  # type: ignore[arg-type]
            keys.append((*before, *inner, *after))
        if _is_sound(keys):
            yield KeyRow(keys)


def _is_sound(keys: Sequence[Key]) -> bool:
    """Say whether the first key captures all that the others use."""
    own = {p.name for segment in keys[0] for p in segment if isinstance(p, RowCapture)}
    if not keys[0] or any(not key for key in keys):
        return False
    for key in keys[1:]:
        for piece in (p for segment in key for p in segment):
            names = [piece.name] if isinstance(piece, RowCapture) else []
            names += list(piece.names) if isinstance(piece, Computed) else []
            if any(name not in own for name in names):
                return False
    return True


def _greedy(base: Sequence[KeyRow], table: _Table) -> list[KeyRow]:
    """Return rows that cover all classes: again and again the one that gives most for what there is to read."""
    candidates: dict[KeyRow, set[int]] = {}
    for row in base:
        for one in (row, *_wider(row)):
            if one not in candidates and (found := table.covered(one)):
                candidates[one] = found
    heap = [(-len(found) / row.cost, number, row) for number, (row, found) in enumerate(candidates.items())]
    heapq.heapify(heap)
    chosen: list[KeyRow] = []
    open_keys = set(table.due)
    taken: set[str] = set()
    while heap and open_keys:
        _, number, row = heapq.heappop(heap)
        matched = list(table.keys_of(row))
        keys = [key for key in matched if key in open_keys]
        gain = len({table.kind(key) for key in keys})
        if not gain:
            continue
        score = -gain / row.cost
        if heap and score > heap[0][0]:
            heapq.heappush(heap, (score, number, row))
            continue
        # Two rows of a table may not match the same key.
        if not taken.isdisjoint(matched) or not table.is_right(row):
            continue
        chosen.append(row)
        taken.update(matched)
        open_keys.difference_update(keys)
    return chosen
