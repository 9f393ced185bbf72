"""Rows of keys that differ only in numbers, folded into one: `layers.{0..31}.weight`."""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")

_NUMBER = re.compile(r"(?<![0-9])(?:0|[1-9][0-9]{0,17})(?![0-9])")
_LISTED = 4
"""The most numbers with gaps between them that are named one by one."""


@dataclass(frozen=True)
class Folded(Generic[T]):
    """Rows that stand for one another: what they are called together, and each of them."""

    key: str
    rows: tuple[T, ...]


def folded(rows: Iterable[T], key: Callable[[T], str], alike: Callable[[T], Hashable]) -> list[Folded[T]]:
    """Return rows folded if their keys differ in numbers alone and `alike` says the same of them.

    Their order is that of the first of each. Numbers stand in whole segments or within them (`table_{0..99}_`).
    """
    groups: dict[Hashable, list[T]] = {}
    for row in rows:
        groups.setdefault((without_numbers(key(row)), alike(row)), []).append(row)
    return [Folded(together([key(row) for row in members]), tuple(members)) for members in groups.values()]


def alone(rows: Iterable[T], key: Callable[[T], str]) -> list[Folded[T]]:
    """Return rows each by itself, where `folded` would fold them."""
    return [Folded(key(row), (row,)) for row in rows]


def without_numbers(key: str) -> str:
    """Return what keys that differ in numbers alone have in common."""
    return _NUMBER.sub("\0", key)


def shifts(one: str, other: str) -> tuple[int, ...] | None:
    """Return by how much the numbers of two keys differ, in their order; `None` where one has more of them."""
    first, second = _NUMBER.findall(one), _NUMBER.findall(other)
    if len(first) != len(second):
        return None
    return tuple([int(b) - int(a) for a, b in zip(first, second, strict=True)])


def natural(key: str) -> list[tuple[int, int, str]]:
    """Return what sorts `layers.10` after `layers.9`."""
    parts = re.split(r"([0-9]{1,18})", key)
    return [(1, 0, part) if number % 2 == 0 else (0, int(part), "") for number, part in enumerate(parts)]


def together(keys: Sequence[str]) -> str:
    """Return what keys that differ in numbers alone are called together."""
    if len(keys) == 1:
        return keys[0]
    numbers = zip(*([int(found) for found in _NUMBER.findall(key)] for key in keys), strict=True)
    shown = iter([_shown(sorted(set(column))) for column in numbers])
    return _NUMBER.sub(lambda _: next(shown), keys[0])


def _shown(numbers: list[int]) -> str:
    if len(numbers) == 1:
        return str(numbers[0])
    low, high = numbers[0], numbers[-1]
    if len(numbers) == high - low + 1:
        return f"{{{low}..{high}}}"
    if len(numbers) <= _LISTED:
        return "{" + ",".join(map(str, numbers)) + "}"
    return f"{{{low}..{high}, {len(numbers)} of them}}"
