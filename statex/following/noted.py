"""What statex notes in an optimizer of the names of its parameters, where the keys do not tell them.

torch reads only `state` and `param_groups` of what it loads, so the note is there for the next run of statex, and is
gone when training saves the optimizer again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from statex.core.record import record

NOTE = "statex"
"""Under which name the note stands beside `state` and `param_groups`."""

NamesByGroup = tuple[tuple[str, ...], ...]


@record
class NamesNote:
    """The keys of an optimizer's parameters, group by group; `before` are those of what it was made of."""

    names: NamesByGroup
    before: NamesByGroup

    def as_data(self) -> dict[str, list[list[str]]]:
        """Return it as it is written."""
        return {"names": [[*group] for group in self.names], "before": [[*group] for group in self.before]}


def read_note(tree: Mapping[Any, Any]) -> NamesNote | None:
    """Return the note in an optimizer's state; `None` if it has none, or something else under that name."""
    held = tree.get(NOTE)
    if not isinstance(held, Mapping) or "names" not in held:
        return None
    names, before = _names(held["names"]), _names(held.get("before", ()))
    return None if names is None or before is None else NamesNote(names, before)


def with_note(tree: Mapping[Any, Any], old: NamesNote | None, new: NamesNote | None) -> dict[Any, Any]:
    """Return a tree with a new note in the place of an old one."""
    kept = {key: value for key, value in tree.items() if key != NOTE or old is None}
    return kept if new is None else {**kept, NOTE: new.as_data()}


def _names(held: Any) -> NamesByGroup | None:
    if not isinstance(held, list | tuple) or not all(map(_is_group, held)):
        return None
    return tuple([tuple(group) for group in held])


def _is_group(held: Any) -> bool:
    return isinstance(held, list | tuple) and all(isinstance(name, str) for name in held)


def by_group(names: Iterable[tuple[int, str]], groups: int) -> NamesByGroup:
    """Return names in their groups, from the number of the group of each."""
    found: list[list[str]] = [[] for _ in range(groups)]
    for group, name in names:
        found[group].append(name)
    return tuple([tuple(group) for group in found])


def flat(names: Sequence[Sequence[str]]) -> list[str]:
    """Return the names of all groups, one after the other."""
    return [name for group in names for name in group]
