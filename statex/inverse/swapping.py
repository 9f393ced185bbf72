"""Patterns and templates with their parts exchanged: what a template says becomes the pattern, and the other way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from statex.grammar import factory as make
from statex.grammar import tree


class CannotTurnError(Exception):
    """A statement whose text does not say how it is undone."""


_Captures = Mapping[str, tree.Capture]
_Shifts = dict[str, tree.Expr]
"""For each number what it is by the new capture of its name, where that is another number."""


def swapped(source: tree.PatternNode, target: tree.PatternNode) -> tuple[tree.PatternNode, tree.PatternNode]:
    """Return a pattern that matches what the template makes, and a template that makes of it what the pattern matched.

    Raises:
        CannotTurnError: where the template has not all that the pattern captures, or a regular expression stands.
    """
    _check(source)
    _check(target)
    captures = _captures(source)
    shifts: _Shifts = {}
    pattern = _pattern(target, captures, _stars(source), shifts)
    return pattern, _template(source, target, shifts, None)


def as_pattern(
    target: tree.PatternNode, sources: Sequence[tree.PatternNode], numbered: str | None = None
) -> tree.PatternNode:
    """Return a pattern that matches what a template makes; its captures are those of these patterns.

    `numbered` is a capture of numbers that none of the patterns has.
    """
    for one in (target, *sources):
        _check(one)
    captures: dict[str, tree.Capture] = {}
    for source in sources:
        captures = {**_captures(source), **captures}
    if numbered is not None:
        captures[numbered] = make.capture(numbered, tree.CaptureForm.INT)
    stars = _stars(sources[0]) if sources else []
    return _pattern(target, captures, stars, {})


def as_template(
    source: tree.PatternNode, target: tree.PatternNode, free: tree.Capture | None = None
) -> tree.PatternNode:
    """Return a pattern as the template of what it matched, from captures that another template has.

    `free` is a capture that this one does not have: it stays as it is written.
    """
    _check(source)
    _check(target)
    shifts: _Shifts = {}
    captures = _captures(source)
    for piece in target.pieces:
        if isinstance(piece, tree.Field):
            _counted(piece, captures, set(), shifts)
    return _template(source, target, shifts, free)


def _check(node: tree.PatternNode) -> None:
    if node.kind is tree.PatternKind.REGEX or node.input is not None:
        raise CannotTurnError


def _captures(source: tree.PatternNode) -> dict[str, tree.Capture]:
    found: dict[str, tree.Capture] = {}
    for piece in source.pieces:
        if isinstance(piece, tree.Capture):
            found.setdefault(piece.name, piece)
    return found


def _stars(source: tree.PatternNode) -> list[tree.Piece]:
    return [piece for piece in source.pieces if isinstance(piece, tree.Star | tree.DoubleStar)]


def _pattern(
    target: tree.PatternNode, captures: _Captures, stars: Sequence[tree.Piece], shifts: _Shifts
) -> tree.PatternNode:
    pieces: list[tree.Piece | str] = []
    seen: set[str] = set()
    star = 0
    for piece in target.pieces:
        if isinstance(piece, tree.Star | tree.DoubleStar):
            if star >= len(stars):
                raise CannotTurnError
            pieces.append(stars[star])
            star += 1
        elif isinstance(piece, tree.Capture):
            pieces.append(_captured(piece, captures, seen))
        elif isinstance(piece, tree.Field):
            pieces.append(_counted(piece, captures, seen, shifts))
        else:
            pieces.append(piece)
    return _node(pieces)


def _captured(piece: tree.Capture, captures: _Captures, seen: set[str]) -> tree.Capture:
    own = captures.get(piece.name, piece if piece.choices else None)
    if own is None:
        raise CannotTurnError
    if piece.name in seen:
        return make.capture(piece.name)
    seen.add(piece.name)
    choices = tuple([tree.Choice(one.value, one.text) for one in own.choices])
    return replace(own, span=make.NOWHERE, choices=choices)


def _counted(piece: tree.Field, captures: _Captures, seen: set[str], shifts: _Shifts) -> tree.Piece:
    """Return the capture of a number that a template computes of one, and note how it is computed back."""
    value = piece.value
    name = value.name if isinstance(value, tree.Name) else None
    if isinstance(value, tree.Binary) and value.operator in ("+", "-"):
        left, right = value.left, value.right
        if isinstance(left, tree.Name) and left.name in captures:
            name, back = left.name, {"+": "-", "-": "+"}[value.operator]
            shifts[name] = make.binary(make.name(name), back, right)
        elif isinstance(right, tree.Name) and right.name in captures:
            name, own = right.name, make.name(right.name)
            # n = a + i: i = n - a; n = a - i: i = a - n.
            shifts[name] = make.binary(own, "-", left) if value.operator == "+" else make.binary(left, "-", own)
    if name is None or name not in captures or name in seen:
        raise CannotTurnError
    seen.add(name)
    return make.capture(name, tree.CaptureForm.INT)


def _template(
    source: tree.PatternNode, target: tree.PatternNode, shifts: _Shifts, free: tree.Capture | None
) -> tree.PatternNode:
    named = {piece.name for piece in target.pieces if isinstance(piece, tree.Capture)}
    named |= {name for piece in target.pieces if isinstance(piece, tree.Field) for name in _names(piece.value)}
    if len(_stars(target)) < len(_stars(source)):
        raise CannotTurnError
    pieces: list[tree.Piece | str] = []
    for piece in source.pieces:
        if not isinstance(piece, tree.Capture):
            pieces.append(piece)
        elif free is not None and piece.name == free.name:
            pieces.append(free if free.choices else make.capture(free.name))
        elif piece.name not in named or piece.name == "_":
            raise CannotTurnError
        elif piece.name in shifts:
            pieces.append(tree.Field(make.NOWHERE, shifts[piece.name]))
        else:
            pieces.append(make.capture(piece.name))
    return _node(pieces)


def _names(value: tree.Expr) -> list[str]:
    if isinstance(value, tree.Name):
        return [value.name]
    return [*_names(value.left), *_names(value.right)] if isinstance(value, tree.Binary) else []


def _node(pieces: Sequence[tree.Piece | str]) -> tree.PatternNode:
    if all(isinstance(piece, tree.Text) for piece in pieces):
        return make.key("".join(piece.text for piece in pieces if isinstance(piece, tree.Text)))
    return make.pattern(pieces)
