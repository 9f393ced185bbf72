"""Tokens of a rule text with the text between them, and its comments."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator, Sequence

from statex.core.record import record
from statex.core.source import Span

_COMMENT = re.compile(r"#[^\n]*")
_BLANK = " \t\f\r\n;"


@record
class Token:
    """A word, a sign or a text; `before` is what stands between it and the token before it: blanks and comments.

    `kind` is its name in the grammar. The last token is empty and stands at the end of the text, so that all tokens
    with what is before them are the text.
    """

    kind: str
    span: Span
    before: Span


@record
class Comment:
    """A comment; `own_line` where nothing stands before it on its line, `blank` where an empty line does above it."""

    text: str
    start: int
    end: int
    column: int
    own_line: bool
    blank: bool


def comments(tokens: Sequence[Token]) -> Iterator[Comment]:
    """Yield the comments between tokens."""
    for token in tokens:
        for found in _COMMENT.finditer(token.before.text):
            yield _comment(token.before.source.text, token.before.start + found.start(), found.group().rstrip())


def _comment(text: str, start: int, comment: str) -> Comment:
    line_start = text.rfind("\n", 0, start) + 1
    own_line = not text[line_start:start].strip(" \t\f;\ufeff")
    return Comment(comment, start, start + len(comment), start - line_start, own_line, is_after_blank(text, start))


def is_after_blank(text: str, at: int) -> bool:
    """Say whether an empty line stands before a place."""
    start = at
    while start > 0 and text[start - 1] in _BLANK:
        start -= 1
    return text.count("\n", start, at) > 1


class Comments:
    """The comments of a text, given out once each, in their order."""

    def __init__(self, found: Sequence[Comment] = ()) -> None:
        self._found = found
        self._next = 0

    def before(self, offset: int) -> list[Comment]:
        """Return the comments before an offset that were not given out."""
        start = self._next
        while self._next < len(self._found) and self._found[self._next].start < offset:
            self._next += 1
        return list(self._found[start : self._next])

    def are_before(self, offset: int, start: int = 0) -> bool:
        """Say whether comments before an offset were not given out, from `start` on."""
        first = bisect_left(self._found, start, lo=self._next, key=lambda one: one.start)
        return first < len(self._found) and self._found[first].start < offset
