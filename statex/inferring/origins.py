"""Which tensors of a state the results of a plan are made of."""

from __future__ import annotations

from statex.dsl.plan.entry import Entry
from statex.dsl.plan.graph import InputTensor
from statex.dsl.plan.plan import Plan


def sources_of(plan: Plan, output: Entry) -> tuple[str, ...]:
    """Return the keys of the tensors of a plan's state that an output is made of."""
    if output.origin is not None:
        return (output.origin.key,)
    found: dict[str, None] = {}
    left = [output.value] if output.value is not None else []
    seen = set(left)
    while left:
        one = left.pop()
        node = plan.graph[one]
        if isinstance(node, InputTensor):
            found[node.key.key] = None
        below = [at for at in plan.graph.operands(one) if at not in seen]
        seen.update(below)
        left += below
    return tuple(found)
