"""Bounds on the content of pickles: depth, repetition of shared parts, permitted keys."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

from statex.checkpoint.objects import ForeignCall, Global
from statex.core.foreign import Foreign
from statex.core.header import OpaqueInfo, TensorInfo

DEPTH = 100
"""How deep containers may be nested."""
TOO_DEEP = f"it is nested more than {DEPTH} levels deep, or holds itself"
_VALUES = 4_000_000
"""How many values a tree may have, a value that is in several places counted in each."""
_TOO_MANY = f"it has more than {_VALUES} values, repeated ones counted wherever they are"
_KEY_PARTS = 1000
_MADE = 6_000_000
"""Containers and calls that a pickle may make, and parts that it may copy."""
_ODD_KEYS = 10_000
_PLAIN_BITS = 60
"""Numbers of so many bits are their own hash."""

_NESTED = (dict, list, tuple, set, ForeignCall, OpaqueInfo)

Damaged = Callable[[str], NoReturn]


class Budget:
    """How much a pickle may still make: it can ask for much more than it has bytes, by way of its memo."""

    def __init__(self, damaged: Damaged) -> None:
        self.damaged = damaged
        self._left = _MADE
        self._odd = _ODD_KEYS

    def spend(self, amount: int) -> None:
        """Take note that so many objects are made, or copied."""
        self._left -= amount
        if self._left < 0:
            self.damaged(f"it makes more than {_MADE} objects")

    def spend_odd(self) -> None:
        """Take note of a number that hashes like many others: a dict of such keys takes time without end."""
        self._odd -= 1
        if self._odd < 0:
            self.damaged(f"it has more than {_ODD_KEYS} keys that are very large or complex numbers")


def check_key(key: Any, budget: Budget) -> None:
    """Refuse keys that are no plain values or tuples of them: to hash a deeply nested tuple can end the process."""
    pending, count = [key], 0
    while pending:
        part = pending.pop()
        count += 1
        if type(part) is tuple and count + len(part) <= _KEY_PARTS:
            budget.spend(len(part))
            pending.extend(part)
        elif not isinstance(part, str | int | float | complex | bytes | Global | ForeignCall | Foreign | None):
            budget.damaged(f"a key is a {type(part).__name__}")
        elif isinstance(part, complex) or (isinstance(part, int) and part.bit_length() > _PLAIN_BITS):
            budget.spend_odd()


def check_tree(tree: Any, damaged: Damaged) -> None:
    """Refuse trees that are nested too deep, hold themselves, or have too many values.

    A part that is in several places counts in each, and is looked at once. What is in foreign objects is not looked
    at: nobody goes through it by calling himself.
    """
    known: dict[int, tuple[int, int]] = {}
    """Of each container: how many values it has, and how many levels."""
    within: dict[int, list[Any]] = {}
    """The containers on the way to where we are, with the containers in each."""
    pending = [tree]
    while pending:
        value = pending[-1]
        place = id(value)
        if place in known or not _is_nested(value):
            pending.pop()
            continue
        inner = within.get(place)
        if inner is None:
            if len(within) > DEPTH:
                damaged(TOO_DEEP)
            if _count(value) > _VALUES:
                damaged(_TOO_MANY)
            inner = within[place] = [part for part in _parts(value) if _is_nested(part)]
            fresh = [part for part in inner if id(part) not in known]
            if any(id(part) in within for part in fresh):
                damaged(TOO_DEEP)
            if fresh:
                pending += fresh
                continue
        found = [known[id(part)] for part in inner]
        count = _count(value) + sum(values for values, _ in found)
        levels = 1 + max((levels for _, levels in found), default=0)
        if levels > DEPTH + 1:
            damaged(TOO_DEEP)
        if count > _VALUES:
            damaged(_TOO_MANY)
        known[place] = count, levels
        del within[place]
        pending.pop()


def _is_nested(value: Any) -> bool:
    return value.attributes is not None if type(value) is TensorInfo else isinstance(value, _NESTED)


def _count(value: Any) -> int:
    if isinstance(value, OrderedDict):
        return len(value) + len(vars(value))
    if isinstance(value, dict | list | tuple | set):
        return len(value)
    return 1 + len(value.arguments) if isinstance(value, ForeignCall) else 1


def _parts(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        yield from value.values()
        yield from vars(value).values() if isinstance(value, OrderedDict) else ()
    elif isinstance(value, ForeignCall):
        yield from (*value.arguments, value.state)
    elif isinstance(value, OpaqueInfo):
        yield value.handle
    elif isinstance(value, TensorInfo):
        yield value.attributes
    elif isinstance(value, list | tuple | set):
        yield from value
