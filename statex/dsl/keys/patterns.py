"""Patterns over keys: compiled from pieces to a list of segments, matched with every reading a key allows.

Matching is dynamic programming over (piece, place), each keeping at most two different readings: enough to tell
whether a key can be read in two ways, and polynomial whatever the pattern.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product

import regex

from statex.core.source import Span
from statex.diagnostics import fail
from statex.diagnostics.codes import patterns as codes
from statex.dsl.keys.captures import Bindings, CaptureKind, CaptureType, is_wildcard, prefix_capture, wildcard
from statex.dsl.keys.matching import Atom, Element, Literal, Many, Mixed, Texts, TooLong, Wild, readings
from statex.dsl.keys.regex_matching import OneWay, one_way
from statex.grammar import tree
from statex.grammar.tree import PatternKind, PatternNode

Splicer = Callable[[tree.Splice], str | int | PatternNode]

Place = str | int
"""A capture by its name or, for one without a name, by its number among the pieces."""

REGEX_SECONDS = 1.0
"""How long a regular expression may take on one key."""

_VARIANTS = 1000

_KINDS = {
    tree.CaptureForm.SEGMENTS: CaptureKind.SEGMENTS,
    tree.CaptureForm.INT: CaptureKind.INT,
    tree.CaptureForm.CHOICE: CaptureKind.CHOICE,
}


@dataclass(frozen=True, eq=False)
class Pattern:
    """A compiled pattern, which is equal to itself alone.

    `variants` are lists of elements, one for each combination of choices that hold dots. `captures` are the named
    captures and `*n`, in order.
    """

    node: PatternNode
    captures: Mapping[str, CaptureType]
    variants: tuple[tuple[Element, ...], ...]
    regex: regex.Pattern[str] | None = None

    @cached_property
    def literal(self) -> str | None:
        """The key, where the pattern can match only that one."""
        if self.regex is not None or len(self.variants) != 1:
            return None
        elements = self.variants[0]
        if not all(isinstance(e, Literal) for e in elements):
            return None
        return ".".join(e.text for e in elements if isinstance(e, Literal))

    def agrees(self, known: Mapping[str, CaptureType]) -> bool:
        """Say whether its captures are of the types that are known, so that these would make no other pattern."""
        return all(known.get(name, kind) == kind for name, kind in self.captures.items())

    def match(self, key: str) -> Bindings | None:
        """Return the captures of a key, or `None` where it does not match."""
        found = self.readings(key, limit=1)
        return found[0] if found else None

    def occurs(self, text: str) -> bool:
        """Say whether a regular expression is found in a text; any other pattern has to match all of it.

        Raises:
            StatexError: SX154 where that takes too long.
        """
        if self.regex is None:
            return self.match(text) is not None
        return timed(self.regex.search, text, self.node.span) is not None

    def readings(self, key: str, limit: int = 2, *, stars: bool = True) -> list[Bindings]:
        """Return up to `limit` (1 or 2) readings of a key that differ in a capture; `stars` lets `*`s count.

        Raises:
            StatexError: SX154 where that takes too long.
        """
        if self.regex is not None:
            return self._by_regex(key)
        if self.node.kind is PatternKind.LITERAL:
            return [{}] if key == self.node.text else []
        found: list[Bindings] = []
        for elements, one in zip(self.variants, self.one_ways, strict=True):
            for texts in self._read(elements, one, key, stars):
                bound = self.bound(texts)
                if all(_differ(bound, other, stars) for other in found):
                    found.append(bound)
                if len(found) >= limit:
                    return found
        return found

    def bound(self, texts: Texts) -> Bindings:
        """Return the captures of a key that was read."""
        return {name: kind.captured(texts[name]) for name, kind in self.captures.items() if name in texts}

    @property
    def is_literal(self) -> bool:
        """Whether it can match one key alone."""
        return self.node.kind is PatternKind.LITERAL or self.literal is not None

    @cached_property
    def one_ways(self) -> tuple[OneWay | None, ...]:
        """For each variant its regular expression, where it can read a key in one way only."""
        return tuple(map(one_way, self.variants))

    def _read(self, elements: tuple[Element, ...], one: OneWay | None, key: str, stars: bool) -> list[Texts]:
        if one is not None and key and ".." not in key and key[0] != "." != key[-1]:
            texts = one.read(key)
            return [] if texts is None else [texts]
        try:
            return readings(elements, key.split("."), stars)
        except TooLong:
            fail(
                codes.SLOW_REGEX,
                f"this takes too long on `{key}`",
                self.node.span,
                help="narrow the captures, or leave some of them out",
            )

    def bind(self, bindings: Bindings) -> Pattern:
        """Return the pattern with the named captures there replaced by their text; wildcards stay free."""
        here = {name: c.rendered for name, c in bindings.items() if name in self.captures and not is_wildcard(name)}
        if not here or self.regex is not None:
            return self
        bound = (_bound(elements, here) for elements in self.variants)
        variants = tuple(elements for elements in bound if elements is not None)
        captures = {name: kind for name, kind in self.captures.items() if name not in here}
        return Pattern(self.node, captures, variants)

    def _by_regex(self, key: str) -> list[Bindings]:
        assert self.regex is not None
        found = timed(self.regex.fullmatch, key, self.node.span)
        if found is None:
            return []
        groups = {str(i): text for i, text in enumerate(found.groups(), 1)} | found.groupdict()
        return [{n: self.captures[n].captured(t if t is not None else "") for n, t in groups.items()}]


def timed(how: Callable[..., regex.Match[str] | None], text: str, span: Span) -> regex.Match[str] | None:
    """Return what a regular expression finds in a text.

    Raises:
        StatexError: SX154 where that takes too long.
    """
    try:
        return how(text, timeout=REGEX_SECONDS)
    except TimeoutError:
        fail(codes.SLOW_REGEX, f"this takes too long on `{text}`", span)


def _differ(one: Bindings, other: Bindings, stars: bool) -> bool:
    return any(one[n].text != other[n].text for n in one if n in other and (stars or not is_wildcard(n)))


def compile_pattern(node: PatternNode, *, splice: Splicer, known: Mapping[str, CaptureType] | None = None) -> Pattern:
    """Compile a pattern; `splice` gives what stands for `{$name}`, `known` the captures of the statement so far.

    Raises:
        StatexError: 15x and 16x for captures that clash, for arithmetic, and for invalid regular expressions.
    """
    if node.kind is PatternKind.REGEX:
        return _compile_regex(node, splice)
    if node.kind is PatternKind.LITERAL and all(isinstance(p, tree.Text) for p in node.pieces):
        return Pattern(node, {}, (tuple(Literal(s) for s in node.text.split(".")),))
    pieces = spliced(node.pieces, splice)
    captures = _capture_types(pieces, known or {})
    dotted = _dotted_choices(pieces, captures)
    alternatives: list[list[tuple[Place, str | None]]] = [
        [*((place, text) for text in texts), (place, None)] for place, texts in dotted.items()
    ]
    variants: list[tuple[Element, ...]] = []
    for chosen in product(*alternatives):
        if len(variants) > _VARIANTS:
            fail(codes.PART_FORM, "these choices have too many combinations", node.span)
        fixed = {place: text for place, text in chosen if text is not None}
        elements = _Builder(captures, fixed).build(pieces)
        if elements is not None:
            variants.append(elements)
    return Pattern(node, captures, tuple(variants))


_SPLICE = regex.compile(r"(?<!\\)\{\$(\w+)\}")


def _compile_regex(node: PatternNode, splice: Splicer) -> Pattern:
    inside = node.span.start + node.span.text.index("/") + 1

    def value(found: regex.Match[str]) -> str:
        """Return the text of a parameter as an expression that matches it."""
        span = Span(node.span.source, inside + found.start(), inside + found.end())
        text = spliced((tree.Splice(span, found[1]),), splice)
        if not all(isinstance(piece, tree.Text) for piece in text):
            fail(codes.NOT_TEXT, "a regular expression cannot contain a pattern with captures", span)
        return str(regex.escape("".join(piece.text for piece in text if isinstance(piece, tree.Text))))

    written = _SPLICE.sub(value, node.text)
    try:
        compiled = regex.compile(written)
    except regex.error as error:
        at = getattr(error, "pos", None) if written == node.text else None
        start = inside + (at or 0)
        span = Span(node.span.source, min(start, node.span.end - 1), node.span.end) if at is not None else node.span
        fail(codes.BAD_REGEX, f"this is not a regular expression: {error}", span)
    group = CaptureType(CaptureKind.GROUP)
    names = [str(i) for i in range(1, compiled.groups + 1)] + list(compiled.groupindex)
    return Pattern(node, dict.fromkeys(names, group), (), compiled)


def spliced(pieces: tuple[tree.Piece, ...], splice: Splicer) -> list[tree.Piece]:
    """Return pieces with every `{$name}` replaced by text, or by the pieces of a pattern."""
    result: list[tree.Piece] = []
    for piece in pieces:
        if not isinstance(piece, tree.Splice):
            result.append(piece)
            continue
        value = splice(piece)
        if isinstance(value, PatternNode):
            result += spliced(value.pieces, splice)
        else:
            result.append(tree.Text(piece.span, str(value)))
    return result


def _capture_types(pieces: list[tree.Piece], known: Mapping[str, CaptureType]) -> dict[str, CaptureType]:
    types: dict[str, CaptureType] = {}
    stars = 0
    for piece in pieces:
        if isinstance(piece, tree.Star | tree.DoubleStar):
            stars += 1
            many = isinstance(piece, tree.DoubleStar)
            types[wildcard(stars)] = CaptureType(CaptureKind.SEGMENTS if many else CaptureKind.SEGMENT)
        elif isinstance(piece, tree.Capture) and piece.name != "_":
            types[piece.name] = _capture_type(piece, types.get(piece.name) or known.get(piece.name))
        elif isinstance(piece, tree.Field):
            fail(
                codes.FIELD_IN_PATTERN,
                f"`{piece.span.text}` computes, and a pattern only matches",
                piece.span,
                help="match with `{i:int}`, compute on the right of `->`",
            )
    return types


def _dotted_choices(pieces: list[tree.Piece], captures: Mapping[str, CaptureType]) -> dict[Place, list[str]]:
    """Return the texts with dots of each choice; `{_:…}` is a choice of its own wherever it stands."""
    found: dict[Place, list[str]] = {}
    for number, piece in enumerate(pieces):
        if not isinstance(piece, tree.Capture):
            continue
        anonymous = piece.name == "_"
        choices = piece.choices if anonymous else captures[piece.name].choices
        texts = [choice.text for choice in choices if "." in choice.text]
        if texts:
            found[number if anonymous else piece.name] = texts
    return found


def _capture_type(piece: tree.Capture, first: CaptureType | None) -> CaptureType:
    if piece.kind is tree.CaptureForm.PLAIN:
        return first or CaptureType(CaptureKind.SEGMENT)
    own = CaptureType(_KINDS[piece.kind], piece.choices)
    if first is not None and first != own:
        fail(
            codes.CAPTURE_TYPE,
            f"`{piece.name}` is declared twice with different types",
            piece.span,
            help=f"write `{{{piece.name}}}` here, or use another name",
        )
    return own


class _Builder:
    """Makes elements of pieces; `fixed` are the choices with dots that this variant is for."""

    def __init__(self, captures: Mapping[str, CaptureType], fixed: Mapping[Place, str]) -> None:
        self.captures = captures
        self.fixed = fixed
        self.elements: list[Element] = []
        self.atoms: list[Atom] = []
        self.spans: list[Span] = []
        self.many: Many | None = None
        self.stars = 0

    def build(self, pieces: list[tree.Piece]) -> tuple[Element, ...] | None:
        for number, piece in enumerate(pieces):
            if not self._piece(piece, number):
                return None
        self._end_segment()
        if self.elements and isinstance(self.elements[-1], Many):
            self.elements[-1] = replace(self.elements[-1], least=1)
        return tuple(self.elements)

    def _piece(self, piece: tree.Piece, number: int) -> bool:
        if isinstance(piece, tree.Text):
            self._text(piece.text, piece.span)
        elif isinstance(piece, tree.DoubleStar):
            self.stars += 1
            self._many(wildcard(self.stars), piece.span)
        elif isinstance(piece, tree.Star):
            self.stars += 1
            self._atom(Wild(wildcard(self.stars)), piece.span)
        elif isinstance(piece, tree.Capture):
            return self._capture(piece, number)
        return True

    def _capture(self, piece: tree.Capture, number: int) -> bool:
        name = None if piece.name == "_" else piece.name
        kind = self.captures[name] if name is not None else _anonymous(piece)
        fixed = self.fixed.get(number if name is None else name)
        if fixed is not None:
            self._fixed(name, fixed, piece.span)
            return True
        if kind.kind is CaptureKind.SEGMENTS:
            self._many(name, piece.span)
            return True
        choices = tuple(c.text for c in kind.choices if "." not in c.text)
        if kind.kind is CaptureKind.CHOICE and not choices:
            return False
        self._atom(Wild(name, choices, kind.kind is CaptureKind.INT), piece.span)
        return True

    def _fixed(self, name: str | None, text: str, span: Span) -> None:
        first, *rest = text.split(".")
        self._atom(Wild(name, (first,), whole=text), span)
        for segment in rest:
            self._end_segment()
            self._atom(segment, span)

    def _text(self, text: str, span: Span) -> None:
        first, *rest = text.split(".")
        if first:
            self._atom(first, span)
        for segment in rest:
            self._end_segment()
            if segment:
                self._atom(segment, span)

    def _atom(self, atom: Atom, span: Span) -> None:
        if self.many is not None:
            _not_alone(span)
        self.atoms.append(atom)

    def _many(self, name: str | None, span: Span) -> None:
        if self.atoms or self.many is not None:
            _not_alone(span)
        self.many = Many(name)

    def _end_segment(self) -> None:
        if self.many is not None:
            self.elements.append(self.many)
        else:
            self.elements.append(_segment(self.atoms))
        self.atoms, self.many = [], None


def _anonymous(piece: tree.Capture) -> CaptureType:
    return CaptureType(_KINDS.get(piece.kind, CaptureKind.SEGMENT), piece.choices)


def _not_alone(span: Span) -> None:
    fail(codes.SEGMENTS_ALONE, "whole segments stand alone between dots", span, help="put a dot before and after it")


def _bound(elements: tuple[Element, ...], texts: Mapping[str, str]) -> tuple[Element, ...] | None:
    """Return elements with texts for captures, `None` where they are for another choice than the one named."""
    result: list[Element] = []
    for element in elements:
        if isinstance(element, Many) and element.name is not None and element.name in texts:
            result += _literals(texts[element.name])
        elif isinstance(element, Mixed):
            atoms = [_bound_atom(atom, texts) for atom in element.atoms]
            given = [atom for atom in atoms if atom is not None]
            if len(given) < len(atoms):
                return None
            result += _segments(given)
        else:
            result.append(element)
    return tuple(result)


def _bound_atom(atom: Atom, texts: Mapping[str, str]) -> Atom | None:
    if isinstance(atom, str) or atom.name is None or atom.name not in texts:
        return atom
    text = texts[atom.name]
    if atom.whole is None:
        return text
    # The segments after the first follow by themselves.
    return atom.choices[0] if atom.whole == text else None


def _segments(atoms: Sequence[Atom]) -> list[Element]:
    """Return the segments that atoms make, whose texts may have dots."""
    texts = [atom for atom in atoms if isinstance(atom, str)]
    if len(texts) == len(atoms):
        return _literals("".join(texts))
    segments: list[list[Atom]] = [[]]
    for atom in atoms:
        first, *rest = atom.split(".") if isinstance(atom, str) else (atom,)
        segments[-1].append(first)
        segments += [[text] for text in rest]
    return [_segment(one) for one in segments]


def _segment(atoms: Sequence[Atom]) -> Element:
    texts = [atom for atom in atoms if isinstance(atom, str)]
    return Literal("".join(texts)) if len(texts) == len(atoms) else Mixed(tuple(atoms))


def _literals(text: str) -> list[Element]:
    """Return the segments of a text; an empty one takes its dot along."""
    return [Literal(segment) for segment in text.split(".")] if text else []


def below(prefix: PatternNode, node: PatternNode | None) -> PatternNode:
    """Return the pattern (or template) `prefix.node`, or the prefix alone for `None`.

    The stars of the prefix, and what it leaves without a name, become captures with hidden names: the stars of the node
    keep their numbers, and the prefix of a key is known from its match.

    Raises:
        StatexError: SX161 for a regular expression.
    """
    for one in (prefix, node):
        if one is not None and one.kind is PatternKind.REGEX:
            fail(codes.REGEX_WITHIN, "a regular expression cannot be used with `within`", one.span)
    pieces = tuple(_hidden(prefix.pieces))
    if node is None:
        return replace(prefix, pieces=pieces, kind=PatternKind.QUOTED)
    pieces += (tree.Text(prefix.span, "."), *node.pieces)
    return PatternNode(node.span, PatternKind.QUOTED, f"{prefix.text}.{node.text}", pieces)


def _hidden(pieces: tuple[tree.Piece, ...]) -> list[tree.Piece]:
    result: list[tree.Piece] = []
    for number, piece in enumerate(pieces):
        if isinstance(piece, tree.Star):
            result.append(tree.Capture(piece.span, prefix_capture(number)))
        elif isinstance(piece, tree.DoubleStar):
            result.append(tree.Capture(piece.span, prefix_capture(number), tree.CaptureForm.SEGMENTS))
        else:
            result.append(_told(piece, prefix_capture(number)))
    return result


def _told(piece: tree.Piece, name: str) -> tree.Piece:
    """Return a piece, with a name if it is a capture without one."""
    return replace(piece, name=name) if isinstance(piece, tree.Capture) and piece.name == "_" else piece


def all_told(node: PatternNode) -> PatternNode:
    """Return a pattern that captures, under hidden names, also what it leaves without a name."""
    return replace(node, pieces=tuple(_told(piece, f"%_{number}") for number, piece in enumerate(node.pieces)))
