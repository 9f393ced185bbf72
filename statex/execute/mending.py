"""The lines that would make a result fit: renames between missing and unexpected keys, transposes, casts."""

from __future__ import annotations

from collections.abc import Mapping

from statex.diagnostics.suggest import did_you_mean
from statex.header import TensorType

Type = TensorType | None
Differing = Mapping[str, tuple[Type, Type]]

_LINES = 3
_PAIRED = 200
"""Beyond this many keys, pairs by likeness cost more than they help; a common prefix is still found."""


def partners(missing: Mapping[str, Type], unexpected: Mapping[str, Type]) -> dict[str, str]:
    """Pair missing keys with unexpected ones of equal type whose name is near; each is used once."""
    affix = _common_affix(missing, unexpected)
    if affix is not None:
        old, new = affix
        return {key: old + key[len(new) :] for key in missing if key.startswith(new)}
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


def mends(
    missing: Mapping[str, Type], unexpected: Mapping[str, Type], shapes: Differing, dtypes: Differing
) -> list[str]:
    """Return statements that can be pasted, a few of each kind."""
    affix = _common_affix(missing, unexpected)
    if affix is not None:
        lines = [f"rename prefix {_quote(affix[0])} -> {_quote(affix[1])}"]
    else:
        pairs = partners(missing, unexpected)
        lines = [f"rename {show_key(old)} -> {show_key(new)}" for new, old in list(pairs.items())[:_LINES]]
    for key, (actual, wanted) in list(shapes.items())[:_LINES]:
        if actual and wanted and actual.ndim == 2 and actual.shape == wanted.shape[::-1]:
            lines.append(f"set {show_key(key)} = transpose")
    for key, (_, wanted) in list(dtypes.items())[:_LINES]:
        if wanted:
            lines.append(f"set {show_key(key)} = cast({wanted.dtype})")
    return lines


def _common_affix(missing: Mapping[str, Type], unexpected: Mapping[str, Type]) -> tuple[str, str] | None:
    """Return the prefixes `(old, new)` that make every unexpected key a missing one of the same type, or `None`."""
    if len(unexpected) < 2 or len(missing) < len(unexpected):
        return None
    first = next(iter(unexpected))
    for key in missing:
        shared = _common_suffix(first, key)
        old, new = first[: len(first) - shared], key[: len(key) - shared]
        if all(k.startswith(old) and missing.get(new + k[len(old) :], ...) == t for k, t in unexpected.items()):
            return old, new
    return None


def _common_suffix(one: str, other: str) -> int:
    count = 0
    while count < min(len(one), len(other)) and one[-1 - count] == other[-1 - count]:
        count += 1
    return count


def _quote(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def show_key(key: str) -> str:
    """Write a key as a pattern that matches it and nothing else."""
    plain = all(part and part.isascii() and part.replace("_", "a").isalnum() for part in key.split("."))
    return key if plain else _quote(key)
