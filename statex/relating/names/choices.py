"""Rows that differ in one word become one with a choice: `{p:query=q|key=k}`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from itertools import product

from statex.grammar.pieces import is_choice
from statex.relating.names.rows import KeyRow, RowCapture, Segment

_NAMES = ("p", "c", "s", "r", "w")
_HOLE: Segment = ("\ue001",)
_LONG = 110
"""What a row may cost that several are joined to: more does not fit on a line."""
_MOST_KEYS = 3
"""Rows of more keys than that are not joined: there are too many places to look at."""


def joined(rows: Sequence[KeyRow], is_right: Callable[[KeyRow], bool]) -> list[KeyRow]:
    """Return rows with those joined that differ in one word, as long as there are any."""
    found = list(rows)
    refused: set[tuple[KeyRow, ...]] = set()
    while (step := _best(found, is_right, refused)) is not None:
        row, members = step
        place = min(found.index(one) for one in members)
        found[place] = row
        found = [one for one in found if one not in members]
    return found


def _best(
    rows: Sequence[KeyRow], is_right: Callable[[KeyRow], bool], refused: set[tuple[KeyRow, ...]]
) -> tuple[KeyRow, list[KeyRow]] | None:
    """Return the row that takes the place of most others, if there is one."""
    buckets: defaultdict[tuple[object, ...], list[tuple[KeyRow, tuple[int | None, ...]]]] = defaultdict(list)
    for row in rows:
        if len(row.keys) <= _MOST_KEYS:
            for signature, holes in _signatures(row):
                buckets[signature].append((row, holes))
    for bucket in sorted(buckets.values(), key=len, reverse=True):
        members = [row for row, _ in bucket]
        while len(members) > 1 and tuple(members) not in refused:
            one = _join(members, bucket[0][1])
            if one is not None and _is_shorter(one, members) and is_right(one):
                return one, members
            refused.add(tuple(members))
            # What makes it long, or is of another kind, may stand by itself.
            members.remove(max(members, key=lambda row: (row.cost, rows.index(row))))
    return None


def _is_shorter(row: KeyRow, members: Sequence[KeyRow]) -> bool:
    """Say whether a row is shorter than those that it is for, and can be read at a glance."""
    long = max(_LONG, *(member.cost for member in members))
    return row.cost < min(long, sum(member.cost for member in members))


def _signatures(row: KeyRow) -> Iterator[tuple[tuple[object, ...], tuple[int | None, ...]]]:
    """Yield what a row is with one segment of text left out of the first key, and perhaps one of each other."""
    places: list[list[int | None]] = []
    for number, key in enumerate(row.keys):
        texts: list[int | None] = [at for at, segment in enumerate(key) if _is_text(segment)]
        places.append(texts if number == 0 else [*texts, None])
    for holes in product(*places):
        keys = tuple(
            key if at is None else (*key[:at], _HOLE, *key[at + 1 :]) for key, at in zip(row.keys, holes, strict=True)
        )
        yield (holes, keys), holes


def _is_text(segment: Segment) -> bool:
    return all(
        isinstance(piece, str) or (isinstance(piece, RowCapture) and piece.kind == "choice") for piece in segment
    )


def _join(rows: Sequence[KeyRow], holes: tuple[int | None, ...]) -> KeyRow | None:
    """Return one row for several that differ in the segments at these places, or `None`."""
    words: list[list[str]] = []
    for number, at in enumerate(holes):
        if at is not None:
            segments = [row.keys[number][at] for row in rows]
            if any(len(one) != 1 or not isinstance(one[0], str) for one in segments):
                return None
            words.append([str(one[0]) for one in segments])
    first, *others = words
    if len(set(first)) != len(first) or len({tuple(one) for one in others}) > 1:
        return None
    left = apart(first)
    right = apart(others[0]) if others else left
    if len(set(others[0] if others else first)) == 1:
        return None
    if first == (others[0] if others else first):
        right = left
    pairs = tuple(zip(left[1], right[1], strict=True))
    if any(not text or not value for text, value in pairs):
        left, right = ("", first, ""), ("", others[0] if others else first, "")
        pairs = tuple(zip(left[1], right[1], strict=True))
    name = next((n for n in _NAMES if n not in rows[0].captures), None)
    if name is None or not all(map(is_choice, (one for pair in pairs for one in pair))):
        return None
    capture = RowCapture(name, "choice", pairs)
    keys = []
    for number, (key, at) in enumerate(zip(rows[0].keys, holes, strict=True)):
        before, _, after = left if number == 0 else right
        if at is None:
            keys.append(key)
            continue
        own = tuple(piece for piece in (before, capture, after) if piece)
        keys.append((*key[:at], own, *key[at + 1 :]))
    return KeyRow(keys)


def apart(words: Sequence[str]) -> tuple[str, list[str], str]:
    """Return what words begin and end with in common, up to whole words of them, and what is between."""
    start = _common(words)
    end = _common([word[::-1] for word in words])
    shortest = min(map(len, words))
    while start and not _is_border(words, start):
        start -= 1
    while end and (start + end >= shortest or not _is_border([word[::-1] for word in words], end)):
        end -= 1
    between = [word[start : len(word) - end] for word in words]
    return words[0][:start], between, words[0][len(words[0]) - end :] if end else ""


def _common(words: Sequence[str]) -> int:
    count = 0
    for letters in zip(*words, strict=False):
        if len(set(letters)) > 1:
            break
        count += 1
    return count


def _is_border(words: Sequence[str], at: int) -> bool:
    """Say whether a name is cut between words there: at a sign, or before single letters and numbers."""
    sign = all(not word[at - 1].isalnum() for word in words)
    short = all(len(word) - at <= 1 for word in words)
    return sign or short
