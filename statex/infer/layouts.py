"""Other layouts of one whole tensor: its dims in another order, split, joined or turned round."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import permutations

from statex.infer.values import Move

_LETTERS = "abcdefgh"
_MOST_DIMS = 5

Moves = tuple[Move, ...]


def layouts(old: Sequence[int], new: Sequence[int]) -> Iterator[Moves]:
    """Yield what may make a tensor of one shape from one of another, the simplest first."""
    if tuple(old) == tuple(new):
        yield ()
    if len(old) == len(new) == 2:
        yield (Move("transpose"),)
    yield from _ones(old, new)
    yield from _turned(old, new)
    yield from _permuted(old, new)
    yield (Move("reshape", (_with_free(new),)),)
    yield from ((*moves, Move("reshape", (tuple(new),))) for moves in _orders(old))


def _with_free(new: Sequence[int]) -> tuple[int, ...]:
    """Return a shape with -1 for all of a tensor that is flattened."""
    return (-1,) if len(new) == 1 else tuple(new)


def _ones(old: Sequence[int], new: Sequence[int]) -> Iterator[Moves]:
    """Yield a dim of length 1 that comes or goes."""
    if len(new) == len(old) + 1:
        yield from ((Move("unsqueeze", (d,)),) for d, n in enumerate(new) if n == 1)
    if len(new) == len(old) - 1:
        yield from ((Move("squeeze", (d,)),) for d, n in enumerate(old) if n == 1)


def _turned(old: Sequence[int], new: Sequence[int]) -> Iterator[Moves]:
    if tuple(old) == tuple(new):
        yield from ((Move("flip", (d,)),) for d, n in enumerate(old) if n > 1)


def _permuted(old: Sequence[int], new: Sequence[int]) -> Iterator[Moves]:
    """Yield dims in another order, with those of length 1 that come and go."""
    if max(len(old), len(new)) > _MOST_DIMS:
        return
    if len(old) == len(new):
        for dims in permutations(range(len(old))):
            if dims != tuple(range(len(old))) and tuple(old[d] for d in dims) == tuple(new):
                yield (Move("permute", (dims,)),)
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
            yield (Move("rearrange", (f"{' '.join(left)} -> {' '.join(right)}",)),)


def _orders(old: Sequence[int]) -> Iterator[Moves]:
    if not 1 < len(old) <= _MOST_DIMS:
        return
    if len(old) == 2:
        yield (Move("transpose"),)
        return
    yield from ((Move("permute", (dims,)),) for dims in permutations(range(len(old))) if dims != tuple(range(len(old))))
