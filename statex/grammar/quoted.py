"""Quoted text: its escapes resolved, and the position of each of its characters."""

from __future__ import annotations

from typing import NoReturn

from statex.core.record import record
from statex.core.source import Span
from statex.diagnostics import fail
from statex.diagnostics.codes import syntax as codes
from statex.grammar.regexes import with_groups

_ESCAPES = {"'": "'", '"': '"', "\\": "\\", "n": "\n", "t": "\t"}
MARKS = "{}*"
"""What a backslash makes text of in double quotes, where it would mean something."""


@record
class Quoted:
    """A text; `places` are the offsets in the source of its characters and of its end.

    `escaped` are the numbers of those characters that mean nothing but themselves.
    """

    text: str
    places: list[int]
    escaped: frozenset[int]


def unquoted(token: Span, skipped: int = 0) -> Quoted:
    """Return what stands between the quotes of a token, which begin after the `skipped` first characters.

    Raises:
        StatexError: SX108.
    """
    raw, double = token.text, token.text[skipped] == '"'
    text: list[str] = []
    places: list[int] = []
    escaped: set[int] = set()
    at = skipped + 1
    while at < len(raw) - 1:
        places.append(token.start + at)
        if raw[at] == "\\":
            if double and raw[at + 1] in MARKS:
                escaped.add(len(text))
            if raw[at + 1].isdigit():
                _group(token, skipped)
            text.append(_meant(raw[at + 1], double, token.at(at, at + 2)))
            at += 2
        else:
            text.append(raw[at])
            at += 1
    return Quoted("".join(text), [*places, token.end - 1], frozenset(escaped))


def _group(token: Span, skipped: int) -> NoReturn:
    fail(
        codes.BAD_ESCAPE,
        "a group of a regular expression is written in braces",
        token,
        help=f'write `{token.text[:skipped]}"{with_groups(token.text[skipped + 1 : -1])}"`',
    )


def _meant(char: str, double: bool, place: Span) -> str:
    if double and char in MARKS:
        return char
    known = _ESCAPES.get(char)
    if known is None:
        meant = f"write `{char}`, which is text in '…'" if char in MARKS else f"write `\\\\{char}` for a backslash"
        fail(codes.BAD_ESCAPE, f"`\\{char}` is not an escape", place, help=meant)
    return known


def in_double_quotes(text: str, marks: str = MARKS) -> str:
    """Return text between double quotes, where it means the same; of `MARKS` those given are escaped."""
    named = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\t": "\\t"}
    return '"' + "".join(f"\\{char}" if char in marks else named.get(char, char) for char in text) + '"'
