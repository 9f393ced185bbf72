"""Immutable values that are made by the hundred thousand, one or more for every key."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeVar, dataclass_transform

_T = TypeVar("_T")


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def record(cls: type[_T]) -> type[_T]:
    """Make a class a dataclass with slots, equality and a hash, whose fields nobody assigns to.

    The type checker sees to that alone: a guard at run time (`frozen=True`) makes each object three times as expensive.
    """
    return dataclass(slots=True, unsafe_hash=True)(cls)
