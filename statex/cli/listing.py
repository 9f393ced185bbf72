"""The rows of `statex show`: one for each tensor, or for several that are folded or summed up."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from typing import TYPE_CHECKING

from statex.cli.output import escape
from statex.core.header import Header, OpaqueInfo, TensorInfo
from statex.core.paths import as_option
from statex.diagnostics.amounts import counted, show_bytes
from statex.diagnostics.folding import Folded, alone, folded, natural, together, without_numbers

if TYPE_CHECKING:
    from statex.execute.statistics import Statistics
    from statex.session.overview import Overview

SORTS = ("order", "name", "size")
_VALUES = 20
"""So many values, and things, beside the states are shown."""
_CHARACTERS = 60
"""Of the text of a value."""
_NARROW = 100
"""Columns below which statistics take the place of types and sizes."""


@dataclass(frozen=True, slots=True)
class ListedEntry:
    """An entry of a state, or all those below a module."""

    key: str
    kind: str
    nbytes: int
    role: str = ""
    tied: str = ""
    members: int = 1
    statistics: Statistics | None = None


@dataclass(frozen=True)
class Listing:
    """How entries are listed: whether they are folded, how deep, in which order, and what is known of them."""

    fold: bool = True
    depth: int | None = None
    sort: str = "order"
    roles: Mapping[str, str] = field(default_factory=dict)
    statistics: Mapping[str, Statistics] | None = None

    def table(self, entries: Mapping[str, TensorInfo | OpaqueInfo], room: int | None) -> list[tuple[str, ...]]:
        """Return the cells of all rows."""
        rows = self._rows(entries)
        if self.depth is not None:
            rows = _summed(rows, self.depth)
        if self.sort == "name":
            rows.sort(key=lambda row: natural(row.key))
        groups = folded(rows, lambda row: row.key, _alike) if self.fold else alone(rows, lambda row: row.key)
        if self.sort == "size":
            groups.sort(key=lambda group: -sum(row.nbytes for row in group.rows))
        if self.statistics is None:
            return [_cells(group) for group in groups]
        brief = room is not None and room < _NARROW
        head = ("", *(() if brief else ("", "")), "min", "max", "mean", "std")
        return [head, *(_with_statistics(group, brief) for group in groups)] if groups else []

    def _rows(self, entries: Mapping[str, TensorInfo | OpaqueInfo]) -> list[ListedEntry]:
        rows = []
        first: dict[object, str] = {}
        known = self.statistics or {}
        for key, info in entries.items():
            if isinstance(info, OpaqueInfo):
                rows.append(ListedEntry(key, info.kind, 0, self.roles.get(key, "")))
                continue
            role = self.roles.get(key, "parameter" if info.is_parameter else "")
            other = first.setdefault(info.identity, key) if info.identity is not None else key
            tied = other if other != key else ""
            rows.append(ListedEntry(key, str(info.type), info.type.nbytes, role, tied, 1, known.get(key)))
        return rows


def _alike(row: ListedEntry) -> tuple[str, str, str, int]:
    return row.kind, row.role, without_numbers(row.tied), row.members


def _summed(rows: Sequence[ListedEntry], depth: int) -> list[ListedEntry]:
    """Return one row for all that is below a module at a depth."""
    modules: dict[str, list[ListedEntry]] = {}
    for row in rows:
        segments = row.key.split(".")
        deep = len(segments) > depth
        modules.setdefault(".".join([*segments[:depth], "**"]) if deep else row.key, []).append(row)
    return [members[0] if members[0].key == key else _sum(key, members) for key, members in modules.items()]


def _sum(key: str, members: Sequence[ListedEntry]) -> ListedEntry:
    kinds = ", ".join(dict.fromkeys(row.kind.partition("[")[0] for row in members))
    return ListedEntry(
        key, kinds, sum(row.nbytes for row in members), members=len(members), statistics=_joined(members),
        role=counted(len(members), "key"),
    )  # fmt: skip


def _joined(rows: Sequence[ListedEntry]) -> Statistics | None:
    found = None
    for row in rows:
        if row.statistics is not None:
            found = row.statistics if found is None else found.joined(row.statistics)
    return found


def _cells(group: Folded[ListedEntry]) -> tuple[str, ...]:
    size = sum(row.nbytes for row in group.rows)
    kind = group.rows[0].kind
    is_tensor = size or "[" in kind
    return group.key, kind, show_bytes(size) if is_tensor else "", _remarks(group)


def _remarks(group: Folded[ListedEntry], *further: str) -> str:
    first, several = group.rows[0], len(group.rows) > 1
    remarks = [
        f"x {len(group.rows)}" if several else "",
        f"{first.role} each" if several and first.members > 1 else first.role,
        f"tied to {together([row.tied for row in group.rows])}" if first.tied else "",
        *further,
    ]
    return ", ".join(remark for remark in remarks if remark)


def _with_statistics(group: Folded[ListedEntry], brief: bool) -> tuple[str, ...]:
    found = _joined(group.rows)
    key, kind, size, _ = _cells(group)
    lead = (key,) if brief else (key, kind, size)
    if found is None:
        return (*lead, "", "", "", "", _remarks(group))
    counts = [f"{number} {what}" for number, what in ((found.nan, "NaN"), (found.inf, "inf")) if number]
    some = found.finite > 0
    shown = [found.least, found.most, found.mean, found.std]
    return (*lead, *(_number(one) if some and one is not None else "-" for one in shown), _remarks(group, *counts))


def _number(value: float) -> str:
    return str(value) if isinstance(value, int) and abs(value) < 10**7 else f"{value:.3g}"


def dtypes(tensors: Sequence[TensorInfo]) -> dict[str, tuple[int, int]]:
    """Return for each dtype how many tensors have it and their bytes, the largest first."""
    found: dict[str, tuple[int, int]] = {}
    for info in tensors:
        count, nbytes = found.get(info.type.dtype.short, (0, 0))
        found[info.type.dtype.short] = count + 1, nbytes + info.type.nbytes
    return dict(sorted(found.items(), key=lambda item: -item[1][1]))


def totals(entries: Mapping[str, TensorInfo | OpaqueInfo]) -> str:
    """Return how many tensors there are and how large they are, as a whole and by dtype."""
    tensors = [info for info in entries.values() if isinstance(info, TensorInfo)]
    others = len(entries) - len(tensors)
    more = f" and {counted(others, 'other entry', 'other entries')}" if others else ""
    text = f"{counted(len(tensors), 'tensor')}{more}, {show_bytes(sum(info.type.nbytes for info in tensors))}"
    kinds = dtypes(tensors)
    if len(kinds) > 1:
        text += f" ({', '.join(f'{name} {show_bytes(nbytes)}' for name, (_, nbytes) in kinds.items())})"
    elif kinds:
        text += f", all {next(iter(kinds))}" if len(tensors) > 1 else ""
    seen = {info.identity for info in tensors if info.identity is not None}
    alone = sum(info.identity is None for info in tensors)
    tied = len(tensors) - alone - len(seen)
    return text + (f", {tied} of them tied" if tied else "")


def versions(header: Header, *, fold: bool) -> Iterator[str]:
    """Yield lines for the versions of their layouts that modules with chains of migrations have noted."""
    from statex.checkpoint.formats.stamps import noted, said

    stamps = [(path, said(one)) for path, one in noted(header.metadata).items()]
    groups = folded(stamps, itemgetter(0), itemgetter(1)) if fold else alone(stamps, itemgetter(0))
    for group in groups[:_VALUES]:
        yield f"  {escape(group.key) or 'the state'}: {group.rows[0][1]}"
    yield from _more(len(groups), "version")


def beside(found: Overview) -> Iterator[str]:
    """Yield lines for the values of a checkpoint, its metadata, and what else stands beside its states."""
    for name, value in list(found.values.items())[:_VALUES]:
        yield f"  {escape(name)} = {escape(_short(repr(value)))}"
    yield from _more(len(found.values), "value")
    # The library writes them in another order each time.
    texts = sorted((name, text) for name, text in found.metadata_texts.items() if name != "format")
    for name, text in texts[:_VALUES]:
        yield f"  metadata: {escape(name)} = {escape(_short(repr(text)))}"
    yield from _more(len(texts), "text")
    things = {name: part for name, part in found.around.items() if name not in found.values}
    for name, part in list(things.items())[:_VALUES]:
        yield f"  around the state: {escape(name)} ({_what(part)})"
    yield from _more(len(things), "object")


def _short(text: str) -> str:
    return text if len(text) <= _CHARACTERS else f"{text[: _CHARACTERS - 1]}…"


def _what(part: object) -> str:
    from statex.session.overview import described, tensors_in

    tensors = tensors_in(part)
    size = show_bytes(sum(info.type.nbytes for info in tensors))
    if isinstance(part, TensorInfo):
        return f"{described(part)}, {size}"
    return escape(described(part)) + (f"; {counted(len(tensors), 'tensor')}, {size}" if tensors else "")


def _more(count: int, what: str) -> Iterator[str]:
    if count > _VALUES:
        yield f"  and {counted(count - _VALUES, f'more {what}')}"


def further(found: Overview) -> Iterator[str]:
    """Yield lines for what else could be named as the root, inside the states that are shown or beside them."""
    for root, tensors in list(found.further.items())[:_VALUES]:
        size = show_bytes(sum(info.type.nbytes for info in tensors))
        yield f"  another root: {counted(len(tensors), 'tensor')}, {size}: --root {escape(as_option(root))}"
    if len(found.further) > _VALUES:
        yield f"  and {counted(len(found.further) - _VALUES, 'more root')}"
