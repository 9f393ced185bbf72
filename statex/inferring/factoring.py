"""Where elements went, as dims split and joined: a table of positions factored into lengths and strides.

`position = base + f_0(i_0) + f_1(i_1) + …`, each `f` a sum of digits with strides. Strides in falling order, cut at the
borders of the source's dims, are the left side of einops' notation; radices that no digit has are fixed axes.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import prod
from typing import Any

from statex.core.record import record
from statex.relating.values import ElementMove

_LETTERS = "abcdefghijklmnopqrstuvwxyz"


@record
class Digit:
    """A part of a dim of the result: how many values it has, and how far apart these are in the source.

    Of the digits of one dim, the one of the highest rank is the outermost.
    """

    dim: int
    length: int
    stride: int
    rank: tuple[int, ...] = ()


@record
class Factored:
    """Digits by falling strides, the outer ones of each dim of the result first; fixed axes have the dim -1.

    `fixed` are the places on the fixed axes, in their order. `cuts` are the dims of the source that the digits are of.
    """

    digits: tuple[Digit, ...]
    fixed: tuple[int, ...]
    cuts: tuple[int, ...]


def factored(positions: Any, source: Sequence[int]) -> Factored | None:
    """Return how a table of positions in dims of a source is made of digits, `None` where it is not.

    Every dim of the table is one of the result's.
    """
    base = int(positions.reshape(-1)[0])
    digits: list[Digit] = []
    rebuilt = base
    for dim in range(positions.ndim):
        index = tuple(slice(None) if d == dim else 0 for d in range(positions.ndim))
        steps = positions[index] - base
        own = _digits(steps.tolist(), dim)
        if own is None:
            return None
        digits += own
        rebuilt = rebuilt + steps.reshape([-1 if d == dim else 1 for d in range(positions.ndim)])
    if (positions != rebuilt).any():
        return None
    digits.sort(key=lambda one: -one.stride)
    return _filled(digits, base, source)


def _digits(steps: list[int], dim: int) -> list[Digit] | None:
    """Return the digits of one dim, from what each of its places adds."""
    found: list[Digit] = []
    while len(steps) > 1:
        stride = steps[1]
        if stride <= 0:
            return None
        length = 1
        while length < len(steps) and steps[length] == length * stride:
            length += 1
        while len(steps) % length:
            length -= 1
        if length < 2:
            return None
        found.append(Digit(dim, length, stride, (len(found),)))
        steps = steps[::length]
    return found


def _filled(digits: Sequence[Digit], base: int, source: Sequence[int]) -> Factored | None:
    """Return digits with fixed axes where radices are missing, cut at the borders of the source's dims."""
    borders = [prod(source[at + 1 :]) for at in range(len(source))]
    parts: list[Digit] = []
    for one in digits:
        parts += _cut(one, borders)
    found: list[Digit] = []
    fixed: list[int] = []
    above = prod(source)
    for one in [*parts, Digit(-1, 1, 1)]:
        gap, rest = divmod(above, one.stride * one.length)
        if rest or gap < 1:
            return None
        if gap > 1:
            for part in _cut(Digit(-1, gap, one.stride * one.length), borders):
                found.append(part)
                fixed.append(base // part.stride % part.length)
        if one.length > 1:
            found.append(one)
        above = one.stride
    cuts = []
    for one in found:
        own = [at for at, border in enumerate(borders) if border <= one.stride and source[at] > 1]
        at = next((at for at in own if one.stride * one.length <= borders[at] * source[at]), None)
        if at is None:
            return None
        cuts.append(at)
    if any(b < a for a, b in pairwise(cuts)):
        return None
    return Factored(tuple(found), tuple(fixed), tuple(cuts))


def _cut(digit: Digit, borders: Sequence[int]) -> list[Digit]:
    """Return a digit in two or more where it reaches over the borders of dims."""
    for border in borders:
        if digit.stride < border < digit.stride * digit.length and border % digit.stride == 0:
            inner = border // digit.stride
            if digit.length % inner == 0:
                outer = Digit(digit.dim, digit.length // inner, border, (*digit.rank, 1))
                return [*_cut(outer, borders), *_cut(Digit(digit.dim, inner, digit.stride, (*digit.rank, 0)), borders)]
    return [digit]


def rearranging(found: Factored, source: Sequence[int], result: int, rest: bool) -> ElementMove:
    """Return the `rearrange` of a factored table; fixed axes come first. `rest` says that there are dims behind.

    `result` is the number of the result's dims. The outermost length of each dim follows from the others.
    """
    names = dict(zip(range(len(found.digits)), _LETTERS, strict=False))
    left = []
    sizes: list[tuple[str, int]] = []
    for at in range(len(source)):
        own = [n for n, cut in enumerate(found.cuts) if cut == at]
        sizes += [(names[n], found.digits[n].length) for n in own[1:]]
        left.append(_group([names[n] for n in own]))
    axes = [names[n] for n, digit in enumerate(found.digits) if digit.dim == -1]
    right = [*axes, *(_group(_of(found, dim, names)) for dim in range(result))]
    behind = " ..." if rest else ""
    pattern = f"{' '.join(left)}{behind} -> {' '.join(right)}{behind}"
    return ElementMove("rearrange", (pattern,), tuple(sorted(sizes)))


def _of(found: Factored, dim: int, names: dict[int, str]) -> list[str]:
    own = sorted(((digit.rank, n) for n, digit in enumerate(found.digits) if digit.dim == dim), reverse=True)
    return [names[n] for _, n in own]


def _group(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"({' '.join(names)})" if names else "1"
