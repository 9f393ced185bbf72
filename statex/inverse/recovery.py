"""Which values of a graph follow from some that are known, and how: the fixpoint over operations and their inverses."""

from __future__ import annotations

from collections.abc import Container, Hashable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from statex.core.header import TensorType, contiguous
from statex.core.record import record
from statex.core.strides import Tiling
from statex.dsl.compile.state import source_entry
from statex.dsl.ops import CUTTING, JOINING, OPERATIONS
from statex.dsl.ops.base import ArgKind, Inverse
from statex.dsl.plan.entry import Stood
from statex.dsl.plan.graph import Graph, OperationCall, Ref, ResultPiece, SourceKey, arguments_of
from statex.dsl.plan.plan import Plan
from statex.dsl.values import TensorValue

Value = Hashable
"""A value by its id in the graph; an entry that is no tensor by its place in the input."""


@record
class StandingValue:
    """A value that stands under a key."""

    key: str


@record
class DerivedValue:
    """A value that an operation makes of others; of an operation with several results, the one at `index`."""

    operation: str
    arguments: Mapping[str, Any]
    of: tuple[int, ...]
    index: int | None = None


@record
class StoredValue:
    """A value that a further input has, under a name."""

    input: str
    name: str


Derivation = StandingValue | DerivedValue | StoredValue


_NOTHING: Mapping[int, StoredValue] = {}


def value_of(plan: Plan, stood: Stood) -> Value:
    """Return what tells the values of a plan apart; tied tensors are one."""
    if isinstance(stood, int):
        return plan.graph.inner(stood)
    value = source_entry(stood, plan.info(stood)).value_in(plan.graph)
    return value.id if value is not None else stood


def results_of(plan: Plan) -> dict[str, Value]:
    """Return the values under the keys of the result."""
    found: dict[str, Value] = {}
    for key, output in plan.outputs.items():
        stood = output.origin if output.origin is not None else output.value
        assert stood is not None
        found[key] = value_of(plan, stood)
    return found


def sources_of(plan: Plan) -> dict[str, Value]:
    """Return the values under the keys of the checkpoint."""
    return {key: value_of(plan, SourceKey("", 0, key)) for key in plan.header.entries}


def type_of(graph: Graph, id: int) -> TensorType:
    """Return the type of a value that is one tensor."""
    kind = graph[id].type
    assert isinstance(kind, TensorType)
    return kind


def with_types(graph: Graph, argument: Any) -> Any:
    """Return an argument with the types of tensors in their places."""
    if isinstance(argument, Ref):
        return type_of(graph, argument.id)
    return tuple([with_types(graph, one) for one in argument]) if isinstance(argument, tuple) else argument


def refs_of(argument: Any) -> Iterator[int]:
    """Yield the ids of the tensors of an argument."""
    if isinstance(argument, Ref):
        yield argument.id
    elif isinstance(argument, tuple):
        for one in argument:
            yield from refs_of(one)


class Uses:
    """The calls that are made of each value of a graph, and the pieces of those calls that have several results."""

    def __init__(self, graph: Graph) -> None:
        self.users: dict[int, list[int]] = {}
        self.pieces: dict[int, list[int]] = {}
        for id in range(len(graph)):
            node = graph[id]
            if isinstance(node, OperationCall):
                for operand in dict.fromkeys(map(graph.inner, graph.read(id))):
                    self.users.setdefault(operand, []).append(id)
            elif isinstance(node, ResultPiece):
                self.pieces.setdefault(node.call, []).append(id)


def inverse_of(graph: Graph, id: int, on_data: Container[int] = ()) -> Inverse | None:
    """Return what undoes a call, all of whose results are there; where the data tell, of the calls `on_data` alone."""
    node = graph[id]
    assert isinstance(node, OperationCall)
    operation = OPERATIONS[node.operation]
    if operation.invert is None or operation.leading() is None:
        return None
    found = operation.invert(**arguments_of(node, lambda value: with_types(graph, value)))
    return None if found is not None and found.on_data and id not in on_data else found


def undone_on_data(graph: Graph) -> frozenset[int]:
    """Return the calls of which only the data tell whether they can be undone."""
    calls = [id for id in range(len(graph)) if isinstance(graph[id], OperationCall)]
    return frozenset([id for id in calls if inverse_of(graph, id) is None and inverse_of(graph, id, (id,)) is not None])


def made_of_any(graph: Graph, values: Iterable[Value]) -> frozenset[int]:
    """Return some values and all that is made of them."""
    found = set(values)
    for id in range(len(graph)):
        # What is made of a value has a greater number.
        if any(one in found for one in graph.operands(id)):
            found.add(id)
    return frozenset([one for one in found if isinstance(one, int)])


class Recovery:
    """A graph in which values follow from others; of the calls `on_data`, the data tell that they can be undone."""

    def __init__(self, graph: Graph, on_data: Container[int] = ()) -> None:
        self._graph = graph
        self._on_data = on_data
        self._found: dict[Value, Derivation] = {}
        self._stored: Mapping[int, StoredValue] = {}
        self._pending: list[int] = []
        uses = Uses(graph)
        self._users, self._pieces = uses.users, uses.pieces

    def of(self, known: Mapping[str, Value], stored: Mapping[int, StoredValue] = _NOTHING) -> dict[Value, Derivation]:
        """Return how the values that follow from those under some keys, and stored ones, are made of these."""
        return self._following(known, stored, stored)

    def near(
        self, known: Mapping[str, Value], stored: Mapping[int, StoredValue], value: Value
    ) -> dict[Value, Derivation]:
        """Return the same, without what follows from stored values alone, unless that is this value.

        It takes no longer where more values are stored that have nothing to do with these keys.
        """
        return self._following(known, stored, [value] if value in stored else [])

    def _following(
        self, known: Mapping[str, Value], stored: Mapping[int, StoredValue], at_once: Iterable[Value]
    ) -> dict[Value, Derivation]:
        self._found = {}
        self._stored = stored
        for key, value in known.items():
            if value in self._found:
                continue
            self._found[value] = StandingValue(key)
            if isinstance(value, int):
                self._pending.append(value)
        for one in at_once:
            self._has(one)
        while self._pending:
            id = self._pending.pop()
            self._back(id)
            for user in self._users.get(id, ()):
                self._forward(user)
        return self._found

    def _has(self, id: Value) -> bool:
        """Say whether a value is known, or stored, and so known from now on."""
        if id in self._found:
            return True
        if not isinstance(id, int) or id not in self._stored:
            return False
        self._know(id, self._stored[id])
        return True

    def _know(self, id: int, derivation: Derivation) -> None:
        id = self._graph.inner(id)
        if id not in self._found:
            self._found[id] = derivation
            self._pending.append(id)

    def _back(self, id: int) -> None:
        """Go from a result to the operands of its operation."""
        node = self._graph[id]
        if isinstance(node, ResultPiece):
            self._together(node.call)
        if not isinstance(node, OperationCall):
            return
        self._undo(id, node, (id,))
        for operand in dict.fromkeys(map(self._graph.inner, self._graph.read(id))):
            if operand not in self._found:
                self._cover(operand)

    def _together(self, call: int) -> None:
        """Go from the pieces of a call to what was cut."""
        pieces = self._pieces[call]
        node = self._graph[call]
        assert isinstance(node, OperationCall)
        if len(pieces) == len(node.type) and all(map(self._has, pieces)):  # type: ignore[arg-type]
            self._undo(call, node, tuple(pieces))

    def _undo(self, id: int, call: OperationCall, results: tuple[int, ...]) -> None:
        inverse = inverse_of(self._graph, id, self._on_data)
        leading = OPERATIONS[call.operation].leading()
        if inverse is None or leading is None:
            return
        # A number may stand before the tensor.
        operands = list(refs_of(arguments_of(call)[leading.name])) or list(self._graph.operands(id))
        several = leading.kind is ArgKind.TENSORS
        for index, operand in enumerate(operands):
            self._know(operand, DerivedValue(inverse.operation, inverse.arguments, results, index if several else None))

    def _forward(self, id: int) -> None:
        """Make a value that only moves elements of known ones."""
        node = self._graph[id]
        assert isinstance(node, OperationCall)
        operation = OPERATIONS[node.operation]
        operands = tuple(map(self._graph.inner, self._graph.read(id)))
        if operation.moves is None or not all(map(self._has, operands)):
            return
        plain = {name: value for name, value in arguments_of(node).items() if not any(refs_of(value))}
        leading = operation.leading()
        if leading is not None and leading.name in plain:
            return
        if not isinstance(node.type, tuple):
            if id not in self._found:
                self._know(id, DerivedValue(node.operation, plain, operands))
            return
        for index, piece in enumerate(self._pieces.get(id, ())):
            if piece not in self._found:
                self._know(piece, DerivedValue(node.operation, plain, operands, index))

    # --- slices that cover ---------------------------------------------------------------------------------------

    def _cover(self, id: int) -> None:
        """Put a tensor together of slices along one dim, if those that are known have every index of it."""
        shape = type_of(self._graph, id).shape
        slices: dict[int, list[tuple[int, int, int]]] = {}
        for user in self._users.get(id, ()):
            if self._has(user) and (cut := cut_of(self._graph, user)) is not None:
                dim, start, stop = cut
                slices.setdefault(dim, []).append((start, stop, user))
        for dim, cuts in slices.items():
            chosen = _covering(sorted(cuts), shape[dim])
            if chosen is not None:
                parts = tuple([self._rest(user, dim, start, skipped) for user, start, skipped in chosen])
                self._know(id, DerivedValue(JOINING.name, {"dim": dim}, parts))
                return

    def _rest(self, user: int, dim: int, start: int, skipped: int) -> int:
        """Return a slice without its first elements, which the one before it has."""
        if not skipped:
            return user
        kind = type_of(self._graph, user)
        length = kind.shape[dim] - skipped
        arguments = {"dim": dim, "start": skipped, "length": length}
        value = TensorValue(kind.dtype, kind.shape, user)
        shape = (*kind.shape[:dim], length, *kind.shape[dim + 1 :])
        made = self._graph.call(CUTTING.name, {"x": value, **arguments}, TensorType(kind.dtype, shape))
        assert isinstance(made, TensorValue)
        self._know(made.id, DerivedValue(CUTTING.name, arguments, (user,)))
        return made.id


def cut_of(graph: Graph, id: int) -> tuple[int, int, int] | None:
    """Return the dim, start and end of a call that takes a stretch of one dim of its tensor and all of the others."""
    tiling = _over_operand(graph, id)
    if tiling is None or len(tiling.parts) != 1:
        return None
    (operand,) = graph.read(id)
    shape = type_of(graph, operand).shape
    if len(shape) != len(tiling.shape):
        return None
    shorter = [dim for dim, (old, new) in enumerate(zip(shape, tiling.shape, strict=True)) if old != new]
    if len(shorter) != 1:
        return None
    (dim,) = shorter
    strides = contiguous(shape)
    start, beside = divmod(tiling.parts[0].offset, strides[dim])
    plain = Tiling.of(tiling.parts[0].source, start * strides[dim], tiling.shape, strides)
    return (dim, start, start + tiling.shape[dim]) if not beside and plain == tiling else None


def _over_operand(graph: Graph, id: int) -> Tiling | None:
    """Return where the elements of a call of one tensor stand in that."""
    node = graph[id]
    assert isinstance(node, OperationCall)
    operation = OPERATIONS[node.operation]
    operands = graph.read(id)
    if operation.moves is None or len(operands) != 1 or isinstance(node.type, tuple):
        return None
    shape = type_of(graph, operands[0]).shape
    whole = Tiling.of(operands[0], 0, shape, contiguous(shape))
    found = operation.moves(**{name: whole if isinstance(v, Ref) else v for name, v in arguments_of(node).items()})
    return found if isinstance(found, Tiling) else None


def _covering(cuts: Sequence[tuple[int, int, int]], length: int) -> list[tuple[int, int, int]] | None:
    """Return slices that follow one another to the end, each with how many of its first elements are left out."""
    chosen: list[tuple[int, int, int]] = []
    at = 0
    while at < length:
        fitting = [cut for cut in cuts if cut[0] <= at < cut[1]]
        if not fitting:
            return None
        start, stop, user = max(fitting, key=lambda cut: cut[1])
        chosen.append((user, start, at - start))
        at = stop
    return chosen
