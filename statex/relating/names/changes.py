"""Changes to all keys at once, as `rename prefix` and `rename part` make them."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from functools import cached_property

from statex.grammar import factory as make
from statex.grammar import tree

Pair = tuple[str, str]
Words = tuple[str, ...]


@dataclass(frozen=True)
class NameChange:
    """A prefix, or parts, that become others: rows of what is replaced by what."""

    mode: tree.RenameMode
    rows: tuple[Pair, ...]

    def of(self, key: str) -> str:
        """Return a key after the change."""
        if self.mode is tree.RenameMode.PREFIX:
            ((before, after),) = self.rows
            return after + key[len(before) :] if key.startswith(before) else key
        return self._of_parts(key)

    def without_idle(self, keys: Iterable[str]) -> NameChange:
        """Return the change without the rows that no key is changed by."""
        used: set[int] = set()
        for key in keys:
            self._of_parts(key, used)
        return NameChange(self.mode, tuple([row for number, row in enumerate(self.rows) if number in used]))

    def counts(self, keys: Iterable[str]) -> list[int]:
        """Return how many keys each row changes; of two that could, the first one does."""
        if self.mode is tree.RenameMode.PREFIX:
            return [sum(key.startswith(self.rows[0][0]) for key in keys)]
        found = [0] * len(self.rows)
        for key in keys:
            used: set[int] = set()
            self._of_parts(key, used)
            for number in used:
                found[number] += 1
        return found

    @cached_property
    def _beginning(self) -> Mapping[str, list[tuple[int, list[str], str]]]:
        """The rows by the segment that they begin with: the number, all segments, and what they become."""
        found: defaultdict[str, list[tuple[int, list[str], str]]] = defaultdict(list)
        for number, (before, after) in enumerate(self.rows):
            own = before.split(".")
            found[own[0]].append((number, own, after))
        return dict(found)

    def _of_parts(self, key: str, used: set[int] | None = None) -> str:
        segments = key.split(".")
        beginning = self._beginning
        if beginning.keys().isdisjoint(segments):
            return key
        found: list[str] = []
        at = 0
        while at < len(segments):
            for number, own, after in beginning.get(segments[at], ()):
                if len(own) == 1 or segments[at : at + len(own)] == own:
                    found += [after] if after else []
                    if used is not None:
                        used.add(number)
                    at += len(own)
                    break
            else:
                found.append(segments[at])
                at += 1
        return ".".join(found)

    def statement(self) -> tree.Rename:
        """Return the statement that makes the change."""
        written = make.literal if self.mode is tree.RenameMode.PREFIX else _part
        return make.rename(*(make.row(written(a), written(b)) for a, b in self.rows), mode=self.mode)


def _part(text: str) -> tree.PatternNode:
    return make.key(text) if text else make.literal(text)


def part_changes(pairs: Sequence[Pair], kept: Iterable[str]) -> Iterator[NameChange]:
    """Yield changes of parts that many pairs show, none of which a key that stays has."""
    shown: Counter[tuple[Words, Words]] = Counter()
    has: defaultdict[str, list[tuple[str, ...]]] = defaultdict(list)
    for old, new in pairs:
        one, other = tuple(old.split(".")), tuple(new.split("."))
        for segment in set(one):
            has[segment].append(other)
        shown.update(set(_hunks(one, other)))
    for key in kept:
        for segment in set(key.split(".")):
            has[segment].append(tuple(key.split(".")))
    rows: list[Pair] = []
    for (before, after), count in shown.most_common():
        if count < 2 or not before or any(word.isdecimal() for word in (*before, *after)):
            continue
        # Where it stands, it has to become that: no new key made of one with it may still have it.
        places = [other for other in has[before[0]] if _holds(other, before)]
        if not places and len(after) <= 3:
            rows.append((".".join(before), ".".join(after)))
    for least in (1, 2):
        some = tuple(row for row in rows if shown[tuple(row[0].split(".")), _words(row[1])] > least)
        change = NameChange(tree.RenameMode.PART, tuple(sorted(some, key=lambda row: -row[0].count("."))))
        change = change.without_idle([old for old, _ in pairs])
        if change.rows:
            yield change


def _words(text: str) -> Words:
    return tuple(text.split(".")) if text else ()


def _holds(key: Words, part: Words) -> bool:
    return any(key[at : at + len(part)] == part for at in range(len(key) - len(part) + 1))


def _hunks(one: Words, other: Words) -> Iterator[tuple[Words, Words]]:
    """Yield what is replaced by what, from one key to another."""
    for kind, a, b, c, d in SequenceMatcher(None, one, other, autojunk=False).get_opcodes():
        if kind in ("replace", "delete"):
            yield one[a:b], other[c:d]
            if b - a == d - c > 1:
                yield from ((one[a + n : a + n + 1], other[c + n : c + n + 1]) for n in range(b - a))
