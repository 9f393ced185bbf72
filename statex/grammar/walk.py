"""The nodes of an expression, one after the other."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, is_dataclass

from statex.grammar.terms import PatternNode


def nodes(root: object) -> Iterator[object]:
    """Yield a node of an expression and all below it, but nothing inside patterns."""
    pending = [root]
    while pending:
        node = pending.pop()
        if isinstance(node, tuple):
            pending.extend(reversed(node))
        elif is_dataclass(node) and not isinstance(node, PatternNode | type):
            yield node
            pending.extend(getattr(node, field.name) for field in reversed(fields(node)) if field.name != "span")
