"""How alike an old and a new key are, learned from pairs that are certain: for tensors that only names tell apart."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from functools import cache

_WORDS = re.compile(r"[A-Za-z]+|\d+")
_NUMBERS = re.compile(r"\d+")
_PIECES = re.compile(r"[A-Za-z]+|[^A-Za-z]+")

Pair = tuple[str, str]


class Likeness:
    """What pairs of old and new keys have shown: which words, and which modules, stand for which."""

    def __init__(self, pairs: Iterable[Pair] = ()) -> None:
        self._new_pairs: list[Pair] = []
        """Pairs whose words nobody has asked for yet: most checkpoints need none of this."""
        self._together: Counter[Pair] = Counter()
        self._old: Counter[str] = Counter()
        self._new: Counter[str] = Counter()
        self._modules: defaultdict[Pair, int] = defaultdict(int)
        self._stems: defaultdict[str, Counter[str]] = defaultdict(Counter)
        # As long as this is, and no longer: the keys of other checkpoints are others.
        self._words = cache(self._of_words)
        self._numbers, self._stem, self._classed = cache(_numbers), cache(stem_of), cache(_classed)
        for old, new in pairs:
            self.learn(old, new)

    def forget(self) -> None:
        """Give back what is held, which holds this itself."""
        vars(self).clear()

    def learn(self, old: str, new: str) -> None:
        """Take a pair as certain."""
        self._new_pairs.append((old, new))

    def _take_in(self) -> None:
        """Count what new pairs show, by classes of keys: there are few, and numbers are no words that are asked for."""
        if not self._new_pairs:
            return
        classes: Counter[Pair] = Counter()
        for old, new in self._new_pairs:
            classes[self._classed(old), self._classed(new)] += 1
            self._stems[self._stem(new)][self._stem(old)] += 1
        self._new_pairs.clear()
        for (old, new), count in classes.items():
            one, other = set(_words(old)), set(_words(new))
            self._old.update(dict.fromkeys(one, count))
            self._new.update(dict.fromkeys(other, count))
            self._together.update({(a, b): count for a in one for b in other})
            self._modules[_module(old), _module(new)] += count

    def stem(self, new: str) -> str:
        """Return what the old keys for those beside a new one begin with, up to their last number."""
        self._take_in()
        known = self._stems.get(self._stem(new))
        return known.most_common(1)[0][0] if known else self._stem(new)

    def score(self, old: str, new: str) -> float:
        """Return how alike two keys are."""
        self._take_in()
        found = self._words(self._classed(old), self._classed(new))
        if self._stem(old) == self.stem(new):
            found += 3.0
        a, b = self._numbers(old), self._numbers(new)
        if a == b:
            found += 1.0
        elif set(a) & set(b):
            found += 0.5
        return found + (2.0 if old == new else 0.0)

    def _of_words(self, old: str, new: str) -> float:
        one, other = _words(old), _words(new)
        found = 4.0 if self._modules.get((_module(old), _module(new))) else 0.0
        found += 2.0 if one and other and one[-1] == other[-1] else 0.0
        return found + 2.0 * sum(max((self._of(a, b) for a in one), default=0.0) for b in other) / max(1, len(other))

    def _of(self, old: str, new: str) -> float:
        if old == new:
            return 1.0
        together = self._together.get((old, new), 0)
        learned = 2 * together / (self._old[old] + self._new[new]) if together else 0.0
        similar = 0.4 if old.startswith(new) or new.startswith(old) else 0.0
        return max(0.8 * learned, similar)


def _numbers(key: str) -> tuple[str, ...]:
    return tuple(_NUMBERS.findall(key))


def stem_of(key: str) -> str:
    """Return a key up to its last number that is a whole segment."""
    segments = key.split(".")
    while segments and not segments[-1].isdecimal():
        segments.pop()
    return ".".join(segments)


def _classed(key: str) -> str:
    return _NUMBERS.sub("#", key)


def _module(key: str) -> str:
    """Return the module of a class of keys."""
    return key.rpartition(".")[0]


def _words(key: str) -> list[str]:
    return [word.lower() for word in _WORDS.findall(key)]


def beside(old: str, known: str, new: str) -> str:
    """Return the old key that stands to another one as a new key to a known one of its module.

    `q.weight` that became `in_proj_weight` has `q.bias` beside it for `in_proj_bias`: where the last segments of the
    new keys differ in one word, the old one has the other word, too.
    """
    module, _, last = old.rpartition(".")
    before, after = (key.rpartition(".")[2] for key in (known, new))
    one, other = _WORDS.findall(before), _WORDS.findall(after)
    changed = [(a, b) for a, b in zip(one, other, strict=False) if a != b]
    if last != before and len(one) == len(other) and len(changed) == 1:
        (word, instead), words = changed[0], _PIECES.findall(last)
        after = "".join(instead if piece == word else piece for piece in words)
    return f"{module}.{after}" if module else after


_MOST = 100_000
"""Pairs of keys that are compared by their names; of more, those are taken that stand in the same places."""


def assigned(old: Sequence[str], new: Sequence[str], likeness: Likeness, places: dict[str, float]) -> dict[str, str]:
    """Return an old key for each new one, as far as there are any: the most alike first, then by their places.

    `places` are where keys stand among those of their numbers, from 0 to 1. Those whose neighbours are known to belong
    together are looked at by themselves first.
    """
    by_old: defaultdict[str, list[str]] = defaultdict(list)
    by_new: defaultdict[str, list[str]] = defaultdict(list)
    for key in old:
        by_old[stem_of(key)].append(key)
    for key in new:
        by_new[likeness.stem(key)].append(key)
    found: dict[str, str] = {}
    for stem, keys in by_new.items():
        if stem in by_old:
            found |= _matched(by_old[stem], keys, likeness, places)
    taken = set(found.values())
    rest_old = [key for key in old if key not in taken]
    rest_new = [key for key in new if key not in found]
    if len(rest_old) * len(rest_new) > _MOST:
        return found | dict(zip(rest_new, rest_old, strict=False))
    return found | _matched(rest_old, rest_new, likeness, places)


def _matched(old: Sequence[str], new: Sequence[str], likeness: Likeness, places: dict[str, float]) -> dict[str, str]:
    scored = sorted(
        (
            (likeness.score(a, b) - 0.5 * abs(places.get(f"old {a}", 0.0) - places.get(f"new {b}", 0.0)), -i, -j, a, b)
            for i, a in enumerate(old)
            for j, b in enumerate(new)
        ),
        reverse=True,
    )
    found: dict[str, str] = {}
    taken: set[str] = set()
    for _, _, _, a, b in scored:
        if a not in taken and b not in found:
            found[b] = a
            taken.add(a)
    return found


def places(old: Sequence[str], new: Sequence[str]) -> dict[str, float]:
    """Return where each of these keys stands among those of equal numbers, from 0 to 1."""
    found: dict[str, float] = {}
    for side, keys in (("old", old), ("new", new)):
        groups: defaultdict[str, list[str]] = defaultdict(list)
        for key in keys:
            groups[stem_of(key)].append(key)
        for group in groups.values():
            for number, key in enumerate(group):
                found[f"{side} {key}"] = number / max(1, len(group) - 1)
    return found
