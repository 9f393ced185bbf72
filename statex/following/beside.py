"""Optimizers and averaged models next to a state, which refer to its parameters by position or by name.

They are recognised by their form, as torch and those who use it write them. What does not follow the parameters is
said; `things_beside` is where a statement that makes it follow begins.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from statex.core.header import Header, OpaqueInfo, TensorInfo, TensorType
from statex.core.paths import is_container, items
from statex.core.record import record
from statex.following.noted import read_note
from statex.trees.envelope import Tree

Path = tuple[object, ...]
"""The keys of dicts and the places in lists that lead to something in a tree."""

BY_POSITION = frozenset(("which", "order", "places", "values"))
"""What changes of parameters mean something to who knows them by their positions."""
BY_NAME = frozenset(("which", "names", "values"))
"""What changes of parameters mean something to who knows them by their names."""

_DEPTH = 64


@record
class Beside:
    """Something in a tree that knows the parameters of its state.

    `what` is what it is called, `minds` are the changes of the parameters that it would have to follow.
    """

    path: Path
    what: str
    minds: frozenset[str]

    @property
    def dotted(self) -> str:
        """The path as messages write it."""
        return ".".join(map(str, self.path))

    def holds(self, key: str) -> bool:
        """Say whether a joined key of the whole tree is of something in it."""
        return key == self.dotted or key.startswith(f"{self.dotted}.")


def things_beside(tree: Tree, root: str, header: Header) -> list[Beside]:
    """Return what knows the parameters of the state at a root, in the order of the tree.

    With the root of the whole tree (`''`), what stands in the state itself counts as beside it.
    """
    found = list(_found(tree, (), root, _shapes(header)))
    return found if root else [*found, *_joined_optimizers(tree)]


def optimizers_in(tree: Tree) -> list[Beside]:
    """Return the optimizers that a file of its own holds: one that is all of it, or those in it."""
    whole = _optimizer(tree, ())
    return [whole] if whole is not None else [one for one in _found(tree, (), "", {}) if one.what == "optimizer"]


Shapes = Mapping[str, tuple[int, ...]]


def _shapes(header: Header) -> Shapes:
    return {key: info.type.shape for key, info in header.entries.items() if isinstance(info, TensorInfo)}


def _found(tree: Tree, path: Path, root: str, state: Shapes, depth: int = 0) -> Iterator[Beside]:
    dotted = ".".join(map(str, path))
    if depth > _DEPTH or (dotted == root and path):
        return
    if path and not root.startswith(f"{dotted}."):
        known = _optimizer(tree, path) or _shadow(tree, path) or _averaged(tree, path, state)
        if known is not None:
            yield known
            return
    for key, value in _items(tree):
        if isinstance(value, Mapping | list | tuple):
            yield from _found(value, (*path, key), root, state, depth + 1)


def _items(tree: Tree) -> Iterator[tuple[object, Any]]:
    return items(tree) if is_container(tree) else iter(())


# --- forms ------------------------------------------------------------------------------------------------------


def _optimizer(tree: Tree, path: Path) -> Beside | None:
    """Recognise what `Optimizer.state_dict()` gives, and what FSDP and torch's distributed checkpoints make of it."""
    if not isinstance(tree, Mapping):
        return None
    groups = tree.get("param_groups")
    if isinstance(tree.get("state"), Mapping) and isinstance(groups, Sequence) and all(map(_is_group, groups)):
        return Beside(path, "optimizer", _minded(groups) | _noted(tree)) if groups else None
    names = [key for key in tree if isinstance(key, str)]
    if any(key.startswith("param_groups.") for key in names) and any(key.startswith("state.") for key in names):
        return Beside(path, "optimizer", BY_NAME)
    return None


def _joined_optimizers(tree: Tree) -> Iterator[Beside]:
    """Yield the optimizers whose names all stand in one dict beside those of the model."""
    names = [key for key in tree if isinstance(key, str)] if isinstance(tree, Mapping) else []
    with_state = dict.fromkeys(key.partition(".state.")[0] for key in names if ".state." in key)
    with_groups = {key.partition(".param_groups.")[0] for key in names if ".param_groups." in key}
    yield from (Beside((path,), "optimizer", BY_NAME) for path in with_state if path in with_groups)


def _minded(groups: Sequence[Mapping[str, Any]]) -> frozenset[str]:
    if any(isinstance(one, str) for group in groups for one in group["params"]):
        return BY_NAME
    return BY_POSITION | BY_NAME if any("param_names" in group for group in groups) else BY_POSITION


def _is_group(group: Any) -> bool:
    return isinstance(group, Mapping) and isinstance(group.get("params"), Sequence)


def _shadow(tree: Tree, path: Path) -> Beside | None:
    """Recognise moving averages in a list, in the order of the parameters."""
    shadow = tree.get("shadow_params") if isinstance(tree, Mapping) else None
    found = isinstance(shadow, Sequence) and any(map(_is_tensor, shadow))
    return Beside(path, "moving average", BY_POSITION | _noted(tree)) if found else None


def _noted(tree: Any) -> frozenset[str]:
    return BY_NAME if read_note(tree) is not None else frozenset()


def _is_tensor(value: Any) -> bool:
    return isinstance(value, TensorInfo) or hasattr(value, "untyped_storage")


def _averaged(tree: Tree, path: Path, state: Shapes) -> Beside | None:
    """Recognise a second state of the same model: most of its tensors have the names and shapes of the first.

    Either of them may have one segment before all of its names, as wrappers put it there.
    """
    own = dict(_joined(tree))
    if not own or not isinstance(tree, Mapping):
        return None
    # What is a dict in a dict is found there by itself.
    forms = (own, _unwrapped(own)) if any(isinstance(value, TensorInfo) for value in tree.values()) else (own,)
    same = max(_agreeing(one, other) for one in forms for other in (state, _unwrapped(state)))
    if len(forms) > 1:
        same = max(same, _in_groups(own, state))
    return Beside(path, "averaged model", BY_NAME) if 2 * same > len(own) else None


def _joined(tree: Tree, prefix: str = "", depth: int = 0) -> Iterator[tuple[str, tuple[int, ...]]]:
    if not isinstance(tree, Mapping) or depth > _DEPTH:
        return
    for key, value in tree.items():
        if isinstance(value, TensorInfo):
            yield f"{prefix}{key}", value.type.shape
        elif isinstance(value, Mapping):
            yield from _joined(value, f"{prefix}{key}.", depth + 1)


def _unwrapped(names: Shapes) -> Shapes:
    """Return names without the first segment, where all that have several segments have the same one."""
    firsts = {name.partition(".")[0] for name in names if "." in name}
    return {name.partition(".")[2] or name: shape for name, shape in names.items()} if len(firsts) == 1 else names


def _in_groups(own: Shapes, state: Shapes) -> int:
    """Count the tensors of states that stand in one dict, each under a wrapper's name: the model and its average."""
    groups: dict[str, dict[str, tuple[int, ...]]] = {}
    for name, shape in own.items():
        first, dot, rest = name.partition(".")
        if dot:
            groups.setdefault(first, {})[rest] = shape
    found = [_agreeing(group, state) for group in groups.values()]
    return sum(same for same in found if 2 * same > len(state))


def _agreeing(one: Shapes, other: Shapes) -> int:
    return sum(other.get(name) == shape for name, shape in one.items())


# --- changes ----------------------------------------------------------------------------------------------------


def is_parameter(info: TensorInfo | OpaqueInfo) -> bool:
    """Say whether an entry may be a parameter: what is no float is a buffer."""
    return isinstance(info, TensorInfo) and may_be_parameter(info.type)


def may_be_parameter(kind: TensorType) -> bool:
    """Say whether a tensor of a type may be a parameter."""
    return kind.dtype.is_floating_point or kind.dtype.is_complex
