"""Tensors of further inputs in another layout, in pieces, joined or cast: copied into the state, and changed there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace

from statex.checkpoint.blobs.contents import OutTensor
from statex.core.header import Header, TensorInfo
from statex.inferring.evidence import Inputs
from statex.inferring.further import Copy
from statex.inferring.search import searched
from statex.inferring.sides import TensorSide, kinds_of
from statex.relating.relations import MadeTensor, Relation, Relations

_MOST = 9
"""So many names are tried to put the tensors of an input below."""

Place = tuple[str, str]
"""An input and its key."""


class UnitedSide(TensorSide):
    """The tensors of several inputs, under their own keys where these tell them apart."""

    def __init__(self, inputs: Inputs) -> None:
        super().__init__()
        self._inputs = inputs
        counts = Counter(key for side in inputs.values() for key in side.kinds)
        self.places: dict[str, Place] = {
            key if counts[key] == 1 else f"{name}::{key}": (name, key)
            for name, side in inputs.items()
            for key in side.kinds
        }
        entries = {key: inputs[name].header.entries[own] for key, (name, own) in self.places.items()}
        self.header = Header(entries)
        self.kinds = kinds_of(self.header)

    def tensors(self) -> Mapping[str, OutTensor]:
        """Return the tensors, each with bytes of its own that can be read in their order."""
        sides = {name: side.tensors() for name, side in self._inputs.items()}
        return {key: sides[name][own] for key, (name, own) in self.places.items()}


class PartSide(TensorSide):
    """Some tensors of another side."""

    def __init__(self, whole: TensorSide, keys: Collection[str]) -> None:
        super().__init__()
        self._whole = whole
        self.header = replace(whole.header, entries={key: whole.header.entries[key] for key in keys})
        self.kinds = {key: whole.kinds[key] for key in keys}

    def tensors(self) -> Mapping[str, OutTensor]:
        """Return the tensors, each with bytes of its own that can be read in their order."""
        return self._whole.tensors()


@dataclass
class Borrowed:
    """What is made of tensors of inputs that are copied into the state."""

    copies: list[Copy] = field(default_factory=list)
    relations: Relations = field(default_factory=lambda: Relations((), ()))

    def onto(self, before: Relations) -> Relations:
        """Return relations in which what is copied is old, and what is made of it explained."""
        made = {**before.made, **self.relations.made}
        return replace(
            before,
            old=(*before.old, *(key for _, _, key in self.copies)),
            made={key: made[key] for key in before.new if key in made},
            unexplained={key: near for key, near in before.unexplained.items() if key not in self.relations.made},
            ambiguous=(*before.ambiguous, *self.relations.ambiguous),
        )

    def header(self, before: Header, inputs: Inputs) -> Header:
        """Return the header with what is copied."""
        added = {new: TensorInfo(inputs[name].kinds[key]) for name, key, new in self.copies}
        return replace(before, entries={**before.entries, **added}) if added else before


def borrowed(relations: Relations, new: TensorSide, inputs: Inputs) -> Borrowed:
    """Return what of the new keys that nothing explains is made of tensors of inputs alone."""
    left = [key for key in relations.unexplained if key in new.kinds]
    if not left or not inputs:
        return Borrowed()
    united = UnitedSide(inputs)
    found = searched(united, PartSide(new, left))
    made = {key: one for key, one in found.made.items() if isinstance(one, MadeTensor)}
    names = _names(made, united, relations)
    renamed: dict[str, Relation] = {
        key: MadeTensor(key, tuple([names[one] for one in own.keys]), own.value)
        for key, own in made.items()
        if all(one in names for one in own.keys)
    }
    copies = [(*united.places[key], name) for key, name in names.items()]
    return Borrowed(copies, replace(found, made=renamed))


def _names(made: Mapping[str, MadeTensor], united: UnitedSide, relations: Relations) -> dict[str, str]:
    """Return the keys of the state for what is copied: its own, or below the name of the input where one is taken."""
    used = dict.fromkeys(key for one in made.values() for key in one.keys)
    becomes = {key: [one.target for one in made.values() if key in one.keys] for key in used}
    old, new = {*relations.old}, {*relations.new}
    prefixes: dict[str, str] = {}
    for name in dict.fromkeys(united.places[key][0] for key in used):
        own = [key for key in used if united.places[key][0] == name]
        for prefix in ("", *(f"{name}{'_' * count}." for count in range(_MOST))):
            names = {f"{prefix}{united.places[key][1]}": becomes[key] for key in own}
            # A key that the new checkpoint has is free for what becomes this, and nothing else.
            if not any(one in old or (one in new and to != [one]) for one, to in names.items()):
                prefixes[name] = prefix
                break
    return {key: f"{prefixes[name]}{own}" for key in used for name, own in [united.places[key]] if name in prefixes}
