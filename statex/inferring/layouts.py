"""Other layouts of one whole tensor: its dims in another order, split, joined or turned round."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import permutations

from statex.relating.values import ElementMove

_LETTERS = "abcdefgh"
_MOST_DIMS = 5

Moves = tuple[ElementMove, ...]


def layouts(old: Sequence[int], new: Sequence[int]) -> Iterator[Moves]:
    """Yield what may make a tensor of one shape from one of another, the simplest first."""
    if tuple(old) == tuple(new):
        yield ()
    if len(old) == len(new) == 2:
        yield (ElementMove("transpose"),)
    yield from _ones(old, new)
    yield from _turned(old, new)
    yield from _permuted(old, new)
    yield from _regrouped(old, new)
    yield (ElementMove("reshape", (tuple(new),)),)


def _ones(old: Sequence[int], new: Sequence[int]) -> Iterator[Moves]:
    """Yield a dim of length 1 that comes or goes."""
    if len(new) == len(old) + 1:
        yield from ((ElementMove("unsqueeze", (d,)),) for d, n in enumerate(new) if n == 1)
    if len(new) == len(old) - 1:
        yield from ((ElementMove("squeeze", (d,)),) for d, n in enumerate(old) if n == 1)


def _turned(old: Sequence[int], new: Sequence[int]) -> Iterator[Moves]:
    if tuple(old) == tuple(new):
        yield from ((ElementMove("flip", (d,)),) for d, n in enumerate(old) if n > 1)


def _permuted(old: Sequence[int], new: Sequence[int]) -> Iterator[Moves]:
    """Yield dims in another order, with those of length 1 that come and go."""
    if max(len(old), len(new)) > _MOST_DIMS:
        return
    if len(old) == len(new):
        for dims in permutations(range(len(old))):
            if dims != tuple(range(len(old))) and tuple(old[d] for d in dims) == tuple(new):
                yield (ElementMove("permute", (dims,)),)
    real = [d for d, n in enumerate(old) if n != 1]
    places = [d for d, n in enumerate(new) if n != 1]
    if len(real) != len(places) or (len(real) == len(old) and len(places) == len(new)):
        return
    left = [_LETTERS[d] if n != 1 else "1" for d, n in enumerate(old)]
    for order in permutations(real):
        if [old[d] for d in order] == [new[d] for d in places]:
            right = ["1"] * len(new)
            for place, d in zip(places, order, strict=True):
                right[place] = _LETTERS[d]
            yield (ElementMove("rearrange", (f"{' '.join(left)} -> {' '.join(right)}",)),)


def _regrouped(old: Sequence[int], new: Sequence[int]) -> Iterator[Moves]:
    """Yield dims that are split or joined, perhaps after they were put into another order."""
    if max(len(old), len(new)) > _MOST_DIMS or 1 in (*old, *new) or len(old) == len(new):
        return
    for order in permutations(range(len(old))):
        groups = _groups([old[d] for d in order], new)
        if groups is None:
            continue
        left = [""] * len(old)
        right: list[str] = []
        sizes: list[tuple[str, int]] = []
        letters = iter(_LETTERS)
        at = 0
        for many, parts in groups:
            names = [next(letters, "") for _ in range(max(many, len(parts)))]
            own = order[at : at + many]
            if many == 1:
                left[own[0]] = _joined(names)
                right += names
                sizes += list(zip(names[1:], parts[1:], strict=True))
            else:
                for d, name in zip(own, names, strict=True):
                    left[d] = name
                right.append(_joined(names))
            at += many
        if all(right):
            yield (ElementMove("rearrange", (f"{' '.join(left)} -> {' '.join(right)}",), tuple(sizes)),)


def _joined(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"({' '.join(names)})"


def _groups(old: Sequence[int], new: Sequence[int]) -> list[tuple[int, list[int]]] | None:
    """Return dims that belong together: how many of the old, and the lengths of the new; one of these is alone."""
    found: list[tuple[int, list[int]]] = []
    i = j = 0
    while i < len(old) and j < len(new):
        many, parts = 1, [new[j]]
        one, other = old[i], new[j]
        i, j = i + 1, j + 1
        while one != other:
            if one < other and i < len(old):
                one, many, i = one * old[i], many + 1, i + 1
            elif other < one and j < len(new):
                other *= new[j]
                parts.append(new[j])
                j += 1
            else:
                return None
        if many > 1 and len(parts) > 1:
            return None
        found.append((many, parts))
    return found if i == len(old) and j == len(new) else None
