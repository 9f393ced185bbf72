"""A plan as plain data, for JSON."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from statex.diagnostics.render import to_json
from statex.dsl.plan.around import around_data
from statex.dsl.plan.followed import follow_data
from statex.dsl.plan.graph import InputTensor, OperationCall
from statex.dsl.plan.ledger import label
from statex.dsl.plan.plan import Plan, Step


def plan_data(plan: Plan) -> dict[str, Any]:
    """Return the whole plan as plain data: statements and changes, outputs and what they are made of, the account."""
    return {
        "ok": True,
        "parameters": plan.parameters,
        "steps": [step_data(step) for step in plan.steps],
        "outputs": {key: _output_data(plan, key) for key in plan.outputs},
        "account": account_data(plan),
        "totals": asdict(plan.totals),
        "left_around": list(plan.left_around),
        "around": around_data(plan),
        "followed": [follow_data(one) for one in plan.followed],
        "linked": [{"path": path, "from": real} for path, real in plan.linked.items()],
        "cost": asdict(plan.cost) if plan.cost is not None else None,
        "warnings": [to_json(warning) for warning in plan.warnings],
    }


def account_data(plan: Plan) -> dict[str, Any]:
    """Return as plain data what became of every entry of every input."""
    return {
        label(plan, key): {
            "fate": fate.kind,
            "results": list(fate.results),
            "step": fate.step if fate.step >= 0 else None,
        }
        for key, fate in plan.fates.items()
    }


def step_data(step: Step) -> dict[str, Any]:
    """Return a statement that was carried out, and its changes, as plain data."""
    return {
        "file": step.span.source.name,
        "line": step.span.line,
        "verb": step.verb,
        "text": step.span.text,
        "reordered": step.reordered,
        "changes": [{"kind": c.kind, "before": list(c.before), "after": list(c.after)} for c in step.changes],
    }


def _output_data(plan: Plan, key: str) -> dict[str, Any]:
    output = plan.outputs[key]
    found: dict[str, Any] = {"step": output.step if output.step >= 0 else None}
    if output.type is not None:
        found |= {"dtype": output.type.dtype.name, "shape": list(output.type.shape)}
    if output.origin is not None:
        return found | {"from": label(plan, output.origin)}
    assert output.value is not None
    sources = [plan.graph[id] for id in sorted(plan.graph.sources(output.value))]
    node = plan.graph[output.value]
    return found | {
        "operation": node.operation if isinstance(node, OperationCall) else None,
        "sources": [label(plan, source.key) for source in sources if isinstance(source, InputTensor)],
    }
