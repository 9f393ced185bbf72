"""Values whose bytes stand in inputs: joining, splitting, slicing and viewing along the first dimension only moves."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any

from statex.checkpoint.contents import Run, merged
from statex.checkpoint.input_file import Stored
from statex.dsl.graph import Call, Graph, Piece, Ref, Settled, Source, SourceKey
from statex.dsl.ops.base import Index
from statex.header import OpaqueInfo, TensorInfo, TensorType

Runs = tuple[Run, ...]

_SAME_BYTES = frozenset(["reshape", "flatten", "unflatten", "squeeze", "unsqueeze", "clone"])
_MOST_RUNS = 1 << 16
"""A selection of more rows than this is computed: so many copies would cost more."""


class Ranges:
    """Finds the runs of a value; `info_of` gives the header of a source."""

    def __init__(self, graph: Graph, info_of: Callable[[SourceKey], TensorInfo | OpaqueInfo]) -> None:
        self._graph = graph
        self._info_of = info_of
        self._found: dict[int, Runs | None] = {}

    def of(self, wanted: int) -> Runs | None:
        """Return the runs whose bytes, one after the other, are the value in the order of its elements; or `None`."""
        pending = [wanted]
        while pending:
            id = pending[-1]
            todo = [operand for operand in self._graph.operands(id) if operand not in self._found]
            if todo and id not in self._found:
                pending.extend(todo)
                continue
            pending.pop()
            if id not in self._found:
                self._found[id] = self._find(id)
        return self._found[wanted]

    def _find(self, id: int) -> Runs | None:
        node = self._graph[id]
        if isinstance(node, Source):
            return self._source(self._info_of(node.key))
        if isinstance(node, Piece):
            call = self._graph[node.call]
            assert isinstance(call, Call)
            return self._piece(call, node)
        if isinstance(node, Settled):
            return self._found[node.value]
        arguments = dict(node.arguments)
        if node.operation in ("cat", "stack"):
            return self._joined(node, arguments)
        operand = arguments.get("x")
        runs = self._found.get(operand.id) if isinstance(operand, Ref) else None
        if runs is None or isinstance(node.type, tuple):
            return None
        assert isinstance(operand, Ref)
        return _moved(node, arguments, self._type(operand.id), runs)

    def _type(self, id: int) -> TensorType:
        kind = self._graph[id].type
        assert isinstance(kind, TensorType)
        return kind

    def _source(self, info: TensorInfo | OpaqueInfo) -> Runs | None:
        if not isinstance(info, TensorInfo) or not isinstance(info.handle, Stored) or not info.is_contiguous:
            return None
        return merged([Run(info.handle, info.offset * info.type.dtype.itemsize, info.type.nbytes)])

    def _piece(self, call: Call, piece: Piece) -> Runs | None:
        arguments = dict(call.arguments)
        operand = arguments["x"]
        runs = self._found.get(operand.id)
        assert isinstance(call.type, tuple)
        if runs is None or not _is_first(self._type(operand.id).shape, arguments["dim"]):
            return None
        return cut(runs, sum(kind.nbytes for kind in call.type[: piece.index]), piece.type.nbytes)

    def _joined(self, call: Call, arguments: Mapping[str, Any]) -> Runs | None:
        assert isinstance(call.type, TensorType)
        if not _is_first(call.type.shape, arguments["dim"]):
            return None
        found: list[Run] = []
        for operand in arguments["tensors"]:
            runs = self._found.get(operand.id)
            if runs is None:
                return None
            found += runs
        return merged(found)


def cut(runs: Sequence[Run], start: int, nbytes: int) -> Runs:
    """Return the runs of a part of their bytes."""
    found: list[Run] = []
    end, at = start + nbytes, 0
    for run in runs:
        first, last = max(start, at), min(end, at + run.nbytes)
        if first < last:
            found.append(Run(run.stored, run.start + first - at, last - first))
        at += run.nbytes
    return merged(found)


def _is_first(shape: Sequence[int], dim: int) -> bool:
    """Say whether everything before a dim has length 1, so that what is along it lies one after the other."""
    return prod(shape[: dim % len(shape)]) == 1 if shape else False


def _moved(call: Call, arguments: Mapping[str, Any], x: TensorType, runs: Runs) -> Runs | None:
    """Return the runs of a call on one tensor, if it only moves bytes."""
    assert isinstance(call.type, TensorType)
    name = call.operation
    if name in _SAME_BYTES or (name == "cast" and x.dtype == call.type.dtype):
        return runs
    row = x.nbytes // x.shape[0] if x.shape and x.shape[0] else 0
    if name in ("transpose", "permute"):
        return runs if _keeps_order(x.shape, _order(name, arguments, x.ndim)) else None
    if name == "narrow" and _is_first(x.shape, arguments["dim"]):
        inner = x.nbytes // x.shape[arguments["dim"]] if x.shape[arguments["dim"]] else 0
        start = arguments["start"] % max(x.shape[arguments["dim"]], 1) if arguments["start"] < 0 else arguments["start"]
        return cut(runs, start * inner, arguments["length"] * inner)
    if name == "index_select" and arguments["dim"] % x.ndim == 0 and len(arguments["index"]) <= _MOST_RUNS:
        return merged([run for index in arguments["index"] for run in cut(runs, index * row, row)])
    if name == "getitem":
        place = _region(x, arguments["index"])
        return None if place is None else cut(runs, *place)
    return None


def _order(name: str, arguments: Mapping[str, Any], ndim: int) -> list[int]:
    if name == "permute":
        return [dim % ndim for dim in arguments["dims"]]
    order = list(range(ndim))
    one, other = arguments["dim0"], arguments["dim1"]
    one, other = (0, 1) if one is None else (one % max(ndim, 1), other % max(ndim, 1))
    if ndim:
        order[one], order[other] = order[other], order[one]
    return order


def _keeps_order(shape: Sequence[int], order: Sequence[int]) -> bool:
    """Say whether only dims of length 1 change their places."""
    long = [dim for dim in order if shape[dim] != 1]
    return long == sorted(long)


def _region(x: TensorType, index: Sequence[Any]) -> tuple[int, int] | None:
    """Return start and length in bytes of what an index takes, where that is one run."""
    start, size = 0, x.nbytes
    if not size:
        return 0, 0
    at, before = 0, 1
    for item in index:
        if item is None:
            continue
        if item is Ellipsis:
            kept = x.ndim - sum(i is not None and i is not Ellipsis for i in index)
            before *= prod(x.shape[at : at + kept])
            at += kept
            continue
        length = x.shape[at]
        at += 1
        if isinstance(item, tuple):
            return None
        if isinstance(item, Index):
            first, last, step = slice(item.start, item.stop, item.step).indices(length)
            count = len(range(first, last, step))
        else:
            first, count, step = item % length, 1, 1
        if count == length and step == 1:
            before *= length
            continue
        if before != 1 or (step != 1 and count > 1):
            return None
        inner = size // length
        start += first * inner
        size = count * inner
        before = count
    return start, size
