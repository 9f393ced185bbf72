"""Tables of text: rows whose cells stand below one another on a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from statex.diagnostics.snippet import display_width


def columns(rows: Sequence[Sequence[str]], indent: str = "  ") -> list[str]:
    """Return rows of text with their cells aligned."""
    if not rows:
        return []
    width = max(len(row) for row in rows)
    sizes = [max((display_width(row[i]) for row in rows if i < len(row)), default=0) for i in range(width)]
    cells = [
        [cell + " " * (size - display_width(cell)) for cell, size in zip(row, sizes, strict=False)] for row in rows
    ]
    return [(indent + "  ".join(row)).rstrip() for row in cells]
