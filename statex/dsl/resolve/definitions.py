"""Everything known about a program without a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from statex.core.source import Source, Span
from statex.diagnostics import Diagnostic
from statex.dsl.keys.patterns import Pattern
from statex.dsl.keys.templates import Template
from statex.dsl.parts import ProgramPart
from statex.grammar import tree


class NameKind(Enum):
    """What a name stands for."""

    PARAM = "param"
    LET = "let"
    MACRO = "macro"
    ARGUMENT = "argument"
    """A name in the brackets of a macro."""
    INPUT = "input"
    CAPTURE = "capture"
    COUNTER = "counter"
    """The name that a `split … over` counts the pieces in."""
    SOURCE = "source"
    """What a `merge` calls one of its sources: `as q`."""


@dataclass(frozen=True, eq=False, slots=True)
class Definition:
    """A name and where it gets its meaning; `None` where that is no text, as for a parameter of the command line.

    A definition is equal to itself alone.
    """

    kind: NameKind
    name: str
    span: Span | None


@dataclass(frozen=True, eq=False)
class Resolved:
    """A program whose names are resolved: what is wrong with it, what it declares, and what its names mean.

    `diagnostics` are errors, `warnings` the lints of what nothing uses. `files` are the scopes that parameters are
    given to, each with its stem (empty for what is no file) and the names of its parameters; `used` are the names
    that the shared scope uses, `read` the inputs that any scope reads.
    """

    parts: tuple[ProgramPart, ...]
    diagnostics: tuple[Diagnostic, ...] = ()
    warnings: tuple[Diagnostic, ...] = ()
    inputs: tuple[tree.Input, ...] = ()
    files: tuple[tuple[str, tuple[str, ...]], ...] = ()
    used: frozenset[str] = frozenset()
    read: frozenset[str] = frozenset()
    included: tuple[Source, ...] = ()
    """The texts of included files."""
    programs: Mapping[tuple[str, str], tree.Program] = field(default_factory=dict)
    """The included programs, by the folder of the file that includes them and the path it writes."""
    definitions: tuple[Definition, ...] = ()
    """All names that the texts define, in the order in which they are met."""
    uses: Mapping[Span, Definition] = field(default_factory=dict)
    """What each name means where it is used. A name that both branches of an `if` define is that of the first."""
    patterns: Mapping[tree.PatternNode, Pattern] = field(default_factory=dict)
    """The compiled patterns that depend on nothing but their text; the others are compiled where they are used."""
    templates: Mapping[tree.PatternNode, Template] = field(default_factory=dict)
    """The compiled templates that depend on nothing but their text."""
