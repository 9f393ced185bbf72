"""What is found of a few layers, tried on all others: the same, of the sources with their numbers.

Lines are looked for in the first layers and the last one alone, where there are many of them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from statex.relating.names.fitting import fitted
from statex.relating.names.rows import Computed
from statex.relating.relations import MadeTensor
from statex.relating.words import between_numbers, class_of, numbers_in

_FIRST = 2
"""So many of the first layers are looked at, and the last one."""


def some_layers(new: Sequence[str], old: Sequence[str]) -> tuple[list[str], list[str]] | None:
    """Return new keys of a few layers, and old ones of these; `None` where that is not much less than all.

    What has no number belongs to every layer.
    """
    new_layers, old_layers = _layers(new), _layers(old)
    some = {*_ends(new_layers), *_ends(old_layers)}
    few_new = [key for key, (_, layer) in new_layers.items() if layer is None or layer in some]
    few_old = [key for key, (_, layer) in old_layers.items() if layer is None or layer in some]
    if 2 * len(few_new) > len(new) or 2 * len(few_old) > len(old):
        return None
    return few_new, few_old


def _layers(keys: Sequence[str]) -> dict[str, tuple[str, int | None]]:
    """Return the class and the layer of keys: the first of their numbers that several keys of a class differ in."""
    numbers: defaultdict[str, list[tuple[int, ...]]] = defaultdict(list)
    found = [(key, class_of(key), numbers_in(key)) for key in keys]
    for _, name, own in found:
        numbers[name].append(own)
    places = {name: _varying(all_of) for name, all_of in numbers.items()}
    return {key: (name, own[at] if (at := places[name]) is not None else None) for key, name, own in found}


def _varying(numbers: Sequence[tuple[int, ...]]) -> int | None:
    return next((at for at, column in enumerate(zip(*numbers, strict=True)) if len(set(column)) > 1), None)


def _ends(layers: Mapping[str, tuple[str, int | None]]) -> set[int]:
    """Return the first numbers and the last one of each class."""
    found: defaultdict[str, set[int]] = defaultdict(set)
    for name, layer in layers.values():
        if layer is not None:
            found[name].add(layer)
    return {one for own in found.values() for one in [*sorted(own)[:_FIRST], max(own)]}


class Analogies:
    """How keys of a class are made: a value, and the names of its sources with the numbers that these have."""

    def __init__(self, made: Iterable[MadeTensor]) -> None:
        groups: defaultdict[object, list[MadeTensor]] = defaultdict(list)
        for one in made:
            groups[class_of(one.target), one.value, tuple(map(class_of, one.keys))].append(one)
        self._ways: defaultdict[str, list[tuple[MadeTensor, list[_Numbered]]]] = defaultdict(list)
        for examples in groups.values():
            sources = _numbered(examples)
            if sources is not None:
                self._ways[class_of(examples[0].target)].append((examples[0], sources))

    def of(self, key: str) -> list[MadeTensor]:
        """Return what a new key may be made of."""
        numbers = numbers_in(key)
        return [
            MadeTensor(key, tuple([_filled(one, numbers) for one in sources]), example.value)
            for example, sources in self._ways.get(class_of(key), ())
        ]


_Numbered = tuple[list[str], list[Computed | int]]
"""The parts of a key between its numbers, and these."""


def _numbered(examples: Sequence[MadeTensor]) -> list[_Numbered] | None:
    """Return the sources of examples with their numbers, as they follow from those of the targets."""
    columns = list(zip(*(numbers_in(one.target) for one in examples), strict=True))
    names = _names(len(columns))
    found: list[_Numbered] = []
    for own in zip(*(one.keys for one in examples), strict=True):
        parts = between_numbers(own[0])
        numbers: list[Computed | int] = []
        for at, target in enumerate(zip(*map(numbers_in, own), strict=True)):
            one = fitted(target, columns, names, at)
            if one is None:
                return None
            numbers.append(one)
        found.append((parts, numbers))
    return found


def _names(count: int) -> list[str]:
    return [f"n{at}" for at in range(count)]


def _filled(source: _Numbered, numbers: Sequence[int]) -> str:
    parts, given = source
    values = dict(zip(_names(len(numbers)), numbers, strict=True))
    texts = [str(one if isinstance(one, int) else one.of(values)) for one in given]
    return parts[0] + "".join([text + part for text, part in zip(texts, parts[1:], strict=True)])
