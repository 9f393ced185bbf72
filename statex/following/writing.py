"""Writes an optimizer's state in the form it had: parameters numbered anew group by group, or under new names."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from statex.core.record import record
from statex.following.noted import NamesNote, with_note
from statex.following.optimizer import Id, Optimizer, flat_items
from statex.trees.rebuilding import like

Entry = Mapping[str, Any]


@record
class Renewed:
    """A parameter of the result: its name, its group, and what the optimizer keeps of it."""

    name: str
    group: int
    entry: Entry | None


def written_optimizer(
    tree: Mapping[Any, Any], optimizer: Optimizer, renewed: Sequence[Renewed], note: NamesNote | None
) -> Any:
    """Return the new form of an optimizer's state; `renewed` are its parameters, group by group."""
    return _flat(tree, optimizer, renewed) if optimizer.is_flat else _nested(tree, optimizer, renewed, note)


def ids_of(optimizer: Optimizer, names: Sequence[str]) -> list[Id]:
    """Return how the parameters of the result are called in the groups; `names` are theirs, group by group."""
    return list(range(len(names))) if optimizer.by_position else [*names]


def _nested(tree: Mapping[Any, Any], optimizer: Optimizer, renewed: Sequence[Renewed], note: NamesNote | None) -> Any:
    ids = ids_of(optimizer, [one.name for one in renewed])
    known = {one.id for one in optimizer.members}
    known |= {str(id) for id in known if optimizer.by_position}  # where nothing else is kept by texts
    state: dict[Any, Any] = {id: one.entry for id, one in zip(ids, renewed, strict=True) if one.entry is not None}
    state |= {key: value for key, value in tree["state"].items() if key not in known}
    groups = [
        _group(group, [(id, one.name) for id, one in zip(ids, renewed, strict=True) if one.group == number])
        for number, group in enumerate(tree["param_groups"])
    ]
    new = {"state": like(tree["state"], state), "param_groups": type(tree["param_groups"])(groups)}
    return like(tree, with_note({key: new.get(key, value) for key, value in tree.items()}, optimizer.note, note))


def _group(group: Mapping[str, Any], members: Sequence[tuple[Id, str]]) -> Any:
    new: dict[str, Any] = {"params": type(group["params"])([id for id, _ in members])}
    if "param_names" in group:
        new["param_names"] = type(group["param_names"])([name for _, name in members])
    return like(group, {key: new.get(key, value) for key, value in group.items()})


def _flat(tree: Mapping[Any, Any], optimizer: Optimizer, renewed: Sequence[Renewed]) -> Any:
    parts = {f"{part}.{name}.{item}" for part, name, item, _ in flat_items(tree)}
    made = {f"state.{one.name}.{slot}": value for one in renewed for slot, value in (one.entry or {}).items()}
    made |= {
        f"param_groups.{one.name}.{option}": value
        for one in renewed
        for option, value in optimizer.options[one.group].items()
    }
    return like(tree, {**{key: value for key, value in tree.items() if key not in parts}, **made})


def as_written(tree: Any, found: Callable[[Any], Any]) -> Any:
    """Return a tree with what `found` gives in the place of each leaf."""
    if isinstance(tree, Mapping):
        return like(tree, {key: as_written(value, found) for key, value in tree.items()})
    if isinstance(tree, list | tuple) and not hasattr(tree, "_fields"):
        return type(tree)([as_written(value, found) for value in tree])
    return found(tree)
