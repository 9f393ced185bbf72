"""Digests of rules: of their meaning, not of how they are written."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from enum import Enum
from typing import Any

from statex.core.source import Span
from statex.dsl.parts import ProgramPart
from statex.grammar import parse, tree
from statex.grammar.rulefiles import Load

SCHEME = 1
"""The version of what is digested; a change of it makes other digests of the same rules."""
_LENGTH = 32
"""Hexadecimal digits that are kept."""
_WITHOUT_MEANING = {("Rename", "is_table")}
"""Fields that say how a node was written: a table of one row is that row."""


def digest(parts: Iterable[ProgramPart], load: Load) -> str:
    """Return the digest of the rules of one step, included files with them; `load` reads these.

    Comments, blanks, line ends, the kind of quotes and the names of files do not count.
    """
    meant = [_statements(part.program.statements, part.folder, load) for part in parts]
    text = json.dumps([statement for one in meant for statement in one], separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:_LENGTH]


def _statements(nodes: Iterable[tree.Statement], folder: str, load: Load) -> list[Any]:
    return [_plain(node, folder, load) for node in nodes]


def _plain(value: Any, folder: str, load: Load) -> Any:
    """Return a node as plain data; what a field is by default is left out, so that new fields change no digest."""
    match value:
        case tree.Include():
            source = load(folder, value.path.value)
            inner = _statements(parse(source).statements, source.name.rpartition("/")[0] or ".", load)
            bindings = {one.name.name: _plain(one.value, folder, load) for one in value.bindings}
            return ["Include", {"rules": inner, "with": sorted(bindings.items())}]
        case tree.PatternNode():
            return _pattern(value, folder, load)
        case tree.String():
            pattern = value.pattern
            literal = pattern is None or all(isinstance(piece, tree.Text) for piece in pattern.pieces)
            return ["String", {"value": value.value} if literal else {"pattern": _plain(pattern, folder, load)}]
        case Enum():
            return value.value
        case tuple() | list():
            return [_plain(one, folder, load) for one in value]
    if is_dataclass(value) and not isinstance(value, type):
        return [type(value).__name__, _fields(value, lambda one: _plain(one, folder, load))]
    return value


def _fields(node: Any, plain: Callable[[Any], Any]) -> Mapping[str, Any]:
    kind = type(node).__name__
    values = [(field, getattr(node, field.name)) for field in fields(node)]
    return {
        field.name: plain(value)
        for field, value in values
        if not isinstance(value, Span)
        and (kind, field.name) not in _WITHOUT_MEANING
        and (field.default is MISSING or value != field.default)
    }


def _pattern(node: tree.PatternNode, folder: str, load: Load) -> list[Any]:
    if node.kind is tree.PatternKind.REGEX:
        return ["Regex", node.input, node.text]
    pieces: list[Any] = []
    for piece in node.pieces:
        if isinstance(piece, tree.Text) and pieces and isinstance(pieces[-1], str):
            pieces[-1] += piece.text
        else:
            pieces.append(piece.text if isinstance(piece, tree.Text) else _plain(piece, folder, load))
    return ["Pattern", node.input, pieces]
