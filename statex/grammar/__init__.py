"""Rule text to tree: `parse` for a source, `parse_text` for a string.

What parses is imported when there is something to parse: that takes longer than all else of a command without rules.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from statex.core.source import Source

if TYPE_CHECKING:
    from statex.grammar.lossless import Lossless
    from statex.grammar.tree import Program

__all__ = ["parse", "parse_lossless", "parse_text"]


def parse(source: Source) -> Program:
    """Parse a rule file.

    Raises:
        StatexError: 1xx, every syntax error that was found; parsing goes on at the next statement after each.
    """
    from statex.grammar import parser

    return parser.parse(source)


def parse_lossless(source: Source) -> Lossless:
    """Parse a rule file to its tokens and a tree with parentheses, with `Bad` statements for syntax errors.

    Raises:
        StatexError: SX115 and SX113, where it is no text that could be a rule file.
    """
    from statex.grammar import lossless

    return lossless.parse_lossless(source)


def parse_text(text: str, name: str = "<rules>") -> Program:
    """Parse rules given as text; errors are those of `parse`."""
    return parse(Source(name, text))
