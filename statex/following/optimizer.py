"""An optimizer's state as a plain model: its parameters in their groups, and what it keeps of each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from statex.core.header import TensorInfo
from statex.core.numerals import is_numeral
from statex.core.record import record
from statex.diagnostics.codes import following as codes
from statex.following.noted import NamesNote, read_note
from statex.following.problems import CannotFollowError
from statex.following.slots import COUNTERS, FACTORED, SIGNED, UNSIGNED

Id = int | str


@record
class KnownParameter:
    """A parameter as an optimizer knows it: by its position or its name in a group.

    `entry` is what it keeps of the parameter by the names of slots, `None` where it has kept nothing yet.
    """

    id: Id
    name: str | None
    group: int
    entry: Mapping[str, Any] | None

    @property
    def moments(self) -> dict[str, TensorInfo]:
        """The tensors among that which are not counters."""
        found = {name: one for name, one in (self.entry or {}).items() if isinstance(one, TensorInfo)}
        return {name: one for name, one in found.items() if name not in COUNTERS}

    @property
    def shape(self) -> tuple[int, ...] | None:
        """The shape that the parameter has to have, if what is kept of it tells."""
        known = {name: one for name, one in self.moments.items() if name in SIGNED | UNSIGNED}
        if not known and FACTORED & self.moments.keys():
            return None
        shapes = {one.type.shape for one in (known or self.moments).values()}
        if len(shapes) > 1:
            shapes -= {()}
        return shapes.pop() if len(shapes) == 1 else None


@record
class Optimizer:
    """The parameters of an optimizer, group by group; `is_flat` where all that it keeps stands in one dict.

    `note` is what an earlier run has noted of the names of its parameters.
    """

    members: tuple[KnownParameter, ...]
    groups: int
    is_flat: bool
    options: tuple[Mapping[str, Any], ...]
    note: NamesNote | None = None

    @property
    def is_named(self) -> bool:
        """True where it knows all of its parameters by names."""
        return all(one.name is not None for one in self.members)

    @property
    def by_position(self) -> bool:
        """True where its parameters are numbered."""
        return any(type(one.id) is int for one in self.members)


def read_optimizer(tree: Mapping[Any, Any]) -> Optimizer:
    """Return the model of an optimizer's state.

    Raises:
        CannotFollowError: SX342 where it does not hold together.
    """
    return _nested(tree) if "param_groups" in tree else _flat(tree)


def _nested(tree: Mapping[Any, Any]) -> Optimizer:
    groups = tree["param_groups"]
    as_text = _are_numbers_text(tree["state"], groups)
    state = {int(key): kept for key, kept in tree["state"].items()} if as_text else tree["state"]
    members: dict[Id, KnownParameter] = {}
    for number, group in enumerate(groups):
        for id, name in zip(group["params"], _names(group), strict=True):
            if type(id) not in (int, str):
                _unreadable(f"a parameter of group {number} is neither a number nor a name")
            if id in members:
                _unreadable(f"its parameter {id!r} is in two places of its groups")
            entry = state.get(id)
            if entry is not None and not isinstance(entry, Mapping):
                _unreadable(f"what it keeps of the parameter {id!r} is not a dict")
            members[id] = KnownParameter(id, name, number, entry or None)
    stray = next((key for key in state if type(key) is int and key not in members), None)
    if stray is not None:
        _unreadable(f"it keeps something of a parameter {stray}, which is in none of its groups")
    options = ({key: one for key, one in group.items() if key not in _OF_MEMBERS} for group in groups)
    return Optimizer(tuple(members.values()), len(groups), False, tuple(options), read_note(tree))


def _are_numbers_text(state: Mapping[Any, Any], groups: Sequence[Mapping[str, Any]]) -> bool:
    """Say whether what it keeps of its parameter 0 stands under "0", as torch's tools take it out of folders."""
    by_number = all(type(id) is int for group in groups for id in group["params"])
    return by_number and bool(state) and all(isinstance(key, str) and is_numeral(key) for key in state)


_OF_MEMBERS = ("params", "param_names")


def _names(group: Mapping[str, Any]) -> Sequence[str | None]:
    ids, names = group["params"], group.get("param_names")
    if isinstance(names, Sequence) and len(names) == len(ids) and all(isinstance(one, str) for one in names):
        return names
    return [one if isinstance(one, str) else None for one in ids]


def _flat(tree: Mapping[Any, Any]) -> Optimizer:
    kept: dict[str, dict[str, Any]] = {}
    options: dict[str, dict[str, Any]] = {}
    for part, name, item, value in flat_items(tree):
        (kept if part == "state" else options).setdefault(name, {})[item] = value
    groups: list[Mapping[str, Any]] = []
    numbers = [_number(groups, options[name]) for name in options]
    members = [
        KnownParameter(name, name, number, kept.get(name) or None)
        for name, number in zip(options, numbers, strict=True)
    ]
    stray = next((name for name in kept if name not in options), None)
    if stray is not None:
        _unreadable(f"it keeps something of a parameter `{stray}`, which is in none of its groups")
    return Optimizer(tuple(members), len(groups), True, tuple(groups))


def _number(groups: list[Mapping[str, Any]], options: Mapping[str, Any]) -> int:
    """Return the number of the group with these options; what has the same ones is one group."""
    if options not in groups:
        groups.append(options)
    return groups.index(options)


def flat_items(tree: Mapping[Any, Any]) -> Iterator[tuple[str, str, str, Any]]:
    """Yield the parts of `state.NAME.SLOT` and `param_groups.NAME.OPTION`, each with its value."""
    for key, value in tree.items():
        part, _, rest = key.partition(".") if isinstance(key, str) else ("", "", "")
        name, _, item = rest.rpartition(".")
        if part in ("state", "param_groups") and name:
            yield part, name, item, value


def _unreadable(what: str) -> None:
    raise CannotFollowError(codes.OTHER_PARAMETERS, what)
