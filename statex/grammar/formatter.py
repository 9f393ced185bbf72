"""Rule texts in their standard form, as `statex fmt` writes them."""

from __future__ import annotations

from collections import Counter
from dataclasses import fields, is_dataclass
from typing import Any

from statex.core.source import Source, Span
from statex.diagnostics import StatexError
from statex.grammar import parse_lossless
from statex.grammar.lossless import Lossless
from statex.grammar.printer import WIDTH, show_program


def format_text(source: Source, *, width: int = WIDTH) -> str:
    """Return a rule text in its one form: the same program, with the same comments.

    Raises:
        StatexError: 1xx, every syntax error that was found.
    """
    found = parse_lossless(source)
    if found.diagnostics:
        raise StatexError(found.diagnostics)
    text = show_program(found.program, found.comments, width=width)
    _check(found, parse_lossless(Source(source.name, text)))
    return text.replace("\n", "\r\n") if "\r\n" in source.text[: source.text.find("\n") + 1] else text


def _check(before: Lossless, after: Lossless) -> None:
    """See to it that nothing was changed but blanks: parentheses and comments are there as well."""
    name = before.program.source.name
    if after.diagnostics or not same_tree(before.program, after.program):
        raise RuntimeError(f"formatting would change the program in {name}; please report this")
    if Counter(one.text for one in before.comments) != Counter(one.text for one in after.comments):
        raise RuntimeError(f"formatting would lose a comment in {name}; please report this")


def same_tree(one: Any, other: Any) -> bool:
    """Say whether two nodes are the same but for their places."""
    pending = [(one, other)]
    while pending:
        left, right = pending.pop()
        if isinstance(left, tuple) and isinstance(right, tuple):
            if len(left) != len(right):
                return False
            pending.extend(zip(left, right, strict=True))
        elif isinstance(left, Span | Source):
            continue
        elif is_dataclass(left) and type(left) is type(right):
            pending.extend((getattr(left, field.name), getattr(right, field.name)) for field in fields(left))
        elif left != right or type(left) is not type(right):
            return False
    return True
