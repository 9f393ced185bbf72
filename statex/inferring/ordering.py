"""The order of keys: `order natural`, where that is the new one and the rules alone give another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from statex.core.header import Header
from statex.diagnostics import StatexError
from statex.dsl.statements.select import natural
from statex.grammar import factory as make
from statex.grammar.printer import show
from statex.inferring.sides import CheckpointSide, TensorSide
from statex.relating.planning import NO_INPUTS, planned


def ordered(text: str, old: TensorSide, new: CheckpointSide, inputs: Mapping[str, Sequence[Header]] = NO_INPUTS) -> str:
    """Return rules with what puts the keys in order, if one statement does."""
    if not new.opened.format.keeps_metadata:
        return text  # such formats have an order of their own
    wanted = list(new.header.entries)
    if wanted != sorted(wanted, key=natural):
        return text  # no statement gives this one
    made = _order(text, old, inputs)
    if made is None or made == wanted or sorted(made, key=natural) != wanted:
        return text
    return f"{text}{show(make.order())}\n"


def _order(text: str, old: TensorSide, inputs: Mapping[str, Sequence[Header]]) -> list[str] | None:
    try:
        return list(planned(text, old.header, inputs=inputs).outputs)
    except StatexError:
        # What is wrong with the rules is said by their proof.
        return None
