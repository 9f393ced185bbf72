"""The keys that a program leaves under their names, found from its patterns alone, without a state or a plan."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import NoReturn

from statex.diagnostics import StatexError
from statex.dsl.keys.captures import CaptureType
from statex.dsl.keys.patterns import Pattern, compile_pattern
from statex.dsl.keys.rename_tables import plain_text
from statex.grammar import tree

Takes = Callable[[str], bool]
"""Says whether a statement may rename or consume a key; where this cannot be told it may."""

_ONLY_READ_OR_WRITE = (
    tree.Set, tree.Add, tree.Copy, tree.Order, tree.Param, tree.Let, tree.Macro, tree.Root,
    tree.Expect, tree.ExpectEach, tree.ExpectKeys,
)  # fmt: skip
"""Statements after which every key that was there is there."""


def leaving(statements: Iterable[tree.Statement]) -> Takes:
    """Return what says of a key that no statement takes it: where they can be carried out, it is in their result."""
    takers = [taker for statement in statements for taker in _takers(statement)]
    return lambda key: not any(takes(key) for takes in takers)


def _takers(statement: tree.Statement) -> Iterator[Takes]:
    if isinstance(statement, _ONLY_READ_OR_WRITE):
        return
    try:
        yield from _told(statement)
    except StatexError:
        yield _any


def _told(statement: tree.Statement) -> Iterator[Takes]:
    match statement:
        case tree.Rename(mode=tree.RenameMode.KEY):
            for row in statement.rows:
                yield from _matching([row.source])
        case tree.Rename():
            for row in statement.rows:
                yield _renaming(statement.mode, row.source)
        case tree.Drop(keep=False):
            yield from _matching(statement.patterns)
        case tree.Split():
            yield from _matching([statement.source])
        case tree.Merge():
            yield from _matching([source.pattern for source in statement.sources])
        case tree.If():
            for inner in (*statement.then, *statement.otherwise):
                yield from _takers(inner)
        case _:
            yield _any


def _matching(nodes: Sequence[tree.PatternNode]) -> Iterator[Takes]:
    known: dict[str, CaptureType] = {}
    for node in nodes:
        pattern = compile_pattern(node, splice=_unknown, known=known)
        known.update(pattern.captures)
        yield partial(_may_match, pattern)


def _may_match(pattern: Pattern, key: str) -> bool:
    try:
        return pattern.match(key) is not None
    except StatexError:
        return True  # it takes too long to tell


def _renaming(mode: tree.RenameMode, node: tree.PatternNode) -> Takes:
    if mode is tree.RenameMode.PART:
        return _part(compile_pattern(node, splice=_unknown))
    text = plain_text(node, _unknown)
    if mode is tree.RenameMode.PREFIX:
        return lambda key: key.startswith(text)
    return lambda key: text in key


def _part(pattern: Pattern) -> Takes:
    lengths = {len(elements) for elements in pattern.variants}

    def takes(key: str) -> bool:
        segments = key.split(".")
        return any(
            _may_match(pattern, ".".join(segments[start : start + length]))
            for length in lengths
            for start in range(len(segments) - length + 1)
        )

    return takes


def _any(key: str) -> bool:
    return True


def _unknown(splice: tree.Splice) -> NoReturn:
    """Stand for the value of a parameter, which is not known here."""
    raise StatexError(())
