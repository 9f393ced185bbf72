"""What became of what: for each new tensor the value of old ones that it is, or that nothing was found."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

from statex.core.header import TensorType
from statex.core.record import record
from statex.relating.values import SourceTensor, Value


@record
class MadeTensor:
    """A new tensor is a value of old ones: `keys` are those of its sources, by their numbers."""

    target: str
    keys: tuple[str, ...]
    value: Value

    @property
    def is_whole(self) -> bool:
        """True where it is an old tensor as it was."""
        return self.value == SourceTensor()


@record
class Constant:
    """A new tensor is one number all over, or with `None` the numbers from 0 on."""

    target: str
    type: TensorType
    number: int | float | bool | None


Relation = MadeTensor | Constant


@dataclass
class Relations:
    """What is known of every new key, in the order of the new checkpoint.

    This is what programs are written from: `statex.relating.program.written` takes relations however they were found.
    `ties` are sets of new keys that are one tensor. `opaque` are pairs of old and new keys of entries that are no
    tensors. `ambiguous` are new keys whose contents several old keys have, so that names alone told which is meant.
    """

    old: tuple[str, ...]
    new: tuple[str, ...]
    made: dict[str, Relation] = field(default_factory=dict)
    ties: tuple[tuple[str, ...], ...] = ()
    unexplained: dict[str, str | None] = field(default_factory=dict)
    ambiguous: tuple[str, ...] = ()

    @property
    def uses(self) -> Mapping[str, list[MadeTensor]]:
        """What is made of each old key."""
        found: defaultdict[str, list[MadeTensor]] = defaultdict(list)
        for one in self.made.values():
            if isinstance(one, MadeTensor):
                for key in dict.fromkeys(one.keys):
                    found[key].append(one)
        return found

    def without(self, old: frozenset[str], new: frozenset[str]) -> Relations:
        """Return the relations without some old and new keys, and without what is made of these."""
        kept = {
            key: one
            for key, one in self.made.items()
            if key not in new and not (isinstance(one, MadeTensor) and old.intersection(one.keys))
        }
        return Relations(
            tuple(key for key in self.old if key not in old),
            tuple(key for key in self.new if key not in new),
            kept,
            tuple(tuple(key for key in tie if key not in new) for tie in self.ties),
            {key: near for key, near in self.unexplained.items() if key not in new},
        )
