"""Regular expressions turned round: texts and groups, in the order in which a template has them."""

from __future__ import annotations

import re
from collections.abc import Iterator

from statex.core.record import record
from statex.grammar import factory as make
from statex.grammar import tree
from statex.inverse.swapping import CannotTurnError

_TOKEN = re.compile(
    r"""
    \\ (?P<escaped> [^A-Za-z0-9])
    | \( (?: \?P<(?P<name> \w+)> | (?!\?) ) (?P<body> (?: [^()\\\[\]] | \\. | \[ \^? (?: [^\]\\] | \\. )+ \] )* ) \)
    | (?P<plain> [^\\()\[\]{}.^$*+?|])
    """,
    re.X | re.S,
)


@record
class _Group:
    """A group of an expression: its name, if it has one, and what it matches."""

    name: str | None
    body: str


def turned_regex(source: tree.PatternNode, target: tree.PatternNode) -> tuple[tree.PatternNode, tree.PatternNode]:
    """Return an expression that matches what a template makes, and the template of what the expression matched.

    Raises:
        CannotTurnError: where more than texts and groups stands in the expression, or the template lacks a group.
    """
    parts = list(_parts(source.text))
    groups = [part for part in parts if isinstance(part, _Group)]
    numbered = {str(number): group for number, group in enumerate(groups, 1)}
    named = {group.name: group for group in groups if group.name is not None}
    written: list[str] = []
    order: list[_Group] = []
    for piece in target.pieces:
        if isinstance(piece, tree.Text):
            written.append(re.escape(piece.text))
            continue
        group = _meant(piece, numbered | named)
        if any(group is one for one in order):
            raise CannotTurnError
        order.append(group)
        written.append(f"(?P<{group.name}>{group.body})" if group.name is not None else f"({group.body})")
    if len(order) != len(groups):
        raise CannotTurnError
    template = [part if isinstance(part, str) else _mention(part, order) for part in parts]
    return tree.PatternNode(make.NOWHERE, tree.PatternKind.REGEX, "".join(written), ()), make.pattern(template)


def _parts(text: str) -> Iterator[str | _Group]:
    at, literal = 0, ""
    while at < len(text):
        found = _TOKEN.match(text, at)
        if found is None:
            raise CannotTurnError
        at = found.end()
        if found["body"] is None:
            literal += found["escaped"] or found["plain"]
            continue
        if literal:
            yield literal
        literal = ""
        yield _Group(found["name"], found["body"])
    if literal:
        yield literal


def _meant(piece: tree.Piece, groups: dict[str, _Group]) -> _Group:
    name = ""
    if isinstance(piece, tree.Field) and isinstance(piece.value, tree.Number):
        name = str(piece.value.value)
    elif isinstance(piece, tree.Capture):
        name = piece.name
    if name not in groups:
        raise CannotTurnError
    return groups[name]


def _mention(group: _Group, order: list[_Group]) -> tree.Piece:
    if group.name is not None:
        return make.capture(group.name)
    number = next(place for place, one in enumerate(order, 1) if one is group)
    return tree.Field(make.NOWHERE, make.number(number))
