"""What differs in the place of a state, and in the plain values around it, and which rule makes it alike."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from statex.core.header import Header
from statex.core.paths import in_rules, written
from statex.core.quoting import show_text
from statex.core.surroundings import Surroundings
from statex.dsl.keys.quoting import show_rules
from statex.dsl.plan.around import surroundings_after
from statex.grammar import factory as make
from statex.inferring.sides import CheckpointSide
from statex.session.session import Session

AROUND = "what stands around the state"
_LONGEST = 40
"""Characters of a value that are shown."""


@dataclass
class AroundCompared:
    """Whether the place of a state and the values around it are the `same`, by what they are called; what differs."""

    same: dict[str, bool] = field(default_factory=dict)
    differences: list[str] = field(default_factory=list)


def around_compared(session: Session, new: CheckpointSide) -> AroundCompared:
    """Compare where the result of a session has its state, and what is around that, with a checkpoint."""
    found = AroundCompared()
    before, after = session.plan.header.surroundings, new.header.surroundings
    moved = _root(session, before, after) if new.opened.format.keeps_metadata else None
    if moved is not None:
        found.same["root"] = False
        found.differences.append(moved)
    made = replace(session.plan.header, surroundings=surroundings_after(session.plan))
    if new.header.around or made.around:
        differences = list(_differences(made, new.header))
        found.same[AROUND] = not differences
        found.differences += differences
    return found


def _root(session: Session, before: Surroundings | None, after: Surroundings | None) -> str | None:
    """Return the statement that puts the state where it is in the new checkpoint; `None` where it is there."""
    if before is None or after is None:
        return None
    target = session.inputs.root_target
    if (session.inputs.root if target is None else target) == after.root:
        return None
    old, new = (written(one.tree, one.root) for one in (before, after))
    return f"{show_rules(make.root(old, new))}   # puts the state where NEW has it"


def _differences(made: Header, new: Header) -> Iterator[str]:
    """Yield which values around a state differ; of what is more than plain values, that nobody has compared it."""
    one, other = made.values, new.values
    for path in dict.fromkeys((*one, *other)):
        if path not in other:
            yield f"value({in_rules(path)}) is not in NEW"
        elif path not in one:
            yield f"value({in_rules(path)}) is {_shown(other[path])} in NEW, and is not in the result"
        elif one[path] != other[path]:
            yield f"value({in_rules(path)}) is {_shown(other[path])} in NEW, and {_shown(one[path])} in the result"
    for path in dict.fromkeys((*made.around, *new.around)):
        if path not in one and path not in other:
            yield f"{in_rules(path)} is more than a plain value, and was not compared"


def _shown(value: Any) -> str:
    text = show_text(value) if isinstance(value, str) else str(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
