"""A tensor that is cut along two dims: along one into numbered keys, and each of these into pieces that have words."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from statex.core.record import record
from statex.relating.gathering import family
from statex.relating.names.rows import MARK
from statex.relating.relations import MadeTensor
from statex.relating.splitting import Splitting, splitting
from statex.relating.values import ElementMove, MovedValue, SourceTensor, Value, computed, moved

Span = tuple[int, int]


@record
class PieceBounds:
    """A piece of a tensor: from where to where along each dim, and which dim of the piece that is, `None` for none."""

    spans: tuple[Span, ...]
    axes: tuple[int | None, ...]


@record
class NestedSplitting:
    """A split into numbered keys, and the splits of these."""

    outer: Splitting
    inner: tuple[Splitting, ...]


def nested_splitting(
    key: str, made: Sequence[MadeTensor], shape: tuple[int, ...], taken: Collection[str]
) -> NestedSplitting | None:
    """Return how an old key is cut along two dims, `None` where it is not; `taken` are keys that are in the way."""
    boxes: dict[str, PieceBounds] = {}
    for one in made:
        box = _box(one.value, shape)
        if box is None:
            return None
        boxes[one.target] = box
    if len({box.axes for box in boxes.values()}) > 1:
        return None
    axes = next(iter(boxes.values())).axes
    for outer in (dim for dim, axis in enumerate(axes) if axis is None):
        for inner in _others_cut(boxes, shape, outer):
            found = _nested(key, boxes, shape, outer, inner)
            if found is not None and not any(one in taken for one in found.outer.targets):
                return found
    return None


_VIEWS = frozenset(("rearrange", "getitem", "item", "transpose", "permute", "squeeze", "unsqueeze"))


def _box(value: Value, shape: tuple[int, ...]) -> PieceBounds | None:
    """Return the piece that a value is; `None` for a value that is something else, or whose dims cannot be told."""
    moves = value.moves if isinstance(value, MovedValue) and value.value == SourceTensor() else ()
    if not moves or not all(one.name in _VIEWS and not _joins(one) for one in moves):
        return None
    found = [_span(value, shape, dim) for dim in range(len(shape))]
    spans = tuple([one[0] for one in found if one is not None])
    axes = tuple([one[1] for one in found if one is not None])
    size = _coordinates(value, shape, 0).ndim
    return (
        PieceBounds(spans, axes) if len(spans) == len(shape) and sum(one is not None for one in axes) == size else None
    )


def _joins(move: ElementMove) -> bool:
    """Say whether a move makes one dim of several: numbers of places would not be views any more."""
    return move.name == "rearrange" and "(" in move.arguments[0].partition("->")[2]


def _span(value: Value, shape: tuple[int, ...], dim: int) -> tuple[Span, int | None] | None:
    """Return from where to where a piece goes along a dim, and its dim for it."""
    import numpy

    places = _coordinates(value, shape, dim)
    axes = [at for at, (step, length) in enumerate(zip(places.strides, places.shape, strict=True)) if step * length]
    axes = [at for at in axes if places.shape[at] > 1]
    if not places.size or len(axes) > 1:
        return None
    line = places[tuple([slice(None) if at in axes else 0 for at in range(places.ndim)])].reshape(-1)
    start = int(line[0])
    if (line != numpy.arange(start, start + len(line))).any():
        return None
    return (start, start + len(line)), axes[0] if axes else None


def _coordinates(value: Value, shape: tuple[int, ...], dim: int) -> Any:
    """Return where along a dim each element of a value stands; as views, whatever the size."""
    import numpy

    line = numpy.arange(shape[dim]).reshape([-1 if at == dim else 1 for at in range(len(shape))])
    return computed(value, lambda _: numpy.broadcast_to(line, shape))


def _others_cut(boxes: Mapping[str, PieceBounds], shape: tuple[int, ...], outer: int) -> Iterator[int]:
    """Yield the dim that pieces are cut along besides another one, if it is one alone."""
    cut = [
        dim
        for dim, length in enumerate(shape)
        if dim != outer and any(box.spans[dim] != (0, length) for box in boxes.values())
    ]
    if len(cut) == 1:
        yield cut[0]


def _nested(
    key: str, boxes: Mapping[str, PieceBounds], shape: tuple[int, ...], outer: int, inner: int
) -> NestedSplitting | None:
    groups: defaultdict[int, list[str]] = defaultdict(list)
    for target in sorted(boxes, key=lambda one: boxes[one].spans[inner]):
        groups[boxes[target].spans[outer][0]].append(target)
    if sorted(groups) != list(range(shape[outer])) or len(groups) < 2:
        return None
    lines: list[MadeTensor] = []
    pieces: list[Splitting] = []
    for number in range(shape[outer]):
        targets = groups[number]
        own = family(targets)
        if own is None or own.counts:
            return None
        between = own.key.replace(MARK, "_".join([one.text for one in own.capture.choices]))
        cuts = [MadeTensor(one, (between,), _piece(boxes[one], shape, outer, inner)) for one in targets]
        split = splitting(between, cuts, (*shape[:outer], *shape[outer + 1 :]))
        if split is None:
            return None
        pieces.append(split)
        lines.append(MadeTensor(between, (key,), moved(SourceTensor(), ElementMove("item", (outer, number)))))
    whole = splitting(key, lines, shape)
    if whole is None or whole.family is None or not whole.family.counts:
        return None
    return NestedSplitting(whole, tuple(pieces))


def _piece(box: PieceBounds, shape: tuple[int, ...], outer: int, inner: int) -> Value:
    """Return a piece as what it is of its line: in the order of its dims, and cut."""
    rest = [dim for dim in range(len(shape)) if dim != outer]
    start, stop = box.spans[inner]
    if box.axes[inner] is None:
        kept = [dim for dim in rest if dim != inner]
        last = _ordering([kept.index(dim) for dim in _in_order(box, kept)])
        return moved(SourceTensor(), ElementMove("item", (rest.index(inner), start)), *last)
    ordered = _in_order(box, rest)
    end = None if stop == shape[inner] else stop
    cut = ElementMove("getitem", (ordered.index(inner), start, end))
    return moved(SourceTensor(), *_ordering([rest.index(dim) for dim in ordered]), cut)


def _in_order(box: PieceBounds, dims: Sequence[int]) -> list[int]:
    return sorted(dims, key=lambda dim: box.axes[dim] or 0)


def _ordering(dims: Sequence[int]) -> Iterator[ElementMove]:
    if list(dims) == [1, 0]:
        yield ElementMove("transpose")
    elif list(dims) != sorted(dims):
        yield ElementMove("permute", (tuple(dims),))
