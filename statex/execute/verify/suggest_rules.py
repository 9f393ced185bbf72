"""Suggests rules that would make a result fit: renames between missing and unexpected keys, transposes, casts.

Keys that differ in numbers alone (`layers.0.q`, `layers.1.q`) are one *family*: paired at once, and fixed by one line.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import field
from heapq import nsmallest
from itertools import chain, zip_longest

from statex.core.dtypes import DType
from statex.core.header import TensorType
from statex.core.record import record
from statex.diagnostics.suggest import did_you_mean
from statex.dsl.keys.quoting import is_plain, show_rules
from statex.dsl.ops import CASTING, TURNING
from statex.grammar import factory as make
from statex.grammar import tree
from statex.grammar.tree import PatternNode as Pattern

Type = TensorType | None
Types = Mapping[str, Type]
Differing = Mapping[str, tuple[Type, Type]]

_LINES = 3
_LONG = 240
"""Characters of a line that is still read."""
_GUESSED = 2000
"""Of more keys than this, rules are not guessed for a message; `statex infer --target` does it."""
_BY_GUESS = "guess: from names and shapes"
"""What is said of such rules: that a projection fits when it is cut in three does not say how its heads lie in it."""
_PAIRED = 200
"""Beyond this many families, pairs by likeness cost more than they help; a common prefix is still found."""
_NUMBER = re.compile(r"(?<![^.])(?:0|[1-9][0-9]*)(?![^.])")
_LETTERS = "ijklmn"


@record
class Pairing:
    """Which unexpected key a missing one probably is, and the renames that say so."""

    partners: Mapping[str, str] = field(default_factory=dict)
    lines: tuple[str, ...] = ()
    explained: int = 0
    """How many missing keys the lines make, where that is not one for each partner."""
    is_cut: bool = False
    """Whether more lines would be needed."""


def pair(missing: Types, unexpected: Types, result: Types) -> Pairing:
    """Pair missing keys with unexpected ones, by their names and types; `result` are the types of all keys there are.

    Where names that are near do not explain all that is missing, what the keys have in common is looked at as `statex
    infer` does for a model without data: fused projections, other words for one thing.
    """
    near = _near(missing, unexpected, result)
    is_all = len(near.partners) == len(missing) and not near.is_cut
    if is_all or len(result) + len(missing) > _GUESSED:
        return near
    guess = _guess(missing, unexpected, result)
    if guess is None or guess.explained + near.is_cut <= len(near.partners):
        return near
    return guess


def _guess(missing: Types, unexpected: Types, result: Types) -> Pairing | None:
    """Return what is guessed of missing keys, if few lines say it."""
    # What goes well guesses nothing, and should not wait for this.
    from statex.relating.guessing import guessed
    from statex.relating.program import written
    from statex.relating.relations import MadeTensor, Relations
    from statex.relating.values import SourceTensor

    old = {key: kind for key, kind in unexpected.items() if kind is not None}
    new = {key: kind for key, kind in missing.items() if kind is not None}
    made = guessed(old, new, rows=False).relations.made  # help loses no data
    used = {key for one in made.values() if isinstance(one, MadeTensor) for key in one.keys}
    # What is not used stays, as do the keys that are right: it is not said here that anything goes.
    staying = {key: MadeTensor(key, (key,), SourceTensor()) for key in result if key not in used}
    relations = Relations(tuple(result), (*staying, *made), {**staying, **made})
    rules = written(relations, {key: kind for key, kind in result.items() if kind is not None})
    lines = [show_rules(rule.statement) for rule in rules]
    if not lines or len(lines) > _LINES or max(map(len, lines)) > _LONG:
        return None
    whole = {key: one.keys[0] for key, one in made.items() if isinstance(one, MadeTensor) and one.is_whole}
    partners = {key: other for key, other in whole.items() if unexpected[other] == missing[key]}
    return Pairing(partners, tuple([f"{line}  # {_BY_GUESS}" for line in lines]), len(made))


def _near(missing: Types, unexpected: Types, result: Collection[str]) -> Pairing:
    """Pair missing keys with unexpected ones of equal type whose name is near."""
    affix = _common_affix(missing, unexpected, result)
    if affix is not None:
        old, new = affix
        pairs = {new + key[len(old) :]: key for key in unexpected if key.startswith(old)}
        row = make.row(make.literal(old), make.literal(new))
        line = show_rules(make.rename(row, mode=tree.RenameMode.PREFIX))
        return Pairing({key: pairs[key] for key in missing if key in pairs}, (line,))
    paired = _paired_families(_families(missing), _families(unexpected))
    lines: list[str] = []
    is_cut = False
    for wanted, found in paired:
        is_cut = len(lines) >= _LINES
        if not is_cut:
            lines += _lines(found, result, lambda row: make.rename(make.row(*row)), wanted)
    partners = {one: other for wanted, found in paired for one, other in zip(wanted, found, strict=True)}
    return Pairing(partners, tuple(lines[:_LINES]), is_cut=is_cut or len(lines) > _LINES)


def retypes(shapes: Differing, dtypes: Differing, result: Types) -> list[str]:
    """Return statements that give keys their shape or dtype, a few of each kind."""
    turned = {key: value for key, pair in shapes.items() if (value := _turned(*pair)) is not None}
    lines: list[str] = []
    for value in dict.fromkeys(turned.values()):
        lines += _values([key for key, one in turned.items() if one == value], result, value)
    wanted = {key: kind.dtype for key, (_, kind) in dtypes.items() if kind}
    if len(wanted) > _LINES and len(set(wanted.values())) == 1:
        dtype = next(iter(wanted.values()))
        floating = {key for key, kind in result.items() if kind and kind.dtype.is_floating_point}
        others = [kind for key in floating - set(wanted) if (kind := result[key])]
        if dtype.is_floating_point and floating >= set(wanted) and all(kind.dtype == dtype for kind in others):
            floats = make.call("is_floating_point", make.name("it"))
            return [*lines, show_rules(make.assign(make.glob("**"), _cast(dtype), where=floats))]
    for dtype in dict.fromkeys(wanted.values()):
        lines += _values([key for key, kind in wanted.items() if kind == dtype], result, _cast(dtype))
    return lines


def _cast(dtype: DType) -> tree.Call:
    return make.call(CASTING.name, make.name(str(dtype)))


def _turned(one: Type, wanted: Type) -> tree.Expr | None:
    """Return what makes one matrix of another: a transpose, and a cast where dtypes differ as well."""
    if one is None or wanted is None or one.ndim != 2 or one.shape != wanted.shape[::-1]:
        return None
    transpose = make.name(TURNING.name)
    return transpose if one.dtype == wanted.dtype else make.pipe(transpose, _cast(wanted.dtype))


def _values(keys: Iterable[str], result: Collection[str], value: tree.Expr) -> list[str]:
    lines: list[str] = []
    for family in _families(dict.fromkeys(keys)).values():
        if len(lines) < _LINES:
            lines += _lines(list(family), result, lambda row: make.assign(row[0], value))
    return lines[:_LINES]


def _families(keys: Types) -> dict[str, dict[str, Type]]:
    """Group keys by what they are without their numbers; those that need quotes stand alone."""
    found: dict[str, dict[str, Type]] = {}
    for key, kind in keys.items():
        found.setdefault(_NUMBER.sub("#", key) if is_plain(key) else key, {})[key] = kind
    return found


def _numbers(key: str) -> tuple[str, ...]:
    return tuple(_NUMBER.findall(key))


def _paired_families(
    missing: Mapping[str, Types], unexpected: Mapping[str, Types]
) -> list[tuple[list[str], list[str]]]:
    """Pair families with the same numbers and types, and what is left of them key by key; each is used once."""
    alike: dict[object, list[str]] = {}
    for name, family in unexpected.items():
        alike.setdefault(_members(family), []).append(name)
    free = dict(unexpected)
    pairs: list[tuple[list[str], list[str]]] = []
    left: dict[str, Type] = {}
    for name, family in missing.items():
        same = alike.get(_members(family), []) if len(family) > 1 and len(missing) <= _PAIRED else []
        near = did_you_mean(name, [other for other in same if other in free])
        if near:
            found = {_numbers(key): key for key in free.pop(near[0])}
            pairs.append((list(family), [found[_numbers(key)] for key in family]))
        else:
            left.update(family)
    rest = {key: kind for family in free.values() for key, kind in family.items()}
    return pairs + [([one], [other]) for one, other in _paired_keys(left, rest).items()]


def _members(family: Types) -> frozenset[tuple[tuple[str, ...], Type]]:
    return frozenset((_numbers(key), kind) for key, kind in family.items())


def _paired_keys(missing: Types, unexpected: Types) -> dict[str, str]:
    if len(missing) > _PAIRED or len(unexpected) > _PAIRED:
        return {}
    pairs: dict[str, str] = {}
    free = dict(unexpected)
    for key, kind in missing.items():
        same = [other for other, type_ in free.items() if type_ == kind]
        near = did_you_mean(key, same) or (same if len(same) == 1 and len(missing) == 1 else [])
        if near:
            pairs[key] = near[0]
            del free[near[0]]
    return pairs


def _lines(
    keys: list[str],
    result: Collection[str],
    rule: Callable[[list[Pattern]], tree.Statement],
    beside: list[str] | None = None,
) -> list[str]:
    """Write one line for a family where a pattern matches it and nothing else of the result, else one for each key.

    `beside` are the keys that stand beside them in the line.
    """
    columns = [keys] if beside is None else [keys, beside]
    if len(keys) > 1:
        patterns = [_as_pattern(column) for column in columns]
        parts = [re.escape(one.text) if isinstance(one, tree.Text) else "[^.]+" for one in patterns[0].pieces]
        matching = re.compile("".join(parts))
        if sum(matching.fullmatch(key) is not None for key in result) == len(keys):
            return [show_rules(rule(patterns))]
    return [show_rules(rule([*map(make.key, row)])) for row in zip(*columns, strict=True)]


def _as_pattern(family: Collection[str]) -> Pattern:
    """Write a family as a pattern: a number that all have in common stays, the others are captures."""
    numbers = [set(column) for column in zip(*map(_numbers, family), strict=True)]
    letters = iter(_LETTERS)
    between = _NUMBER.split(next(iter(family)))
    written = [one.copy().pop() if len(one) == 1 else make.capture(next(letters)) for one in numbers]
    return make.pattern([one for one in chain(*zip_longest(between, written)) if one])


def _common_affix(missing: Types, unexpected: Types, result: Collection[str]) -> tuple[str, str] | None:
    """Return the prefixes `(old, new)` that make most unexpected keys missing ones of the same type, or `None`.

    No key that is as it shall be begins with the old one, and no two keys become one.
    """
    keys = list(unexpected)
    best: tuple[int, tuple[str, str] | None] = (max(1, len(keys) // 2), None)
    for sample in {keys[0]: None, keys[len(keys) // 2]: None, keys[-1]: None} if len(keys) > 1 else ():
        for old, new in nsmallest(
            _LINES, {_prefixes(sample, key) for key in missing}, key=lambda one: len("".join(one))
        ):
            named = {key: new + key[len(old) :] for key in result if key.startswith(old)}
            fitting = sum(missing.get(name, ...) == unexpected[key] for key, name in named.items() if key in unexpected)
            if fitting > best[0] and all(key in unexpected and name not in result for key, name in named.items()):
                best = fitting, (old, new)
    return best[1]


def _prefixes(one: str, other: str) -> tuple[str, str]:
    """Return what stands before the common end of two keys."""
    shared = next((n for n, (a, b) in enumerate(zip(reversed(one), reversed(other), strict=False)) if a != b), None)
    shared = min(len(one), len(other)) if shared is None else shared
    return one[: len(one) - shared], other[: len(other) - shared]
