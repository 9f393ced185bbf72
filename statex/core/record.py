"""Immutable values: nodes of rules, and what is made by the hundred thousand, one or more for every key.

As `dataclass(frozen=True, slots=True)`, which writes and compiles more code for each class: a command makes more than a
hundred of them before it begins.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NoReturn, TypeVar, dataclass_transform

_T = TypeVar("_T")


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def record(cls: type[_T]) -> type[_T]:
    """Make a class a dataclass with slots, equality and a hash, whose fields nobody assigns to.

    The type checker sees to that alone: a guard at run time makes each object three times as expensive.
    """
    cls.__repr__ = _repr  # type: ignore[method-assign]
    return dataclass(slots=True, unsafe_hash=True, repr=False)(cls)


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def node(cls: type[_T]) -> type[_T]:
    """Make a class a record whose fields cannot be assigned to at run time either, once they are set."""
    cls.__setattr__ = _set_once  # type: ignore[method-assign]
    cls.__delattr__ = _keep  # type: ignore[method-assign]
    return record(cls)


def _repr(self: Any) -> str:
    values = ", ".join(f"{name}={getattr(self, name)!r}" for name in self.__dataclass_fields__)
    return f"{type(self).__qualname__}({values})"


def _set_once(self: Any, name: str, value: Any) -> None:
    if hasattr(self, name):
        raise AttributeError(f"`{name}` of a {type(self).__name__} cannot be changed")
    object.__setattr__(self, name, value)


def _keep(self: Any, name: str) -> NoReturn:
    raise AttributeError(f"`{name}` of a {type(self).__name__} cannot be removed")
