"""The proof on the header: an inverse is compiled over what a program makes, and both are composed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from statex.core.header import Header, OpaqueInfo, TensorInfo, TensorType
from statex.core.record import record
from statex.core.source import Source
from statex.core.strides import Tiling
from statex.dsl.compile.given import params
from statex.dsl.expressions.parameters import Given
from statex.dsl.parts import Outside, ProgramPart
from statex.dsl.plan.graph import Graph, InputTensor, SourceKey
from statex.dsl.plan.plan import Plan
from statex.dsl.planner import compile_plan
from statex.dsl.resolve import resolve
from statex.grammar import parse, tree
from statex.inverse.forms import NormalForms, is_whole, whole
from statex.inverse.recovery import Value, sources_of, type_of, value_of


@record
class HeldEntry:
    """What stands under a key between two statements; `tie` is equal for keys that are one tensor."""

    value: Value
    tie: object
    is_parameter: bool = False
    requires_grad: bool = False
    kind: str = ""
    """What an entry is that is no tensor."""


StateLayout = Mapping[str, HeldEntry]
"""What stands under the keys of a state, in their order."""
_NOTHING: StateLayout = {}


def header_of(graph: Graph, layout: StateLayout) -> Header:
    """Return the header a state would have, with ties."""
    counts: dict[object, int] = {}
    for held in layout.values():
        counts[held.tie] = counts.get(held.tie, 0) + 1
    entries: dict[str, TensorInfo | OpaqueInfo] = {}
    for key, held in layout.items():
        if not isinstance(held.value, int):
            entries[key] = OpaqueInfo(held.kind)
            continue
        shared = ("tie", held.tie) if counts[held.tie] > 1 else None
        kind = graph[held.value].type
        assert isinstance(kind, TensorType)
        entries[key] = TensorInfo(kind, shared, is_parameter=held.is_parameter, requires_grad=held.requires_grad)
    return Header(entries, label="the result")


def compiled(
    text: str,
    header: Header,
    given: Mapping[str, object],
    inputs: Mapping[str, Sequence[Header]] | None = None,
) -> Plan:
    """Return the plan of a rule text over a header; of `inputs`, those count that the text declares.

    Raises:
        StatexError: every error of the text on this header.
    """
    part = ProgramPart(parse(Source("<inverse>", text)))
    outside = Outside({key: Given(value, typed=True) for key, value in given.items()})
    resolved = resolve([part], _no_includes, outside)
    known = {one.name.name for part in resolved.parts for one in params(part.program.statements)}
    outside = replace(outside, given={key: value for key, value in outside.given.items() if key in known})
    declared = {one.name.name for one in part.program.statements if isinstance(one, tree.Input)}
    further = {name: headers for name, headers in (inputs or {}).items() if name in declared}
    return compile_plan(resolve([part], _no_includes, outside), header, inputs=further, target=None, outside=outside)


def _no_includes(folder: str, path: str) -> Source:
    raise AssertionError("an inverse includes nothing")


def differences(
    graph: Graph,
    before: StateLayout,
    after: StateLayout,
    inverse: Plan,
    stored: StateLayout = _NOTHING,
    *,
    on_data: bool = False,
) -> list[str]:
    """Return the keys of a state that are not shown to come back, given the inverse compiled over what became of it.

    Keys that the inverse makes and the state does not have are among them. `stored` is what its further input has. With
    `on_data` it is left to the data whether operations are undone that need not be.
    """
    known = {
        held.value: whole(("source", held.value), type_of(graph, held.value).shape)
        for held in before.values()
        if isinstance(held.value, int)
    }
    first = NormalForms(graph, lambda node: None, known, on_data=on_data)
    forms = {k: first.of(h.value) for k, h in after.items() if isinstance(h.value, int)}
    kept = {k: first.of(h.value) for k, h in stored.items() if isinstance(h.value, int)}

    def form_of(key: SourceKey) -> Tiling:
        return kept[key.key] if key.input else forms[key.key]

    second = NormalForms(inverse.graph, lambda node: form_of(node.key), on_data=on_data)

    def comes_back(key: str, held: HeldEntry) -> bool:
        output = inverse.outputs.get(key)
        if output is None:
            return False
        origin = output.origin
        if not isinstance(held.value, int):
            return origin is not None and origin.key in after and after[origin.key].value == held.value
        kind = type_of(graph, held.value)
        if output.type != kind:
            return False
        if origin is not None:
            return is_whole(form_of(origin), ("source", held.value), kind.shape)
        assert output.value is not None
        return is_whole(second.of(output.value), ("source", held.value), kind.shape)

    wrong = [key for key, held in before.items() if not comes_back(key, held)]
    return wrong + [key for key in inverse.outputs if key not in before]


def gives_back(plan: Plan) -> bool:
    """Say whether a plan gives back every entry under its key, as the header shows; the order does not count."""
    if plan.changes_nothing:
        return True
    if plan.outputs.keys() != plan.header.entries.keys():
        return False
    forms, sources = NormalForms(plan.graph, lambda node: None), sources_of(plan)
    return all(_is_source(plan, forms, key, sources[key]) for key in plan.outputs)


def _is_source(plan: Plan, forms: NormalForms, key: str, source: Value) -> bool:
    output = plan.outputs[key]
    if output.origin is not None:
        return value_of(plan, output.origin) == source
    if not isinstance(source, int) or output.value is None or output.type != type_of(plan.graph, source):
        return False
    node = plan.graph[source]
    assert isinstance(node, InputTensor)
    return is_whole(forms.of(output.value), node.key, node.type.shape)
