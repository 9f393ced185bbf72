"""What conditions ask of keys: how many a pattern matches, and whether one matches a text.

A pattern in a condition means what it means for the match at hand: its captures stand for what they have matched, and
`{key}` is the current key as it is, whatever its characters.
"""

from __future__ import annotations

from collections.abc import Mapping

from statex.dsl.captures import Captured
from statex.dsl.evaluate import Context, no_current
from statex.dsl.index import KeyIndex
from statex.dsl.patterns import Pattern
from statex.grammar.tree import Capture

KEY = "key"
"""The capture that is the current key in every condition."""


def count(pattern: Pattern, index: KeyIndex, context: Context) -> int:
    """Return the number of keys a pattern matches, with the captures of the match and the current key put in.

    Raises:
        StatexError: SX218 for `{key}` where no key is current.
    """
    asked = _filled(pattern, context)
    literal = asked.literal
    return len(index.find(asked)) if literal is None else int(literal in index)


def matches(pattern: Pattern, text: str, context: Context) -> bool:
    """Say whether a pattern matches a text, or a regular expression is found in it.

    The captures of the match and the current key are put into the pattern.

    Raises:
        StatexError: SX218 for `{key}` where no key is current.
    """
    return _filled(pattern, context).occurs(text)


def _filled(pattern: Pattern, context: Context) -> Pattern:
    bindings: Mapping[str, Captured] = context.bindings
    if KEY in pattern.captures and pattern.regex is None:
        if context.key is None:
            pieces = (piece for piece in pattern.node.pieces if isinstance(piece, Capture) and piece.name == KEY)
            no_current(KEY, next(pieces, pattern.node).span)
        bindings = {**bindings, KEY: Captured(context.key, context.key, context.key)}
    return pattern.bind(bindings)
