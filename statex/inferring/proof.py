"""The proof: a program applied to the old checkpoint, with nothing written, and compared with the new one in bits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from statex.core.header import Header, OpaqueInfo
from statex.core.progress import Tell
from statex.dsl.parts import ProgramPart
from statex.dsl.plan.around import surroundings_after
from statex.dsl.plan.plan import Plan
from statex.inferring.sides import CheckpointSide
from statex.session.compared import compared
from statex.session.request import InputSpec, Request
from statex.session.session import Session


@dataclass(frozen=True)
class Proof:
    """What applying a program to the old checkpoint has shown.

    `equal` are keys whose tensors are equal in bits, of type and dtype too; `different` the others, with what differs.
    `further` are keys that the program leaves and the new checkpoint does not have. `also` says of order, ties and so
    on whether they are as in the new checkpoint.
    """

    equal: tuple[str, ...]
    different: dict[str, str] = field(default_factory=dict)
    further: tuple[str, ...] = ()
    also: dict[str, bool] = field(default_factory=dict)

    @property
    def holds(self) -> bool:
        """True where the result has the tensors of the new checkpoint, all of them, and no others."""
        return not self.different and not self.further


def proved(
    part: ProgramPart,
    state: InputSpec,
    new: CheckpointSide,
    tell: Tell | None = None,
    inputs: Mapping[str, tuple[InputSpec, ...]] | None = None,
) -> Proof:
    """Apply a program, and compare what it makes with a checkpoint; `inputs` are further ones by name.

    Raises:
        StatexError: errors of the program on the old checkpoint, 6xx for files.
    """
    with Session(Request(state, (part,), inputs or {})) as session:
        found = compared(session, new, tell=tell)
        different = dict.fromkeys(found.only_second, "is not there")
        different |= {key: f"{one} and not {other}" for key, (one, other) in found.types.items()}
        different |= {key: str(one) for key, one in found.values.items()}
        different |= dict.fromkeys(found.uncompared, "was not compared: it is not a dense tensor")
        equal = tuple(key for key in new.types if key not in different)
        return Proof(equal, different, tuple(found.only_first), _also(session.plan, new))


def _also(plan: Plan, new: CheckpointSide) -> dict[str, bool]:
    """Say of what else the new checkpoint's format holds whether it is the same."""
    entries, format = new.header.entries, new.opened.format
    found: dict[str, bool] = {}
    if format.keeps_metadata:
        found["order"] = list(plan.outputs) == list(entries)
        found["parameters"] = all(
            (plan.outputs[key].is_parameter, plan.outputs[key].requires_grad) == (info.is_parameter, info.requires_grad)
            for key, info in entries.items()
            if not isinstance(info, OpaqueInfo) and key in plan.outputs
        )
    if format.shares:
        ties = _ties([(key, new.tie(key) or key) for key in entries])
        found["ties"] = _ties([(key, one.tie) for key, one in plan.outputs.items()]) == ties
    if new.header.metadata is not None:
        found["_metadata"] = plan.metadata == new.header.metadata
    made = replace(plan.header, surroundings=surroundings_after(plan))
    if new.header.around or made.around:
        found["what stands around the state"] = _around(made) == _around(new.header) is not None
    return found


def _around(header: Header) -> object:
    """Return the plain values around a state; `None` where there is more around it, which nobody compares."""
    return header.values if all(path in header.values for path in header.around) else None


def _ties(keys: Sequence[tuple[str, object]]) -> set[frozenset[str]]:
    found: dict[object, set[str]] = {}
    for key, tie in keys:
        found.setdefault(tie, set()).add(key)
    return {frozenset(one) for one in found.values() if len(one) > 1}
