"""A plan step by step: what stood under which key before each statement, and which statement of the text it was."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence

from statex.core.header import OpaqueInfo, TensorInfo
from statex.core.source import Span
from statex.dsl.plan.plan import AROUND, Plan, Step
from statex.grammar import tree
from statex.inverse.proof import HeldEntry, StateLayout
from statex.inverse.recovery import Value, results_of, sources_of, value_of

KeyValues = Mapping[str, Value]
"""The values under the keys of a state."""


def states(plan: Plan) -> list[KeyValues]:
    """Return the states before each statement of a plan, and the one after the last."""
    found: list[KeyValues] = [sources_of(plan)]
    for step in plan.steps:
        found.append(_after(plan, found[-1], step))
    return found


def _after(plan: Plan, before: KeyValues, step: Step) -> KeyValues:
    changes = [change for change in step.changes if change.kind not in AROUND]
    made = {key: value_of(plan, stood) for key, stood in step.made.items()}
    made |= {change.after[0]: before[change.before[0]] for change in changes if change.kind == "renamed"}
    gone: set[str] = set()
    # What takes the place of a key in the order.
    placed: dict[str, list[str]] = {}
    for change in changes:
        if change.kind == "copied" or not change.before:
            continue
        gone.update(key for key in change.before if key not in change.after)
        first = change.before[0]
        if first not in change.after:
            placed.setdefault(first, []).extend(change.after)
    state: dict[str, Value] = {}
    for key, value in before.items():
        state.update((new, made[new]) for new in placed.get(key, ()) if new in made)
        if key not in gone:
            state[key] = value
    state.update(made)
    return state


def before_all(plan: Plan) -> StateLayout:
    """Return what stands under the keys of the checkpoint."""
    found: dict[str, HeldEntry] = {}
    for key, value in sources_of(plan).items():
        info = plan.header.entries[key]
        if isinstance(info, TensorInfo):
            identity: Hashable = info.identity
            tie = ("key", key) if identity is None else ("memory", identity)
            found[key] = HeldEntry(value, tie, info.is_parameter, info.requires_grad)
        else:
            found[key] = HeldEntry(value, ("key", key), kind=info.kind)
    return found


def after_all(plan: Plan) -> StateLayout:
    """Return what stands under the keys of the result."""
    values = results_of(plan)
    return {
        key: HeldEntry(
            values[key],
            output.tie,
            output.is_parameter,
            output.requires_grad,
            output.opaque.kind if output.opaque is not None else "",
        )
        for key, output in plan.outputs.items()
    }


def between(plan: Plan, state: KeyValues) -> StateLayout:
    """Return what stands under keys between two statements, of which ties do not matter."""
    kinds = {value: info.kind for value, info in _opaque(plan)}
    return {key: HeldEntry(value, ("key", key), kind=kinds.get(value, "")) for key, value in state.items()}


def _opaque(plan: Plan) -> list[tuple[Value, OpaqueInfo]]:
    values = sources_of(plan)
    return [(values[key], info) for key, info in plan.header.entries.items() if isinstance(info, OpaqueInfo)]


def statement_of(statements: Sequence[tree.Statement], step: Step) -> int:
    """Return the number of the statement that a step is of: the one whose text it, or what led to it, stands in."""
    spans = [*step.used_at, step.span]
    for number, statement in enumerate(statements):
        if any(_holds(statement.span, span) for span in spans) and not isinstance(statement, tree.Macro):
            return number
    raise LookupError(f"no statement holds {step.span}")


def _holds(outer: Span, inner: Span) -> bool:
    return outer.source is inner.source and outer.start <= inner.start and inner.end <= outer.end
