"""How a key can be read by the elements of a pattern."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache

from statex.core.record import record
from statex.dsl.keys.captures import MOST_DIGITS, is_digits, is_wildcard


@record
class Wild:
    """One or more characters of a segment; `choices` narrows them to some texts, `digits` to ASCII digits.

    `whole` is the captured text where it goes on in the next segments (a choice with dots).
    """

    name: str | None
    choices: tuple[str, ...] = ()
    digits: bool = False
    whole: str | None = None

    def accepts(self, text: str) -> bool:
        """Say whether a text without dots can be this."""
        if self.choices:
            return text in self.choices
        return is_digits(text) if self.digits else bool(text)


Atom = str | Wild


@record
class Literal:
    """A segment as it is written."""

    text: str


@record
class Mixed:
    """A segment of texts and wildcards."""

    atoms: tuple[Atom, ...]


@record
class Many:
    """Whole segments, `least` of them or more."""

    name: str | None
    least: int = 0


Element = Literal | Mixed | Many

Texts = Mapping[str, str]
"""Captured texts by name."""

_STEPS = 200_000
"""The work a pattern that repeats a capture may cost on one key."""


class TooLong(Exception):
    """A pattern that repeats a capture costs too much work on a key."""


def readings(elements: Sequence[Element], segments: Sequence[str], stars: bool) -> list[Texts]:
    """Return at most two readings that differ in a named capture (in a `*` too, if `stars`), or none.

    Raises:
        TooLong: where a capture is repeated and there is too much to try.
    """
    if _repeats(tuple(elements)):
        return _with_repeats(elements, segments, stars)
    return _Reader(elements, segments, stars).read()


@lru_cache(maxsize=4096)
def _repeats(elements: tuple[Element, ...]) -> bool:
    names = [name for name in _names(elements) if name is not None]
    return len(names) != len(set(names))


def _names(elements: Sequence[Element]) -> Iterator[str | None]:
    for element in elements:
        if isinstance(element, Many):
            yield element.name
        elif isinstance(element, Mixed):
            yield from (atom.name for atom in element.atoms if isinstance(atom, Wild))


class _Reader:
    """Dynamic programming over (element, segment): the readings of what is left, two at most."""

    def __init__(self, elements: Sequence[Element], segments: Sequence[str], stars: bool) -> None:
        self.elements = elements
        self.segments = segments
        self.stars = stars

    def read(self) -> list[Texts]:
        count = len(self.segments)
        after: list[list[Texts]] = [[] for _ in range(count)] + [[{}]]
        for element in reversed(self.elements):
            if isinstance(element, Many):
                after = [self._many(element, start, after) for start in range(count + 1)]
            else:
                after = [self._one(element, start, after) for start in range(count)] + [[]]
        return after[0]

    def _one(self, element: Literal | Mixed, start: int, after: list[list[Texts]]) -> list[Texts]:
        rest = after[start + 1]
        if not rest:
            return []
        if isinstance(element, Literal):
            return rest if element.text == self.segments[start] else []
        own = segment_readings(element.atoms, self.segments[start], self.stars)
        return self._two({**texts, **more} for texts in own for more in rest)

    def _many(self, element: Many, start: int, after: list[list[Texts]]) -> list[Texts]:
        def found() -> Iterator[Texts]:
            for end in range(start + element.least, len(self.segments) + 1):
                for more in after[end]:
                    text = ".".join(self.segments[start:end])
                    yield {element.name: text, **more} if element.name is not None else more

        return self._two(found())

    def _two(self, found: Iterator[Texts]) -> list[Texts]:
        kept: list[Texts] = []
        for texts in found:
            if all(differ(texts, other, self.stars) for other in kept):
                kept.append(texts)
                if len(kept) == 2:
                    break
        return kept


def differ(one: Texts, other: Texts, stars: bool) -> bool:
    """Say whether two readings differ in what counts."""
    return any(other.get(name) != text for name, text in one.items() if stars or not is_wildcard(name))


def segment_readings(atoms: Sequence[Atom], text: str, stars: bool) -> list[Texts]:
    """Return at most two readings of one segment."""
    size = len(text)
    after: list[list[Texts]] = [[] for _ in range(size)] + [[{}]]
    for atom in reversed(atoms):
        current: list[list[Texts]] = []
        for start in range(size + 1):
            kept: list[Texts] = []
            for end, captured in _ends(atom, text, start):
                for more in after[end]:
                    texts = more if captured is None else {captured[0]: captured[1], **more}
                    if all(differ(texts, other, stars) for other in kept) and len(kept) < 2:
                        kept.append(texts)
            current.append(kept)
        after = current
    return after[0]


def _ends(atom: Atom, text: str, start: int) -> Iterator[tuple[int, tuple[str, str] | None]]:
    if isinstance(atom, str):
        if text.startswith(atom, start):
            yield start + len(atom), None
        return
    if atom.choices:
        ends = [start + len(choice) for choice in atom.choices if text.startswith(choice, start)]
    else:
        ends = list(range(start + 1, len(text) + 1))
    for end in ends:
        piece = text[start:end]
        if atom.accepts(piece):
            yield end, None if atom.name is None else (atom.name, piece if atom.whole is None else atom.whole)
        elif atom.digits:
            return


def _with_repeats(elements: Sequence[Element], segments: Sequence[str], stars: bool) -> list[Texts]:
    """Read with captures that occur twice and must agree: a search, of bounded work."""
    return _Search(elements, segments, stars).read()


class _Search:
    """Tries every way to read a key, up to two that differ."""

    def __init__(self, elements: Sequence[Element], segments: Sequence[str], stars: bool) -> None:
        self.elements = elements
        self.segments = segments
        self.stars = stars
        self.found: list[Texts] = []
        self.steps = 0

    def read(self) -> list[Texts]:
        self._from(0, 0, {})
        return self.found

    def _step(self) -> None:
        self.steps += 1
        if self.steps > _STEPS:
            raise TooLong

    def _from(self, place: int, start: int, texts: Texts) -> None:
        self._step()
        if place == len(self.elements):
            if start == len(self.segments) and all(differ(texts, other, self.stars) for other in self.found):
                self.found.append(texts)
            return
        for end, more in self._element(self.elements[place], start, texts):
            self._from(place + 1, end, {**texts, **more})
            if len(self.found) == 2:
                return

    def _element(self, element: Element, start: int, texts: Texts) -> Iterator[tuple[int, Texts]]:
        if isinstance(element, Many):
            for end in range(start + element.least, len(self.segments) + 1):
                text = ".".join(self.segments[start:end])
                if element.name is None or texts.get(element.name, text) == text:
                    yield end, {} if element.name is None else {element.name: text}
        elif start < len(self.segments):
            if isinstance(element, Literal):
                if element.text == self.segments[start]:
                    yield start + 1, {}
                return
            for more in self._atoms(element.atoms, self.segments[start], texts):
                yield start + 1, more

    def _atoms(self, atoms: Sequence[Atom], text: str, texts: Texts) -> Iterator[Texts]:
        self._step()
        if not atoms:
            if not text:
                yield texts
            return
        for end, captured in _ends(atoms[0], text, 0):
            if captured is not None and texts.get(captured[0], captured[1]) != captured[1]:
                continue
            more = texts if captured is None else {**texts, captured[0]: captured[1]}
            yield from self._atoms(atoms[1:], text[end:], more)


@lru_cache(maxsize=4096)
def segment_test(atoms: tuple[Atom, ...]) -> Callable[[str], bool]:
    """Return a fast test whether a segment can be read at all."""
    if sum(isinstance(atom, Wild) for atom in atoms) > 2:
        return lambda text: bool(segment_readings(atoms, text, False))
    expression = re.compile("".join(atom_expression(atom) for atom in atoms), re.DOTALL)
    return lambda text: expression.fullmatch(text) is not None


def atom_expression(atom: Atom) -> str:
    """Return the regular expression of what an atom can be, in a segment."""
    if isinstance(atom, str):
        return re.escape(atom)
    if atom.choices:
        return "(?:" + "|".join(map(re.escape, atom.choices)) + ")"
    return f"[0-9]{{1,{MOST_DIGITS}}}" if atom.digits else "[^.]+"
