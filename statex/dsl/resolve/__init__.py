"""From the texts of a program to a program whose names are resolved, without a checkpoint."""

from statex.dsl.resolve.definitions import Definition, NameKind, Resolved
from statex.dsl.resolve.program import resolve

__all__ = ["Definition", "NameKind", "Resolved", "resolve"]
