"""Where the state is in a checkpoint: found, or named by its path."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, NoReturn

from statex.core.foreign import Foreign, kind_of
from statex.core.header import KeyPath, TensorInfo
from statex.core.paths import (
    Address,
    as_list,
    as_option,
    at,
    in_rules,
    is_below,
    is_container,
    items,
    joined,
    readings,
    written,
)
from statex.core.quoting import show_label
from statex.core.record import record
from statex.core.source import Span
from statex.core.surroundings import Surroundings
from statex.diagnostics import fail
from statex.diagnostics.codes import files as codes
from statex.diagnostics.suggest import did_you_mean, join_words
from statex.trees.envelope import DEPTH, Holding, Tree, is_extra_state, is_tensor, joined_entries, joins
from statex.trees.pickled_modules import is_module

_MOST = 100_000
"""So many containers are looked at for states."""


def is_named(value: object) -> bool:
    """Say whether a value is a dict all of whose keys are texts."""
    return isinstance(value, Mapping) and all(issubclass(kind, str) for kind in set(map(type, value)))


@record
class _Candidate:
    """What may be the state: `named` if it is a dict of names that holds tensors, `lone` if these are scalars."""

    path: KeyPath
    named: bool
    lone: bool


def _candidates(tree: Tree) -> list[_Candidate]:
    return list(islice(_looked_for(tree, (), True, Holding()), _MOST))


def _looked_for(value: Any, path: KeyPath, named: bool, holding: Holding) -> Iterator[_Candidate]:
    """Yield what may be a state, from outside in; what is in a dict of ints is part of that."""
    if is_module(value):
        yield _Candidate(path, named, False)
        return
    if len(path) > DEPTH or not (holding(None, value) or _has_module(value)):
        return
    if not isinstance(value, Mapping):
        named = False
        if not path and any(_in_lists(value, set())):
            yield _Candidate(path, named, _are_lone(value, _in_lists(value, set())))
    elif not is_named(value):
        yield _Candidate(path, False, any(map(is_tensor, value.values())) and _are_lone(value, value.values()))
        return
    elif any(map(is_tensor, value.values())):
        yield _Candidate(path, named, _are_lone(value, filter(is_tensor, value.values())))
    elif any(True for one in value.values() for _ in _in_lists(one, set())):
        yield _Candidate(path, False, _are_lone(value, (t for one in value.values() for t in _in_lists(one, set()))))
    for key, one in items(value):
        if type(one) is not TensorInfo and (is_container(one) or is_module(one)) and not is_extra_state(key):
            yield from _looked_for(one, (*path, key), named, holding)


def _has_module(value: Any, depth: int = 0) -> bool:
    if not isinstance(value, Mapping) or depth > DEPTH:
        return False
    return any(is_module(one) or _has_module(one, depth + 1) for one in value.values())


def _in_lists(value: Any, seen: set[int]) -> Iterator[Any]:
    """Yield the tensors in a list, and in lists in it."""
    if isinstance(value, Mapping) or not is_container(value) or id(value) in seen:
        return
    seen.add(id(value))
    for one in value:
        if is_tensor(one):
            yield one
        else:
            yield from _in_lists(one, seen)


def _are_lone(state: Any, tensors: Iterable[Any]) -> bool:
    """Say whether the tensors of what may be a state are scalars, and nothing shows that a module has made it."""
    scalars = all(isinstance(one, TensorInfo) and not one.type.shape for one in tensors)
    return scalars and getattr(state, "_metadata", None) is None


def candidates(tree: Tree) -> list[KeyPath]:
    """Return the paths of the dicts that hold tensors directly; where there are none, of what else may be a state."""
    found = _candidates(tree)
    return [one.path for one in found if one.named] or [one.path for one in found]


def _likely(tree: Tree) -> list[KeyPath]:
    """Return the paths of the containers that are states rather than others.

    Dicts of names come first. Those of lone scalars, such as a best score beside the state, stand back.
    """
    found = _candidates(tree)
    for named, lone in ((True, False), (False, False), (True, True), (False, True)):
        paths = [one.path for one in found if one.named >= named and one.lone == lone]
        if paths:
            return paths
    return []


def find_root(tree: Tree, label: str) -> KeyPath:
    """Return the path of the one container that is the state.

    That is the only dict with tensors (or one that is empty altogether), or else the only one with the `_metadata`
    that `state_dict()` leaves. Dicts of lone scalars stand back, and so does all that is not a dict of names.

    Raises:
        StatexError: SX605 where there is none, SX606 with all candidates where there are several.
    """
    found = _likely(tree)
    only = _only(tree, found, label)
    if only is not None:
        return only
    names = [written(tree, path) for path in found[:12]]
    rows = [(f"  {as_option(name)}", _size(at(tree, path))) for name, path in zip(names, found, strict=False)]
    if len(found) > 12:
        rows.append((f"  and {len(found) - 12} more", ""))
    first = names[0] or names[1]
    fail(
        codes.AMBIGUOUS_ROOT,
        f"{show_label(label)} holds several states: which one is meant?",
        rows=rows,
        help=[
            f"--root {as_option(first)}   or in the rules: root {in_rules(first)}",
            "root '' is the whole file",
        ],
    )


def _only(tree: Tree, found: list[KeyPath], label: str) -> KeyPath | None:
    """Return the path of the state among the candidates, `None` where there are several."""
    if not found and isinstance(tree, Mapping) and not tree:
        return ()  # the state of a module without tensors
    if not found:
        _refuse_foreign(tree, label)
        _no_state(tree, label)
    if len(found) == 1:
        return found[0]
    marked = [path for path in found if getattr(at(tree, path), "_metadata", None) is not None]
    if len(marked) == 1 and (not marked[0] or not any(is_below(path, marked[0]) for path in found)):
        return marked[0]
    return None


def _no_state(tree: Tree, label: str) -> NoReturn:
    """Refuse a checkpoint without a state, and say what it has instead."""
    told = show_label(label)
    if is_tensor(tree):
        fail(
            codes.NO_STATE,
            f"{told} is a single tensor, not a dict of tensors",
            help="give it a key, and save that: {'weight': tensor}",
        )
    odd = _odd_key(tree)
    if odd is not None:
        path, key = odd
        where = f" at `{joined(path)}`" if path else ""
        fail(
            codes.NO_STATE,
            f"{told} has a dict with tensors{where} that is not a state: the keys of a state are text or ints",
            notes=[f"it has the key {repr(key)[:60]}, of type {type(key).__name__}"],
            help="save it again with text keys: {str(key): tensor for key, tensor in state.items()}",
        )
    fail(codes.NO_STATE, f"{told} holds no dict of tensors, and no list of them")


def _odd_key(tree: Tree) -> tuple[KeyPath, object] | None:
    """Return the outermost dict on the way to a tensor that is not a state because of a key, and that key."""
    pending: list[tuple[Any, KeyPath, tuple[KeyPath, object] | None]] = [(tree, (), None)]
    seen: set[int] = set()
    while pending:
        value, path, odd = pending.pop()
        if is_tensor(value) and odd is not None:
            return odd
        if not is_container(value) or id(value) in seen or len(path) > DEPTH:
            continue
        seen.add(id(value))
        if odd is None and isinstance(value, Mapping) and not joins(value):
            odd = path, next(key for key in value if type(key) not in (str, int))
        pending.extend((one, (*path, key), odd) for key, one in reversed([*items(value)]))
    return None


def _refuse_foreign(tree: Tree, label: str) -> None:
    """Refuse a file whose tensors, if it has any, are in what only code can make."""
    names = list(dict.fromkeys(f"`{one.name}`" for one in _foreign(tree)))
    if names:
        fail(
            codes.UNSAFE,
            f"{show_label(label)} names {join_words(names)}, which is code: it is not loaded",
            notes=["only tensors and plain containers are read from a pickle"],
            help="where you trust the file, save the state alone: torch.save(model.state_dict(), 'state.pth')",
        )


def _foreign(tree: Tree, depth: int = 0) -> Iterator[Foreign]:
    if isinstance(tree, Foreign):
        yield tree
    elif isinstance(tree, Mapping) and depth <= DEPTH:
        for one in tree.values():
            yield from _foreign(one, depth + 1)


_FEW = 8
"""So many states beside one another; where there are more, the whole is one whose keys are joined."""


def must_be_named(tree: Tree) -> bool:
    """Say whether the state is found only where it is named: several may be meant."""
    found = _likely(tree)
    return bool(found) and _only(tree, found, "") is None


def find_roots(tree: Tree, label: str) -> list[KeyPath]:
    """Return the path of the state, or the paths of all where there are several that do not contain one another.

    Raises:
        StatexError: SX605 where there is none.
    """
    found = _likely(tree)
    only = _only(tree, found, label)
    if only is not None:
        return [only]
    outer = [path for path in found if not any(is_below(path, other) for other in found)]
    return outer if len(outer) <= _FEW else [()]


def _size(found: Any) -> str:
    if isinstance(found, Foreign):
        return f"the module {found.name}"
    count = sum(is_tensor(value) for _, _, value in joined_entries(found))
    return f"{count} tensor{'' if count == 1 else 's'}"


# --- a root that is named ---------------------------------------------------------------------------------------


def root_at(tree: Tree, given: Address, label: str, span: Span | None = None) -> KeyPath:
    """Return the path of the container that a root names; `span` is where a rule file names it.

    Raises:
        StatexError: SX607 where there is none, SX626 for a text that can be read as several paths.
    """
    found = readings(tree, given) if isinstance(given, str) else _there(tree, tuple(given))
    holding = Holding()
    states = [path for path in found if _is_state(at(tree, path), holding)]
    if len(states) > 1:
        two_readings(str(given), states, span)
    if states:
        return states[0]
    kind = f", but a {kind_of(at(tree, found[0]))}" if found else ""
    _no_root(tree, given if isinstance(given, str) else as_list(tuple(given)), kind, label, span)


def is_state_at(tree: Tree, path: KeyPath) -> bool:
    """Say whether there is something at a path that can be taken as a state."""
    return any(_is_state(at(tree, one), Holding()) for one in _there(tree, path))


def _there(tree: Tree, path: KeyPath) -> list[KeyPath]:
    try:
        at(tree, path)
    except KeyError:
        return []
    return [path]


def _is_state(value: Any, holding: Holding) -> bool:
    """Say whether a value can be taken as a state: a dict of names and ints, a list that holds tensors, or a module."""
    return is_module(value) or (isinstance(value, Mapping) and joins(value)) or holding(None, value)


def two_readings(text: str, paths: Collection[KeyPath], span: Span | None, say: str = "root {}") -> NoReturn:
    """Refuse a dotted text that is the text of several paths; `say` is how rules would say one of them.

    Raises:
        StatexError: SX626 with each of them as a list.
    """
    lists = [as_list(path) for path in paths]
    fail(
        codes.TWO_READINGS,
        f"`{text}` can be read as {join_words([f'`{one}`' for one in lists], last='or')}",
        span,
        help=[say.format(one) for one in lists[:2]],
    )


def _no_root(tree: Tree, text: str, there: str, label: str, span: Span | None) -> NoReturn:
    states = [written(tree, path) for path in candidates(tree) if path]
    known = [written(tree, path) for path in islice(_named_dicts(tree), _MOST) if path] or states
    near = did_you_mean(text, known) or states[:1]
    fail(
        codes.NO_ROOT,
        f"{show_label(label)} has no dict of names at `{text}`{there}",
        span,
        notes=[f"it has {join_words([f'`{p}`' for p in known], limit=8)}"] if known else ["it is one flat state"],
        help=f"did you mean `{near[0]}`?" if near else (),
    )


def _named_dicts(tree: Tree, path: KeyPath = ()) -> Iterator[KeyPath]:
    if len(path) > DEPTH or not isinstance(tree, Mapping):
        return
    if is_named(tree):
        yield path
    for key, value in tree.items():
        if not is_extra_state(key):
            yield from _named_dicts(value, (*path, key))


def dropped_by(tree: Tree, root: KeyPath, target: KeyPath | None) -> list[str]:
    """Return what stands beside the state on the way to it, and is left out when the bare state is written."""
    return list(Surroundings(tree, root).around) if target == () else []
