"""Entries that statex recognises but does not read: they can be dropped, but not written."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from statex.core.record import record
from statex.diagnostics import fail
from statex.diagnostics.codes import files as codes
from statex.diagnostics.suggest import join_words


@record
class Unread:
    """An entry that is not read: its key, and why that is, as the end of a sentence."""

    key: str
    why: str


def refuse_unread(leaves: Iterable[Any]) -> None:
    """Refuse to write what was not read.

    Raises:
        StatexError: SX614 with every key.
    """
    found = [leaf for leaf in leaves if isinstance(leaf, Unread)]
    if found:
        fail(
            codes.CANNOT_HOLD,
            f"{join_words([f'`{one.key}`' for one in found], limit=3)}: {found[0].why}",
            help=["leave them out: drop, or take a part alone: root 'model' -> ''"],
        )
