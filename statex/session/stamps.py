"""Versions of layouts in the `_metadata` of a state: that of a migrated one, and those that other rules keep."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from statex.diagnostics import Diagnostic, diagnostic
from statex.diagnostics.codes import lints
from statex.diagnostics.suggest import join_words
from statex.dsl.metadata import STAMP, Metadata
from statex.dsl.plan import Plan
from statex.header import Header


def without_stamp(header: Header, path: str) -> Header:
    """Return a header without the version that is noted for the module at a path."""
    noted = (header.metadata or {}).get(path, {})
    if STAMP not in noted:
        return header
    rest = {name: value for name, value in noted.items() if name != STAMP}
    return replace(header, metadata=OrderedDict(header.metadata or {}) | {path: rest})


def stamped(metadata: Metadata | None, path: str, stamp: Mapping[str, Any]) -> Metadata:
    """Return a `_metadata` that notes a version for the module at a path, beside what else is noted of it."""
    renewed: OrderedDict[str, Mapping[str, object]] = OrderedDict(metadata or {})
    renewed[path] = {**renewed.get(path, {}), STAMP: dict(stamp)}
    return renewed


def kept_stamps(plan: Plan) -> Iterator[Diagnostic]:
    """Yield a warning where rules change a state that carries a version of its layout."""
    paths = [path for path, noted in (plan.metadata or {}).items() if isinstance(noted, Mapping) and STAMP in noted]
    if not paths or plan.changes_nothing:
        return
    where = join_words([f"`{path}`" if path else "the whole state" for path in paths], limit=4)
    yield diagnostic(
        lints.STAMP_KEPT,
        f"the version of the layout is noted for {where}, and may not hold for what the rules make",
        help="make the rules a step of the chain of migrations",
    )
