"""The names visible in a section of a program."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass, field

from statex.core.source import Span
from statex.diagnostics import diagnostic
from statex.diagnostics.codes import names as codes
from statex.dsl.expressions.scope import TARGET, taken_by_language
from statex.dsl.resolve.definitions import Definition, NameKind
from statex.dsl.resolve.findings import Findings
from statex.grammar import tree

MACRO = "a macro"
INCLUDED = "an included file"
CONDITION = "a condition"
WITHIN = "`within`"


@dataclass(slots=True)
class KnownNames:
    """The names that are known in a block or a file; `blocks` are those it stands in.

    Inputs are known to the whole program once they are declared, so that they are shared by all of its scopes.
    """

    findings: Findings
    stem: str = ""
    values: dict[str, Definition] = field(default_factory=dict)
    macros: dict[str, Definition] = field(default_factory=dict)
    inputs: dict[str, Definition] = field(default_factory=lambda: {TARGET: Definition(NameKind.INPUT, TARGET, None)})
    used: set[str] = field(default_factory=set)
    """The names that are used here and in the blocks inside, known or not."""
    blocks: frozenset[str] = frozenset()
    prefix: frozenset[str] = frozenset()
    """The captures of the `within` blocks around; to name one again asks for the same text."""

    @property
    def inside_macro(self) -> bool:
        """Whether the names of arguments stand for what is known only where the macro is used."""
        return MACRO in self.blocks

    def inner(self, block: str) -> KnownNames:
        """Return the names of a block inside this one, in which more are defined."""
        return KnownNames(
            self.findings, self.stem, dict(self.values), dict(self.macros), self.inputs, self.used,
            self.blocks | {block}, self.prefix,
        )  # fmt: skip

    def define(self, kind: NameKind, name: tree.Name) -> None:
        """Let a name be known from here on; where both branches of an `if` define it, it is one name."""
        self.check_free(name.name, name.span)
        if name.name not in self.values:
            self.values[name.name] = self.findings.define(kind, name.name, name.span)

    def check_free(self, name: str, span: Span, taken: Container[str] = (), instead: str = "") -> None:
        """Report a name that means something already, in the language or among those `taken`."""
        what = taken_by_language(name)
        if what is not None:
            headline, instead = f"`{name}` already means something in every program: it is {what}", ""
        elif name in taken:
            headline = f"`{name}` is the name of something else already"
        else:
            return
        self.findings.found.add(
            diagnostic(codes.NAME_CLASH, headline, span, help=f"{instead}choose another name, such as `{name}_`")
        )

    def use(self, name: str, span: Span, definition: Definition | None) -> None:
        """Note that a name of a value is used at a place, and what it means there if that is known."""
        self.used.add(name)
        self.means(span, definition)

    def means(self, span: Span, definition: Definition | None) -> None:
        """Note what a name means at a place, if that is known."""
        if definition is not None:
            self.findings.uses[span] = definition
