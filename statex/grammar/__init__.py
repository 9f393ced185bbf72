"""Rule text to tree: `parse` for a source, `parse_text` for a string.

What parses is imported when there is something to parse: that takes longer than all else of a command without rules.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from statex.source import Source

if TYPE_CHECKING:
    from statex.grammar.tree import Program

__all__ = ["parse", "parse_text"]


def parse(source: Source) -> Program:
    """Parse a rule file.

    Raises:
        StatexError: 1xx, every syntax error that was found; parsing goes on at the next statement after each.
    """
    from statex.grammar import parser

    return parser.parse(source)


def parse_text(text: str, name: str = "<rules>") -> Program:
    """Parse rules given as text; errors are those of `parse`."""
    return parse(Source(name, text))
