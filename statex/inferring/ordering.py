"""The order of keys: `order natural`, where that is the new one and the rules alone give another."""

from __future__ import annotations

from statex.diagnostics import StatexError
from statex.grammar import factory as make
from statex.grammar.printer import show
from statex.inferring.planning import planned
from statex.inferring.sides import CheckpointSide


def ordered(text: str, old: CheckpointSide, new: CheckpointSide) -> str:
    """Return rules with what puts the keys in order, if one statement does."""
    if not new.opened.format.keeps_metadata:
        return text  # such formats have an order of their own
    wanted = list(new.header.entries)
    sorted_too = f"{text}{show(make.order())}\n"
    if _order(text, old) == wanted or _order(sorted_too, old) != wanted:
        return text
    return sorted_too


def _order(text: str, old: CheckpointSide) -> list[str] | None:
    try:
        return list(planned(text, old.header).outputs)
    except StatexError:
        # What is wrong with the rules is said by their proof.
        return None
