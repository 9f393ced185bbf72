"""Renames inside keys: parts (whole segments), prefixes, suffixes and text, each one pass over one key."""

from __future__ import annotations

import types
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from functools import partial

import regex

from statex.core.record import record
from statex.diagnostics import StatexError, fail
from statex.diagnostics.codes import patterns as codes
from statex.dsl.keys.captures import Bindings, Captured, CaptureType
from statex.dsl.keys.matching import Element, Literal, Many
from statex.dsl.keys.patterns import Pattern, Splicer, compile_pattern, spliced, timed
from statex.dsl.keys.templates import Template, compile_template
from statex.grammar import tree
from statex.grammar.tree import PatternKind, PatternNode


@record
class Rewritten:
    """A key after one pass: the rows that replaced something, and a row with two readings where there is one."""

    key: str
    used: tuple[int, ...]
    ambiguous: tuple[int, Bindings, Bindings] | None = None


Holds = Callable[[int, Bindings], bool]

_NOTHING: Bindings = {}


class PartTable:
    """Rows that replace whole segments wherever they stand."""

    def __init__(self, rows: Sequence[tuple[Pattern, Template]]) -> None:
        """Take patterns over segments with their templates.

        Raises:
            StatexError: SX160 for `**` and regular expressions.
        """
        for pattern, _ in rows:
            if pattern.regex is not None or any(isinstance(e, Many) for v in pattern.variants for e in v):
                fail(
                    codes.PART_FORM,
                    "a part has a fixed number of segments: no `**` and no regular expression",
                    pattern.node.span,
                )
        self._rows = [(pattern, _lengths(pattern), template) for pattern, template in rows]
        self._firsts = [_firsts(pattern) for pattern, _ in rows]
        self._at_segment: dict[str, tuple[int, ...]] = {}

    def rewrite(
        self, key: str, constants: Mapping[str, object], outer: Bindings = _NOTHING, holds: Holds | None = None
    ) -> Rewritten:
        """Rewrite a key, left to right; at each place the first row that matches there wins.

        `outer` are the captures of the blocks around, `holds` says of a row and its captures whether they count.
        """
        segments = key.split(".")
        if not any(map(self._beginning, segments)):
            return Rewritten(key, ())
        result: list[str] = []
        used: list[int] = []
        place = 0
        while place < len(segments):
            step = self._at(segments, place, outer, holds)
            if step is None:
                result.append(segments[place])
                place += 1
                continue
            number, length, found = step
            if len(found) > 1:
                return Rewritten(key, (number,), (number, found[0], found[1]))
            template = self._rows[number][2]
            text = template.render({**outer, **found[0]}, {**constants, "key": key})
            result += text.split(".") if text else []
            used.append(number)
            place += length
        return Rewritten(".".join(result), tuple(dict.fromkeys(used)))

    def _at(
        self, segments: Sequence[str], place: int, outer: Bindings, holds: Holds | None
    ) -> tuple[int, int, list[Bindings]] | None:
        for number in self._beginning(segments[place]):
            pattern, lengths, template = self._rows[number]
            pattern = pattern.bind(outer) if outer else pattern
            for length in lengths:
                if place + length <= len(segments):
                    text = ".".join(segments[place : place + length])
                    if pattern.literal is None or pattern.captures:
                        found = pattern.readings(text, stars=template.stars > 0)
                    else:
                        found = [{}] if text == pattern.literal else []
                    if found and (holds is None or len(found) > 1 or holds(number, found[0])):
                        return number, length, found
        return None

    def _beginning(self, segment: str) -> tuple[int, ...]:
        """Return the rows that may match where this segment stands."""
        found = self._at_segment.get(segment)
        if found is None:
            found = tuple(n for n, firsts in enumerate(self._firsts) if firsts is None or segment in firsts)
            self._at_segment[segment] = found
        return found


def _firsts(pattern: Pattern) -> frozenset[str] | None:
    """Return the segments a pattern can begin with, or `None` where these are not written out."""
    firsts = [elements[0] if elements else None for elements in pattern.variants]
    texts = [one.text for one in firsts if isinstance(one, Literal)]
    return frozenset(texts) if len(texts) == len(firsts) else None


def _lengths(pattern: Pattern) -> tuple[int, ...]:
    """Return the numbers of segments a pattern can match, longest first."""

    def length(elements: tuple[Element, ...]) -> int:
        return len(elements)

    return tuple(sorted({length(variant) for variant in pattern.variants}, reverse=True))


class AffixMode(Enum):
    """Which end of a key is replaced."""

    PREFIX = "prefix"
    SUFFIX = "suffix"


class AffixTable:
    """Rows of plain text at the start or the end of keys."""

    def __init__(self, mode: AffixMode, rows: Sequence[tuple[str, str]]) -> None:
        self._mode = mode
        self._rows = list(rows)
        self._any = tuple(old for old, _ in rows)

    def row_for(self, key: str) -> int | None:
        """Return the first row that matches a key, or `None`."""
        fits = key.startswith if self._mode is AffixMode.PREFIX else key.endswith
        if not fits(self._any):
            return None
        return next(number for number, old in enumerate(self._any) if fits(old)) if len(self._any) > 1 else 0

    def replace(self, key: str, row: int) -> str:
        """Return the key after a row that matches it."""
        old, new = self._rows[row]
        return new + key[len(old) :] if self._mode is AffixMode.PREFIX else key[: len(key) - len(old)] + new


class TextTable:
    """Rows that replace text, plain or a regular expression, wherever it occurs."""

    def __init__(
        self,
        rows: Sequence[tuple[PatternNode, PatternNode]],
        *,
        splice: Splicer,
        constants: Mapping[str, object],
        outer: Mapping[str, CaptureType] = types.MappingProxyType({}),
    ) -> None:
        """Take the two sides of each row; `outer` are the captures of the blocks around.

        Raises:
            StatexError: SX162 for empty text, SX153 for an invalid regular expression, 15x for templates.
        """
        self._rows: list[tuple[str | regex.Pattern[str], str | Template, PatternNode]] = []
        self._constants = constants
        for source, target in rows:
            if source.kind is PatternKind.REGEX:
                pattern = compile_pattern(source, splice=splice)
                template = compile_template(target, splice=splice)
                problems = template.check({**outer, **pattern.captures}, {*constants, "key"})
                if problems:
                    raise StatexError(problems)
                assert pattern.regex is not None
                self._rows.append((pattern.regex, template, source))
            else:
                old = plain_text(source, splice)
                if not old:
                    fail(
                        codes.EMPTY_TEXT,
                        "the empty text occurs everywhere",
                        source.span,
                        help="`rename prefix '' -> …` puts text before every key",
                    )
                self._rows.append((old, plain_text(target, splice), source))
        expressions = ((number, old) for number, (old, _, _) in enumerate(self._rows) if not isinstance(old, str))
        self._reading = frozenset(number for number, old in expressions if r"\K" in old.pattern)

    def rewrite(self, key: str, outer: Bindings = _NOTHING) -> Rewritten:
        """Rewrite a key, left to right; at each place the first row that matches there wins.

        `outer` are the captures of the blocks around.
        """
        result: list[str] = []
        used: list[int] = []
        place = 0
        ahead: Ahead = {}
        while place < len(key):
            self._look_ahead(key, place, ahead)
            step = self._at(key, place, outer, ahead)
            if step is None:
                result.append(key[place])
                place += 1
                continue
            number, length, text = step
            result.append(text)
            used.append(number)
            place += length
            ahead.pop(number, None)
        return Rewritten("".join(result), tuple(dict.fromkeys(used)))

    def _look_ahead(self, key: str, place: int, ahead: Ahead) -> None:
        """Find the matches of rows with `\\K`, which begin after what they have to read: of `a\\Kb`, the `a` stays."""
        for number in self._reading:
            known = ahead.get(number)
            if known is None or known.start() < place:
                found = self._match(number, key, place)
                if found is None or found.start() < place:
                    ahead.pop(number, None)
                else:
                    ahead[number] = found

    def _match(self, number: int, key: str, place: int) -> regex.Match[str] | None:
        """Return what an expression matches from a place on; an empty match replaces nothing, and counts for none."""
        old, _, node = self._rows[number]
        assert not isinstance(old, str)
        found = timed(partial(old.match, pos=place), key, node.span)
        return found if found is not None and found.end() > found.start() else None

    def _at(self, key: str, place: int, outer: Bindings, ahead: Ahead) -> tuple[int, int, str] | None:
        for number, (old, new, _) in enumerate(self._rows):
            if isinstance(old, str):
                if key.startswith(old, place):
                    assert isinstance(new, str)
                    return number, len(old), new
                continue
            found = ahead.get(number) if number in self._reading else self._match(number, key, place)
            if found is not None and found.start() == place:
                assert isinstance(new, Template)
                text = new.render({**outer, **_groups(found)}, {**self._constants, "key": key})
                return number, found.end() - place, text
        return None


Ahead = dict[int, regex.Match[str]]
"""Matches that begin at or after the place where they were looked for, by the numbers of their rows."""


def _groups(found: regex.Match[str]) -> dict[str, Captured]:
    groups = {str(i): text for i, text in enumerate(found.groups(), 1)} | found.groupdict()
    return {name: Captured.group(text) for name, text in groups.items()}


def plain_text(node: PatternNode, splice: Splicer) -> str:
    """Return the text of a pattern without captures; `{$name}` is put in.

    Raises:
        StatexError: SX159 where there is something to capture.
    """
    if node.kind is PatternKind.REGEX:
        fail(codes.NOT_TEXT, "plain text is needed here", node.span, help="`rename text` takes regular expressions")
    texts = []
    for piece in spliced(node.pieces, splice):
        if not isinstance(piece, tree.Text):
            fail(
                codes.NOT_TEXT,
                f"`{piece.span.text}` captures, and plain text is needed here",
                piece.span,
                help="a rename of whole keys or parts has captures: `rename a.{x} -> b.{x}`",
            )
        texts.append(piece.text)
    return "".join(texts)
