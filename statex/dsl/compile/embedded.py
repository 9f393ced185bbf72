"""Part of a state, by the path of its module: its header alone, and its result put back among the rest."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import TypeVar

from statex.core.header import Header
from statex.dsl.plan.metadata import Metadata, below
from statex.dsl.plan.plan import AROUND, Change, Step

T = TypeVar("T")


def prefix_of(path: str) -> str:
    """Return what the keys of a module begin with; nothing for the whole state."""
    return f"{path}." if path else ""


def inside(header: Header, path: str) -> Header:
    """Return the header of the module at a path: its keys, and what is noted of it, without the path."""
    prefix = prefix_of(path)
    if not prefix:
        return header
    entries = {key[len(prefix) :]: info for key, info in header.entries.items() if key.startswith(prefix)}
    metadata: Metadata | None = None if header.metadata is None else below(header.metadata, prefix)
    return replace(header, entries=entries, metadata=metadata)


def spliced(whole: Mapping[str, T], prefix: str, own: Iterable[tuple[str, T]]) -> Iterator[tuple[str, T]]:
    """Yield the items of a whole with those below a prefix exchanged; they stand where the first of them stood."""
    placed = False
    for key, value in whole.items():
        if not key.startswith(prefix):
            yield key, value
        elif not placed:
            placed = True
            yield from ((f"{prefix}{name}", one) for name, one in own)
    if not placed:
        yield from ((f"{prefix}{name}", one) for name, one in own)


def step_in_whole(step: Step, prefix: str) -> Step:
    """Return a step on part of a state with the keys of the whole."""
    changes = tuple([_in_whole(change, prefix) for change in step.changes])
    return replace(step, changes=changes, made={f"{prefix}{key}": stood for key, stood in step.made.items()})


def _in_whole(change: Change, prefix: str) -> Change:
    """Return a change of part of a state with the keys of the whole; what stands around that is named as it is."""
    if change.kind in AROUND:
        return change
    before, after = (tuple([f"{prefix}{key}" for key in keys]) for keys in (change.before, change.after))
    return Change(change.kind, before, after)
