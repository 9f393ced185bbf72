"""States inside files: the header of a state in a tree.

A *tree* is what a file holds with each tensor replaced by its `TensorInfo`: dicts, lists, numbers, texts. A dict that
`Module.state_dict()` made carries its `_metadata` as an attribute.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NoReturn, TypeAlias

from statex.core.foreign import kind_of
from statex.core.header import Header, KeyPath, OpaqueInfo, TensorInfo
from statex.core.paths import as_list, as_option, at, is_container, items
from statex.core.quoting import show_label
from statex.core.surroundings import Surroundings
from statex.diagnostics import fail
from statex.diagnostics.codes import files as codes
from statex.trees.pickled_modules import is_module, state_of

Tree: TypeAlias = object
"""Nested dicts, lists and plain values, with `TensorInfo` (or `OpaqueInfo`) for tensors."""

_EXTRA = "_extra_state"
DEPTH = 64
"""Containers are followed this deep; deeper ones are values."""


def is_tensor(value: object) -> bool:
    """Say whether a leaf of a tree is a tensor, also one that is not dense."""
    return isinstance(value, TensorInfo) or (isinstance(value, OpaqueInfo) and value.kind.endswith("tensor"))


def is_extra_state(key: object) -> bool:
    """Say whether a key is one of `Module.get_extra_state()`, whose value is one entry whatever it holds."""
    return isinstance(key, str) and (key == _EXTRA or key.endswith("." + _EXTRA))


class Holding:
    """Says of containers whether they hold tensors that belong to a state; each is looked into once."""

    def __init__(self) -> None:
        self._known: dict[int, bool] = {}

    def __call__(self, key: object, value: Any, depth: int = 0) -> bool:
        """Say whether a value is a container whose tensors belong to the state around it."""
        if type(value) is TensorInfo or is_extra_state(key) or depth > DEPTH or not joins(value):
            return False
        known = self._known.get(id(value))
        if known is None:
            # A container that holds itself is none of those that hold a tensor, unless something else in it does.
            self._known[id(value)] = False
            known = any(is_tensor(one) or self(name, one, depth + 1) for name, one in items(value))
            self._known[id(value)] = known
        return known


def joins(value: Any) -> bool:
    """Say whether a value is a container whose keys can be joined: texts and ints."""
    if isinstance(value, Mapping):
        return set(map(type, value)) <= {str, int}
    return is_container(value)


def state_header(tree: Tree, root: KeyPath, label: str, texts: Mapping[str, str] | None = None) -> Header:
    """Return the header of the state at a path: containers inside it join their keys with dots.

    `texts` are what the format of the checkpoint keeps beside the tensors.

    Raises:
        StatexError: SX608 for two entries with one joined key.
    """
    state = at(tree, root)
    remarks: tuple[str, ...] = ()
    if is_module(state):
        made = state_of(state, label)
        state, remarks = made.state, made.remarks
    entries: dict[str, TensorInfo | OpaqueInfo] = {}
    paths: dict[str, KeyPath] = {}
    containers: dict[KeyPath, str] = {}
    if _is_flat(state):
        entries.update(state)
    for key, path, value in joined_entries(state, containers) if not entries else ():
        if key in entries:
            _refuse_twice(key, [paths.get(key, (key,)), path or (key,)], root, label)
        is_info = isinstance(value, TensorInfo | OpaqueInfo)
        entries[key] = value if is_info else OpaqueInfo(kind_of(value), value)
        if path is not None:
            paths[key] = path
    return Header(
        entries, getattr(state, "_metadata", None), label, Surroundings(tree, root, texts or {}), paths,
        containers if paths else {}, remarks,
    )  # fmt: skip


def _refuse_twice(key: str, places: Sequence[KeyPath], root: KeyPath, label: str) -> NoReturn:
    """Refuse a state with two entries that have one name."""
    inner = next((as_list((*root, *path[:-1])) for path in places if len(path) > 1), None)
    named = " and ".join(f"`{as_list(path)}`" for path in places)
    ways = [f"take the inner one alone: --root {as_option(inner)}   or in the rules: root {inner}"] if inner else []
    fail(
        codes.JOINED_TWICE,
        f"two entries of {show_label(label)} would both be named `{key}`: {named}",
        help=[*ways, "or save the checkpoint again with another key for one of them" if ways else
              "save the checkpoint again with another key for one of them"],
    )  # fmt: skip


def _is_flat(state: Any) -> bool:
    """Say whether a state is a dict of names and dense tensors and nothing else, as most are."""
    return isinstance(state, Mapping) and {*map(type, state)} <= {str} and {*map(type, state.values())} <= {TensorInfo}


def joined_entries(
    state: Any, containers: dict[KeyPath, str] | None = None
) -> Iterator[tuple[str, KeyPath | None, Any]]:
    """Yield the joined keys of a state, where each is if it does not stand in it directly, and what is there.

    The kinds of the containers that are gone through are put into `containers`.
    """
    holding = Holding()
    known = containers if containers is not None else {}

    def walk(value: Any, prefix: str, path: KeyPath) -> Iterator[tuple[str, KeyPath | None, Any]]:
        known[path] = _kind(value)
        for key, one in items(value):
            name = f"{prefix}{key}"
            if type(one) is not TensorInfo and len(path) < DEPTH and holding(key, one):
                yield from walk(one, f"{name}.", (*path, key))
            else:
                yield name, (*path, key) if path or type(key) is int else None, one

    return walk(state, "", ())


def _kind(container: Any) -> str:
    if not isinstance(container, Mapping):
        return type(container).__name__
    ints = sum(type(key) is int for key in container)
    return "dict" if not ints else "ints" if ints == len(container) else "mixed"
