"""Trees that are changed in places: a new node for those that a function has something else for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, is_dataclass, replace
from typing import Any

from statex.core.source import Span


def rewritten(node: Any, change: Callable[[Any], Any]) -> Any:
    """Return a node with what `change` gives in place of its parts; `None` keeps a part, and looks into it.

    Nodes in which nothing changes are the same objects. What `change` gives is not looked into.
    """
    if isinstance(node, tuple):
        items = [rewritten(one, change) for one in node]
        return node if all(a is b for a, b in zip(items, node, strict=True)) else tuple(items)
    if isinstance(node, Span) or not is_dataclass(node) or isinstance(node, type):
        return node
    found = change(node)
    if found is not None:
        return found
    made = {one.name: rewritten(getattr(node, one.name), change) for one in fields(node)}
    changed = {name: value for name, value in made.items() if value is not getattr(node, name)}
    return replace(node, **changed) if changed else node
