"""The bytes of planned outputs: the layout of each file as a table."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import TYPE_CHECKING

from statex.diagnostics.amounts import show_bytes
from statex.diagnostics.escape import escape
from statex.diagnostics.suggest import join_words
from statex.diagnostics.tables import columns

if TYPE_CHECKING:
    from statex.checkpoint.blobs.write_plan import FilePart, FilePlan, WritePlan

_FEW = 3
"""So many things that stand beside one another are named."""


def layout_lines(label: str, plan: WritePlan, room: int | None) -> Iterator[str]:
    """Yield the layout of an output: of every file its size, and what stands where.

    Headers beside one another are one row. `label` is what the output is called, if it is more than one file.
    """
    several = len(plan.files) > 1 or plan.format.is_folder
    for file in plan.files:
        name = f"{label}/{file.name}" if several else file.name
        yield f"{escape(name)}: {show_bytes(file.nbytes)}"
        yield from columns([_row(list(parts)) for parts in _rows(file)], room=room)


def _rows(file: FilePlan) -> Iterator[Iterable[FilePart]]:
    """Yield the parts that are one row: those of a tensor, or all up to the next one."""
    for of_tensors, parts in groupby(file.parts, key=lambda part: bool(part.keys)):
        if of_tensors:
            yield from ([part] for part in parts)
        else:
            yield parts


def _row(parts: list[FilePart]) -> tuple[str, ...]:
    first = parts[0]
    offset = f"{first.offset:>12}" if first.offset is not None else f"{'?':>12}"
    nbytes = f"{sum([part.nbytes for part in parts]):>12}"
    if first.keys:
        return offset, nbytes, escape(join_words(first.keys, limit=_FEW))
    return offset, nbytes, f"({escape(join_words(list(dict.fromkeys(part.what for part in parts)), limit=_FEW))})"
