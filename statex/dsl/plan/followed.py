"""What stands beside the state and goes through the same plan: its tensors, and the account of its parameters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import TYPE_CHECKING, Any, NamedTuple

from statex.core.header import KeyPath, TensorInfo
from statex.core.record import record
from statex.diagnostics.amounts import counted
from statex.diagnostics.escape import escape

if TYPE_CHECKING:
    from statex.dsl.plan.entry import Entry


class Place(NamedTuple):
    """Where a tensor of what follows stands in it: the path of what follows, the path in there, and the file."""

    path: KeyPath
    inner: KeyPath
    file: str = ""


@record
class FollowAccount:
    """What became of the parameters that an optimizer knows.

    `followed` went through the rules (or stayed as they are), `grown` of them have zeros in their new part, `new` have
    no entry yet, `dropped` were known before. `slots` are the moments that followed, `order` says what the positions
    follow: `keys`, `target`, `before` (where they were), `former` (where their names were), or `names` where there are
    none. `known` are the keys of the tensors that it kept something of. `is_same` where the optimizer is what it was,
    `is_noted` where the names of its parameters are noted for the next run.
    """

    slots: tuple[str, ...]
    followed: int
    grown: tuple[str, ...] = ()
    new: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()
    order: str = "names"
    known: tuple[str, ...] = ()
    is_same: bool = False
    is_noted: bool = False


@record
class Followed:
    """Something beside the state that follows: what it holds in the output, and how that is made.

    `entries` are its tensors in the input, by the keys that the graph knows them by under the name `input`. `tree` is
    its new form, with a `Place` for each tensor of `outputs`. `file` is the name of the input that it stands in, if
    that is a file of its own.
    """

    path: KeyPath
    what: str
    input: str
    entries: Mapping[str, TensorInfo]
    outputs: Mapping[Place, Entry] = field(compare=False)
    tree: Any = field(compare=False)
    account: FollowAccount
    file: str = ""

    @property
    def dotted(self) -> str:
        """The path as messages write it, in the file that it stands in."""
        return ".".join(map(str, (self.file, *self.path) if self.file else self.path))


def follow_line(one: Followed) -> str:
    """Return the line that says what became of the parameters that an optimizer knows."""
    found = one.account
    if one.what != "optimizer":
        gone = f", {len(found.dropped)} dropped" if found.dropped else ""
        averages = counted(found.followed + len(found.new), "averaged tensor")
        return f"{escape(one.dotted)}: {averages}{gone}{_ORDERS[found.order]}"
    slots = f"{', '.join(map(escape, found.slots))} of " if found.slots else ""
    said = [f"{slots}{counted(found.followed, 'parameter')} followed"]
    if found.grown:
        said[0] += f" ({len(found.grown)} grew: zeros in the new part)"
    if found.new:
        said.append(f"{len(found.new)} new (nothing kept until the first step)")
    if found.dropped:
        said.append(f"{len(found.dropped)} dropped")
    return f"{escape(one.dotted)}: {', '.join(said)}{_ORDERS[found.order]}"


_ORDERS = {
    "names": "",
    "keys": "; numbered in the order of the keys",
    "target": "; numbered in the order of the target's parameters",
    "before": "; numbered in their old order",
    "former": "; numbered in the order that these names had before",
}


def follow_data(one: Followed) -> dict[str, Any]:
    """Return the account of what follows as plain data."""
    found = one.account
    return {
        "path": list(one.path),
        "file": one.file or None,
        "what": one.what,
        "slots": list(found.slots),
        "followed": found.followed,
        "grown": list(found.grown),
        "new": list(found.new),
        "dropped": list(found.dropped),
        "order": found.order,
    }
