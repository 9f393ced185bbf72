"""The line of a rule text that a label points into, laid out on a terminal's columns."""

from __future__ import annotations

import unicodedata

from statex.core.record import record
from statex.core.source import Span
from statex.diagnostics.escape import escape

_TAB = " " * 4
_ELLIPSIS = "…"


def display_width(text: str) -> int:
    """Return the number of columns a text without control characters takes on a terminal."""
    if text.isascii():
        return len(text)
    return sum(_columns(c) for c in text)


def _columns(character: str) -> int:
    # The vowels and final consonants of Hangul in conjoining form are drawn into the syllable before them.
    if unicodedata.category(character) in ("Mn", "Me") or "\u1160" <= character <= "\u11ff":
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def _shown(character: str) -> str:
    return _TAB if character == "\t" else escape(character)


@record
class Snippet:
    """The characters `first` up to `last` (exclusive) of the line `text`: as much of it as there is room for."""

    text: str
    first: int
    last: int

    @classmethod
    def around(cls, span: Span, room: int) -> Snippet:
        """Return the first line of a span, cut around its start where it has more than `room` columns."""
        text = span.source.line_text(span.line)
        if len(text) <= room and _width(text) <= room:
            return cls(text, 0, len(text))
        begin = min(span.column - 1, len(text))
        first, used = _walk_back(text, begin, room // 3)
        last, ahead = _walk_on(text, begin, room - used - (2 if first else 1))
        if last == len(text):
            first, _ = _walk_back(text, begin, room - ahead - 1)
        return cls(text, first, last)

    def shows(self, span: Span) -> bool:
        """Say whether the start of a span of this line is among the characters shown."""
        begin = span.column - 1
        return self.first <= begin and (begin < self.last or self.last == len(self.text))

    @property
    def shown(self) -> str:
        """The line as it is printed, without blanks at its end."""
        middle = "".join(map(_shown, self.text[self.first : self.last]))
        return (self._lead + middle + (_ELLIPSIS if self.last < len(self.text) else "")).rstrip()

    def underline(self, span: Span, mark: str) -> tuple[int, str]:
        """Return the column (from 0) where a span of this line begins, and the marks below it.

        A span that goes on after the line, or after the part of it that is shown, ends in `…`.
        """
        begin = min(span.column - 1, self.last)
        end = begin + span.end - span.start
        goes_on = end > len(self.text) and "\n" in span.text.rstrip("\r\n")
        # Blanks at the end of a line are not printed.
        stop = min(end, self.last, max(begin, len(self.text.rstrip())) if goes_on else end)
        length = max(1, _width(self.text[begin:stop]))
        cut = goes_on or self.last < min(end, len(self.text))
        return len(self._lead) + _width(self.text[self.first : begin]), mark * length + (_ELLIPSIS if cut else "")

    @property
    def _lead(self) -> str:
        return _ELLIPSIS if self.first else ""


def _width(text: str) -> int:
    return sum(display_width(_shown(c)) for c in text)


def _walk_back(text: str, begin: int, room: int) -> tuple[int, int]:
    used = 0
    while begin and (size := _width(text[begin - 1])) + used <= room:
        begin -= 1
        used += size
    return begin, used


def _walk_on(text: str, begin: int, room: int) -> tuple[int, int]:
    used = 0
    while begin < len(text) and (size := _width(text[begin])) + used <= room:
        begin += 1
        used += size
    return begin, used
