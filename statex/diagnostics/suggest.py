"""Suggestions of similar names, and lists in words."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from difflib import SequenceMatcher
from heapq import nlargest
from itertools import chain

_ALIKE = 0.6
"""From this likeness on, of segments and of whole keys, the one may stand for the other."""
_WORDS_ALIKE = 0.65
"""The same for words without dots: `softmax` is not `max`."""
_SHORTEST = 2
"""Letters of a word that can be misspelt: one letter is as near to most others."""
_SAME_BUT_FOR_CASE = 0.99
_COMPARED = 500
"""So many candidates are compared in full: those that could come nearest."""
_SPELLINGS = 5_000
_LETTERS = 120
"""Where there are more distinct segments, or longer ones, only equal segments count as alike."""

Likeness = Callable[[str, str], float]
"""How alike a segment of the word and one of a candidate are, 0 to 1."""


def did_you_mean(word: str, candidates: Iterable[str], n: int = 1) -> list[str]:
    """Return up to `n` candidates that look like the word, the nearest first, and nothing that is far from it.

    Dotted keys compare by segment: `norm.weight` is near `model.norm.weight`, and a misspelt segment costs as much as
    its letters differ. Numbers are equal or not. The candidates may be 100,000 keys.
    """
    wanted = word.split(".")
    known = [(c, c.split(".")) for c in dict.fromkeys(candidates) if c != word]
    spellings = set(chain.from_iterable(segments for _, segments in known))
    likeness = _by_letters(wanted, spellings) if len(spellings) <= _SPELLINGS else _if_equal
    nearest = {one: max(likeness(segment, one) for segment in wanted) for one in spellings}

    def at_best(segments: Sequence[str]) -> float:
        return 2 * sum(nearest[one] for one in segments) / (len(wanted) + len(segments))

    hopeful = nlargest(_COMPARED, known, key=lambda pair: at_best(pair[1]))
    scored = [(_likeness(wanted, segments, likeness), name) for name, segments in hopeful]

    def is_near(score: float, name: str) -> bool:
        if len(wanted) > 1 or "." in name:
            return score >= _ALIKE
        return score >= (_WORDS_ALIKE if len(word) >= _SHORTEST else _SAME_BUT_FOR_CASE)

    return [name for score, name in nlargest(n, scored, key=lambda pair: pair[0]) if is_near(score, name)]


def join_words(words: Collection[str], limit: int = 3, last: str = "and") -> str:
    """Write `a, b, c and 29 more`, or `a, b and c` where all fit."""
    shown = list(words)[:limit]
    more = len(words) - len(shown)
    if more:
        return f"{', '.join(shown)} {last} {more} more"
    return f"{', '.join(shown[:-1])} {last} {shown[-1]}" if len(shown) > 1 else "".join(shown)


def _likeness(one: Sequence[str], other: Sequence[str], likeness: Likeness) -> float:
    aligned = _aligned(one, other, likeness)
    short, long = sorted((one, other), key=len)
    # What wrappers do to keys: however long the prefix, the rest of two or more segments says what was meant.
    if len(short) >= 2 and list(long[-len(short) :]) == list(short):
        return max(aligned, _ALIKE)
    return aligned


def _aligned(one: Sequence[str], other: Sequence[str], likeness: Likeness) -> float:
    """Return 0 to 1: twice what the best alignment of two lists, in order, has in common, by their lengths."""
    row = [0.0] * (len(other) + 1)
    for segment in one:
        above, row = row, [0.0]
        for column, candidate in enumerate(other):
            both = above[column] + likeness(segment, candidate)
            row.append(max(both, above[column + 1], row[column]))
    return 2 * row[-1] / (len(one) + len(other))


def _if_equal(one: str, other: str) -> float:
    return float(one == other)


def _by_letters(wanted: Iterable[str], spellings: Iterable[str]) -> Likeness:
    """Return the likeness of the wanted segments to all spellings, each computed once."""
    table: dict[tuple[str, str], float] = {}
    for segment in set(wanted):
        # SequenceMatcher prepares its second text, and is given many first ones.
        matcher = SequenceMatcher(None, b=segment.lower(), autojunk=False)
        for one in spellings:
            table[segment, one] = 1.0 if one == segment else _spelt(matcher, segment, one)
    return lambda segment, one: table[segment, one]


def _spelt(matcher: SequenceMatcher[str], segment: str, one: str) -> float:
    """Return how alike two different spellings are: below 1, and 0 where they are not alike."""
    if one.isdigit() or segment.isdigit() or max(len(one), len(segment)) > _LETTERS:
        return 0.0
    matcher.set_seq1(one.lower())
    if matcher.real_quick_ratio() < _ALIKE or matcher.quick_ratio() < _ALIKE:
        return 0.0
    ratio = matcher.ratio()
    return min(ratio, 0.99) if ratio >= _ALIKE else 0.0
