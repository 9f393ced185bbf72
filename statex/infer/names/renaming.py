"""Renames: a table of whole keys, or the shorter one of prefixes and parts that do the same."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from statex.grammar import factory as make
from statex.grammar import tree
from statex.grammar.printer import show
from statex.infer.names.covering import cover
from statex.infer.names.rows import Row, numbers_of, split_key

Pair = tuple[str, str]
Noted = tuple[tree.Statement, tuple[str, ...]]


def renames(pairs: Sequence[Pair], others: Sequence[str], free: Sequence[str] = ()) -> tuple[list[Noted], Pair | None]:
    """Return statements that rename keys, and leave others as they are; the shortest of several ways.

    Keys that are `free` may get other names by a prefix that is renamed, which is returned then.
    """
    if all(old == new for old, new in pairs):
        return [], None
    return min(_ways(pairs, others, free), key=lambda way: _length(way[0]))


def changed(key: str, prefix: Pair | None) -> str:
    """Return a key after a prefix was renamed."""
    if prefix is None or not key.startswith(prefix[0]):
        return key
    return prefix[1] + key[len(prefix[0]) :]


def _length(found: Sequence[Noted]) -> int:
    """Return how much there is to read: lines count more than what is in them."""
    lines = [line for statement, _ in found for line in show(statement).splitlines()]
    return sum(12 + len(line) for line in lines)


def _ways(
    pairs: Sequence[Pair], others: Sequence[str], free: Sequence[str]
) -> Iterator[tuple[list[Noted], Pair | None]]:
    yield table(pairs, [*others, *free]), None
    yield from _by_prefix(pairs, others, free)


def table(pairs: Sequence[Pair], others: Sequence[str]) -> list[Noted]:
    """Return a table of rows for whole keys, of one row or more; nothing where no key changes."""
    rows = cover(pairs, others)
    if not rows:
        return []
    made = [make.row(*_sources(row)) for row in rows]
    return [(make.rename(*made), tuple(_noted(row, pairs) for row in rows))]


def _sources(row: Row) -> tuple[tree.PatternNode, tree.PatternNode]:
    source, target = row.patterns()
    return source, target


def _by_prefix(pairs: Sequence[Pair], others: Sequence[str], free: Sequence[str]) -> Iterator[tuple[list[Noted], Pair]]:
    """Yield a prefix that most keys get, lose or change, with a table for what else there is."""
    for prefix in dict.fromkeys(_apart(old, new) for old, new in _some(pairs)):
        before, after = prefix
        count = sum(key.startswith(before) for key in (*(a for a, _ in pairs), *free))
        if before == after or 2 * count < len(pairs) or any(key.startswith(before) for key in others):
            continue
        moved = [(changed(a, prefix), b) for a, b in pairs]
        now = [changed(key, prefix) for key in free]
        everything = [*(a for a, _ in moved), *now, *others]
        if len(set(everything)) < len(everything):
            continue
        row = make.row(make.literal(before), make.literal(after))
        statement = make.rename(row, mode=tree.RenameMode.PREFIX)
        yield [(statement, (_keys(count),)), *table(moved, [*others, *now])], prefix


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


def _noted(row: Row, pairs: Sequence[Pair]) -> str:
    own = [old for old, _ in pairs if row.regex.fullmatch(old) is not None]
    note = _keys(len(own))
    if row.captures and (numbers := _numbered(row, own)):
        note = numbers
    return note + (", only seen here" if row.is_overfit else "")


def _numbered(row: Row, keys: Sequence[str]) -> str | None:
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
