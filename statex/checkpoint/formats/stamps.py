"""Versions of layouts (stamps) in formats that have no `_metadata`: kept as one metadata text.

Format: JSON, `{"path of a module": {"scheme": 1, "version": 3, "digests": [...], "params": {...}}}`, sorted by paths.
A folder of torch.distributed.checkpoint may hold several states: `[[["path", "in", "it"], {as above}]]`.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from typing import Any

from statex.core.header import STAMP

_LARGEST = 4 << 20
"""Characters of an entry."""
_DEPTH = 64
"""How deep what is noted may be nested."""

_json = json.JSONEncoder(separators=(",", ":")).encode
_sorted = json.JSONEncoder(sort_keys=True).encode


def noted(metadata: object) -> dict[str, object]:
    """Return the stamps in a `_metadata` by the paths of modules, whatever they are."""
    found = metadata if isinstance(metadata, Mapping) else {}
    return {path: one[STAMP] for path, one in found.items() if isinstance(one, Mapping) and STAMP in one}


def readable(metadata: object) -> dict[str, object]:
    """Return the stamps in a `_metadata` that are plain data, by the paths of modules in their order."""
    stamps = {path: one for path, one in noted(metadata).items() if type(path) is str and _is_stamp(one)}
    found = dict(sorted(stamps.items()))
    return found if not found or len(_json(found)) <= _LARGEST else {}


def said(stamp: object) -> str:
    """Say what a stamp tells, which may be anything."""
    version = stamp.get("version") if isinstance(stamp, Mapping) else None
    known = type(version) is int and 0 <= version < 2**63
    return f"layout {version} of a chain" if known else "a version in an unknown form"


def difference(one: object, other: object) -> tuple[str, str, str] | None:
    """Return the first path at which the stamps in two `_metadata` differ, and what each of these says there."""
    first, second = readable(one), readable(other)
    for path in (*first, *second):
        if _sorted(first.get(path)) != _sorted(second.get(path)):
            here, there = [said(found[path]) if path in found else "no version" for found in (first, second)]
            return path, here, there
    return None


def as_text(metadata: object) -> str:
    """Return the entry for the stamps in a `_metadata`; it is empty where there are none."""
    found = readable(metadata)
    return _json(found) if found else ""


def left_out(metadata: object) -> list[str]:
    """Return the paths of the stamps in a `_metadata` that no entry can hold."""
    held = readable(metadata)
    return [path for path in noted(metadata) if path not in held]


def from_text(text: str) -> OrderedDict[str, dict[str, object]] | None:
    """Return the `_metadata` that an entry stands for; `None` for a text that is not one of ours."""
    return _metadata(_parsed(text))


def _metadata(found: object) -> OrderedDict[str, dict[str, object]] | None:
    if not isinstance(found, dict) or not found or not all(map(_is_stamp, found.values())):
        return None
    return OrderedDict((path, {STAMP: one}) for path, one in found.items())


def _is_stamp(value: object) -> bool:
    """Say whether a value is a stamp in some form, perhaps of a later version, that JSON gives back as it was."""
    return isinstance(value, dict) and "scheme" in value and _is_plain(value)


def _is_plain(value: object, depth: int = 0) -> bool:
    if isinstance(value, dict) and depth < _DEPTH:
        return all(type(key) is str for key in value) and all(_is_plain(one, depth + 1) for one in value.values())
    if isinstance(value, list) and depth < _DEPTH:
        return all(_is_plain(one, depth + 1) for one in value)
    return type(value) in (str, bool, float, type(None)) or (type(value) is int and -(2**63) <= value < 2**63)


def _parsed(text: str) -> Any:
    """Return the value of a JSON text; `None` where it is too large, or has two readings or none."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            raise ValueError("a name comes twice")
        return found

    try:
        return json.loads(text, object_pairs_hook=unique) if len(text) <= _LARGEST else None
    except (ValueError, RecursionError):
        return None


def all_as_text(tree: Any) -> str:
    """Return the entry for the stamps of all states in a tree; it is empty where there are none."""
    found = [[path, held] for path, metadata in states(tree) if (held := readable(metadata))]
    return _json(found) if found else ""


def states(tree: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], object]]:
    """Yield the `_metadata` of a dict and of the dicts inside it, with the keys that lead to each."""
    yield path, getattr(tree, "_metadata", None)
    for key, value in tree.items() if isinstance(tree, Mapping) and len(path) < _DEPTH else ():
        if type(key) is str and isinstance(value, dict):
            yield from states(value, (*path, key))


def with_stamps(tree: dict[str, Any], text: str) -> dict[str, Any]:
    """Return a tree of dicts whose states have the `_metadata` that an entry says; states that are not there have none.

    Raises:
        ValueError: for a text that is not such an entry.
    """
    found = _parsed(text)
    for pair in found if isinstance(found, list) else [found]:
        path, metadata = _of_state(pair)
        tree = _marked_at(tree, path, metadata)
    return tree


def _of_state(pair: Any) -> tuple[list[Any], Mapping[str, object]]:
    path, stamps = pair if isinstance(pair, list) and len(pair) == 2 else (None, None)
    metadata = _metadata(stamps)
    if metadata is None or not isinstance(path, list) or len(path) > _DEPTH:
        raise ValueError("the versions of its states cannot be read")
    return path, metadata


def _marked_at(tree: Any, path: list[Any], metadata: Mapping[str, object]) -> Any:
    if not isinstance(tree, dict):
        return tree
    if path:
        if type(path[0]) is str and path[0] in tree:
            tree[path[0]] = _marked_at(tree[path[0]], path[1:], metadata)
        return tree
    return marked(tree, metadata)


def marked(state: Mapping[str, Any], metadata: Mapping[str, object]) -> Any:
    """Return a state that carries a `_metadata`."""
    result: Any = OrderedDict(state)
    result._metadata = metadata
    return result
