"""Values in a normal form, in which a program and its inverse, one after the other, are seen to give back a tensor.

A value is a tiling of sources. Movements of elements are done on the tiling; what is computed of each element by itself
is done on its sources, where an operation and its inverse cancel out. Everything else is a source of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from enum import Enum
from typing import Any

from statex.core.dtypes import DType
from statex.core.header import TensorType, contiguous
from statex.core.record import record
from statex.core.strides import Tile, Tiling
from statex.dsl.ops import CASTING, OPERATIONS, Operation
from statex.dsl.plan.graph import Graph, InputTensor, OperationCall, Ref, ResultPiece, Settled, arguments_of
from statex.inverse.recovery import type_of

Form = Tiling | tuple[Tiling, ...]
Leaf = Callable[[InputTensor], Tiling | None]


@record
class MappedSource:
    """What an operation makes of each element of a source by itself; `dtype` is that of the source."""

    operation: str
    arguments: tuple[tuple[str, Hashable], ...]
    dtype: DType
    of: object


class _Here(Enum):
    HERE = "where the tensor stands"


_HERE = _Here.HERE


@record
class OpaqueSource:
    """A result that no form describes: of what it is made, and which of several results it is."""

    operation: str
    arguments: Hashable
    index: int | None


def whole(source: Hashable, shape: tuple[int, ...]) -> Tiling:
    """Return the form of a source as it is."""
    return Tiling.of(source, 0, shape, contiguous(shape))


def is_whole(form: Tiling, source: Hashable, shape: tuple[int, ...]) -> bool:
    """Say whether a form is a source as it is."""
    if form.shape != shape:
        return False
    strides = contiguous(shape)
    return all(_is_in_place(part, source, strides) for part in form.parts)


def _is_in_place(part: Tile, source: Hashable, strides: tuple[int, ...]) -> bool:
    offset = sum(start * stride for start, stride in zip(part.start, strides, strict=True))
    return (
        part.source == source
        and part.offset == offset
        and part.dims == Tiling.of(None, 0, part.shape, strides).parts[0].dims
    )


class NormalForms:
    """The forms of the values of a graph; `leaf` gives those of tensors of the inputs, `known` those of others.

    With `on_data`, what undoes an operation as far as the data allow undoes it.
    """

    def __init__(
        self, graph: Graph, leaf: Leaf, known: Mapping[int, Tiling] | None = None, *, on_data: bool = False
    ) -> None:
        self._on_data = on_data
        self._graph = graph
        self._leaf = leaf
        self._found: dict[int, Form] = dict(known or {})

    def of(self, id: int) -> Tiling:
        """Return the form of a value that is one tensor."""
        pending = [id]
        while pending:
            one = pending[-1]
            if one not in self._found:
                missing = [o for o in self._graph.operands(one) if o not in self._found]
                if missing:
                    pending += missing
                    continue
                self._found[one] = self._form(one)
            pending.pop()
        found = self._found[id]
        assert isinstance(found, Tiling)
        return found

    def _form(self, id: int) -> Form:
        node = self._graph[id]
        if isinstance(node, InputTensor):
            found = self._leaf(node)
            return found if found is not None else whole(node.key, node.type.shape)
        if isinstance(node, Settled):
            return self._found[node.value]
        if isinstance(node, ResultPiece):
            pieces = self._found[node.call]
            assert isinstance(pieces, tuple)
            return pieces[node.index]
        operation = OPERATIONS[node.operation]
        return self._moved(id, node, operation) or self._mapped(id, node, operation) or self._opaque(node)

    def _moved(self, id: int, node: OperationCall, operation: type[Operation]) -> Form | None:
        if operation.moves is None or not operation.takes_data or operation.leading() is None:
            return None
        kinds = node.type if isinstance(node.type, tuple) else (node.type,)
        if {type_of(self._graph, one).dtype for one in self._graph.operands(id)} - {kinds[0].dtype}:
            return None  # elements of another dtype are not the same elements
        found = operation.moves(**{name: self._with_forms(value) for name, value in arguments_of(node).items()})
        if isinstance(found, tuple):
            pieces = [one for one in found if one is not None]
            return tuple(pieces) if len(pieces) == len(found) else None
        return found

    def _with_forms(self, argument: Any) -> Any:
        if isinstance(argument, Ref):
            return self._found[argument.id]
        return tuple([self._with_forms(one) for one in argument]) if isinstance(argument, tuple) else argument

    def _mapped(self, id: int, node: OperationCall, operation: type[Operation]) -> Tiling | None:
        """Return the form of what is computed of each element of one tensor by itself."""
        operands = self._graph.operands(id)
        if len(operands) != 1 or not (operation.exact or operation.changes_dtype) or isinstance(node.type, tuple):
            return None
        before = type_of(self._graph, operands[0])
        form = self._found[operands[0]]
        assert isinstance(form, Tiling)
        if before.shape != node.type.shape:
            return None
        if operation is CASTING and before == node.type:
            return form
        arguments = {name: _HERE if isinstance(v, Ref) else v for name, v in arguments_of(node).items()}
        if any(not isinstance(value, Hashable) for value in arguments.values()):
            return None
        made = {part.source: self._applied(node.operation, arguments, before.dtype, part.source) for part in form.parts}
        return Tiling(form.shape, tuple([Tile(p.start, made[p.source], p.offset, p.dims) for p in form.parts]))

    def _applied(self, name: str, arguments: Mapping[str, Any], dtype: DType, source: object) -> Hashable:
        """Return what an operation makes of the elements of a source: what it was before, if that is undone by it."""
        if isinstance(source, MappedSource):
            before = OPERATIONS[source.operation]
            scalar = TensorType(source.dtype, ())
            given = {key: scalar if value is _HERE else value for key, value in source.arguments}
            inverse = before.invert(**given) if before.invert is not None else None
            plain = {key: value for key, value in arguments.items() if value is not _HERE}
            holds = inverse is not None and (self._on_data or not inverse.on_data)
            if inverse is not None and holds and inverse.operation == name and dict(inverse.arguments) == plain:
                return source.of
        return MappedSource(name, tuple(arguments.items()), dtype, source)

    def _opaque(self, node: OperationCall) -> Form:
        arguments = tuple([(name, self._key(value)) for name, value in node.arguments])
        if not isinstance(node.type, tuple):
            return whole(OpaqueSource(node.operation, arguments, None), node.type.shape)
        several = enumerate(node.type)
        return tuple([whole(OpaqueSource(node.operation, arguments, index), kind.shape) for index, kind in several])

    def _key(self, argument: Any) -> Any:
        if isinstance(argument, Ref):
            return self._found[argument.id], type_of(self._graph, argument.id)
        return tuple([self._key(one) for one in argument]) if isinstance(argument, tuple) else repr(argument)
