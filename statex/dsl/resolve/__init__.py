"""From the texts of a program to a program whose names are resolved; no checkpoint is needed for that."""

from statex.dsl.resolve.definitions import Definition, Kind, Resolved
from statex.dsl.resolve.program import resolve

__all__ = ["Definition", "Kind", "Resolved", "resolve"]
