"""Versions of layouts in the `_metadata` of a state: those of migrated states, and those that other rules keep."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from statex.checkpoint.formats.stamps import as_text, noted, states
from statex.core.header import Header
from statex.core.quoting import show_label
from statex.diagnostics import Diagnostic, diagnostic
from statex.diagnostics.codes import lints
from statex.diagnostics.suggest import join_words
from statex.dsl.plan.metadata import STAMP, Metadata
from statex.dsl.plan.plan import Plan


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


def kept_stamps(plan: Plan, tree: Any) -> Iterator[Diagnostic]:
    """Yield a warning where rules change a state that carries a version of its layout; dicts in its tree count too."""
    inner = [(prefix, noted(metadata)) for prefix, metadata in states(tree) if prefix]
    paths = [
        *noted(plan.metadata),
        *(".".join((*prefix, path)).rstrip(".") for prefix, found in inner for path in found),
    ]
    if not paths or plan.changes_nothing:
        return
    where = join_words([f"`{path}`" if path else "the whole state" for path in paths], limit=4)
    yield diagnostic(
        lints.STAMP_KEPT,
        f"the version of the layout is noted for {where}, and may not hold for what the rules make",
        help="make the rules a step of the chain of migrations",
    )


def with_stamps(plan: Plan) -> Mapping[str, str]:
    """Return the texts beside the tensors of an output, with one for the versions that the plan carries."""
    text = as_text(plan.metadata)
    return {**plan.metadata_texts, STAMP: text} if text else plan.metadata_texts


def unread_stamps(texts: Mapping[str, str], label: str) -> Iterator[Diagnostic]:
    """Yield a warning where a text looks like versions and was not read as such; any other text is somebody else's."""
    if texts.get(STAMP, "").lstrip().startswith("{"):
        yield diagnostic(
            lints.STAMP_UNREAD,
            f"the entry `{STAMP}` in the `__metadata__` of {show_label(label)} "
            "is not a version of a layout that can be read",
            notes=["it stays as it is, and the state counts as one without a version"],
        )
