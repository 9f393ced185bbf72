"""States inside files: where the state is, its header, and a new state put back where the old one was.

A *tree* is what a file holds with each tensor replaced by its `TensorInfo`: dicts, lists, numbers, texts. A dict that
`Module.state_dict()` made carries its `_metadata` as an attribute.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

from statex.diagnostics import fail
from statex.diagnostics.codes import files as codes
from statex.diagnostics.suggest import did_you_mean, join_words
from statex.foreign import Foreign
from statex.header import Header, OpaqueInfo, TensorInfo
from statex.pickled_modules import is_module, state_of
from statex.source import Span

Tree = Any
"""Nested dicts, lists and plain values, with `TensorInfo` (or `OpaqueInfo`) for tensors."""

_EXTRA = "_extra_state"
_DEPTH = 64
"""Dicts are followed this deep; deeper ones are values."""


def _is_tensor(value: object) -> bool:
    return isinstance(value, TensorInfo) or (isinstance(value, OpaqueInfo) and value.kind.endswith("tensor"))


def _is_named(value: object) -> bool:
    return isinstance(value, Mapping) and all(isinstance(key, str) for key in value)


def _named_dicts(tree: Tree, path: str = "", depth: int = 0) -> Iterator[tuple[str, Mapping[str, Any]]]:
    if not _is_named(tree) or depth > _DEPTH:
        return
    yield path, tree
    for key, value in tree.items():
        if isinstance(value, Mapping) and not is_extra_state(key):
            yield from _named_dicts(value, f"{path}.{key}" if path else key, depth + 1)


def candidates(tree: Tree) -> list[str]:
    """Return the paths of the dicts that hold tensors directly, and of whole modules; `''` is the top."""
    if is_module(tree):
        return [""]
    found: list[str] = []
    for path, named in _named_dicts(tree):
        found += [path] if any(_is_tensor(value) for value in named.values()) else []
        modules = [key for key, value in named.items() if isinstance(value, Foreign) and is_module(value)]
        found += [f"{path}.{key}" if path else key for key in modules]
    return found


def find_root(tree: Tree, label: str) -> str:
    """Return the path of the one dict that is the state.

    That is the only dict with tensors (or one that is empty altogether), or else the only one with the `_metadata`
    that `state_dict()` leaves.

    Raises:
        StatexError: SX605 where there is none, SX606 with all candidates where there are several.
    """
    found = candidates(tree)
    only = _only(tree, found, label)
    if only is not None:
        return only
    rows = [(f"  {path or chr(39) * 2}", _size(_at(tree, path))) for path in found[:12]]
    if len(found) > 12:
        rows.append((f"  and {len(found) - 12} more", ""))
    fail(
        codes.AMBIGUOUS_ROOT,
        f"`{label}` holds several states: which one is meant?",
        rows=rows,
        help=[
            f"--root {found[0] or found[1]}   or in the rules: root '{found[0] or found[1]}'",
            "root '' is the whole file",
        ],
    )


def _only(tree: Tree, found: list[str], label: str) -> str | None:
    """Return the path of the state among the candidates, `None` where there are several."""
    if not found and isinstance(tree, Mapping) and not tree:
        return ""  # the state of a module without tensors
    if not found:
        _refuse_foreign(tree, label)
        fail(codes.NO_STATE, f"`{label}` holds no dict of tensors")
    if len(found) == 1:
        return found[0]
    marked = [path for path in found if getattr(_at(tree, path), "_metadata", None) is not None]
    if len(marked) == 1 and not any(path.startswith(marked[0] + ".") or marked[0] == "" for path in found[1:]):
        return marked[0]
    return "" if marked == [""] else None


def _refuse_foreign(tree: Tree, label: str) -> None:
    """Refuse a file whose tensors, if it has any, are in what only code can make."""
    inner = [part for _, found in _named_dicts(tree) for part in found.values()]
    names = [f"`{one.name}`" for one in [tree, *inner] if isinstance(one, Foreign)]
    if names:
        fail(
            codes.UNSAFE,
            f"`{label}` names {join_words(list(dict.fromkeys(names)))}, which is code: it is not loaded",
            notes=["only tensors and plain containers are read from a pickle"],
            help="where you trust the file, save the state alone: torch.save(model.state_dict(), 'state.pth')",
        )


_MOST = 8
"""So many states beside one another; where there are more, the whole is one whose keys are joined."""


def find_roots(tree: Tree, label: str) -> list[str]:
    """Return the path of the state, or the paths of all where there are several that do not contain one another.

    Raises:
        StatexError: SX605 where there is none.
    """
    found = candidates(tree)
    only = _only(tree, found, label)
    if only is not None:
        return [only]
    outer = [path for path in found if not any(_is_below(path, other) for other in found)]
    return outer if len(outer) <= _MOST else [""]


def _is_below(path: str, other: str) -> bool:
    return path != other and (not other or path.startswith(other + "."))


def beside(tree: Tree, roots: Collection[str], path: str = "") -> dict[str, Any]:
    """Return what stands beside the states at these roots and on the way to them, by its path."""
    found: dict[str, Any] = {}
    if not isinstance(tree, Mapping) or path in roots:
        return found
    for key, value in tree.items():
        name = f"{path}.{key}" if path else str(key)
        if any(_is_below(root, name) for root in roots) and isinstance(value, Mapping):
            found |= beside(value, roots, name)
        elif name not in roots:
            found[name] = value
    return found


def _size(found: Any) -> str:
    if isinstance(found, Foreign):
        return f"the module {found.name}"
    count = sum(_is_tensor(value) for value in found.values())
    return f"{count} tensor{'' if count == 1 else 's'}"


def _at(tree: Tree, path: str) -> Any:
    """Return what is at a dotted path; keys with dots of their own are tried longest first. KeyError if nothing."""
    if not path:
        return tree
    if not isinstance(tree, Mapping):
        raise KeyError(path)
    parts = path.split(".")
    for count in range(len(parts), 0, -1):
        key = ".".join(parts[:count])
        if key in tree:
            try:
                return _at(tree[key], ".".join(parts[count:]))
            except KeyError:
                continue
    raise KeyError(path)


def state_at(tree: Tree, root: str, label: str, span: Span | None = None) -> Mapping[str, Any]:
    """Return the dict at a path; `span` is where a rule file names it.

    Raises:
        StatexError: SX607 where there is none.
    """
    return _read_at(tree, root, label, span)[0]


def is_module_at(tree: Tree, root: str) -> bool:
    """Say whether a whole module is at a path, of which a state can be read and not be put back."""
    return is_module(_at(tree, root))


def _read_at(tree: Tree, root: str, label: str, span: Span | None = None) -> tuple[Mapping[str, Any], tuple[str, ...]]:
    """Return the state at a path, and what may be amiss with it."""
    try:
        found = _at(tree, root)
        if is_module(found):
            made = state_of(found, label)
            return made.state, made.remarks
        there = f", but a {type(found).__name__}"
    except KeyError:
        found, there = None, ""
    if _is_named(found):
        return found, ()
    known = [path for path, _ in _named_dicts(tree) if path]
    near = did_you_mean(root, known) or [p for p in candidates(tree) if p][:1]
    fail(
        codes.NO_ROOT,
        f"`{label}` has no dict of names at `{root}`{there}",
        span,
        notes=[f"it has {join_words([f'`{p}`' for p in known], limit=8)}"] if known else ["it is one flat state"],
        help=f"did you mean `{near[0]}`?" if near else (),
    )


def state_header(tree: Tree, root: str, label: str, span: Span | None = None) -> Header:
    """Return the header of the state at a path: dicts inside it join their keys with dots.

    `span` is where a rule file names the path.

    Raises:
        StatexError: SX607 for a wrong path, SX608 for two entries with one joined key.
    """
    state, remarks = _read_at(tree, root, label, span)
    entries: dict[str, TensorInfo | OpaqueInfo] = {}
    for key, value in _joined(state):
        if key in entries:
            fail(codes.JOINED_TWICE, f"`{label}` has `{key}` twice: once as a key, once as a dict in a dict")
        is_info = isinstance(value, TensorInfo | OpaqueInfo)
        entries[key] = value if is_info else OpaqueInfo(_kind(value), value)
    around = tuple(dropped_by(tree, root, ""))
    return Header(entries, getattr(state, "_metadata", None), dict(_plain_values(tree)), label, around, remarks)


def _kind(value: object) -> str:
    return value.kind if isinstance(value, Foreign) else type(value).__name__


def _joined(state: Mapping[str, Any], prefix: str = "", depth: int = 0) -> Iterator[tuple[str, Any]]:
    for key, value in state.items():
        name = f"{prefix}.{key}" if prefix else key
        if depth < _DEPTH and _is_inner(key, value):
            yield from _joined(value, name, depth + 1)
        else:
            yield name, value


def is_extra_state(key: object) -> bool:
    """Say whether a key is one of `Module.get_extra_state()`, whose value is one entry whatever it holds."""
    return isinstance(key, str) and (key == _EXTRA or key.endswith("." + _EXTRA))


def _is_inner(key: str, value: Any) -> bool:
    """Say whether a value is a dict whose tensors belong to the state."""
    if not isinstance(value, Mapping) or is_extra_state(key) or not _is_named(value):
        return False
    return any(_is_tensor(item) or _is_inner(name, item) for name, item in value.items())


def _plain_values(tree: Tree, path: str = "", depth: int = 0) -> Iterator[tuple[str, object]]:
    if not isinstance(tree, Mapping) or depth > _DEPTH:
        return
    for key, value in tree.items():
        if isinstance(value, TensorInfo):
            continue
        name = f"{path}.{key}" if path else str(key)
        if _is_plain(value):
            yield name, value
        elif isinstance(value, Foreign):
            # What trainers keep of their arguments: `value('args.heads')` can ask for it.
            fields = value.fields if value.name in _NAMESPACES else {}
            yield from ((f"{name}.{field}", one) for field, one in fields.items() if _is_plain(one))
        else:
            yield from _plain_values(value, name, depth + 1)


_NAMESPACES = ("argparse.Namespace", "types.SimpleNamespace")


def _is_plain(value: object) -> bool:
    plain = str | int | float | bool | None
    return isinstance(value, plain) or (
        isinstance(value, list | tuple) and all(isinstance(one, plain) for one in value)
    )


def rebuild(
    tree: Tree, root: str, target: str | None, state: Mapping[str, Any], metadata: object, load: Callable[[Any], Any]
) -> Any:
    """Return the tree with a new state: where the old one was, or at `target` (`''` is the bare state).

    Keys that lie below a dict of the old state are nested again. `load` gives the data of what is around the state.
    """
    old = _at(tree, root)
    renewed = _nested(old if isinstance(old, Mapping) else {}, state, metadata)
    if target == "" or (target is None and root == ""):
        return renewed
    around = _without(tree, root, load) if target is not None else None
    if around is None:
        return _replaced(tree, root, renewed, load)
    return _placed(around, str(target).split("."), renewed)


def without_values(tree: Tree, root: str, paths: Collection[str]) -> Tree:
    """Return the tree without the values at these paths around its state."""
    return _less(tree, root, frozenset(paths), "") if paths else tree


def _less(tree: Tree, root: str, paths: Collection[str], path: str) -> Tree:
    if not isinstance(tree, Mapping) or path == root:
        return tree
    named = {key: f"{path}.{key}" if path else str(key) for key in tree}
    return _like(tree, {k: _less(v, root, paths, named[k]) for k, v in tree.items() if named[k] not in paths})


def _nested(old: Mapping[str, Any], state: Mapping[str, Any], metadata: object) -> Any:
    # Where a tensor of the new state has the name of a dict, what was in the dict keeps its joined keys.
    inner = {key: value for key, value in old.items() if _is_inner(key, value) and key not in state}
    result: Any = OrderedDict() if isinstance(old, OrderedDict) or metadata is not None else {}
    if isinstance(old, OrderedDict):
        vars(result).update({name: value for name, value in vars(old).items() if name != "_metadata"})
    parts: dict[str, dict[str, Any]] = {key: {} for key in inner}
    if not inner:
        result.update(state)
    for key, value in state.items() if inner else ():
        owner = next((name for name in inner if key.startswith(name + ".")), None)
        if owner is None:
            result[key] = value
        else:
            parts[owner][key[len(owner) + 1 :]] = value
            result.setdefault(owner, None)
    for name, items in parts.items():
        if items:
            result[name] = _nested(inner[name], items, getattr(inner[name], "_metadata", None))
    if metadata is not None:
        result._metadata = metadata
    return result


def _replaced(tree: Tree, root: str, renewed: Any, load: Callable[[Any], Any]) -> Any:
    if not root:
        return renewed
    key = _first_key(tree, root)
    rest = root[len(key) + 1 :]
    return _like(
        tree, {k: _replaced(v, rest, renewed, load) if k == key else with_data(v, load) for k, v in tree.items()}
    )


def _without(tree: Tree, root: str, load: Callable[[Any], Any]) -> Any:
    """Return the tree with data and without the state; dicts that held nothing else go too."""
    if not root:
        return {}
    key = _first_key(tree, root)
    rest = root[len(key) + 1 :]
    items: dict[Any, Any] = {}
    for name, value in tree.items():
        if name != key:
            items[name] = with_data(value, load)
        elif rest:
            inner = _without(value, rest, load)
            if inner:
                items[name] = inner
    return _like(tree, items)


def _placed(around: Any, path: list[str], renewed: Any) -> Any:
    if not path:
        return renewed
    items = dict(around) if isinstance(around, Mapping) else {}
    items[path[0]] = _placed(items.get(path[0], {}), path[1:], renewed)
    return _like(around, items)


def _first_key(tree: Mapping[str, Any], path: str) -> str:
    parts = path.split(".")
    for count in range(len(parts), 0, -1):
        key = ".".join(parts[:count])
        if key in tree:
            try:
                _at(tree[key], ".".join(parts[count:]))
            except KeyError:
                continue
            return key
    raise KeyError(path)


def _like(old: Any, items: dict[Any, Any]) -> Any:
    """Return a dict of the old one's kind, with the attributes that it has, such as `_metadata`."""
    if not isinstance(old, OrderedDict):
        return items
    result: Any = OrderedDict(items)
    vars(result).update(vars(old))
    return result


def with_data(tree: Tree, load: Callable[[Any], Any]) -> Any:
    """Return a tree with what each leaf describes in its place: tensors, and what a file names, such as dtypes.

    What describes nothing, all the way down, is the same object.
    """
    if isinstance(tree, Mapping):
        items = {key if type(key) is str else load(key): with_data(value, load) for key, value in tree.items()}
        pairs = zip((*items, *items.values()), (*tree, *tree.values()), strict=False)
        return tree if len(items) == len(tree) and all(new is old for new, old in pairs) else _like(tree, items)
    if isinstance(tree, list | tuple):
        values = [with_data(value, load) for value in tree]
        if all(new is old for new, old in zip(values, tree, strict=True)):
            return tree
        return values if isinstance(tree, list) else tuple(values)
    return load(tree)


def occupied(tree: Tree, root: str, target: str | None) -> str | None:
    """Return the path of what stands where the state shall be put, or on the way there; `None` where nothing does."""
    around: Any = _without(tree, root, lambda leaf: leaf) if target else {}
    path = ""
    for part in str(target).split(".") if target else ():
        if not isinstance(around, Mapping):
            return path
        if part not in around:
            return None
        around, path = around[part], f"{path}.{part}" if path else part
    return path or None


def dropped_by(tree: Tree, root: str, target: str | None) -> list[str]:
    """Return what stands beside the state on the way to it, and is left out when the bare state is written."""
    if target != "" or not root:
        return []
    dropped, path, here = [], "", tree
    rest = root
    while rest:
        key = _first_key(here, rest)
        dropped += [f"{path}.{k}" if path else str(k) for k in here if k != key]
        path = f"{path}.{key}" if path else key
        here, rest = here[key], rest[len(key) + 1 :]
    return dropped
