"""Versions that modules with a chain of migrations have noted of a state, and rules that know nothing of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from statex.checkpoint.stamps import as_text, noted, states
from statex.diagnostics import Diagnostic, diagnostic
from statex.diagnostics.codes import lints
from statex.diagnostics.suggest import join_words
from statex.dsl.metadata import STAMP
from statex.dsl.plan import Plan


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


def with_stamps(notes: Mapping[str, str], plan: Plan) -> Mapping[str, str]:
    """Return the texts beside the tensors of an output, with one for the versions that the plan carries."""
    text = as_text(plan.metadata)
    return {**notes, STAMP: text} if text else notes


def unread_stamps(notes: Mapping[str, str], label: str) -> Iterator[Diagnostic]:
    """Yield a warning where a text looks like versions and was not read as such; any other text is somebody else's."""
    if notes.get(STAMP, "").lstrip().startswith("{"):
        yield diagnostic(
            lints.STAMP_UNREAD,
            f"the entry `{STAMP}` in the `__metadata__` of `{label}` is not a version of a layout that can be read",
            notes=["it stays as it is, and the state counts as one without a version"],
        )
