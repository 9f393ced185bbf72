"""Which part the patterns of a statement play: what binds captures, what is filled in, and what is current."""

from __future__ import annotations

from collections.abc import Iterator

from statex.grammar import tree


def has_current(node: tree.Statement) -> bool:
    """Say whether the expressions of a statement have a current tensor, with its key."""
    return not isinstance(node, tree.Param | tree.Let | tree.Expect | tree.SetValue | tree.AddValue) and (
        not isinstance(node, tree.Add) or node.each is not None
    )


def binding_patterns(node: tree.Statement) -> Iterator[tree.PatternNode]:
    """Yield the patterns of a statement that bind captures."""
    match node:
        case tree.Set():
            yield from (node.each,) if node.each is not None else node.targets
        case tree.Add():
            if node.each is not None:
                yield node.each
        case tree.Copy() | tree.Split():
            yield node.source
        case tree.Drop() | tree.Allow():
            yield from node.patterns
        case tree.Merge():
            yield from (source.pattern for source in node.sources)
        case tree.Renumber() | tree.ExpectKeys() | tree.ExpectEach() | tree.ExpectSame():
            yield node.pattern


def templates(node: tree.Statement) -> Iterator[tree.PatternNode]:
    """Yield the patterns of a statement that captures are filled into."""
    match node:
        case tree.Set():
            if node.each is not None:
                yield from node.targets
        case tree.Add() | tree.Copy() | tree.Merge():
            yield node.target
        case tree.Split():
            yield from node.targets
