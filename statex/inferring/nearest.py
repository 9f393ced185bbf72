"""Which old key is most like a new one that nothing explains: none, where that would say nothing."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping

from statex.core.header import TensorType
from statex.relating.relations import MadeTensor, Relations
from statex.relating.words import WordWeights, class_of, numbers_in, words_of

Types = Mapping[str, TensorType]
_Class = tuple[str, TensorType | None]
_Keys = dict[tuple[int, ...], str]
"""The keys of a class by their numbers."""

_ROLES = frozenset(("weight", "bias"))
"""Words that say what a tensor is of its module, and nothing of what that does."""


def nearest(relations: Relations, old: Types, new: Types) -> dict[str, str | None]:
    """Return for each new key that nothing explains the old one most like it, by names and types; `None` if none is."""
    known = _classes(relations.old, old)
    wanted = _classes(relations.unexplained, new)
    weights = WordWeights({name for name, _ in (*known, *wanted)} if wanted else ())
    pairs = {
        (_module(class_of(one.keys[0])), _module(class_of(one.target)))
        for one in (relations.made.values() if wanted else ())
        if isinstance(one, MadeTensor)
    }
    found: dict[str, str | None] = dict.fromkeys(relations.unexplained)
    for (name, kind), keys in wanted.items():

        def likeness(other: _Class, name: str = name, kind: TensorType | None = kind) -> float:
            together = (_module(other[0]), _module(name)) in pairs
            return weights.alike(other[0], name) + 2.0 * (other[1] == kind) + 1.0 * together + 0.5 * (other[0] == name)

        best = max((one for one in known if _is_plausible(one, (name, kind))), key=likeness, default=None)
        if best is not None:
            found |= _by_number(known[best], keys)
    return found


def _by_number(old: _Keys, new: _Keys) -> dict[str, str | None]:
    """Return for each new key of a class the old one of another that has its numbers, or else its layer."""
    first = next(iter(old.values()))
    layers: dict[tuple[int, ...], str] = {}
    for numbers, key in old.items():
        layers.setdefault(numbers[:1], key)
    return {key: old.get(numbers) or layers.get(numbers[:1], first) for numbers, key in new.items()}


def _classes(keys: Iterable[str], types: Types) -> Mapping[_Class, _Keys]:
    found: defaultdict[_Class, _Keys] = defaultdict(dict)
    for key in keys:
        found[class_of(key), types.get(key)][numbers_in(key)] = key
    return found


def _is_plausible(old: _Class, new: _Class) -> bool:
    """Say whether an old class may be what a new one was: of two types, what their modules are called has to fit."""
    (name, kind), (other, wanted) = old, new
    if name == other:
        return True
    alike = bool(_own(name) & _own(other))
    if kind is None or wanted is None or kind.dtype.kind is not wanted.dtype.kind:
        return False
    return alike or (kind == wanted and words_of(name)[-1:] == words_of(other)[-1:])


def _own(name: str) -> frozenset[str]:
    """Return the words that say what a key is: those of its last two segments that are no numbers."""
    segments = [segment for segment in name.split(".") if segment != "#"]
    return frozenset(words_of(".".join(segments[-2:]))) - _ROLES


def _module(name: str) -> str:
    return name.rpartition(".")[0]
