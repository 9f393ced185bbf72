"""From where the lines of a new tensor were found to the value that it is: pieces of sources, joined."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from math import prod
from typing import Any

from statex.inferring.factoring import factored, rearranging
from statex.inferring.lines import Dims
from statex.relating.values import ElementMove, Joined, MovedValue, SourceTensor, Value, moved

ZEROS = -1
"""The number of the source of lines of zeros that are nowhere else."""
_MOST_INDICES = 64


@dataclass(frozen=True)
class Found:
    """Where the lines of a new tensor along some `dims` were found.

    `sources` and `lines` have the number of a source and of a line in it for each. `shapes` are those of the sources,
    `along` the dims that their lines are along. `shape` is that of the new tensor.
    """

    shape: tuple[int, ...]
    dims: Dims
    sources: Any
    lines: Any
    shapes: Mapping[int, tuple[int, ...]]
    along: Mapping[int, Dims]
    turned: bool = False
    """Whether the other dims of sources stand the other way round."""


def values_of(found: Found) -> Iterator[Value]:
    """Yield the values that a new tensor may be, the likeliest first."""
    yield from _straight_or_turned(found)
    if any(len(found.shapes[one]) - len(dims) > 1 for one, dims in found.along.items()):
        yield from _straight_or_turned(replace(found, turned=True))


def with_ones(found: Found) -> Iterator[Found]:
    """Yield the table with a dim of length 1 among its own, which a slice of one line leaves."""
    for dim in (d for d, length in enumerate(found.shape) if length == 1 and d not in found.dims):
        dims = tuple(sorted((*found.dims, dim)))
        table = _with_one(found, dims, dim)
        yield replace(found, dims=dims, sources=found.sources.reshape(table), lines=found.lines.reshape(table))


def _with_one(found: Found, dims: Dims, dim: int) -> list[int]:
    lengths = iter(found.sources.shape)
    return [1 if d == dim else next(lengths) for d in dims]


def _straight_or_turned(found: Found) -> Iterator[Value]:
    box = _box(found)
    if box is None:
        return
    for value in _built(found, box, tuple(range(len(found.dims)))):
        size = _boxed_shape(found, box)
        if size != found.shape:
            yield moved(value, ElementMove("resize", (found.shape,)))
        else:
            yield value


Box = tuple[slice, ...]


def _box(found: Found) -> Box | None:
    """Return the part of the table that is not zeros at the ends of its dims."""
    import numpy

    held = found.sources != ZEROS
    if held.all():
        return tuple(slice(0, n) for n in held.shape)
    if not held.any():
        return None
    ends = []
    for dim in range(held.ndim):
        own = numpy.flatnonzero(held.any(axis=tuple(d for d in range(held.ndim) if d != dim)))
        ends.append(slice(0, int(own[-1]) + 1))
    box = tuple(ends)
    return box if held[box].all() else None


def _boxed_shape(found: Found, box: Box) -> tuple[int, ...]:
    size = list(found.shape)
    for dim, part in zip(found.dims, box, strict=True):
        size[dim] = part.stop - part.start
    return tuple(size)


def _built(found: Found, box: Box, kept: tuple[int, ...]) -> Iterator[Value]:
    """Yield the values of a box of the table; `kept` are the dims of the table that the value has."""
    import numpy

    sources = found.sources[box]
    here = numpy.unique(sources)
    if len(here) == 1:
        yield from _piece(found, box, kept, int(here[0]))
        return
    cut = _best_cut(sources)
    if cut is None:
        yield from _interleaved(found, box, kept)
        return
    dim, borders = cut
    start = box[dim].start
    boxes = [
        (*box[:dim], slice(start + a, start + b), *box[dim + 1 :])
        for a, b in zip(borders, [*borders[1:], sources.shape[dim]], strict=True)
    ]
    place = _place(found, kept, dim)
    if all(one[dim].stop - one[dim].start == 1 for one in boxes) and dim in kept:
        inner = tuple(one for one in kept if one != dim)
        parts = [next(_built(found, one, inner), None) for one in boxes]
        if all(part is not None for part in parts):
            yield Joined("stack", tuple(part for part in parts if part is not None), place)
    parts = [next(_built(found, one, kept), None) for one in boxes]
    if all(part is not None for part in parts):
        yield Joined("cat", tuple(part for part in parts if part is not None), place)


def _place(found: Found, kept: Sequence[int], dim: int) -> int:
    """Return the dim of the value that a dim of the table is."""
    gone = {found.dims[d] for d in range(len(found.dims)) if d not in kept}
    own = found.dims[dim]
    return own - sum(one < own for one in gone)


def _best_cut(sources: Any) -> tuple[int, list[int]] | None:
    """Return the dim with the fewest blocks of disjoint sources, and where these begin."""
    best: tuple[int, list[int]] | None = None
    for dim in range(sources.ndim):
        borders = _borders(sources, dim)
        if len(borders) > 1 and (best is None or len(borders) < len(best[1])):
            best = dim, borders
    return best


def _borders(sources: Any, dim: int) -> list[int]:
    """Return where blocks along a dim begin that have no source in common."""
    import numpy

    table = numpy.moveaxis(sources, dim, 0).reshape(sources.shape[dim], -1)
    last: dict[int, int] = {}
    own = [set(numpy.unique(row).tolist()) for row in table]
    for at, here in enumerate(own):
        last.update(dict.fromkeys(here, at))
    borders, reach = [0], -1
    for at, here in enumerate(own):
        if at and at > reach:
            borders.append(at)
        reach = max(reach, *(last[one] for one in here))
    return borders


def _interleaved(found: Found, box: Box, kept: tuple[int, ...]) -> Iterator[Value]:
    """Yield a value in which sources alternate along a dim: it is that dim in two, joined at the end."""
    for dim in kept:
        sources = found.sources[box]
        length = sources.shape[dim]
        for period in range(2, length // 2 + 1):
            if length % period:
                continue
            split = [*sources.shape[:dim], length // period, period, *sources.shape[dim + 1 :]]
            if (sources.reshape(split) != sources.reshape(split).take([0], axis=dim)).any():
                continue
            own = _split(found, box, dim, length // period, period)
            whole = tuple(slice(0, n) for n in own.sources.shape)
            # The new dim stands behind the one that it was split off from; those behind it move on.
            inner = tuple(sorted({*(d + (d > dim) for d in kept), dim + 1}))
            for value in _built(own, whole, inner):
                yield moved(value, _joining(_place(found, kept, dim), own, inner))
            return


def _split(found: Found, box: Box, dim: int, outer: int, inner: int) -> Found:
    at = found.dims[dim]
    boxed = _boxed_shape(found, box)
    shape = (*boxed[:at], outer, inner, *boxed[at + 1 :])
    dims = (*found.dims[: dim + 1], *(d + 1 for d in found.dims[dim:]))
    table = [len(range(*part.indices(10**18))) for part in box]
    split = (*table[:dim], outer, inner, *table[dim + 1 :])
    return Found(
        shape,
        dims,
        found.sources[box].reshape(split),
        found.lines[box].reshape(split),
        found.shapes,
        found.along,
        found.turned,
    )


def _joining(place: int, own: Found, inner: Sequence[int]) -> ElementMove:
    names = [chr(ord("a") + n) for n in range(len(own.shape) - (len(own.dims) - len(inner)))]
    right = [*names[:place], f"({names[place]} {names[place + 1]})", *names[place + 2 :]]
    return ElementMove("rearrange", (f"{' '.join(names)} -> {' '.join(right)}",))


# --- a piece of one source ---------------------------------------------------------------------------------------


def _piece(found: Found, box: Box, kept: tuple[int, ...], number: int) -> Iterator[Value]:
    """Yield the values that a box of the table may be, all of whose lines are of one source.

    Its own dims are moved to the front, its lines are taken and put in order, and the dims go to their places.
    """
    shape, along = found.shapes[number], found.along[number]
    rest = tuple(d for d in range(len(shape)) if d not in along)
    rest = rest[::-1] if found.turned else rest
    lines = found.lines[box]
    table = [n for d, n in enumerate(lines.shape) if d in kept]
    if prod(table) != lines.size:
        return
    lines = lines.reshape(table)
    front = (*along, *rest)
    first = () if front == tuple(range(len(shape))) else (_permuting(front),)
    source = tuple(shape[d] for d in along)
    base: Value = moved(SourceTensor(number), *first)
    places = [_place(found, kept, d) for d in kept]
    ndim = len(found.shape) - (len(found.dims) - len(kept))
    behind = [d for d in range(ndim) if d not in places]
    order = (*places, *behind)
    last = () if order == tuple(range(ndim)) else (_permuting(tuple(order.index(d) for d in range(ndim))),)
    for moves in _lines(lines, source, bool(rest)):
        yield _simple(moved(base, *moves, *last))
    if len(source) == 1 and lines.ndim == 1:
        runs = _runs(lines, source[0])
        if 1 < len(runs) <= _MOST_RUNS:
            dim = front[0] if first == last or not last else 0
            if first == last:
                yield Joined("cat", tuple(moved(SourceTensor(number), _along(run, dim)) for run in runs), dim)
            yield moved(Joined("cat", tuple(moved(base, run) for run in runs), 0), *last)


_MOST_RUNS = 8


def _runs(lines: Any, length: int) -> list[ElementMove]:
    """Return the slices that lines are, one after the other."""
    import numpy

    starts = [0, *(numpy.flatnonzero(numpy.diff(lines) != 1) + 1).tolist(), len(lines)]
    if len(starts) > _MOST_RUNS + 2:
        return []
    found = []
    for a, b in pairwise(starts):
        start, stop = int(lines[a]), int(lines[b - 1]) + 1
        found.append(ElementMove("getitem", (0, start, None if stop == length else stop)))
    return found


def _permuting(dims: Dims) -> ElementMove:
    return ElementMove("transpose") if dims == (1, 0) else ElementMove("permute", (dims,))


def _simple(value: Value) -> Value:
    """Return a value without moves that undo one another."""
    if not isinstance(value, MovedValue):
        return value
    found: list[ElementMove] = []
    for move in value.moves:
        if found and found[-1] == move == ElementMove("transpose"):
            found.pop()
        elif len(found) > 1 and found[-1].name in _ALONG and _undone(found[-2], move):
            found[-2:] = [_along(found[-1], _first(found[-2]))]
        else:
            found.append(move)
    return moved(value.value, *found)


def _undone(one: ElementMove, other: ElementMove) -> bool:
    """Say whether one order of dims is put back by another."""
    if one.name == other.name == "transpose":
        return one == other == ElementMove("transpose")
    if one.name == other.name == "permute":
        dims, back = one.arguments[0], other.arguments[0]
        return len(dims) == len(back) and all(dims[d] == n for n, d in enumerate(back))
    return False


def _first(move: ElementMove) -> int:
    """Return the dim that an order of dims puts first."""
    return 1 if move.name == "transpose" else int(move.arguments[0][0])


_ALONG = {"getitem": 0, "flip": 0, "index_select": 0, "roll": 1}
"""Moves along one dim, and which of their arguments that is."""


def _along(move: ElementMove, dim: int) -> ElementMove:
    at = _ALONG[move.name]
    return replace(move, arguments=(*move.arguments[:at], dim, *move.arguments[at + 1 :]))


def _lines(lines: Any, source: tuple[int, ...], rest: bool) -> Iterator[tuple[ElementMove, ...]]:
    """Yield the moves that take lines, by their numbers, of a source; its dims of lines stand in front."""
    import numpy

    total = prod(source)
    if lines.shape == source and (lines.reshape(-1) == numpy.arange(total)).all():
        yield ()
        return
    if not lines.ndim:
        at = numpy.unravel_index(int(lines), source) if source else ()
        yield tuple(ElementMove("item", (0, int(one))) for one in at)
        return
    if len(source) == 1 and lines.ndim == 1:
        yield from _straight(lines, source[0])
    elif len(source) == lines.ndim and (part := _slices(lines, source)) is not None:
        yield part
    found = factored(lines, source)
    if found is not None:
        move = rearranging(found, source, lines.ndim, rest or len(source) == 1)
        yield (move, *(ElementMove("item", (0, one)) for one in found.fixed))
    if len(source) > lines.ndim and (part := _inner_slices(lines, source)) is not None:
        yield part
    if len(source) == 1 and lines.ndim == 1 and len(lines) <= _MOST_INDICES:
        yield (ElementMove("index_select", (0, tuple(lines.tolist()))),)


def _straight(lines: Any, length: int) -> Iterator[tuple[ElementMove, ...]]:
    """Yield a slice, the lines backwards, or turned round."""
    import numpy

    count = len(lines)
    start = int(lines[0])
    if (lines == numpy.arange(start, start + count)).all():
        yield (ElementMove("getitem", (0, start, None if start + count == length else start + count)),)
    if count == length and count > 1 and (lines == numpy.arange(count)[::-1]).all():
        yield (ElementMove("flip", (0,)),)
    elif count == length and (lines == numpy.roll(numpy.arange(count), -start)).all():
        yield (ElementMove("roll", (count - start if start > count // 2 else -start, 0)),)


def _slices(lines: Any, source: tuple[int, ...]) -> tuple[ElementMove, ...] | None:
    """Return slices along several dims."""
    import numpy

    first = numpy.unravel_index(int(lines.reshape(-1)[0]), source)
    if any(a + n > length for a, n, length in zip(first, lines.shape, source, strict=True)):
        return None
    part = tuple(slice(int(a), int(a) + n) for a, n in zip(first, lines.shape, strict=True))
    if (numpy.arange(prod(source)).reshape(source)[part] != lines).any():
        return None
    return tuple(
        ElementMove("getitem", (d, one.start, one.stop))
        for d, (one, length) in enumerate(zip(part, source, strict=True))
        if one.stop - one.start < length
    )


def _inner_slices(lines: Any, source: tuple[int, ...]) -> tuple[ElementMove, ...] | None:
    """Return slices of what stands at one place along each of some dims."""
    import numpy

    places = numpy.unravel_index(lines, source)
    fixed = [d for d, own in enumerate(places) if (own == own.flat[0]).all()]
    fixed = fixed[: len(source) - lines.ndim]
    rest = [d for d in range(len(source)) if d not in fixed]
    if len(rest) != lines.ndim:
        return None
    size = tuple([source[d] for d in rest])
    part = _slices(numpy.ravel_multi_index([places[d] for d in rest], size), size)
    if part is None:
        return None
    # Each dim that goes is the first that is left of those, counted without those before it.
    items = [ElementMove("item", (d - number, int(places[d].flat[0]))) for number, d in enumerate(fixed)]
    return (*items, *part)
