"""What conditions ask of keys: how many a pattern matches, and whether one matches a text.

A pattern in a condition means what it means for the match at hand: its captures stand for what they have matched, and
`{key}` is the current key as it is, whatever its characters.
"""

from __future__ import annotations

from collections.abc import Mapping

from statex.diagnostics import Collector
from statex.dsl.expressions.evaluate import Context
from statex.dsl.keys.captures import Captured, is_wildcard
from statex.dsl.keys.key_index import KeyIndex
from statex.dsl.keys.patterns import Pattern
from statex.dsl.keys.regex_help import lint_inside
from statex.dsl.keys.templates import no_current
from statex.grammar.tree import Capture

KEY = "key"
"""The capture that is the current key in every condition."""


class Questions:
    """Answers what conditions ask; where nothing of the match at hand is in a pattern, it is asked once a statement."""

    def __init__(self, found: Collector) -> None:
        self._found = found
        self._answers: dict[tuple[object, ...], int] = {}

    def forget(self) -> None:
        """Forget the answers, as the keys have changed."""
        self._answers.clear()

    def count(self, pattern: Pattern, index: KeyIndex, context: Context) -> int:
        """Return the number of keys a pattern matches, with the captures of the match and the current key put in.

        Raises:
            StatexError: SX218 for `{key}` where no key is current.
        """
        bindings = _bindings(pattern, context)
        # Stars are never filled in.
        named = (name for name in pattern.captures if not is_wildcard(name) and name in bindings)
        filled = [(name, bindings[name].rendered) for name in named]
        asked = (pattern, index, *filled)
        if asked not in self._answers:
            self._answers[asked] = self._counted(pattern, index, bindings)
        return self._answers[asked]

    def _counted(self, pattern: Pattern, index: KeyIndex, bindings: Mapping[str, Captured]) -> int:
        bound = pattern.bind(bindings)
        if bound.literal is not None:
            return int(bound.literal in index)
        count = len(index.find(bound))
        inside = lint_inside(pattern, index) if not count else None
        if inside is not None:
            self._found.add(inside)
        return count


def text_matches(pattern: Pattern, text: str, context: Context) -> bool:
    """Say whether a pattern matches a text, or a regular expression is found in it.

    The captures of the match and the current key are put into the pattern.

    Raises:
        StatexError: SX218 for `{key}` where no key is current.
    """
    return pattern.bind(_bindings(pattern, context)).occurs(text)


def _bindings(pattern: Pattern, context: Context) -> Mapping[str, Captured]:
    if KEY not in pattern.captures or pattern.regex is not None:
        return context.bindings
    if context.key is None:
        pieces = (piece for piece in pattern.node.pieces if isinstance(piece, Capture) and piece.name == KEY)
        no_current(KEY, next(pieces, pattern.node).span)
    return {**context.bindings, KEY: Captured(context.key, context.key, context.key)}
