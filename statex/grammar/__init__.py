"""Rule text to tree: `parse` for a source, `parse_text` for a string."""

from statex.grammar.parser import parse, parse_text

__all__ = ["parse", "parse_text"]
