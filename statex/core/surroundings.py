"""The values around a state in a checkpoint, by their paths, and the metadata texts of its format."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import field
from typing import Any, Literal

from statex.core.foreign import Foreign
from statex.core.header import KeyPath
from statex.core.paths import Address, as_list, beside, in_rules, is_container, joined, readings
from statex.core.quoting import show_text
from statex.core.record import record

_NAMESPACES = ("argparse.Namespace", "types.SimpleNamespace")
DEPTH = 64
"""Values are nested, and followed, this deep at most."""


@record
class Surroundings:
    """The whole tree of a checkpoint, the path of the state in it, and the texts beside the tensors."""

    tree: Any
    root: KeyPath = ()
    metadata_texts: Mapping[str, str] = field(default_factory=dict)

    @property
    def values(self) -> dict[str, object]:
        """The plain numbers, texts and lists of the whole checkpoint, by their paths as rules write them."""
        return {address_of(self.tree, path): value for path, value in _plain_values(self.tree)}

    @property
    def around(self) -> dict[str, Any]:
        """What stands beside the state and on the way there, by its path as rules write it."""
        return {address_of(self.tree, path): value for path, value in beside(self.tree, [self.root]).items()}


@record
class Edit:
    """One change around a state: a value or a text of the metadata is `set`, `added` or `left out`.

    `path` leads to the value, or is the name of the text alone; `address` is how lists write it. `step` is the number
    of the statement.
    """

    of: Literal["value", "metadata"]
    kind: Literal["set", "added", "left out"]
    path: KeyPath
    address: str
    step: int
    value: Any = None

    @property
    def name(self) -> str:
        """What rules call it."""
        return f"{self.of}({in_rules(self.address) if self.of == 'value' else show_text(self.address)})"


# --- paths to values --------------------------------------------------------------------------------------------


def opened(value: Any) -> Any:
    """Return what a value holds by name: of a Namespace that trainers keep of their arguments, its plain attributes."""
    kind = type(value)
    if kind is Foreign and value.name in _NAMESPACES:
        return {name: one for name, one in value.fields.items() if is_plain(one)}
    if f"{kind.__module__}.{kind.__name__}" in _NAMESPACES:
        return {name: one for name, one in vars(value).items() if is_plain(one)}
    return value


def found_at(tree: Any, given: Address) -> list[KeyPath]:
    """Return the paths that lead to something: the one that is given, or all that a dotted text can be read as."""
    if isinstance(given, str):
        return readings(tree, given, opened)
    try:
        value_in(tree, tuple(given))
    except KeyError:
        return []
    return [tuple(given)]


def value_in(tree: Any, path: KeyPath) -> Any:
    """Return what is at a path, which may end in what a Namespace holds.

    Raises:
        KeyError: where there is nothing.
    """
    for part in path:
        tree = opened(tree)
        known = part in tree if isinstance(tree, Mapping) else type(part) is int and 0 <= part < _length(tree)
        if not known:
            raise KeyError(path)
        tree = tree[part]
    return tree


def _length(value: Any) -> int:
    return len(value) if is_container(value) else 0


def address_of(tree: Any, path: KeyPath) -> str:
    """Write a path so that it names this and nothing else: as dotted text where it can be, else as a list."""
    text = joined(path)
    if not all(isinstance(part, str | int) for part in path):
        return text  # no rule can name it
    return text if readings(tree, text, opened) == [path] and not text.startswith("[") else as_list(path)


# --- plain values -----------------------------------------------------------------------------------------------


def is_plain(value: object) -> bool:
    """Say whether a value is a number, a text, a bool, none, or a list of these."""
    plain = str | int | float | bool | None
    return isinstance(value, plain) or (
        isinstance(value, list | tuple) and all(isinstance(one, plain) for one in value)
    )


def _plain_values(tree: Any) -> Iterator[tuple[KeyPath, object]]:
    def walk(value: Any, path: KeyPath) -> Iterator[tuple[KeyPath, object]]:
        inside = opened(value)
        if not isinstance(inside, Mapping) or len(path) > DEPTH:
            return
        for key, one in inside.items():
            if is_plain(one):
                yield (*path, key), one
            else:
                yield from walk(one, (*path, key))

    return walk(tree, ())
