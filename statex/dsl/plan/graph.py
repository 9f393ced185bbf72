"""The graph of values: tensors of the inputs, calls of operations on them, and pieces of calls with several results.

Equal calls on equal values are one value, so the graph is also what tells common work from repeated work.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from functools import cache
from math import copysign
from typing import Any, NamedTuple

from statex.core.header import RawType, TensorType
from statex.core.record import record
from statex.dsl.ops import OPERATIONS
from statex.dsl.ops.base import ArgKind
from statex.dsl.values import TensorValue


class SourceKey(NamedTuple):
    """A tensor of an input: `input` is `''` for the checkpoint itself, `member` counts the files of a family."""

    input: str
    member: int
    key: str

    def __str__(self) -> str:
        return f"{self.input}::{self.key}" if self.input else self.key


@record
class InputTensor:
    """The data of a tensor as it stands in an input; of tied tensors, the first is meant."""

    key: SourceKey
    type: TensorType


@record
class Ref:
    """A value as an argument of a call."""

    id: int


@record
class OperationCall:
    """An operation on arguments: values as `Ref`, everything else plain and hashable."""

    operation: str
    arguments: tuple[tuple[str, Any], ...]
    type: TensorType | tuple[TensorType, ...]


@record
class ResultPiece:
    """One result of a call that has several."""

    call: int
    index: int
    type: TensorType


@record
class Settled:
    """What a statement has made of a key, as those after it find it: laid out as a file would hold it.

    Results of torch are often views, whose elements lie in another order, and what is computed of them may have other
    last bits. A statement does not see how those before it came to their results.
    """

    value: int
    type: TensorType


Node = InputTensor | OperationCall | ResultPiece | Settled


class Graph:
    """Values by their ids; operands always have smaller ids than what is made of them."""

    def __init__(self) -> None:
        self._nodes: list[Node] = []
        self._operands: list[tuple[int, ...]] = []
        self._ids: dict[object, int] = {}
        self._sources: dict[int, frozenset[int]] = {}

    def __getitem__(self, id: int) -> Node:
        return self._nodes[id]

    def __len__(self) -> int:
        return len(self._nodes)

    def source(self, key: SourceKey, kind: TensorType, tie: Hashable) -> TensorValue:
        """Return the value of an input's tensor; those with an equal `tie` are one value."""
        id = self._ids.get(tie)
        return _value(kind, self._intern(tie, InputTensor(key, kind)) if id is None else id)

    def call(
        self, operation: str, arguments: Mapping[str, Any], result: TensorType | tuple[TensorType, ...]
    ) -> TensorValue | tuple[TensorValue, ...]:
        """Return the value of a call, or one for each of its pieces."""
        plain = result if isinstance(result, tuple) else TensorType(result.dtype, result.shape)
        node = OperationCall(operation, tuple((name, _as_argument(value)) for name, value in arguments.items()), plain)
        id = self._intern((node, _told_apart(node.arguments)), node)
        if isinstance(plain, tuple):
            pieces = (ResultPiece(id, i, TensorType(t.dtype, t.shape)) for i, t in enumerate(plain))
            return tuple(TensorValue(p.type.dtype, p.type.shape, self._intern(p, p)) for p in pieces)
        return TensorValue(plain.dtype, plain.shape, id)

    def settled(self, id: int, kind: TensorType) -> TensorValue:
        """Return a result of a statement as those after it find it."""
        node = Settled(id, kind)
        return _value(kind, self._intern(node, node))

    def inner(self, id: int) -> int:
        """Return the value whose elements these are, however they lie in memory."""
        node = self._nodes[id]
        return node.value if isinstance(node, Settled) else id

    def operands(self, id: int) -> tuple[int, ...]:
        """Return the ids a value is directly made of."""
        return self._operands[id]

    def read(self, id: int) -> tuple[int, ...]:
        """Return the ids of the operands whose data a value is made of: of `ones_like(x)`, none."""
        node = self._nodes[id]
        takes_none = isinstance(node, OperationCall) and not OPERATIONS[node.operation].takes_data
        return () if takes_none else self._operands[id]

    def has_source(self, id: int) -> bool:
        """Say whether a tensor of an input goes into a value, be it with its type and device alone."""
        pending, seen = [id], {id}
        while pending:
            one = pending.pop()
            if isinstance(self._nodes[one], InputTensor):
                return True
            fresh = [operand for operand in self.operands(one) if operand not in seen]
            pending += fresh
            seen.update(fresh)
        return False

    def unreached(self, ids: Iterable[int], results: Iterable[int]) -> set[int]:
        """Return those of some values whose data none of the results is made of."""
        wanted = set(ids)
        pending = list(results)
        seen: set[int] = set()
        below: list[int] = []
        while wanted and (pending or below):
            # What is behind a value that was looked for is looked at last: mostly nothing is wanted by then.
            one = (pending or below).pop()
            if one in wanted:
                wanted.discard(one)
                below.append(one)
            elif one not in seen:
                seen.add(one)
                pending += self.read(one)
        return wanted

    def named(self, ids: Iterable[int]) -> dict[SourceKey, int]:
        """Return the sources that go into some values, be it with their types alone, each with the first such value."""
        found: dict[SourceKey, int] = {}
        seen: set[int] = set()
        for id in ids:
            pending = [id]
            while pending:
                one = pending.pop()
                if one in seen:
                    continue
                seen.add(one)
                node = self._nodes[one]
                if isinstance(node, InputTensor):
                    found[node.key] = id
                pending += self.operands(one)
        return found

    def sources(self, id: int) -> frozenset[int]:
        """Return the ids of all sources whose data a value is made of."""
        pending = [id]
        while pending:
            top = pending[-1]
            todo = [o for o in self.read(top) if o not in self._sources]
            if todo and top not in self._sources:
                pending.extend(todo)
                continue
            pending.pop()
            if top not in self._sources:
                self._sources[top] = self._joined_sources(top)
        return self._sources[id]

    def _joined_sources(self, id: int) -> frozenset[int]:
        if isinstance(self._nodes[id], InputTensor):
            return frozenset([id])
        # Nearly all values are made of one other, and a set for each of them takes more memory than the graph.
        found = {self._sources[one] for one in self.read(id)}
        return found.pop() if len(found) == 1 else frozenset().union(*found)

    def _intern(self, identity: object, node: Node) -> int:
        known = self._ids.get(identity)
        if known is not None:
            return known
        self._nodes.append(node)
        self._operands.append(_operands(node))
        self._ids[identity] = len(self._nodes) - 1
        return len(self._nodes) - 1


def _value(kind: TensorType, id: int) -> TensorValue:
    return TensorValue(kind.dtype, kind.shape, id, kind.size if isinstance(kind, RawType) else None)


def arguments_of(call: OperationCall, argument: Callable[[Any], Any] = lambda value: value) -> dict[str, Any]:
    """Return the arguments of a call by their names; `argument` gives what stands for one, a `Ref` for a tensor."""
    axes = _axes(call.operation)
    return {name: dict(value) if name in axes else argument(value) for name, value in call.arguments}


@cache
def _axes(operation: str) -> frozenset[str]:
    return frozenset(one.name for one in OPERATIONS[operation].parameters if one.kind is ArgKind.AXES)


def _operands(node: Node) -> tuple[int, ...]:
    if isinstance(node, InputTensor):
        return ()
    if isinstance(node, Settled):
        return (node.value,)
    if isinstance(node, ResultPiece):
        return (node.call,)
    return tuple([ref for _, argument in node.arguments for ref in _refs(argument)])


def _as_argument(value: Any) -> Any:
    if isinstance(value, TensorValue):
        return Ref(value.id)
    if isinstance(value, tuple):
        return tuple(_as_argument(v) for v in value)
    if isinstance(value, Mapping):
        return tuple((name, _as_argument(v)) for name, v in value.items())
    return value


def _told_apart(argument: Any) -> Any:
    """Tell arguments apart that are equal to Python but not to torch: 1, 1.0 and True, 0.0 and -0.0."""
    if isinstance(argument, tuple):
        return tuple(_told_apart(a) for a in argument)
    return copysign(1.0, argument) if isinstance(argument, float) else type(argument)


def _refs(argument: Any) -> Iterator[int]:
    if isinstance(argument, Ref):
        yield argument.id
    elif isinstance(argument, tuple):
        for item in argument:
            yield from _refs(item)
