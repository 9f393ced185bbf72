"""Puts a new state back into a checkpoint: nested as its keys say, where the old one was or elsewhere."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import copy, deepcopy
from typing import Any

from statex.core.header import Header, KeyPath, Nested
from statex.core.paths import Address, at, has, is_container, items, number
from statex.core.source import Span
from statex.core.surroundings import Edit
from statex.trees.envelope import Tree
from statex.trees.roots import two_readings

Load = Callable[[Any], Any]
"""Gives the data of what a leaf of a tree describes."""


def rebuild(
    tree: Tree, root: KeyPath, target: KeyPath | None, state: Mapping[str, Any], metadata: Mapping[KeyPath, object],
    nested: Nested, load: Load, edits: Sequence[Edit] = (),
) -> Any:  # fmt: skip
    """Return the tree with a new state: where the old one was, or at `target` (`()` is the bare state).

    `metadata` is that of the state and of dicts in it, by their places. `load` gives the data of what is around it, and
    `edits` change that.
    """
    renewed = _renewed(at(tree, root), state, metadata, nested)
    if target is None:
        return _replaced(edited_around(tree, root, edits), root, renewed, load)
    return _placed(edited(_without(tree, root, load), edits), target, renewed) if target else renewed


def tree_of(header: Header) -> Any:
    """Return the tree of a state of which the header alone is known."""
    kinds = header.containers

    def make(part: _Part, path: KeyPath) -> Any:
        kind = kinds.get(path, "dict")
        if kind in ("list", "tuple"):
            return part.listed() if kind == "list" else tuple(part.listed())
        return OrderedDict(part) if not path else dict(part)

    tree = _nested(header.entries, header.paths, make)
    if header.metadata is not None:
        tree._metadata = header.metadata
    return tree


class _Part(dict[str | int, Any]):
    """A container in the making: what it shall hold, by keys or places."""

    def listed(self) -> list[Any]:
        """Return what it holds in the order of its places."""
        return [self[place] for place in sorted(self)]


Make = Callable[[_Part, KeyPath], Any]
"""Makes a container of what it shall hold and its place in the state."""


def _nested(state: Mapping[str, Any], paths: Mapping[str, KeyPath], make: Make) -> Any:
    whole = _Part()
    if not paths:
        whole.update(state)
    for key, value in state.items() if paths else ():
        *outer, last = paths.get(key, (key,))
        part = whole
        for name in outer:
            part = part.setdefault(name, _Part())
        part[last] = value
    return _completed(whole, (), make)


def _completed(part: _Part, path: KeyPath, make: Make) -> Any:
    for name, value in part.items():
        if type(value) is _Part:
            part[name] = _completed(value, (*path, name), make)
    return make(part, path)


def _renewed(old: Any, state: Mapping[str, Any], metadata: Mapping[KeyPath, object], nested: Nested) -> Any:
    """Return a new state, each container in it of the kind that it goes on from."""

    def make(part: _Part, path: KeyPath) -> Any:
        origin = nested.containers.get(path, None if path else ())
        before = at(old, origin) if origin is not None and is_container(old) else {}
        if not isinstance(before, Mapping):
            if path not in nested.containers:
                return dict(part)  # a list that is written flat
            return part.listed() if isinstance(before, list) else tuple(part.listed())
        if path not in metadata:
            return like(before, dict(part))
        result: Any = OrderedDict(part)
        if isinstance(before, OrderedDict):
            vars(result).update(vars(before))
        result._metadata = metadata[path]
        return result

    return _nested(state, nested.paths, make)


def _replaced(tree: Tree, path: KeyPath, renewed: Any, load: Load) -> Any:
    if not path:
        return renewed
    first, rest = path[0], path[1:]
    pairs = [(k, _replaced(v, rest, renewed, load) if k == first else with_data(v, load)) for k, v in items(tree)]
    if isinstance(tree, Mapping):
        return like(tree, dict(pairs))
    assert isinstance(tree, list | tuple), "a path leads through containers"
    return type(tree)([value for _, value in pairs])


def _without(tree: Tree, path: KeyPath, load: Load) -> Any:
    """Return the tree with data and without the state; dicts that held nothing else go too."""
    if not path:
        return {}
    assert isinstance(tree, Mapping), "a state is taken out of dicts alone"
    left: dict[Any, Any] = {}
    for name, value in tree.items():
        if name != path[0]:
            left[name] = with_data(value, load)
        elif path[1:]:
            inner = _without(value, path[1:], load)
            if inner:
                left[name] = inner
    return like(tree, left)


def _placed(around: Any, path: KeyPath, renewed: Any) -> Any:
    if not path:
        return renewed
    if isinstance(around, list | tuple):
        return type(around)([_placed(one, path[1:], renewed) if i == path[0] else one for i, one in enumerate(around)])
    left = dict(around) if isinstance(around, Mapping) else {}
    left[path[0]] = _placed(left.get(path[0], {}), path[1:], renewed)
    return like(around, left)


def like(old: Any, items: dict[Any, Any]) -> Any:
    """Return a dict of the old one's kind, with the attributes that it has, such as `_metadata`."""
    if not isinstance(old, OrderedDict):
        return items
    result: Any = OrderedDict(items)
    vars(result).update(vars(old))
    return result


def edited(tree: Tree, edits: Iterable[Edit]) -> Tree:
    """Return the tree with changes of values carried out, one after the other; what they do not touch is the same."""
    for edit in edits:
        if edit.of == "value":
            tree = _edited(tree, edit.path, edit)
    return tree


def _edited(container: Any, path: KeyPath, edit: Edit) -> Any:
    part, *rest = path
    if rest:
        inner = container[part] if has(container, part) else {}
        return _with_item(container, part, _edited(inner, tuple(rest), edit))
    if edit.kind == "left out":
        return _without_item(container, part)
    return _with_item(container, part, deepcopy(edit.value))


def _with_item(container: Any, part: str | int, value: Any) -> Any:
    """Return a container with something at a place; what is new stands at the end."""
    if isinstance(container, Mapping):
        return _renewed_dict(container, {**container, part: value})
    changed = [*container, value] if part == len(container) else [*container]
    changed[int(part)] = value
    return type(container)(changed)


def _without_item(container: Any, part: str | int) -> Any:
    left = [(key, value) for key, value in items(container) if key != part]
    if isinstance(container, Mapping):
        return _renewed_dict(container, dict(left))
    return type(container)([value for _, value in left])


def _renewed_dict(old: Mapping[Any, Any], items: dict[Any, Any]) -> Any:
    if not isinstance(old, dict) or type(old) in (dict, OrderedDict):
        return like(old, items)
    # Of a class of its own, such as a `defaultdict` in memory.
    renewed = copy(old)
    renewed.clear()
    renewed.update(items)
    return renewed


def put_at(tree: Tree, path: KeyPath, value: Any) -> Any:
    """Return the tree with something else at a path that leads to something in it."""
    if not path:
        return value
    return _with_item(tree, path[0], put_at(at(tree, path[:1]), path[1:], value))


def edited_around(tree: Tree, root: KeyPath, edits: Iterable[Edit]) -> Tree:
    """Return the tree of a state as it is, with changes of values around it; what takes its place is none."""
    return edited(tree, [edit for edit in edits if edit.path[: len(root)] != root])


def with_data(tree: Tree, load: Load) -> Any:
    """Return a tree with what each leaf describes in its place: tensors, and what a file names, such as dtypes.

    What describes nothing, all the way down, is the same object.
    """
    if isinstance(tree, Mapping):
        loaded = {key if type(key) is str else load(key): with_data(value, load) for key, value in tree.items()}
        pairs = zip((*loaded, *loaded.values()), (*tree, *tree.values()), strict=False)
        return tree if len(loaded) == len(tree) and all(new is old for new, old in pairs) else like(tree, loaded)
    if isinstance(tree, list | tuple):
        values = [with_data(value, load) for value in tree]
        if all(new is old for new, old in zip(values, tree, strict=True)):
            return tree
        return values if isinstance(tree, list) else tuple(values)
    return load(tree)


# --- where a state is put ---------------------------------------------------------------------------------------


def target_at(tree: Tree, root: KeyPath, given: Address, span: Span | None = None) -> KeyPath:
    """Return the path that a state shall be put at; of a dotted text, what is not there yet is one dict a segment.

    Raises:
        StatexError: SX626 for a text that can be read as several paths.
    """
    if not isinstance(given, str):
        return tuple(given)
    if not given:
        return ()
    found = known_heads(without_state(tree, root), given) or [((), given)]
    best = [(path, rest) for path, rest in found if len(rest) == len(found[0][1])]
    paths = [(*path, *(rest.split(".") if rest else ())) for path, rest in best]
    if len(paths) > 1:
        two_readings(given, paths, span)
    return paths[0]


def without_state(tree: Tree, root: KeyPath) -> Tree:
    """Return the tree that a state is put into, once it is taken out of it."""
    return _without(tree, root, lambda leaf: leaf) if list_on_the_way(tree, root) is None else tree


Heads = list[tuple[KeyPath, str]]
"""Paths that a dotted text begins with, each with the rest of the text."""


def known_heads(tree: Any, text: str, known: dict[tuple[int, str], Heads] | None = None) -> Heads:
    """Return the longest beginnings of a dotted text that are there, three at most."""
    known = {} if known is None else known
    if (id(tree), text) in known:
        return known[id(tree), text]
    found: Heads = []
    segments = text.split(".")
    for count in range(1, len(segments) + 1):
        head, rest = ".".join(segments[:count]), ".".join(segments[count:])
        as_number = number(head)
        for part in (head, *(() if as_number is None else (as_number,))):
            if has(tree, part):
                inner = known_heads(tree[part], rest, known) if rest else []
                found += [((part, *path), left) for path, left in inner] or [((part,), rest)]
    known[id(tree), text] = found = sorted(found, key=lambda one: len(one[1]))[:3]
    return found


def list_on_the_way(tree: Tree, root: KeyPath) -> KeyPath | None:
    """Return the path of the first list that the path of a state leads through, if it leads through one."""
    for count in range(len(root)):
        if not isinstance(at(tree, root[:count]), Mapping):
            return root[:count]
    return None


def occupied(tree: Tree, root: KeyPath, target: KeyPath | None) -> KeyPath | None:
    """Return the path of what stands where the state shall be put, or on the way there; `None` where nothing does."""
    if not target:
        return None
    around = without_state(tree, root)
    for count, part in enumerate(target):
        if not is_container(around) or (not isinstance(around, Mapping) and not has(around, part)):
            return target[:count]
        if not has(around, part):
            return None
        around = at(around, (part,))
    return target
