"""The inside of patterns and templates: text, stars, captures, splices and fields."""

from __future__ import annotations

import re
from collections.abc import Callable

from statex.core.source import Span
from statex.diagnostics import fail
from statex.diagnostics.codes import syntax as codes
from statex.diagnostics.codes.names import NUMBER_RANGE
from statex.diagnostics.suggest import did_you_mean
from statex.grammar.tree import (
    Capture,
    CaptureForm,
    Choice,
    DoubleStar,
    Field,
    Name,
    Number,
    Piece,
    Splice,
    Star,
    Text,
)

ParseField = Callable[[Span], Field]
"""Parses the inside of braces as an expression with an optional format."""

_TOKEN = re.compile(r"\*+|\{\{|\}\}|\{[^{}]*\}|[{}]|[^*{}]+")
_NAME = re.compile(r"[A-Za-z_]\w*\Z")
_SPLICE = re.compile(r"\$([A-Za-z_]\w*)\Z")
_TYPED = re.compile(r"([A-Za-z_]\w*):(.*)\Z", re.DOTALL)
_FORMAT = re.compile(r"0[1-9][0-9]?\Z")
_NOTHING = "\0"
"""Stands for an escaped character where special ones are looked for; no rule text holds it."""
_DIGITS = 1000
"""More are no number; Python reads some thousands at most, and takes the square of the time."""
_CHOICE = re.compile(r"[\w.$/-]+(?:=[\w.$/-]*)?\Z")


def parse_pieces(
    text: str,
    places: list[int],
    whole: Span,
    *,
    bare: bool,
    field: ParseField,
    escaped: frozenset[int] = frozenset(),
) -> tuple[Piece, ...]:
    """Return the pieces of a pattern or template.

    `places` are the offsets in the source of the characters of `text`, and of its end; `whole` is the span of the
    token; `bare` patterns know no doubled braces. The `escaped` characters are text, and so is a `}` that closes an
    escaped `{`.

    Raises:
        StatexError: SX109 and SX110.
    """

    def span(start: int, end: int) -> Span:
        return Span(whole.source, places[start], places[end])

    masked = "".join(_NOTHING if at in escaped else char for at, char in enumerate(text)) if escaped else text
    opened = 0
    pieces: list[Piece] = []
    for found in _TOKEN.finditer(masked):
        token, at = text[found.start() : found.end()], span(found.start(), found.end())
        if found.group()[0] not in "*{}":
            pieces.append(Text(at, token))
            opened = max(0, opened + _opened(text, range(*found.span()), escaped))
        elif token == "}" and opened:
            pieces.append(Text(at, token))
            opened -= 1
        elif token[0] == "*":
            pieces.append(_stars(token, at))
        elif token in ("{{", "}}") and not bare:
            pieces.append(Text(at, token[0]))
        elif token[0] == "{" and token[-1] == "}" and len(token) > 1:
            pieces.append(_braces(token[1:-1], at, span(found.start() + 1, found.end() - 1), field))
        else:
            fail(
                codes.BAD_CAPTURE,
                f"`{token}` opens or closes no capture here",
                at,
                help="a brace itself is written `\\{` or `\\}` in double quotes",
            )
    merged = _merged(pieces)
    _check_alone(merged)
    return merged


def _opened(text: str, places: range, escaped: frozenset[int]) -> int:
    """Return how many more escaped braces are opened than closed."""
    return sum({"{": 1, "}": -1}.get(text[at], 0) for at in places if at in escaped) if escaped else 0


def _stars(token: str, at: Span) -> Piece:
    if len(token) == 1:
        return Star(at)
    if len(token) == 2:
        return DoubleStar(at)
    fail(codes.STARS_ALONE, f"`{token}` is neither `*` nor `**`", at)


def _merged(pieces: list[Piece]) -> tuple[Piece, ...]:
    result: list[Piece] = []
    for piece in pieces:
        last = result[-1] if result else None
        if isinstance(piece, Text) and isinstance(last, Text):
            result[-1] = Text(last.span.to(piece.span), last.text + piece.text)
        else:
            result.append(piece)
    return tuple(result)


def _check_alone(pieces: tuple[Piece, ...]) -> None:
    for number, piece in enumerate(pieces):
        if not _is_segments(piece):
            continue
        before = pieces[number - 1] if number else None
        after = pieces[number + 1] if number + 1 < len(pieces) else None
        alone = (before is None or (isinstance(before, Text) and before.text.endswith("."))) and (
            after is None or (isinstance(after, Text) and after.text.startswith("."))
        )
        if not alone:
            fail(
                codes.STARS_ALONE,
                f"`{piece.span.text}` stands for whole segments, and this is part of one",
                piece.span,
                help="`*` stands for characters of one segment; put dots around `**`",
            )


def _is_segments(piece: Piece) -> bool:
    return isinstance(piece, DoubleStar) or (isinstance(piece, Capture) and piece.kind is CaptureForm.SEGMENTS)


def read_int(text: str, at: Span) -> int:
    """Return the number that digits write.

    Raises:
        StatexError: SX217 where they are more than any number of the language has.
    """
    if len(text) > _DIGITS:
        fail(NUMBER_RANGE, "the number has more than 64 bits", at)
    return int(text)


def _braces(inside: str, at: Span, inner: Span, field: ParseField) -> Piece:
    if _NAME.match(inside):
        return Capture(at, inside)
    splice = _SPLICE.match(inside)
    if splice is not None:
        return Splice(at, splice.group(1))
    if inside.isascii() and inside.isdigit():
        return Field(at, Number(inner, read_int(inside, inner)))
    typed = _TYPED.match(inside)
    if typed is not None:
        name, type_ = typed.groups()
        if type_ == "**":
            return Capture(at, name, CaptureForm.SEGMENTS)
        if type_ == "int":
            return Capture(at, name, CaptureForm.INT)
        if _FORMAT.match(type_):
            return Field(at, Name(inner.at(0, len(name)), name), type_)
        return Capture(at, name, CaptureForm.CHOICE, _choices(name, type_, at))
    parsed = field(inner)
    return Field(at, parsed.value, parsed.format)


def is_choice(text: str) -> bool:
    """Say whether a text can be one of a capture's choices, or what one stands for."""
    return "=" not in text and _CHOICE.match(text) is not None


def _choices(name: str, text: str, at: Span) -> tuple[Choice, ...]:
    parts = text.split("|")
    if len(parts) == 1 and "=" not in text:
        near = did_you_mean(text, ["int", "**"]) or (["int"] if text in ("integer", "digits", "number") else [])
        if re.match(r"[1-9][0-9]?\Z", text):
            near = [f"0{text}"]
        fail(
            codes.BAD_CAPTURE,
            f"`{text}` is not a capture type",
            at,
            help=f"did you mean `{{{name}:{near[0]}}}`?" if near else f"types are `int`, `**` and choices `{name}:a|b`",
        )
    choices = []
    for part in parts:
        if not _CHOICE.match(part):
            what = "an empty choice" if not part else f"`{part}` cannot be a choice"
            fail(
                codes.BAD_CAPTURE, f"{what}", at, help="choices are texts between `|`: `{p:q|k|v}`, `{p:query=q|key=k}`"
            )
        matched, equals, value = part.partition("=")
        choices.append(Choice(matched, value if equals else matched))
    if len({choice.text for choice in choices}) != len(choices):
        fail(codes.BAD_CAPTURE, "a choice is named twice", at)
    return tuple(choices)
