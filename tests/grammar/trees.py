"""Trees without their places, for comparisons."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import Any

from statex.core.source import Source, Span
from statex.grammar import parse_text


def plain(node: Any) -> Any:
    """Return a node as nested tuples of its kind and its fields, without spans and sources."""
    if isinstance(node, tuple):
        return tuple(plain(item) for item in node)
    if not is_dataclass(node) or isinstance(node, type):
        return node
    values = ((field.name, getattr(node, field.name)) for field in fields(node))
    return (
        type(node).__name__,
        *((name, plain(value)) for name, value in values if not isinstance(value, Span | Source)),
    )


def plain_text(text: str) -> Any:
    """Return the tree of a rule text, without places."""
    return plain(parse_text(text))


def walk(root: Any) -> Iterator[Any]:
    """Yield every node below a node, and the node itself."""
    if isinstance(root, tuple):
        for item in root:
            yield from walk(item)
    elif is_dataclass(root) and not isinstance(root, Span | Source | Enum):
        yield root
        for field in fields(root):
            yield from walk(getattr(root, field.name))
