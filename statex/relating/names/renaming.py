"""Renames: a table of whole keys, or the shorter one of prefixes and parts that do the same."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TypeVar

from statex.core.numerals import is_numeral
from statex.grammar import factory as make
from statex.grammar import tree
from statex.grammar.printer import show
from statex.relating.names.changes import NameChange, part_changes
from statex.relating.names.covering import cover
from statex.relating.names.rows import KeyRow, numbers_of, split_key
from statex.relating.names.trial import makes

Pair = tuple[str, str]
Noted = tuple[tree.Statement, tuple[str, ...]]
Notes = Callable[[Sequence[str]], tuple[str, ...]]
"""Says how many of some keys each row of a statement is for."""
Way = list[tuple[tree.Statement, Notes]]

_MANY = 2000
"""Of so many keys and more, a few of each class are looked at first; all of them are when the statements are tried."""
_FEW = 12


def renames(
    pairs: Sequence[Pair], others: Sequence[str], free: Sequence[str] = ()
) -> tuple[list[Noted], NameChange | None]:
    """Return statements that rename keys, and leave others as they are; the shortest of several ways.

    Keys that are `free` may get other names by a change of all keys, which is returned then.
    """
    if all(old == new for old, new in pairs):
        return [], None
    expected = dict(pairs) | {key: key for key in others}
    keys = [*(old for old, _ in pairs), *free]
    for some in (True, False) if len(pairs) > _MANY else (False,):
        own = thinned(pairs) if some else pairs
        away = [key for (key,) in thinned([(key,) for key in others])] if some else others
        for way, change in sorted(_ways(own, away, free), key=lambda one: _length(one[0])):
            expected |= {key: change.of(key) if change is not None else key for key in free}
            if makes([statement for statement, _ in way], expected):
                return [(statement, notes(keys)) for statement, notes in way], change
    rows = [make.row(make.key(old), make.key(new)) for old, new in pairs if old != new]
    return [(make.rename(*rows), tuple("1 key, only seen here" for _ in rows))], None


_I = TypeVar("_I", bound=tuple[str, ...])


def thinned(items: Sequence[_I]) -> list[_I]:
    """Return some of many items: of each class the first ones and the last one."""
    found: defaultdict[tuple[str, ...], list[_I]] = defaultdict(list)
    for item in items:
        found[tuple(_NUMBERS.sub("#", key) for key in item)].append(item)
    return [one for own in found.values() for one in (own if len(own) <= _FEW else [*own[: _FEW - 1], own[-1]])]


_NUMBERS = re.compile(r"(?<![^.])[0-9]+(?![^.])")


def _length(found: Way) -> int:
    """Return how much there is to read: lines count more than what is in them."""
    lines = [line for statement, _ in found for line in show(statement).splitlines()]
    kinds = [one.mode for one, _ in found if isinstance(one, tree.Rename)]
    # A part is looked for everywhere: where a prefix does as well, that says more.
    plain = 16 * kinds.count(tree.RenameMode.PART) - 8 * kinds.count(tree.RenameMode.PREFIX)
    return sum(12 + len(line) for line in lines) + plain


def _ways(pairs: Sequence[Pair], others: Sequence[str], free: Sequence[str]) -> Iterator[tuple[Way, NameChange | None]]:
    yield table(pairs, [*others, *free]), None
    for prefix in dict.fromkeys(_apart(old, new) for old, new in _some(pairs)):
        count = sum(key.startswith(prefix[0]) for key in (*(a for a, _ in pairs), *free))
        if prefix[0] != prefix[1] and 2 * count >= len(pairs):
            yield from _after(NameChange(tree.RenameMode.PREFIX, (prefix,)), pairs, others, free)
    for change in part_changes(pairs, [*others]):
        yield from _after(change, pairs, others, free)
    found = _renumbered(pairs, [*others, *free])
    if found is not None:
        yield found, None


def _after(
    change: NameChange, pairs: Sequence[Pair], others: Sequence[str], free: Sequence[str]
) -> Iterator[tuple[Way, NameChange]]:
    """Yield a change of all keys, with a table for what else there is."""
    if any(change.of(key) != key for key in others):
        return
    moved = [(change.of(a), b) for a, b in pairs]
    now = [change.of(key) for key in free]
    everything = [*(a for a, _ in moved), *now, *others]
    count = sum(a != b for (a, _), (b, _) in zip(pairs, moved, strict=True))
    if count and len(set(everything)) == len(everything):
        rest = _noted_later(table(moved, [*others, *now]), change.of)
        yield [(change.statement(), partial(_met, change)), *rest], change


def _met(change: NameChange, keys: Sequence[str]) -> tuple[str, ...]:
    """Say how many keys each row of a change is for; of two that could be, the first one takes a key."""
    return tuple(map(_keys, change.counts(keys)))


def _noted_later(way: Way, of: Callable[[str], str]) -> Way:
    """Return statements whose notes are about keys after a change."""

    def after(notes: Notes) -> Notes:
        return lambda keys: notes([of(key) for key in keys])

    return [(statement, after(notes)) for statement, notes in way]


def table(pairs: Sequence[Pair], others: Sequence[str]) -> Way:
    """Return a table of rows for whole keys, of one row or more; nothing where no key changes."""
    rows = cover(pairs, others)
    if not rows:
        return []
    made = [make.row(*_sources(row)) for row in rows]
    return [(make.rename(*made), lambda keys: tuple([_noted(row, keys) for row in rows]))]


def _sources(row: KeyRow) -> tuple[tree.PatternNode, tree.PatternNode]:
    source, target = row.patterns()
    return source, target


def _renumbered(pairs: Sequence[Pair], others: Sequence[str]) -> Way | None:
    """Return a closing of gaps, with a table for what else there is; `None` where no number goes that way."""
    old, new = next((pair for pair in pairs if pair[0] != pair[1]), ("", ""))
    one, other = old.split("."), new.split(".")
    at = next((n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), None)
    if at is None or not (one[at].isdecimal() and other[at].isdecimal()):
        return None
    before = "".join(f"{segment}." for segment in one[:at])
    numbers = sorted({int(n) for key in (*(a for a, _ in pairs), *others) if (n := _number_after(key, before))})
    ranks = {str(number): str(rank) for rank, number in enumerate(numbers)}
    if any(key.startswith(before) for key in others) or all(number == rank for number, rank in ranks.items()):
        return None

    def closed(key: str) -> str:
        number = _number_after(key, before)
        return before + ranks[number] + key[len(before) + len(number) :] if number in ranks else key

    pattern = make.pattern([before, make.capture("i", tree.CaptureForm.INT)])
    word = one[at - 1] if at else ""
    note = f"{len(numbers)} {word if len(word) > 1 and word.endswith('s') else 'numbers'}"
    rest = table([(closed(a), b) for a, b in pairs], others)
    return [(make.renumber(pattern), lambda _: (note,)), *_noted_later(rest, closed)]


def _number_after(key: str, before: str) -> str:
    """Return the number that stands behind what a key begins with, or nothing."""
    number = key[len(before) :].partition(".")[0] if key.startswith(before) else ""
    return number if is_numeral(number) else ""


def _some(pairs: Sequence[Pair]) -> Iterator[Pair]:
    """Yield pairs that may show a prefix: the first and the last ones."""
    changed = [pair for pair in pairs if pair[0] != pair[1]]
    yield from dict.fromkeys([*changed[:8], *changed[-8:]])


def _apart(old: str, new: str) -> Pair:
    """Return what two keys begin with, without the whole segments that both end in."""
    one, other = old.split("."), new.split(".")
    while one and other and one[-1] == other[-1]:
        one.pop()
        other.pop()
    before = ".".join(one) + ("." if one else "")
    after = ".".join(other) + ("." if other else "")
    return before, after


def _noted(row: KeyRow, keys: Sequence[str]) -> str:
    own = [key for key in keys if row.regex.fullmatch(key) is not None]
    note = _keys(len(own))
    if row.captures and (numbers := _numbered(row, own)):
        note = numbers
    return note + (", only seen here" if row.is_overfit else "")


def _numbered(row: KeyRow, keys: Sequence[str]) -> str | None:
    """Return how many of what a row's number counts, where the segment before it says what that is."""
    for at, segment in enumerate(row.keys[0]):
        piece = segment[0]
        if len(segment) > 1 or isinstance(piece, str) or getattr(piece, "kind", "") != "number" or not at:
            continue
        (word, *more) = row.keys[0][at - 1]
        if more or not isinstance(word, str) or not word.endswith("s"):
            return None
        found = {numbers_of(split_key(key, False))[0] for key in keys if numbers_of(split_key(key, False))}
        return f"{len(found)} {word if len(found) > 1 else word[:-1]}"
    return None


def _keys(count: int) -> str:
    return f"{count} key{'' if count == 1 else 's'}"
