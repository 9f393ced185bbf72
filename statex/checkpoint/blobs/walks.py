"""Walks over the contents of files: visiting a tree, and changing parts of it.

Nothing here calls itself: what stands in a foreign object may be nested as deep as it likes, and may hold itself.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from statex.checkpoint.blobs.contents import OutTensor
from statex.checkpoint.objects import ForeignCall
from statex.checkpoint.pickle_limits import Budget
from statex.core.foreign import Foreign
from statex.core.header import OpaqueInfo, TensorInfo

_TENSORS = {TensorInfo, OutTensor}
_CONTAINERS = (dict, list, tuple, set, ForeignCall, Foreign)
_WITHIN = (*_CONTAINERS, OpaqueInfo)


def bare_tensors(value: Mapping[Any, Any]) -> bool:
    """Say whether a dict holds tensors without attributes alone, and has none of its own."""
    return (
        set(map(type, value.values())) <= _TENSORS
        and all(one.attributes is None for one in value.values())
        and set(map(type, value)) <= {str}
    )


def parts(value: Any) -> list[Any]:
    """Return what a container is made of, in order; of a tensor its attributes, of a plain value nothing."""
    if isinstance(value, dict):
        keys = [key for key in value if type(key) is not str]
        own = list(vars(value).values()) if isinstance(value, OrderedDict) else []
        return [*keys, *value.values(), *own]
    if isinstance(value, list | tuple | set):
        return list(value)
    if isinstance(value, ForeignCall):
        return [*value.arguments, value.state]
    if isinstance(value, Foreign):
        return list(value.parts())
    if isinstance(value, OpaqueInfo):
        return [value.handle]
    return [value.attributes] if type(value) in _TENSORS and value.attributes is not None else []


def leaves(tree: Any) -> Iterator[Any]:
    """Yield what a tree holds that is no container, calls' arguments included; shared parts once."""
    pending, seen = [tree], set()
    while pending:
        value = pending.pop()
        if isinstance(value, OpaqueInfo):
            value = value.handle
        if not isinstance(value, _CONTAINERS):
            yield value
            pending.extend(parts(value))
            continue
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, dict) and bare_tensors(value):  # at once, as there may be 100,000
            pending.extend(reversed(vars(value).values()) if isinstance(value, OrderedDict) else ())
            yield from value.values()
        else:
            pending.extend(reversed(parts(value)))


def holds_foreign(value: Any, budget: Budget | None = None) -> bool:
    """Say whether a value is foreign, or has something foreign in it; each part is taken from the budget."""
    pending, seen = [value], set()
    while pending:
        one = pending.pop()
        if isinstance(one, Foreign):
            return True
        inner = parts(one)
        if inner and id(one) not in seen:
            if budget is not None:
                budget.spend(len(inner))
            seen.add(id(one))
            pending.extend(inner)
    return False


def mapped(tree: Any, change: Callable[[Any], Any], instead: Mapping[int, Any] | None = None) -> Any:
    """Return a tree with each leaf changed; what is one object in several places stays one.

    Opaque entries are replaced by what they describe, and the objects of `instead`, by their ids, by what it has.
    """
    return _Mapped(change, instead or {}).value(tree)


class _Mapped:
    """Makes a changed tree: all that can be filled later is made empty first, so that it may hold itself."""

    def __init__(self, change: Callable[[Any], Any], instead: Mapping[int, Any]) -> None:
        self._change = change
        self._made: dict[int, Any] = dict(instead)
        self._empty: list[tuple[Any, Any]] = []

    def value(self, tree: Any) -> Any:
        """Return what becomes of a tree."""
        result = self._of(tree)
        while self._empty:
            old, new = self._empty.pop()
            self._fill(old, new)
        return result

    def _of(self, value: Any) -> Any:
        """Return what becomes of a value, perhaps not filled yet."""
        if type(value) in _TENSORS and value.attributes is None:
            return self._change(value)
        pending = [value] if isinstance(value, _WITHIN) or type(value) in _TENSORS else []
        while pending:
            one = pending[-1]
            within = [inner for inner in self._needed(one) if not self._is_done(inner)]
            if within and not self._is_done(one):
                pending += within
                continue
            pending.pop()
            if not self._is_done(one):
                self._made[id(one)] = self._build(one)
        return self._result(value)

    def _needed(self, value: Any) -> list[Any]:
        """Return what has to be there before a value can be made."""
        return parts(value) if isinstance(value, tuple | OpaqueInfo) or type(value) in _TENSORS else []

    def _is_done(self, value: Any) -> bool:
        return id(value) in self._made or not (isinstance(value, _WITHIN) or parts(value))

    def _result(self, value: Any) -> Any:
        return self._made[id(value)] if id(value) in self._made else self._change(value)

    def _build(self, value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(self._result(item) for item in value)
        if isinstance(value, OpaqueInfo):
            return self._result(value.handle)
        if type(value) in _TENSORS:
            changed = self._change(value)
            attributes = self._result(value.attributes)
            return replace(changed, attributes=attributes) if type(changed) in _TENSORS else changed
        if isinstance(value, ForeignCall):
            made: Any = ForeignCall(value.function, ())
        elif isinstance(value, Foreign):
            made = Foreign(value.how, value.function)
        else:
            made = type(value)()
        self._empty.append((value, made))
        return made

    def _fill(self, old: Any, new: Any) -> None:
        if isinstance(old, dict):
            if bare_tensors(old):
                new.update({key: self._change(item) for key, item in old.items()})
            else:
                new.update({key if type(key) is str else self._of(key): self._of(item) for key, item in old.items()})
            if isinstance(old, OrderedDict):
                vars(new).update({name: self._of(item) for name, item in vars(old).items()})
        elif isinstance(old, list):
            new.extend([self._of(item) for item in old])
        elif isinstance(old, set):
            new.update([self._of(item) for item in old])
        elif isinstance(old, ForeignCall):
            new.arguments, new.state = self._of(old.arguments), self._of(old.state)
        else:
            new.function, new.arguments = self._of(old.function), self._of(old.arguments)
            new.keywords = self._of(old.keywords)
            new.deeds.extend([(deed, [self._of(item) for item in given]) for deed, given in old.deeds])
