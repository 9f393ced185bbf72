"""What probably became of what, from names, shapes and dtypes alone: where there is a model, and no data of it.

Classes of keys are paired, the most alike first. Each pair is a vote for its modules, and the votes count in the next
round. What is left is looked at as pieces of one another: fused projections, stacked experts.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

from statex.core.header import TensorType
from statex.relating.classes import KeyClass, Numbers, classes_of
from statex.relating.relations import MadeTensor, Relations
from statex.relating.values import ElementMove, Joined, SourceTensor, Value, moved
from statex.relating.words import WordWeights, words_of

_ROUNDS = 3
_LEAST = 0.5
"""Classes that are less alike than this are no pair."""
_LEAVES = frozenset(("weight", "bias", "running_mean", "running_var", "num_batches_tracked", "inv_freq"))
_FUSED = (("q", "k", "v"), ("gate", "up"), ("k", "v"))
"""Words of projections that are often one, in the order they stand in."""


@dataclass(frozen=True)
class Guessed:
    """What was guessed: the relations, and for each new key by what it was."""

    relations: Relations
    reasons: Mapping[str, str]


def guessed(
    old: Mapping[str, TensorType],
    new: Mapping[str, TensorType],
    ties: Sequence[Sequence[str]] = (),
    dtypes: bool = True,
    rows: bool = True,
) -> Guessed:
    """Return which old tensors new ones probably are; `ties` are sets of new keys that are one tensor.

    With `dtypes`, tensors are cast where that of the new one is another; with `rows`, vocabularies may be of another
    size, and lose tokens.
    """
    return _Guess(old, new, ties, dtypes, rows).run()


class _Guess:
    def __init__(
        self,
        old: Mapping[str, TensorType],
        new: Mapping[str, TensorType],
        ties: Sequence[Sequence[str]],
        dtypes: bool,
        rows: bool,
    ) -> None:
        self.old, self.new, self.dtypes, self.rows = old, new, dtypes, rows
        self.ties = ties
        self.made: dict[str, MadeTensor] = {}
        self.reasons: dict[str, str] = {}
        self.used: set[str] = set()

    def run(self) -> Guessed:
        """Guess all."""
        self._same_names()
        self._pair()
        if self.rows:
            self._grown()
        self._tied()
        self._pieces()
        left = [key for key in self.new if key not in self.made]
        near = self._nearest(left)
        made = {key: self.made[key] for key in self.new if key in self.made}
        ties = tuple(tuple(keys) for keys in self.ties)
        return Guessed(Relations(tuple(self.old), tuple(self.new), dict(made), ties, near), self.reasons)

    def _same_names(self) -> None:
        for key, kind in self.new.items():
            if key in self.old and (moves := _moves(self.old[key], kind)) is not None:
                self._is(key, (key,), moved(self._source(0, key, key), *moves), "the same name")

    def _tied(self) -> None:
        """Let the keys of a tie be what one of them is, where the old checkpoint has no key for each."""
        for keys in self.ties:
            first = next((self.made[key] for key in keys if key in self.made), None)
            for key in keys:
                if first is not None and key not in self.made:
                    self._is(key, first.keys, first.value, "tied to another key")

    def _is(self, key: str, keys: tuple[str, ...], value: Value, reason: str) -> None:
        self.made[key] = MadeTensor(key, keys, value)
        self.reasons[key] = reason
        self.used.update(keys)

    def _source(self, number: int, old: str, new: str) -> SourceTensor:
        dtype = self.new[new].dtype
        return SourceTensor(number, dtype if self.dtypes and self.old[old].dtype is not dtype else None)

    def _joined(self, operation: str, keys: Sequence[str], new: str) -> Joined:
        return Joined(operation, tuple([self._source(number, key, new) for number, key in enumerate(keys)]), 0)

    def _left(self) -> tuple[list[KeyClass], list[KeyClass]]:
        """Return the classes of old keys that nothing is made of, and of new ones that nothing explains."""
        old = {key: kind for key, kind in self.old.items() if key not in self.used}
        new = {key: kind for key, kind in self.new.items() if key not in self.made}
        return classes_of(old), classes_of(new)

    # --- pairs -----------------------------------------------------------------------------------------------------

    def _pair(self) -> None:
        old, new = self._left()
        pairs: list[tuple[KeyClass, KeyClass]] = []
        likeness = _ClassLikeness(old, new)
        for _ in range(_ROUNDS):
            pairs = likeness.pairs()
            likeness.learn(pairs)
        for one, other in pairs:
            moves = _moves(one.type, other.type)
            assert moves is not None
            reason = likeness.reason(one, other)
            for a, b in _matched(one, other):
                self._is(b, (a,), moved(self._source(0, a, b), *moves), reason)

    def _grown(self) -> None:
        """Pair embeddings and heads of vocabularies of other sizes, and what else has as many rows before and after."""
        old, new = self._left()
        weights = WordWeights({one.name for one in (*old, *new)})
        pairs = [(weights.alike(a.name, b.name), a, b) for b in new for a in old if _differ_in_rows(a, b)]
        pairs = sorted((pair for pair in pairs if pair[0] >= _LEAST), key=lambda pair: -pair[0])
        numbers = {_rows(a, b) for _, a, b in pairs if all(_is_of_words(one.name) for one in (a, b))}
        for _, one, other in pairs:
            (source,), (target,) = one.keys.values(), other.keys.values()
            if _rows(one, other) in numbers and source not in self.used and target not in self.made:
                before, after = _rows(one, other)
                grown, cut = ElementMove("resize", (other.type.shape,)), ElementMove("getitem", (0, 0, after))
                move = grown if after > before else cut
                reason = f"the same but for its {'new' if after > before else 'last'} rows"
                self._is(target, (source,), moved(self._source(0, source, target), move), reason)

    # --- pieces ----------------------------------------------------------------------------------------------------

    def _pieces(self) -> None:
        """Look for what was fused, and stacked, or shall be."""
        for find in (self._split, self._merge, self._stack, self._unstack, self._stack_fused):
            old, new = self._left()
            weights = WordWeights({one.name for one in (*old, *new)})
            find(old, new, weights)

    def _split(self, old: list[KeyClass], new: list[KeyClass], weights: WordWeights) -> None:
        for whole, parts, turned in _fused(old, new, weights):
            first = [ElementMove("transpose")] if turned else []
            lengths = [part.type.shape[0] for part in parts]
            for part, end in zip(parts, accumulate(lengths), strict=True):
                start = end - part.type.shape[0]
                cut = ElementMove("getitem", (0, start, end if end < sum(lengths) else None))
                for numbers, key in whole.keys.items():
                    target = part.keys[numbers]
                    value = moved(self._source(0, key, target), *first, cut)
                    self._is(target, (key,), value, "a piece by its shape")

    def _merge(self, old: list[KeyClass], new: list[KeyClass], weights: WordWeights) -> None:
        for whole, parts, turned in _fused(new, old, weights):
            last = [ElementMove("transpose")] if turned else []
            for numbers, target in whole.keys.items():
                keys = tuple(part.keys[numbers] for part in parts)
                self._is(target, keys, moved(self._joined("cat", keys, target), *last), "joined by their shapes")

    def _stack(self, old: list[KeyClass], new: list[KeyClass], weights: WordWeights) -> None:
        for _, other, groups in _stacks(old, new, weights):
            if any(key in self.used for keys in groups.values() for key in keys):
                continue
            for numbers, keys in groups.items():
                target = other.keys[numbers]
                self._is(target, keys, self._joined("stack", keys, target), "stacked by their shapes")

    def _stack_fused(self, old: list[KeyClass], new: list[KeyClass], weights: WordWeights) -> None:
        """Look for experts of several projections that are stacked, and the stacks joined."""
        for parts in _families(old):
            for other in new:
                groups = [_grouped(part) for part in parts]
                turned = _turned_stack(other.type, [part.type for part in parts])
                count = other.type.shape[0] if other.type.ndim == 3 else 0
                fits = all(own.keys() == other.keys.keys() and _lengths(own) == {count} for own in groups)
                if turned is None or not fits or any(target in self.made for target in other.keys.values()):
                    continue
                first = [ElementMove("transpose")] if turned else []
                for numbers, target in other.keys.items():
                    keys = tuple([key for own in groups for key in own[numbers]])
                    values = [moved(self._source(at, key, target), *first) for at, key in enumerate(keys)]
                    stacks = [Joined("stack", tuple(values[at : at + count]), 0) for at in range(0, len(keys), count)]
                    self._is(
                        target, keys, Joined("cat", tuple(stacks), 1 + turned), "stacked and joined by their shapes"
                    )
                break

    def _unstack(self, old: list[KeyClass], new: list[KeyClass], weights: WordWeights) -> None:
        for _, other, groups in _stacks(new, old, weights):
            if any(key in self.made for keys in groups.values() for key in keys):
                continue
            for numbers, keys in groups.items():
                source = other.keys[numbers]
                for at, target in enumerate(keys):
                    value = moved(self._source(0, source, target), ElementMove("item", (0, at)))
                    self._is(target, (source,), value, "unstacked by their shapes")

    def _nearest(self, left: Sequence[str]) -> dict[str, str | None]:
        """Return for each key the old one most like it: of its shape, if there is one, and with its numbers."""
        old, new = classes_of(self.old), classes_of({key: self.new[key] for key in left})
        weights = WordWeights({one.name for one in (*old, *new)})
        near: dict[str, str | None] = dict.fromkeys(left)
        for one in new:
            same = [other for other in old if other.type.shape == one.type.shape] or old
            best = max(same, key=lambda other: weights.alike(one.name, other.name), default=None)
            if best is not None:
                first = next(iter(best.keys.values()))
                near |= {key: best.keys.get(numbers, first) for numbers, key in one.keys.items()}
        return near


class _ClassLikeness:
    """How alike old and new classes are, and what pairs of them have shown of their modules."""

    def __init__(self, old: Sequence[KeyClass], new: Sequence[KeyClass]) -> None:
        self._old, self._new = old, new
        self._weights = WordWeights({one.name for one in (*old, *new)})
        self._fitting = [
            (a, b) for a, b in _same_elements(old, new) if _moves(a.type, b.type) is not None and _fit(a, b)
        ]
        self._choices = Counter(a for a, _ in self._fitting), Counter(b for _, b in self._fitting)
        self._leaves = {one: _leaf(one) for one in (*old, *new)}
        self._in_order = all(_has_order(one) for one in (old, new))
        self._votes: Counter[tuple[str, str]] = Counter()
        self._voted: Counter[str] = Counter()

    def pairs(self) -> list[tuple[KeyClass, KeyClass]]:
        """Return pairs of classes, each in one at most: the most alike first."""
        scored = [(self.score(a, b), number) for number, (a, b) in enumerate(self._fitting)]
        scored.sort(key=lambda one: (-one[0], one[1]))
        taken: set[KeyClass] = set()
        found = []
        for score, number in scored:
            a, b = self._fitting[number]
            if a not in taken and b not in taken and (score >= _LEAST or self._alone(a, b)):
                taken |= {a, b}
                found.append((a, b))
        return found

    def _alone(self, one: KeyClass, other: KeyClass) -> bool:
        return self._choices[0][one] == self._choices[1][other] == 1 and self._leaves[one] == self._leaves[other]

    def score(self, one: KeyClass, other: KeyClass) -> float:
        """Return how alike two classes are."""
        found = self._weights.alike(one.name, other.name)
        first, second = self._leaves[one], self._leaves[other]
        if first == second:
            found += 0.3
        elif {first, second} <= _LEAVES:
            found -= 0.6
        found += 0.15 * (one.type.shape == other.type.shape) + 0.2 * (set(one.keys) == set(other.keys))
        if self._in_order:
            found -= 0.6 * abs(one.place - other.place)
        for a, b in zip(_above(one.name), _above(other.name), strict=False):
            voted = self._voted[b]
            if voted:
                found += 0.3 * (2 * self._votes[a, b] / voted - 1) if (a, b) in self._votes else -0.15
        return found

    def learn(self, pairs: Sequence[tuple[KeyClass, KeyClass]]) -> None:
        """Let pairs vote for the modules that belong together."""
        self._votes.clear()
        self._voted.clear()
        for one, other in pairs:
            for a, b in zip(_above(one.name), _above(other.name), strict=False):
                self._votes[a, b] += 1
                self._voted[b] += 1

    def reason(self, one: KeyClass, other: KeyClass) -> str:
        """Return by what a pair was found."""
        if self._choices[0][one] == self._choices[1][other] == 1:
            return "the only one of its shape"
        return "alike in names" if self._weights.alike(one.name, other.name) >= _LEAST else "its place and its shape"


def _same_elements(old: Sequence[KeyClass], new: Sequence[KeyClass]) -> Iterator[tuple[KeyClass, KeyClass]]:
    by_numel: defaultdict[tuple[int, int], list[KeyClass]] = defaultdict(list)
    for one in old:
        by_numel[one.type.numel, len(one.keys)].append(one)
    for other in new:
        for one in by_numel.get((other.type.numel, len(other.keys)), ()):
            yield one, other


def _has_order(classes: Sequence[KeyClass]) -> bool:
    names = [one.name for one in classes]
    return names != sorted(names)


def _leaf(one: KeyClass) -> str:
    words = words_of(one.leaf)
    return words[-1] if words else one.leaf


def _above(name: str) -> Iterator[str]:
    """Yield the module of a class, and the one above it."""
    for _ in range(2):
        name = name.rpartition(".")[0]
        yield name


def _moves(old: TensorType, new: TensorType) -> tuple[ElementMove, ...] | None:
    """Return what makes a tensor of one type of one of another, but for the dtype; `None` where nothing simple does."""
    if old.shape == new.shape:
        return ()
    if old.dtype.kind is not new.dtype.kind:
        return None
    if old.ndim == 2 and old.shape == new.shape[::-1]:
        return (ElementMove("transpose"),)
    one, other = ([n for n in kind.shape if n != 1] for kind in (old, new))
    return (ElementMove("reshape", (new.shape,)),) if one == other else None


def _fit(one: KeyClass, other: KeyClass) -> bool:
    """Say whether the members of two classes can be told apart alike."""
    first, second = next(iter(one.keys)), next(iter(other.keys))
    return len(one.keys) == len(other.keys) and len(first) == len(second)


def _matched(one: KeyClass, other: KeyClass) -> Iterator[tuple[str, str]]:
    """Yield the keys of two classes that belong together: those of equal numbers, else in the order of these."""
    if set(one.keys) == set(other.keys):
        yield from ((one.keys[numbers], key) for numbers, key in other.keys.items())
        return
    yield from zip([one.keys[n] for n in sorted(one.keys)], [other.keys[n] for n in sorted(other.keys)], strict=True)


def _families(classes: Sequence[KeyClass]) -> Iterator[list[KeyClass]]:
    """Yield classes beside one another whose projections are often one, in the order in which they are."""
    beside: defaultdict[tuple[str, str], dict[str, KeyClass]] = defaultdict(dict)
    for one in classes:
        above, _, last = one.module.rpartition(".")
        for word in words_of(last):
            beside[above, one.leaf].setdefault(word, one)
    for found in beside.values():
        for words in _FUSED:
            parts = [found[word] for word in words if word in found]
            if len(parts) == len(words) == len(set(map(id, parts))) and not (words == ("k", "v") and "q" in found):
                yield parts


def _fused(
    wholes: Sequence[KeyClass], pieces: Sequence[KeyClass], weights: WordWeights
) -> Iterator[tuple[KeyClass, list[KeyClass], bool]]:
    """Yield classes that are others in one, with these; and whether a whole has to be transposed to be them."""
    left = list(wholes)
    for parts in _families(pieces):
        types = [part.type for part in parts]
        for whole in sorted(left, key=lambda one: -sum(weights.alike(one.name, part.name) for part in parts)):
            turned = _turned_sum(whole.type, types)
            if turned is not None and all(part.keys.keys() == whole.keys.keys() for part in parts):
                left.remove(whole)
                yield whole, parts, turned
                break


def _turned_sum(whole: TensorType, parts: Sequence[TensorType]) -> bool | None:
    """Say whether parts, one after the other, are a whole when that is transposed; `None` where they are not one."""
    if not parts[0].ndim or any(part.shape[1:] != parts[0].shape[1:] for part in parts):
        return None
    shape = (sum(part.shape[0] for part in parts), *parts[0].shape[1:])
    if whole.shape == shape:
        return False
    return True if whole.ndim == 2 and whole.shape == shape[::-1] else None


def _turned_stack(whole: TensorType, parts: Sequence[TensorType]) -> bool | None:
    """Say the same of stacks of parts, joined along their dim behind the first one."""
    return _turned_sum(TensorType(whole.dtype, whole.shape[1:]), parts) if whole.ndim == 3 else None


def _differ_in_rows(one: KeyClass, other: KeyClass) -> bool:
    """Say whether two classes are single tensors that differ in their numbers of rows alone."""
    if len(one.keys) != 1 or len(other.keys) != 1 or not one.type.ndim == other.type.ndim > 0:
        return False
    same = one.leaf == other.leaf and one.type.shape[1:] == other.type.shape[1:]
    return same and one.type.shape[0] != other.type.shape[0]


def _rows(one: KeyClass, other: KeyClass) -> tuple[int, int]:
    return one.type.shape[0], other.type.shape[0]


_OF_WORDS = ("embed", "head")
_OF_POSITIONS = "pos"
"""Rows that are positions are not simply more of the same."""


def _is_of_words(name: str) -> bool:
    """Say whether a class is named as the embedding of a vocabulary, or as a head."""
    words = set(words_of(name))
    return not words.isdisjoint(_OF_WORDS) and _OF_POSITIONS not in words


Groups = dict[Numbers, tuple[str, ...]]


def _grouped(one: KeyClass) -> Groups:
    """Return the keys of a class by all of their numbers but the last, in the order of that."""
    found: defaultdict[Numbers, list[str]] = defaultdict(list)
    for numbers in sorted(one.keys):
        found[numbers[:-1]].append(one.keys[numbers])
    return {numbers: tuple(keys) for numbers, keys in found.items()}


def _lengths(groups: Groups) -> set[int]:
    return {len(keys) for keys in groups.values()}


def _stacks(
    single: Sequence[KeyClass], stacked: Sequence[KeyClass], weights: WordWeights
) -> Iterator[tuple[KeyClass, KeyClass, Groups]]:
    """Yield classes whose last number is the first dim of other ones, with the keys for each of these."""
    pairs = [
        (weights.alike(one.name, other.name), a, b)
        for a, one in enumerate(single)
        for b, other in enumerate(stacked)
        if other.type.shape[1:] == one.type.shape and other.type.ndim == one.type.ndim + 1
    ]
    taken: set[KeyClass] = set()
    for _, a, b in sorted(pairs, key=lambda pair: (-pair[0], pair[1:])):
        one, other = single[a], stacked[b]
        if one in taken or other in taken or other.type.shape[0] * len(other.keys) != len(one.keys):
            continue
        groups = _grouped(one)
        if groups.keys() == other.keys.keys() and _lengths(groups) == {other.type.shape[0]}:
            taken |= {one, other}
            yield one, other, groups
