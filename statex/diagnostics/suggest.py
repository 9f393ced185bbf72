"""What was probably meant, and lists in words."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from difflib import SequenceMatcher, get_close_matches
from heapq import nlargest

_CANDIDATES = 2000
"""So many candidates are compared in full; of more, those that share a segment with the word come first."""


def did_you_mean(word: str, candidates: Iterable[str], n: int = 1) -> list[str]:
    """Return up to `n` candidates that look like the word, the nearest first; dotted keys compare by segment."""
    known = [c for c in dict.fromkeys(candidates) if c != word]
    if "." not in word and not any("." in c for c in known[:50]):
        return _near_words(word, known, n)
    segments = set(word.split("."))
    if len(known) > _CANDIDATES:
        known = nlargest(_CANDIDATES, known, key=lambda c: len(segments & set(c.split("."))))
    scored = [(_likeness(word, c), c) for c in known]
    return [c for score, c in nlargest(n, scored, key=lambda pair: pair[0]) if score >= 0.6]


def _near_words(word: str, known: Sequence[str], n: int) -> list[str]:
    folded = {c.lower(): c for c in reversed(known)}
    return [folded[c] for c in get_close_matches(word.lower(), list(folded), n, 0.6)]


def _likeness(word: str, candidate: str) -> float:
    """Return 0 to 1: how alike two dotted keys are, segments and their order counting more than letters."""
    one, other = word.split("."), candidate.split(".")
    by_segment = SequenceMatcher(None, one, other, autojunk=False).ratio()
    if by_segment < 0.3 and len(one) > 1:
        return by_segment
    return max(by_segment, SequenceMatcher(None, word, candidate, autojunk=False).ratio())


def join_words(words: Collection[str], limit: int = 3, last: str = "and") -> str:
    """Write `a, b, c and 29 more`, or `a, b and c` where all fit."""
    shown = list(words)[:limit]
    more = len(words) - len(shown)
    if more:
        return f"{', '.join(shown)} {last} {more} more"
    return f"{', '.join(shown[:-1])} {last} {shown[-1]}" if len(shown) > 1 else "".join(shown)
