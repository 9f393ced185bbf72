"""Patterns as the design defines them, matched by trying every way to cut a key."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Token:
    """A piece of a segment; `kind` is text, star, plain, int or choice, or segments (which is a segment by itself)."""

    kind: str
    text: str = ""
    """What a text says; the name of a capture, with `*n` for stars and nothing for `{_}`."""
    choices: tuple[tuple[str, str], ...] = ()
    first: bool = True
    """Whether this is the first mention of the capture."""

    def written(self) -> str:
        name = self.text or "_"
        if self.kind == "text":
            return self.text
        if name[0] == "*":
            return "**" if self.kind == "segments" else "*"
        if not self.first or self.kind == "plain":
            return f"{{{name}}}"
        of = {"int": "int", "segments": "**"}.get(self.kind) or "|".join(
            text if text == value else f"{text}={value}" for text, value in self.choices
        )
        return f"{{{name}:{of}}}"

    def accepts(self, text: str) -> bool:
        """Say whether a text can be this; section 2.2 of the design, a line each."""
        match self.kind:
            case "text":
                return text == self.text
            case "star" | "plain":
                return text != "" and "." not in text
            case "int":
                return re.fullmatch("[0-9]+", text) is not None
            case "choice":
                return text in dict(self.choices)
        raise AssertionError(self.kind)


Segments = tuple[tuple[Token, ...], ...]


def written(segments: Segments) -> str:
    return ".".join("".join(token.written() for token in segment) for segment in segments)


def is_many(segment: tuple[Token, ...]) -> bool:
    return segment[0].kind == "segments"


def reference(segments: Segments, key: str) -> list[dict[str, str]]:
    """Return every reading of a key: each `**` is tried with every number of segments, all else with every cut."""
    most = key.count(".") + 1
    lengths = [
        range(1 if number == len(segments) - 1 else 0, most + 1) if is_many(segment) else range(1, 2)
        for number, segment in enumerate(segments)
    ]
    found: list[dict[str, str]] = []
    for chosen in itertools.product(*lengths):
        flat: list[tuple[Token, int]] = []
        empty: dict[str, str] = {}
        for segment, length in zip(segments, chosen, strict=True):
            if length == 0:
                empty[segment[0].text] = ""
                continue
            if flat:
                flat.append((Token("text", "."), 1))
            flat += [(token, length) for token in segment]
        found += [texts for texts in cuts(flat, key, empty) if texts not in found]
    return found


def cuts(flat: list[tuple[Token, int]], text: str, texts: dict[str, str]) -> Iterator[dict[str, str]]:
    if not flat:
        if not text:
            yield texts
        return
    (token, length), *rest = flat
    for end in range(len(text) + 1):
        piece = text[:end]
        fits = piece.count(".") == length - 1 if token.kind == "segments" else token.accepts(piece)
        named = token.kind != "text" and token.text
        if fits and (not named or texts.get(token.text, piece) == piece):
            yield from cuts(rest, text[end:], {**texts, token.text: piece} if named else texts)


def counted(readings: list[dict[str, str]], stars: bool) -> list[dict[str, str]]:
    """Return the readings that differ in what counts."""
    kept: list[dict[str, str]] = []
    for reading in readings:
        own = {name: text for name, text in reading.items() if stars or name[0] != "*"}
        if own not in kept:
            kept.append(own)
    return kept


def value_of(token: Token, text: str) -> int | str:
    """Return what a capture stands for in expressions."""
    if token.kind == "int":
        return int(text)
    if token.kind == "choice":
        values = dict(token.choices)
        return int(values[text]) if all(re.fullmatch("[0-9]+", v) for v in values.values()) else values[text]
    return text
