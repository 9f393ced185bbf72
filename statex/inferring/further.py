"""What new tensors are that further inputs have: as they are there, or in another layout, in pieces or joined."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace

from statex.grammar import factory as make
from statex.inferring.evidence import Inputs
from statex.inferring.formula_rules import captured, count_of
from statex.inferring.sides import CheckpointSide, Identity
from statex.relating.names.covering import cover
from statex.relating.program import NotedRule

Copy = tuple[str, str, str]
"""An input, its key, and a new key."""


def copies(left: Sequence[str], new: CheckpointSide, inputs: Inputs) -> list[Copy]:
    """Return which of the new keys that are left have the contents of tensors of further inputs."""
    by_identity: dict[Identity, tuple[str, str]] = {}
    for name, side in inputs.items():
        for key in side.kinds:
            by_identity.setdefault(side.identity(key, _unsaid), (name, key))
    found = [(by_identity.get(new.identity(key, _unsaid)), key) for key in left if key in new.kinds and by_identity]
    return [(*place, key) for place, key in found if place is not None]


def _unsaid(count: int) -> None:
    """Count bytes that nobody is told of: progress is that of the two checkpoints."""


def declared(names: Sequence[str]) -> list[NotedRule]:
    """Return the declarations of inputs."""
    return [NotedRule(make.input_(name)) for name in names]


def copy_rules(found: Sequence[Copy], inputs: Inputs) -> Iterator[NotedRule]:
    """Yield statements that take tensors over from inputs."""
    by_input: defaultdict[str, list[tuple[str, str]]] = defaultdict(list)
    for name, key, new in found:
        by_input[name].append((key, new))
    for name, items in by_input.items():
        others = [key for key in inputs[name].header.entries if key not in dict(items)]
        staying = [key for key, target in items if key == target]
        rows = cover([(key,) for key in staying], [*others, *(key for key, _ in items if key not in staying)])
        for row in rows:
            (pattern,) = row.patterns()
            same = make.pattern([captured(one) for one in pattern.pieces])
            yield NotedRule(make.copy(replace(pattern, input=name), same), (count_of(row, staying),))
        moved = [item for item in items if item[0] != item[1]]
        for row in cover(moved, [*others, *staying]):
            source, target = row.patterns()
            count = count_of(row, [key for key, _ in moved])
            yield NotedRule(make.copy(replace(source, input=name), target), (count,))
