"""Names of a program: parameters, `let`s, macro arguments and macros, and where each is visible."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from statex.core.dtypes import BY_NAME
from statex.core.record import record
from statex.core.source import Span
from statex.diagnostics import StatexError, fail
from statex.diagnostics.codes import names as codes
from statex.diagnostics.suggest import did_you_mean
from statex.dsl.keys.patterns import Pattern
from statex.dsl.keys.quoting import show_rules
from statex.dsl.keys.templates import Template
from statex.dsl.ops import OPERATIONS, QUERIES, WORDS
from statex.dsl.values import PatternValue, Value, is_unknown
from statex.grammar import factory as make
from statex.grammar.tree import Macro, Name, PatternNode, Splice

CURRENT = ("it", "key", "dtype", "shape", "ndim", "numel")
"""What is said of the current tensor."""

CONSTANTS: Mapping[str, Value] = {
    "true": True,
    "false": False,
    "none": None,
    "True": True,
    "False": False,
    "None": None,
}

TARGET = "target"
"""The name under which conditions ask the target: `target::lm_head.weight`."""

QUERY_NAMES = frozenset(query.name for query in QUERIES)


def taken_by_language(name: str) -> str | None:
    """Say what a name means in every program, or `None` where it is free."""
    if name in CURRENT:
        return "the current tensor's"
    if name in CONSTANTS:
        return "a literal"
    if name in OPERATIONS or name in QUERY_NAMES:
        return "an operation"
    if name in BY_NAME:
        return "a dtype"
    return "a literal" if name in WORDS else None


@dataclass(slots=True)
class DefinedValue:
    """A name's value, and where it was defined."""

    value: Value
    span: Span


@record
class MacroDefinition:
    """A macro and the scope it was written in, which is what its body sees."""

    node: Macro
    scope: Scope


@dataclass(slots=True)
class Scope:
    """A stretch of a program with its names; `prefix` is the pattern of the `within` blocks around it."""

    parent: Scope | None = None
    prefix: PatternNode | None = None
    folder: str = "."
    """The folder an `include` is relative to."""
    used_at: tuple[Span, ...] = ()
    """Where the macros and includes that led here are used, outermost first."""
    values: dict[str, DefinedValue] = field(default_factory=dict)
    macros: dict[str, MacroDefinition] = field(default_factory=dict)
    patterns: dict[tuple[PatternNode, bool], Pattern] = field(default_factory=dict, repr=False)
    """The patterns compiled with the names here, each whether below the prefix or not."""
    templates: dict[PatternNode, Template] = field(default_factory=dict, repr=False)
    """The templates compiled with the names here, below the prefix."""
    prefix_template: Template | None = None
    """That of the prefix alone."""

    def child(self, *, prefix: PatternNode | None = None) -> Scope:
        """Return a scope inside this one."""
        return Scope(self, prefix or self.prefix, self.folder, self.used_at)

    def chain(self) -> Iterator[Scope]:
        """Yield this scope and those around it."""
        scope: Scope | None = self
        while scope is not None:
            yield scope
            scope = scope.parent

    def find(self, name: str) -> DefinedValue | None:
        """Return the definition of a value, or `None`."""
        return next((s.values[name] for s in self.chain() if name in s.values), None)

    def find_macro(self, name: str) -> MacroDefinition | None:
        """Return a macro, or `None`."""
        return next((s.macros[name] for s in self.chain() if name in s.macros), None)

    def names(self) -> dict[str, Value]:
        """Return all visible values."""
        found: dict[str, Value] = {}
        for scope in self.chain():
            for name, definition in scope.values.items():
                found.setdefault(name, definition.value)
        return found

    def macro_names(self) -> list[str]:
        """Return the names of all visible macros."""
        return [name for scope in self.chain() for name in scope.macros]

    def define(self, name: Name, value: Value) -> None:
        """Give a name a value.

        Raises:
            StatexError: SX201 where the name already means something.
        """
        known = self.find(name.name)
        if known is not None:
            fail(codes.NAME_CLASH, f"`{name.name}` is defined twice", name.span, also=[(known.span, "first here")])
        what = taken_by_language(name.name)
        if what is not None:
            fail(
                codes.NAME_CLASH,
                f"`{name.name}` already means something in every program: it is {what}",
                name.span,
                help=f"choose another name, such as `{name.name}_`",
            )
        self.values[name.name] = DefinedValue(value, name.span)

    def splice(self, piece: Splice) -> str | int | PatternNode:
        """Return what stands for `{$name}` in a pattern.

        Raises:
            StatexError: SX202 where there is no such parameter, SX207 where its value is neither text nor an int.
        """
        definition = self.find(piece.name)
        if definition is None:
            near = did_you_mean(piece.name, list(self.names()))
            fail(
                codes.UNKNOWN_NAME,
                f"there is no parameter `{piece.name}`",
                piece.span,
                help=unknown_parameter(piece.name, near),
            )
        value = definition.value
        if is_unknown(value):
            # What it lacks was reported where it is defined.
            raise StatexError(())
        if isinstance(value, PatternValue):
            return value.node
        if isinstance(value, str) or (isinstance(value, int) and not isinstance(value, bool)):
            return value
        fail(
            codes.WRONG_KIND,
            f"`{piece.name}` cannot be part of a key: only text and ints can",
            piece.span,
            also=[(definition.span, "defined here")],
        )


def unknown_parameter(name: str, near: Sequence[str]) -> str:
    """Return what helps where there is no parameter that `{$name}` could be, but those that are named nearly so."""
    return f"did you mean `{{${near[0]}}}`?" if near else f"declare it: {show_rules(make.param(name, 'str'))}"


def unknown_input(node: PatternNode, known: Iterable[str]) -> str:
    """Return what helps where there is no input that a pattern or a reference names."""
    assert node.input is not None
    near = did_you_mean(node.input, list(known))
    if near:
        return f"did you mean `{near[0]}{node.span.text[len(node.input) :]}`?"
    return f"declare it: {show_rules(make.input_(node.input))}"
