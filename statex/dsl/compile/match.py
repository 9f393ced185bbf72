"""Queries of statements over keys: the clauses of their patterns, and a match for each key."""

from __future__ import annotations

from dataclasses import dataclass, field

from statex.core.record import record
from statex.core.source import Span
from statex.diagnostics import fail
from statex.diagnostics.codes import keys as codes
from statex.dsl.expressions.scope import Scope
from statex.dsl.keys.captures import Bindings, CaptureType, is_named
from statex.dsl.keys.quoting import show_rules
from statex.dsl.plan.entry import Entry
from statex.dsl.values import Value
from statex.grammar import factory as make
from statex.grammar import tree


@record
class Match:
    """A key a pattern matched: its captures, and what stands there."""

    key: str
    visible: str
    """The key as the statement sees it: without the prefix of the `within` blocks around it."""
    bindings: Bindings
    entry: Entry
    instead: tuple[Value] | None = None
    """The one value that counts as what stands there, if it is not what the entry has."""
    place: str = ""
    """How messages name it, if not by its captures."""

    # Asked for rarely, and there may be a hundred thousand matches.
    @property
    def case(self) -> str:
        """How messages name it."""
        if self.place:
            return self.place
        return ", ".join([f"{name} = {c.text}" for name, c in self.bindings.items() if is_named(name)]) or self.key


@dataclass(slots=True)
class Clause:
    """What several patterns of one statement share: its captures so far, its condition, and whether none is fine.

    `maybe` is how the rule file would say that none is fine: `drop?`.
    """

    scope: Scope
    where: tree.Expr | None = None
    optional: bool = False
    known: dict[str, CaptureType] = field(default_factory=dict)
    maybe: str = ""
    partly: bool = False
    """Whether a tensor counts that only some members of a family have."""
    templates: tuple[tree.PatternNode, ...] | None = ()
    """The templates that the pattern fills, `None` where they do not simply follow it; for messages."""


def everything(span: Span) -> tree.PatternNode:
    """Return the pattern of all keys, for a statement at a place."""
    return tree.PatternNode(span, tree.PatternKind.BARE, "**", (tree.DoubleStar(span),))


def main_only(node: tree.PatternNode) -> None:
    """Refuse a pattern over a further input.

    Raises:
        StatexError: SX320.
    """
    if node.input is not None:
        fail(
            codes.ONLY_MAIN,
            f"this changes `{node.input}`, and only the checkpoint itself can be changed",
            node.span,
            help=show_rules(make.copy(node, make.gap_pattern())),
        )
