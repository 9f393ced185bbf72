"""The order in which a model has its parameters, as far as the order of the keys of its state tells."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import accumulate


def module_order(keys: Iterable[str]) -> list[str]:
    """Return keys as modules of torch have them: each module's own first, and then those of one inner module each.

    The order of the keys decides about the rest. That of a state that torch has made stays; after a `split` of weights
    and then of biases, weight and bias of each piece come together.
    """
    found = list(keys)
    firsts: dict[str, int] = {}
    ways: dict[str, list[str]] = {}
    for place, key in enumerate(found):
        *modules, _ = key.split(".")
        ways[key] = list(accumulate(modules, lambda path, part: f"{path}.{part}"))
        for path in ways[key]:
            firsts.setdefault(path, place)
    places = {key: place for place, key in enumerate(found)}
    return sorted(found, key=lambda key: (*((1, firsts[path]) for path in ways[key]), (0, places[key])))
