"""Rows: a pattern and what is made of its captures, over keys in segments; matched by plain regular expressions."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Literal

from statex.core.numerals import is_numeral
from statex.core.record import record
from statex.grammar import factory as make
from statex.grammar import tree
from statex.grammar.printer import show_flat

Kind = Literal["number", "segment", "many", "choice"]

MARK = "\ue000"
"""What stands in keys for the capture that a statement gathers or counts; of a private area, so that no key has it."""


@record
class RowCapture:
    """A capture of a row; `choices` are pairs of what it matches and what it stands for."""

    name: str
    kind: Kind
    choices: tuple[tuple[str, str], ...] = ()

    @property
    def counts(self) -> bool:
        """True for numbers, be it a choice of them."""
        return self.kind == "number" or (self.kind == "choice" and self.choices[0][0].isdigit())


@record
class Computed:
    """What a template makes of numbers: `factor * x + offset`, perhaps divided, with `plus` another number on top."""

    name: str
    factor: int = 1
    offset: int = 0
    operator: str = ""
    by: int = 1
    plus: str = ""

    def of(self, values: Mapping[str, int]) -> int:
        """Return the number for those that were captured."""
        found = self.factor * values[self.name] + self.offset
        if self.operator:
            found = found // self.by if self.operator == "//" else found % self.by
        return found + (values[self.plus] if self.plus else 0)

    @property
    def names(self) -> Iterator[str]:
        """The captures that it reads."""
        yield self.name
        if self.plus:
            yield self.plus


Piece = str | RowCapture | Computed
Segment = tuple[Piece, ...]
Key = tuple[Segment, ...]

_OPEN = 8
"""What it costs that a row does not say how keys end: a person writes that, where it is one word."""

_BARE = 20
"""What it costs that a number stands after whatever there is, as in `{m:**}.{i}`, and not after what it counts."""

_REGEX = {"number": r"\d+", "segment": r"[^.]+"}


class KeyRow:
    """A pattern over the first of several keys, and the others as they follow from it."""

    def __init__(self, keys: Sequence[Key]) -> None:
        self.keys = tuple(keys)
        self.typed = False
        """Whether its numbers have to be written as such, as texts in their place would match too much."""

    def relaxed(self) -> KeyRow:
        """Return what the row is when its numbers may be any text."""
        return KeyRow([tuple(tuple(_as_text(piece) for piece in segment) for segment in key) for key in self.keys])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, KeyRow) and self.keys == other.keys

    def __hash__(self) -> int:
        return hash(self.keys)

    def __repr__(self) -> str:
        return " -> ".join(show_flat(one) for one in self.patterns())

    @cached_property
    def regex(self) -> re.Pattern[str]:
        """What matches the keys that the pattern does."""
        return re.compile(_regex(self.keys[0]))

    @cached_property
    def literals(self) -> frozenset[str]:
        """The segments that a key has to have."""
        return frozenset(one[0] for one in self.keys[0] if len(one) == 1 and isinstance(one[0], str))

    @cached_property
    def cost(self) -> int:
        """How much there is to read."""
        open_ends = sum(one.kind in ("segment", "many") and one.name != "m" for one in self.captures.values())
        return 16 + _OPEN * open_ends + self._bare + sum(len(show_flat(one)) for one in self.patterns())

    @property
    def _bare(self) -> int:
        """Return what it costs that nothing says what a number counts."""
        first, *rest = self.keys[0]
        is_open = isinstance(first[0], RowCapture) and first[0].kind == "many"
        piece = rest[0][0] if rest and len(rest[0]) == 1 else None
        return _BARE if is_open and isinstance(piece, RowCapture) and piece.counts else 0

    def apply(self, key: str) -> tuple[str, ...] | None:
        """Return the other keys for one that the pattern matches."""
        found = self.regex.fullmatch(key)
        return None if found is None else tuple(_filled(one, found.groupdict()) for one in self.keys[1:])

    @cached_property
    def captures(self) -> dict[str, RowCapture]:
        """The captures of the pattern by name."""
        return {p.name: p for segment in self.keys[0] for p in segment if isinstance(p, RowCapture)}

    @cached_property
    def computes(self) -> frozenset[str]:
        """The captures that are computed with, which have to be ints."""
        pieces = (p for key in self.keys[1:] for segment in key for p in segment)
        return frozenset(name for p in pieces if isinstance(p, Computed) for name in p.names)

    @property
    def is_overfit(self) -> bool:
        """True where it holds for numbers that were seen, and no others."""
        alone = (segment[0] for segment in self.keys[0] if len(segment) == 1)
        return any(isinstance(c, RowCapture) and c.kind == "choice" and c.counts for c in alone)

    def patterns(self, marks: Mapping[str, tree.Capture] | None = None) -> list[tree.PatternNode]:
        """Return the pattern and the templates; `marks` has what is written for the marks in them."""
        seen: set[str] = set()
        return [make.pattern(list(self._pieces(key, seen, marks or {}))) for key in self.keys]

    def _pieces(self, key: Key, seen: set[str], marks: Mapping[str, tree.Capture]) -> Iterator[tree.Piece | str]:
        for number, segment in enumerate(key):
            if number:
                yield "."
            for piece in segment:
                if isinstance(piece, str):
                    yield from _marked(piece, seen, marks)
                elif isinstance(piece, Computed):
                    yield _field(piece)
                else:
                    yield self._capture(piece, piece.name in seen)
                    seen.add(piece.name)

    def _capture(self, piece: RowCapture, seen: bool) -> tree.Capture:
        if seen:
            return make.capture(piece.name)
        if piece.kind == "choice":
            choices = tuple(tree.Choice(text, value) for text, value in piece.choices)
            return tree.Capture(make.NOWHERE, piece.name, tree.CaptureForm.CHOICE, choices)
        if piece.kind == "many":
            return make.capture(piece.name, tree.CaptureForm.SEGMENTS)
        is_int = piece.kind == "number" and (self.typed or piece.name in self.computes)
        return make.capture(piece.name, tree.CaptureForm.INT if is_int else tree.CaptureForm.PLAIN)


def _as_text(piece: Piece) -> Piece:
    return replace(piece, kind="segment") if isinstance(piece, RowCapture) and piece.kind == "number" else piece


def _marked(text: str, seen: set[str], marks: Mapping[str, tree.Capture]) -> Iterator[tree.Piece | str]:
    first, *rest = text.split(MARK)
    if first:
        yield first
    for part in rest:
        capture = marks.get(MARK)
        if capture is None:
            yield MARK
        else:
            yield make.capture(capture.name) if capture.name in seen else capture
            seen.add(capture.name)
        if part:
            yield part


def _field(piece: Computed) -> tree.Field:
    value: tree.Expr = make.name(piece.name)
    if piece.factor == -1:
        value = make.binary(make.number(piece.offset), "-", value)
    else:
        if piece.factor != 1:
            value = make.binary(value, "*", make.number(piece.factor))
        if piece.offset:
            sign = "+" if piece.offset > 0 else "-"
            value = make.binary(value, sign, make.number(abs(piece.offset)))
    if piece.operator:
        value = make.binary(value, piece.operator, make.number(piece.by))
    if piece.plus:
        value = make.binary(value, "+", make.name(piece.plus))
    return tree.Field(make.NOWHERE, value)


def _regex(key: Key) -> str:
    text = ""
    seen: set[str] = set()
    last = len(key) - 1
    for number, segment in enumerate(key):
        inner = "".join(_piece_regex(piece, seen) for piece in segment)
        first = segment[0]
        if isinstance(first, RowCapture) and first.kind == "many":
            own = f"(?P<{first.name}>[^.]+(?:\\.[^.]+)*)"
            text += own if number == last else f"(?:{own}\\.)?"
        else:
            text += inner + ("" if number == last else r"\.")
    return text


def _piece_regex(piece: Piece, seen: set[str]) -> str:
    if isinstance(piece, str):
        return re.escape(piece)
    assert isinstance(piece, RowCapture)
    if piece.name in seen:
        return f"(?P={piece.name})"
    seen.add(piece.name)
    if piece.kind == "choice":
        return f"(?P<{piece.name}>{'|'.join(re.escape(text) for text, _ in piece.choices)})"
    return f"(?P<{piece.name}>{_REGEX.get(piece.kind, '.+')})"


def _filled(key: Key, texts: Mapping[str, str | None]) -> str:
    found: list[str] = []
    for segment in key:
        parts: list[str] = []
        for piece in segment:
            if isinstance(piece, str):
                parts.append(piece)
            elif isinstance(piece, Computed):
                value = piece.of({name: int(texts[name] or 0) for name in piece.names})
                parts.append(str(value))
            else:
                text = texts[piece.name]
                if text is None:
                    continue
                parts.append(dict(piece.choices).get(text, text) if piece.kind == "choice" else text)
        if parts:
            found.append("".join(parts))
    return ".".join(found)


_NUMBERS = re.compile(r"(\d+)")


def split_key(key: str, inner: bool) -> list[list[str | int]]:
    """Return the segments of a key, each in texts and numbers; with `inner` also numbers inside of segments."""
    found: list[list[str | int]] = []
    for segment in key.split("."):
        if is_numeral(segment):
            found.append([int(segment)])
        elif inner:
            parts = [p for p in _NUMBERS.split(segment) if p]
            found.append([int(p) if is_numeral(p) else p for p in parts])
        else:
            found.append([segment])
    return found


def class_of(split: list[list[str | int]]) -> str:
    """Return a key that was split with `#` for its numbers."""
    return ".".join(["".join(["#" if isinstance(p, int) else p for p in segment]) for segment in split])


def numbers_of(split: list[list[str | int]]) -> list[int]:
    """Return the numbers of a key that was split."""
    return [p for segment in split for p in segment if isinstance(p, int)]
