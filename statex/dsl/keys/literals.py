"""Literal text on the right of `->` that looks like a template: what would be filled in, were it written as one."""

from __future__ import annotations

import re
from collections.abc import Container, Mapping

from statex.core.source import Span
from statex.diagnostics import Diagnostic, diagnostic
from statex.diagnostics.codes import patterns as codes
from statex.dsl.keys.captures import CaptureType, is_wildcard
from statex.grammar.quoted import in_double_quotes
from statex.grammar.tree import PatternKind, PatternNode

_PLACE = re.compile(r"\{[^{}]*\}|\*+")
_NAME = re.compile(r"\$?[A-Za-z_]\w*")


def literal_captures(
    node: PatternNode, captures: Mapping[str, CaptureType], constants: Container[str]
) -> list[Diagnostic]:
    """Return the diagnostic for a literal that holds what its pattern binds, or a name of the program; else nothing."""
    if node.kind is not PatternKind.LITERAL:
        return []
    places = [found for found in _PLACE.finditer(node.text) if _is_bound(found.group(), captures, constants)]
    if not places:
        return []
    means = _template(node.text, places)
    return [
        diagnostic(
            codes.LITERAL_CAPTURE,
            f"nothing is filled in for `{places[0].group()}` between single quotes",
            node.span,
            help=[_line_with(node.span, means), f"if the characters are meant: `{in_double_quotes(node.text)}`"],
        )
    ]


def _is_bound(place: str, captures: Mapping[str, CaptureType], constants: Container[str]) -> bool:
    if place[0] == "*":
        return any(is_wildcard(name) for name in captures)
    inside = place[1:-1].strip()
    if inside.isdigit():
        return inside in captures
    names = _NAME.findall(inside.partition(":")[0])
    return bool(names) and all(
        any(one in captures or one in constants for one in (name, name.removeprefix("$"))) for name in names
    )


def _template(text: str, places: list[re.Match[str]]) -> str:
    """Return the text as a template in double quotes, in which these places are filled in."""
    parts: list[str] = []
    at = 0
    for place in places:
        parts += [in_double_quotes(text[at : place.start()])[1:-1], in_double_quotes(place.group(), marks="")[1:-1]]
        at = place.end()
    return f'"{"".join(parts)}{in_double_quotes(text[at:])[1:-1]}"'


def _line_with(span: Span, instead: str) -> str:
    """Return the line a literal stands in, with something else in its place."""
    text = span.source.text
    start, end = text.rfind("\n", 0, span.start) + 1, text.find("\n", span.end)
    before = text[start : span.start] + span.text.partition("'")[0]
    return (before + instead + text[span.end : end if end >= 0 else len(text)]).strip()
