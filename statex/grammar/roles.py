"""The roles of the fields of nodes: patterns that bind captures, templates to fill in, expressions to evaluate.

Every field that holds a pattern, an expression, a name or further nodes is here, once; who walks a program asks for
the fields of a role instead of knowing the statements.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import Enum
from typing import Any

from statex.grammar import tree


class Role(Enum):
    """What a field of a node is for."""

    BINDING = "binding"
    """A pattern over keys; its captures are known to the templates and expressions of the statement."""
    TEMPLATE = "template"
    """Captures are filled into it."""
    READING = "reading"
    """An expression."""
    ASKED = "asked"
    """A pattern inside an expression: what the statement has bound stands for its text there."""
    CARRIED = "carried"
    """A text that may be a pattern; which of its names are bound is known where it is put in."""
    NAMING = "naming"
    """A pattern over names that are not keys; it binds nothing."""
    DEFINED = "defined"
    """A name that gets its meaning here."""
    USED = "used"
    """A name of a macro, an input or a capture that is looked up."""
    WORD = "word"
    """A word of the language."""
    PART = "part"
    """Nodes that have fields of their own."""
    BODY = "body"
    """Statements."""


_EVALUATED = {"value": Role.READING, "where": Role.READING, "compute": Role.READING}

FIELDS: Mapping[type, Mapping[str, Role]] = {
    tree.Rename: {"rows": Role.PART, "where": Role.READING},
    tree.Row: {"source": Role.BINDING, "target": Role.TEMPLATE},
    tree.Renumber: {"pattern": Role.BINDING, "where": Role.READING},
    tree.Set: {"targets": Role.BINDING, "each": Role.BINDING, **_EVALUATED},
    tree.Add: {"each": Role.BINDING, "target": Role.TEMPLATE, "value": Role.READING, "where": Role.READING},
    tree.Copy: {"source": Role.BINDING, "target": Role.TEMPLATE, "where": Role.READING},
    tree.Drop: {"patterns": Role.BINDING, "where": Role.READING},
    tree.ValueOf: {"path": Role.WORD},
    tree.MetadataOf: {"pattern": Role.NAMING},
    tree.SetValue: {"places": Role.PART, "value": Role.READING},
    tree.AddValue: {"place": Role.PART, "value": Role.READING},
    tree.DropValue: {"places": Role.PART},
    tree.Split: {"source": Role.BINDING, "over": Role.DEFINED, "targets": Role.TEMPLATE, **_EVALUATED},
    tree.MergeSource: {"pattern": Role.BINDING, "name": Role.DEFINED},
    tree.Merge: {"sources": Role.PART, "over": Role.USED, "target": Role.TEMPLATE, **_EVALUATED},
    tree.Param: {"name": Role.DEFINED, "type": Role.WORD, "default": Role.READING, "path": Role.WORD},
    tree.Let: {"name": Role.DEFINED, "value": Role.READING},
    tree.Input: {"name": Role.DEFINED, "root": Role.WORD},
    tree.Binding: {"name": Role.WORD, "value": Role.READING},
    tree.Include: {"path": Role.WORD, "bindings": Role.PART},
    tree.Macro: {"name": Role.DEFINED, "parameters": Role.DEFINED, "body": Role.BODY},
    tree.Use: {"name": Role.USED, "arguments": Role.PART},
    tree.Within: {"pattern": Role.BINDING, "body": Role.BODY},
    tree.If: {"condition": Role.READING, "then": Role.BODY, "otherwise": Role.BODY},
    tree.Root: {"path": Role.WORD, "target": Role.WORD},
    tree.Follow: {"paths": Role.WORD},
    tree.Order: {"like": Role.USED},
    tree.ExpectKeys: {"pattern": Role.BINDING},
    tree.ExpectEach: {"pattern": Role.BINDING, "value": Role.READING},
    tree.ExpectSame: {"pattern": Role.BINDING, "other": Role.READING},
    tree.Expect: {"condition": Role.READING},
    tree.Allow: {"patterns": Role.BINDING},
    # Terms; those that are not here hold expressions alone.
    tree.Argument: {"value": Role.READING},
    tree.Field: {"value": Role.READING},
    tree.KeyRef: {"key": Role.TEMPLATE},
    tree.Matches: {"value": Role.READING, "pattern": Role.ASKED},
    tree.Query: {"pattern": Role.ASKED},
    tree.String: {"pattern": Role.CARRIED},
}
"""The fields of nodes with their roles, in the order in which they are looked at."""

_SET_FOR_EACH = {**FIELDS[tree.Set], "targets": Role.TEMPLATE}


def of(node: Any, role: Role) -> Iterator[Any]:
    """Yield what a node and its parts hold in fields of a role, each node of a tuple by itself."""
    # After `set … for PATTERN` the keys are those that the pattern's captures are filled into.
    for_each = isinstance(node, tree.Set) and node.each is not None
    names, parts = _fields(type(node), role, for_each)
    for name in names:
        held = getattr(node, name)
        if isinstance(held, tuple):
            yield from held
        elif held is not None:
            yield held
    for name in parts:
        held = getattr(node, name)
        for part in held if isinstance(held, tuple) else (held,):
            yield from of(part, role)


_FOUND: dict[tuple[type, Role, bool], tuple[tuple[str, ...], tuple[str, ...]]] = {}


def _fields(kind: type, role: Role, for_each: bool) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the fields of this role, and those that hold parts."""
    if (kind, role, for_each) not in _FOUND:
        fields = _SET_FOR_EACH if for_each else FIELDS.get(kind, {})
        own = tuple(name for name, one in fields.items() if one is role)
        parts = tuple(name for name, one in fields.items() if one is Role.PART)
        _FOUND[kind, role, for_each] = own, parts
    return _FOUND[kind, role, for_each]


def has_current(node: tree.Statement) -> bool:
    """Say whether the expressions of a statement have a current tensor, with its key: one that its patterns match."""
    return any(True for _ in of(node, Role.BINDING))
