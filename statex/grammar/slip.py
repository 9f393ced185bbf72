"""The place of a syntax error, and the text around it."""

from __future__ import annotations

import re

from statex.core.record import record
from statex.core.source import Source, Span

_TOKENISH = re.compile(r"[\w.:$*{}]+|->\??|[=!<>]=|&&|\|\||\*\*|//|\S")


_LONGEST_LINE = 2_000
_LONGEST_BLOCK = 20_000
"""Characters; beyond, the other end of a bracket is not looked for."""


@record
class Slip:
    """A place `at` which a rule text cannot go on; `expected` are the tokens that would be taken there."""

    source: Source
    text: str
    at: int
    expected: frozenset[str]
    found: str

    @classmethod
    def of(cls, source: Source, text: str, at: int, expected: frozenset[str]) -> Slip:
        """Return the place, with what was found there: nothing at the end of the text."""
        match = _TOKENISH.match(text, at)
        return cls(source, text, at, expected, match.group() if match is not None else "")

    @property
    def span(self) -> Span:
        """What was found."""
        end = len(self.text)
        return Span(self.source, min(self.at, end), min(self.at + max(len(self.found), 1), max(end, self.at)))

    @property
    def is_by_hand(self) -> bool:
        """False in lines that are longer than people write: to look for what was meant in them could take long."""
        begin = self.text.rfind("\n", 0, self.at) + 1
        ends = self.text.find("\n", self.at, begin + _LONGEST_LINE) >= 0
        return ends or len(self.text) - begin < _LONGEST_LINE

    @property
    def line_before(self) -> str:
        """What stands before the place in its line."""
        return self.text[self.text.rfind("\n", 0, self.at) + 1 : self.at]

    def to(self, start: int, end: int) -> Span:
        """Return the span between two offsets of the text."""
        return Span(self.source, start, end)

    def match(self, expression: re.Pattern[str]) -> re.Match[str] | None:
        """Match an expression at the place."""
        return expression.match(self.text, self.at)

    def start_of(self, characters: re.Pattern[str]) -> int:
        """Return where the run of characters begins that ends at the place.

        A search for one that ends there would begin at each character, and take the square of their number.
        """
        run = characters.match(self.text[: self.at][::-1])
        assert run is not None
        return self.at - run.end()

    def opening(self) -> int:
        """Return where the bracket around the place was opened, -1 where there is none; quotes are not looked at."""
        depth = 0
        for at in range(self.at - 1, max(-1, self.at - _LONGEST_BLOCK), -1):
            if self.text[at] in ")]}":
                depth += 1
            elif self.text[at] in "([{":
                if not depth:
                    return at
                depth -= 1
        return -1


def closing_of(text: str, opened: int) -> int:
    """Return where the bracket at an offset is closed, -1 where it is not; brackets in quotes are not looked at."""
    depth = 0
    for found in re.compile(r"'[^'\n]*'|\"[^\"\n]*\"|[()\[\]{}]").finditer(text, opened, opened + _LONGEST_BLOCK):
        if found.group() in ("(", "[", "{"):
            depth += 1
        elif found.group() in (")", "]", "}"):
            depth -= 1
            if not depth:
                return found.start()
    return -1
