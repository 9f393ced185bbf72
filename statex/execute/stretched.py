"""Views with more elements than their storage, as `expand` makes them: finds those that would be written in full."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from statex.checkpoint.io.input_file import Stored
from statex.core.header import OpaqueInfo, TensorInfo, TensorType
from statex.dsl.plan.graph import Graph, InputTensor, SourceKey
from statex.dsl.plan.plan import Plan
from statex.execute.kernels.movement import Movement

InfoOf = Callable[[SourceKey], TensorInfo | OpaqueInfo]


def is_stretched(info: object) -> bool:
    """Say whether a tensor of a file is a view that repeats elements of its storage."""
    return isinstance(info, TensorInfo) and isinstance(info.handle, Stored) and info.type.nbytes > info.handle.nbytes


def computed_of_stretched(plan: Plan, movement: Movement, info_of: InfoOf) -> Mapping[SourceKey, int]:
    """Return the sources that repeat elements, each with the bytes that are written, or computed with, in its place.

    Parts that are taken of a view count with the bytes that they have themselves.
    """
    graph = plan.graph
    roots = {o.value for o in plan.made if o.origin is None and o.value is not None}
    sources = {id for root in roots for id in graph.sources(root) if _is_one(graph, id, info_of)}
    found: dict[SourceKey, int] = {}
    if sources:
        for id in _first_moved(graph, roots, movement):
            kind = graph[id].type
            for source in graph.sources(id) & sources:
                node = graph[source]
                assert isinstance(node, InputTensor)
                found[node.key] = found.get(node.key, 0) + (kind.nbytes if isinstance(kind, TensorType) else 0)
    return found


def _is_one(graph: Graph, id: int, info_of: InfoOf) -> bool:
    node = graph[id]
    return isinstance(node, InputTensor) and is_stretched(info_of(node.key))


def _first_moved(graph: Graph, roots: set[int], movement: Movement) -> Iterator[int]:
    """Yield, from results down, the first values on each way whose elements stand in inputs."""
    pending, seen = list(roots), set(roots)
    while pending:
        id = pending.pop()
        if movement.of(id) is not None:
            yield id
            continue
        fresh = [operand for operand in graph.read(id) if operand not in seen]
        pending += fresh
        seen.update(fresh)
