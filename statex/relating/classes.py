"""Keys by class: those that differ in the numbers of repeated modules alone, and hold tensors of one type."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

from statex.core.header import TensorType
from statex.core.numerals import is_numeral

Numbers = tuple[int, ...]


@dataclass(eq=False)
class KeyClass:
    """Keys of one form: its `name` has `#` for the numbers that count modules; `keys` has the key for each of these."""

    name: str
    type: TensorType
    keys: dict[Numbers, str] = field(default_factory=dict)
    place: float = 0.0
    """Where the class stands among all, from 0 to 1."""

    @property
    def module(self) -> str:
        """The name without its last word."""
        return self.name.rpartition(".")[0]

    @property
    def leaf(self) -> str:
        """The last word of the name."""
        return self.name.rpartition(".")[2]


def classes_of(types: Mapping[str, TensorType]) -> list[KeyClass]:
    """Return the classes of keys, in the order of the first key of each."""
    counting = _counting(types)
    found: dict[tuple[str, TensorType], KeyClass] = {}
    for key, kind in types.items():
        name, numbers = _parted(key, counting)
        found.setdefault((name, kind), KeyClass(name, kind)).keys[numbers] = key
    ordered = list(found.values())
    for number, one in enumerate(ordered):
        one.place = number / max(1, len(ordered) - 1)
    return ordered


def _parted(key: str, counting: frozenset[str]) -> tuple[str, Numbers]:
    """Return a key with `#` for the numbers that count, and these."""
    name: list[str] = []
    numbers: list[int] = []
    for segment in key.split("."):
        if is_numeral(segment) and ".".join(name) in counting:
            numbers.append(int(segment))
            segment = "#"
        name.append(segment)
    return ".".join(name), tuple(numbers)


def _counting(types: Mapping[str, TensorType]) -> frozenset[str]:
    """Return the names behind which numbers count modules that are alike.

    Of the parts of a `Sequential`, which are numbered too, each is another one: their numbers have gaps, or there are
    two that hold different tensors.
    """
    found: set[str] = set()
    for depth in range(max((key.count(".") for key in types), default=0) + 1):
        held: defaultdict[str, defaultdict[int, set[tuple[str, TensorType]]]] = defaultdict(lambda: defaultdict(set))
        for key, kind in types.items():
            segments = key.split(".")
            if len(segments) > depth and is_numeral(segments[depth]):
                name, _ = _parted(".".join(segments[:depth]), frozenset(found))
                held[name][int(segments[depth])].add((".".join(segments[depth + 1 :]), kind))
        for name, by_number in held.items():
            first, last = min(by_number), max(by_number)
            if len(by_number) != last - first + 1 or len(by_number) < 2:
                continue
            shared = len(set.intersection(*by_number.values()))
            if 2 * shared >= max(map(len, by_number.values())):
                found.add(name)
    return frozenset(found)
