"""Tables of text: rows whose cells stand below one another on a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from statex.diagnostics.snippet import display_width

_WIDEST = 120
"""A cell of more columns stands out of its row, and does not widen the other rows."""
_LEAST = 16
"""Columns below which no cell is cut, however little room there is."""
_GAP = "  "


def columns(rows: Sequence[Sequence[str]], indent: str = "  ", room: int | None = None) -> list[str]:
    """Return rows of text with their cells aligned.

    Where they have a certain `room`, cells of the widest columns are cut in the middle until all fits, or no column has
    more than 16 characters. Without it nothing is cut, and a cell of more than 120 does not widen the other rows.
    """
    if not rows:
        return []
    width = max(len(row) for row in rows)
    cells = [[(cell, display_width(cell)) for cell in row] for row in rows]
    sizes = [_size([row[i][1] for row in cells if i < len(row)], room) for i in range(width)]
    if room is not None:
        sizes = _fitted(sizes, room - len(indent) - len(_GAP) * (width - 1))
        cells = [[_cut(*cell, size) for cell, size in zip(row, sizes, strict=False)] for row in cells]
    lines = [[text + " " * (size - own) for (text, own), size in zip(row, sizes, strict=False)] for row in cells]
    return [(indent + _GAP.join(row)).rstrip() for row in lines]


def _size(widths: Sequence[int], room: int | None) -> int:
    widest = max(widths, default=0)
    if room is not None or widest <= _WIDEST:
        return widest
    return max((width for width in widths if width <= _WIDEST), default=0)


def _fitted(sizes: Sequence[int], room: int) -> list[int]:
    """Return widths that fit into the room, by making the widest columns equally narrow."""
    found = list(sizes)
    while (over := sum(found) - room) > 0:
        widest = max(found)
        if widest <= _LEAST:
            break
        wide = [place for place, size in enumerate(found) if size == widest]
        below = max((size for size in found if size < widest), default=0)
        less = max(1, min(widest - max(below, _LEAST), over // len(wide)))
        for place in wide[: over if less == 1 else None]:
            found[place] -= less
    return found


def _cut(text: str, width: int, size: int) -> tuple[str, int]:
    """Return a text with its middle left out where it is too wide; of keys, the ends say more than the beginnings."""
    if width <= size:
        return text, width
    head = _start(text, (size - 1) // 3)
    tail = _start(text[::-1], size - 1 - display_width(head))[::-1]
    cut = f"{head}…{tail}"
    return cut, display_width(cut)


def _start(text: str, size: int) -> str:
    """Return as much of the start of a text as fits."""
    found = text[:size]
    while display_width(found) > size:
        found = found[:-1]
    return found
