"""The values around the state during a program: each statement sees the results of those before it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from statex.core.foreign import Foreign
from statex.core.header import Header, KeyPath, OpaqueInfo, TensorInfo
from statex.core.paths import Address, beside, is_below, is_container, items
from statex.core.source import Span
from statex.core.surroundings import DEPTH, Edit, Surroundings, address_of, found_at, value_in
from statex.dsl.values import Value
from statex.trees.rebuilding import edited, without_state
from statex.trees.roots import two_readings

_NAMED = 2000
"""So many places are looked at for those that were probably meant."""


class Around:
    """The values around a state and the texts beside its tensors.

    `put_at` is where the state will be, if that is elsewhere: `()` is the bare state. `taken` is the place that is the
    state's own.
    """

    def __init__(self, header: Header, put_at: KeyPath | None) -> None:
        given = header.surroundings or Surroundings({})
        self._whole = given
        self.bare = put_at == ()
        self.taken = put_at or given.root
        self.tree = without_state(given.tree, given.root) if put_at else given.tree
        self.metadata_texts: Mapping[str, str] = given.metadata_texts
        self.edits: list[Edit] = []
        self._asked: dict[Address, Value] = {}

    @property
    def is_all(self) -> bool:
        """True where the state is all of the checkpoint."""
        return not self._whole.root and not self.taken

    def apply(self, edits: Sequence[Edit]) -> None:
        """Carry out what a statement changes."""
        self.tree = edited(self.tree, edits)
        self.metadata_texts = _with_edits(self.metadata_texts, edits)
        self.edits += edits
        self._asked.clear()

    # --- questions ---------------------------------------------------------------------------------------------

    def value_at(self, path: Address, span: Span) -> Value:
        """Return the plain value at a path, as it is now; KeyError where there is none.

        Raises:
            StatexError: SX626 for a text that leads to several.
        """
        if path not in self._asked:
            found = dict(self._plain(path))
            if len(found) > 1:
                two_readings(str(path), list(found), span, "value({})")
            if not found:
                raise KeyError(path)
            (self._asked[path],) = found.values()
        return self._asked[path]

    def _plain(self, path: Address) -> Iterator[tuple[KeyPath, Value]]:
        """Yield the plain values that a path can be read as, those of the state included."""
        whole, root = self._whole.tree, self._whole.root
        places = [(self.tree, one) for one in found_at(self.tree, path)]
        if self.tree is not whole:
            inside = [one for one in found_at(whole, path) if one == root or is_below(one, root)]
            places += [(whole, one) for one in inside if all(one != known for _, known in places)]
        for tree, one in places:
            try:
                yield one, _as_value(value_in(tree, one))
            except ValueError:
                continue

    # --- names -------------------------------------------------------------------------------------------------

    def address(self, path: KeyPath) -> str:
        """Write the path of something that is there."""
        return address_of(self.tree, path)

    def outer(self) -> list[str]:
        """Return what stands beside the state and on the way there, by its path."""
        return [self.address(path) for path in beside(self.tree, [self.taken])]

    def names(self) -> list[str]:
        """Return all places around the state, by their paths; those further in come after the others."""
        return [self.address(path) for path in self._places()]

    def _places(self) -> Iterator[KeyPath]:
        level: list[tuple[KeyPath, Any]] = [((), self.tree)]
        seen = 0
        while level and seen < _NAMED:
            inner = []
            for at, value in level:
                for key, one in items(value) if is_container(value) else ():
                    name = (*at, key)
                    if name == self.taken:
                        continue
                    seen += 1
                    if not is_below(self.taken, name):
                        yield name
                    inner.append((name, one))
            level = inner


def _with_edits(texts: Mapping[str, str], edits: Sequence[Edit]) -> Mapping[str, str]:
    found = dict(texts)
    for edit in edits:
        if edit.of == "metadata":
            (name,) = edit.path
            if edit.kind == "left out":
                del found[str(name)]
            else:
                found[str(name)] = edit.value
    return found


def _as_value(value: Any, depth: int = 0) -> Value:
    """Return a value of a checkpoint as expressions have it; ValueError for what is not plain."""
    if isinstance(value, str | int | float | None):
        return value
    if isinstance(value, Foreign) and value.number is not None:
        return value.number
    if depth >= DEPTH:
        raise ValueError
    if isinstance(value, list | tuple):
        return tuple([_as_value(one, depth + 1) for one in value])
    if isinstance(value, Mapping) and all(type(key) is str for key in value):
        return {key: _as_value(one, depth + 1) for key, one in value.items()}
    raise ValueError


def kind_at(value: Any) -> str:
    """Say what stands at a place around the state."""
    if isinstance(value, Foreign):
        return f"an object ({value.kind})"
    if isinstance(value, TensorInfo):
        return f"a tensor {value.type}"
    if isinstance(value, OpaqueInfo):
        return f"a {value.kind}"
    kinds = {bool: "a bool", int: "an int", float: "a float", str: "text", list: "a list", tuple: "a tuple"}
    if value is None:
        return "none"
    return "a dict" if isinstance(value, Mapping) else kinds.get(type(value), f"a {type(value).__name__}")
