"""Findings gathered while a program is resolved, in all its scopes."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from statex.core.source import Source, Span
from statex.diagnostics import Collector, Label, StatexError
from statex.dsl.bounds import Bounds
from statex.dsl.keys.patterns import Pattern
from statex.dsl.keys.templates import Template
from statex.dsl.resolve.definitions import Definition, NameKind
from statex.grammar import parse, tree
from statex.grammar.rulefiles import Load


@dataclass(slots=True)
class Findings:
    """What the texts of a program come to."""

    load: Load
    found: Collector = field(default_factory=Collector)
    lints: Collector = field(default_factory=Collector)
    inputs: list[tree.Input] = field(default_factory=list)
    read: set[str] = field(default_factory=set)
    files: dict[str, dict[str, None]] = field(default_factory=dict)
    included: list[Source] = field(default_factory=list)
    bounds: Bounds = field(default_factory=Bounds)
    programs: dict[tuple[str, str], tree.Program] = field(default_factory=dict)
    definitions: dict[Span, Definition] = field(default_factory=dict)
    uses: dict[Span, Definition] = field(default_factory=dict)
    patterns: dict[tree.PatternNode, Pattern] = field(default_factory=dict)
    templates: dict[tree.PatternNode, Template] = field(default_factory=dict)
    resolved: dict[tuple[str, frozenset[str], frozenset[str]], tuple[dict[str, Definition], dict[str, Definition]]] = (
        field(default_factory=dict)
    )
    """The macros and inputs known after an included file, by its name, its blocks and the inputs known before."""
    left_open: set[Definition] = field(default_factory=set)
    """Names that other files may use, such as the macros of an included one."""

    def define(self, kind: NameKind, name: str, span: Span) -> Definition:
        """Return the definition of a name at a place; a file that is included again defines nothing new."""
        return self.definitions.setdefault(span, Definition(kind, name, span))

    def program(self, node: tree.Include, folder: str) -> tree.Program:
        """Return the program that an `include` names, which is read and parsed once.

        Raises:
            StatexError: SX215, which is said of this place, and every syntax error.
        """
        place = folder, node.path.value
        if place not in self.programs:
            self.programs[place] = parse(self._loaded(node, folder))
        return self.programs[place]

    def _loaded(self, node: tree.Include, folder: str) -> Source:
        try:
            return self.load(folder, node.path.value)
        except StatexError as error:
            place = (Label(node.path.span),)
            raise StatexError([replace(d, labels=d.labels or place) for d in error.diagnostics]) from None
