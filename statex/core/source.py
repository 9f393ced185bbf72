"""Rule texts and places in them: what every diagnostic points at."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

from statex.core.record import record

ENDING = ".sx"
"""What the names of rule files end in."""
LIBRARY = "statex:"
"""What the name of a rule file begins with that comes with statex."""


@dataclass(frozen=True, eq=False)
class Source:
    """A rule text and the name it is shown under (`rules.sx`, `<-e 1>`).

    A text that stands inside another file, such as a rule in a recipe, has that file as `outer`: `places` then gives
    for each of its characters, and for its end, the offset in the outer text. Quoted and folded texts differ from how
    they are written, so that these offsets have gaps.
    """

    name: str
    text: str
    outer: Source | None = field(default=None, repr=False)
    places: Sequence[int] = field(default=(), repr=False)

    @classmethod
    def inside(cls, outer: Source, text: str, places: Sequence[int]) -> Source:
        """Return a text that stands in another source: `places` has one a character, and one for the end."""
        if len(places) != len(text) + 1:
            raise ValueError(f"{len(text)} characters and their end have {len(places)} places")
        return cls(outer.name, text, outer, places)

    def after(self, words: str) -> Source:
        """Return the text with words before it that stand nowhere: they are shown where it begins."""
        places = self.places if self.outer is not None else range(len(self.text) + 1)
        outer = self.outer if self.outer is not None else self
        return Source(self.name, words + self.text, outer, [places[0]] * len(words) + list(places))

    @cached_property
    def _line_starts(self) -> list[int]:
        starts = [0]
        starts.extend(i + 1 for i, ch in enumerate(self.text) if ch == "\n")
        return starts

    def position(self, offset: int) -> tuple[int, int]:
        """Return the line and the column of a character offset, both counted from 1."""
        line = bisect_right(self._line_starts, offset)
        return line, offset - self._line_starts[line - 1] + 1

    def line_text(self, line: int) -> str:
        """Return a line, counted from 1, without its line end."""
        start = self._line_starts[line - 1]
        end = self._line_starts[line] if line < len(self._line_starts) else len(self.text)
        return self.text[start:end].rstrip("\r\n")


@record
class Span:
    """The characters `start` up to `end` (exclusive) of a source."""

    source: Source
    start: int
    end: int

    @property
    def text(self) -> str:
        """The characters themselves."""
        return self.source.text[self.start : self.end]

    @property
    def shown(self) -> Span:
        """The same place in the file a reader opens: of a text inside another file, where it stands there."""
        span = self
        while span.source.outer is not None:
            span = _moved_out(span, span.source.outer)
        return span

    @property
    def line(self) -> int:
        """The line of the first character in the file a reader opens, counted from 1."""
        shown = self.shown
        return shown.source.position(shown.start)[0]

    @property
    def column(self) -> int:
        """The column of the first character in the file a reader opens, counted from 1."""
        shown = self.shown
        return shown.source.position(shown.start)[1]

    def to(self, other: Span) -> Span:
        """Return the span from the start of this one to the end of `other`."""
        return Span(self.source, self.start, max(self.end, other.end))

    def at(self, start: int, end: int) -> Span:
        """Return the part of this span between two offsets counted from its start."""
        return Span(self.source, self.start + start, self.start + end)


def _moved_out(span: Span, outer: Source) -> Span:
    places, last = span.source.places, len(span.source.text)
    begin, end = places[min(span.start, last)], places[min(span.end, last)]
    final = places[max(0, min(span.end, last) - 1)]
    if span.end > span.start and (final >= end or "\n" in outer.text[final:end]):
        # What ends with its line does not take the indentation of the next one along.
        end = final + 1
    return Span(outer, begin, max(begin, end))
