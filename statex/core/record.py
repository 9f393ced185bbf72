"""Immutable values: nodes of rules, and objects that exist by the hundred thousand, one or more for every key.

As `dataclass(frozen=True, slots=True)`, which writes and compiles five functions for each class where this does one: a
command makes more than a hundred of them before it begins.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from operator import attrgetter
from typing import Any, NoReturn, TypeVar, dataclass_transform

_T = TypeVar("_T")


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def record(cls: type[_T]) -> type[_T]:
    """Make a class a dataclass with slots, equality, a hash and a repr (or its own), whose fields nobody assigns to.

    The type checker sees to that alone: a guard at run time makes each object three times as expensive.
    """
    made = dataclass(slots=True, eq=False, repr=False)(cls)
    compared = [one.name for one in fields(made) if one.compare]  # type: ignore[arg-type]
    hashed = [one.name for one in fields(made) if one.compare and one.hash is not False]  # type: ignore[arg-type]
    made.__eq__ = _equality(_values(compared))  # type: ignore[method-assign]
    made.__hash__ = _hash(_values(hashed))  # type: ignore[method-assign, assignment]
    if "__repr__" not in vars(cls):
        made.__repr__ = _repr  # type: ignore[method-assign]
    return made


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def node(cls: type[_T]) -> type[_T]:
    """Make a class a record whose fields cannot be assigned to at run time either, once they are set."""
    cls.__setattr__ = _set_once  # type: ignore[method-assign]
    cls.__delattr__ = _keep  # type: ignore[method-assign]
    return record(cls)


def _values(names: list[str]) -> Callable[[Any], Any]:
    """Return what gives the values of these attributes, as a tuple."""
    if len(names) > 1:
        return attrgetter(*names)
    return lambda self: tuple([getattr(self, name) for name in names])


def _equality(values: Callable[[Any], Any]) -> Callable[[Any, object], bool]:
    def equal(self: Any, other: object) -> bool:
        if other.__class__ is not self.__class__:
            return NotImplemented  # type: ignore[no-any-return]
        return bool(values(self) == values(other))

    return equal


def _hash(values: Callable[[Any], Any]) -> Callable[[Any], int]:
    return lambda self: hash(values(self))


def _repr(self: Any) -> str:
    values = ", ".join(f"{name}={getattr(self, name)!r}" for name in self.__dataclass_fields__)
    return f"{type(self).__qualname__}({values})"


def _set_once(self: Any, name: str, value: Any) -> None:
    if hasattr(self, name):
        raise AttributeError(f"`{name}` of a {type(self).__name__} cannot be changed")
    object.__setattr__(self, name, value)


def _keep(self: Any, name: str) -> NoReturn:
    raise AttributeError(f"`{name}` of a {type(self).__name__} cannot be removed")
