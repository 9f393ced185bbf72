"""Help for a rename that would leave a key empty, or with an empty segment."""

from __future__ import annotations

import re

from statex.core.source import Span
from statex.dsl.keys.quoting import show_text
from statex.grammar import tree


def instead(node: tree.Rename | None, row: Span, old: str, new: str) -> str:
    """Return the help for a row that makes a key empty, or a segment of it."""
    found = next((one for one in node.rows if one.span == row), None) if node is not None else None
    if node is None or found is None:
        return ""
    if not new:
        return f"leave this key as it is: `where key != {show_text(old)}`" if node.where is None else ""
    if found.target.text or any(not isinstance(piece, tree.Text) for piece in found.source.pieces):
        return ""
    text = found.source.text
    longer = _with_dots(node.mode, text, old)
    return f"include the dot: write `{show_text(longer)} -> ''`" if longer not in ("", text) else ""


def _with_dots(mode: tree.RenameMode, text: str, key: str) -> str:
    """Return a text that is taken out of a key with the dots beside it, such that no empty segment is left."""
    quoted = re.escape(text)
    if mode is tree.RenameMode.PREFIX:
        found = re.match(rf"{quoted}\.+(?=.)", key)
    elif mode is tree.RenameMode.SUFFIX:
        found = re.search(rf"(?<=[^.])\.+{quoted}\Z", key)
    elif mode is tree.RenameMode.TEXT:
        # With its left dot a text can be taken out of the middle and of the end, with its right one of the start.
        found = re.search(rf"(?<=[^.])\.+{quoted}(?=\.|\Z)", key) or re.match(rf"{quoted}\.+(?=.)", key)
    else:
        found = None
    return found.group() if found is not None else ""
