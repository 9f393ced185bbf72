"""Random chains of views, slices and joins of arrays, with the tilings that describe them.

Sources are numbers, and arrays say where their elements are: element `i` of source `n` is `100_000 * n + i`.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import numpy
from hypothesis import strategies as st

from statex.core.strides import Fill, Tiling, joined, stacked

_NONE = -(10**9)


def elements(tiling: Tiling) -> Any:
    """Return the elements as the runs give them."""
    found: list[int] = []
    for number, offset, count in tiling.runs():
        assert isinstance(number, int)
        found += range(number * 100_000 + offset, number * 100_000 + offset + count)
    return numpy.array(found, dtype=int).reshape(tiling.shape)


def filled(tiling: Tiling) -> Any:
    """Return the elements as the boxes give them."""
    result = numpy.full(tiling.shape, _NONE)
    for part in tiling.parts:
        places = numpy.zeros((), int)
        for atoms in part.dims:
            dim = numpy.zeros((), int)
            for length, stride in atoms:
                dim = numpy.add.outer(dim, numpy.arange(length) * stride)
            places = numpy.add.outer(places, dim.reshape(-1) if atoms else numpy.zeros(1, int))
        box = tuple(slice(at, at + length) for at, length in zip(part.start, part.shape, strict=True))
        assert (result[box] == _NONE).all(), "no element is covered twice"
        if isinstance(part.source, Fill):
            result[box] = part.source.value
            continue
        assert isinstance(part.source, int)
        result[box] = part.source * 100_000 + part.offset + places
    assert (result != _NONE).all()
    return result


Pair = tuple[Any, Tiling | None]
"""An array of numpy, and the tiling that describes it."""


def source(number: int, shape: tuple[int, ...]) -> Pair:
    array = numpy.arange(number * 100_000, number * 100_000 + prod(shape)).reshape(shape)
    strides = [stride // array.itemsize for stride in array.strides]
    return array, Tiling.of(number, 0, shape, tuple(strides))


@st.composite
def shapes(draw: st.DrawFn) -> tuple[int, ...]:
    return tuple(draw(st.lists(st.sampled_from([1, 2, 2, 3, 4, 6]), max_size=4)))


def factors(draw: st.DrawFn, numel: int) -> tuple[int, ...]:
    """Return another shape of as many elements."""
    found: list[int] = []
    while numel > 1 and len(found) < 4:
        one = draw(st.sampled_from([n for n in range(1, numel + 1) if numel % n == 0]))
        found.append(one)
        numel //= one
    return (*found, numel) if numel > 1 else tuple(found)


@st.composite
def steps(draw: st.DrawFn, pair: Pair, spare: list[int]) -> Pair:
    """Return what one step makes of an array and of its tiling."""
    array, tiling = pair
    assert tiling is not None
    kinds: list[str] = ["reshape", "reshape", "expand", "unsqueeze", "permute"]
    if array.ndim:
        kinds += ["slice", "flip", "index", "cat", "stack", "select", "cat of slices"]
    kind = draw(st.sampled_from(kinds))
    dim = draw(st.integers(0, max(array.ndim - 1, 0)))
    length = array.shape[dim] if array.ndim else 1
    if kind == "reshape":
        shape = factors(draw, array.size)
        return array.reshape(shape), tiling.reshaped(shape)
    if kind == "expand":
        shape = tuple(3 if n == 1 and draw(st.booleans()) else n for n in array.shape)
        shape = (2, *shape) if array.size < 50 and draw(st.booleans()) else shape
        return numpy.broadcast_to(array, shape), tiling.expanded(shape)
    if kind == "unsqueeze":
        return numpy.expand_dims(array, dim), tiling.unsqueezed(dim)
    if kind == "permute":
        order = draw(st.permutations(range(array.ndim)))
        return array.transpose(order), tiling.permuted(order)
    at = [slice(None)] * array.ndim
    if kind == "flip":
        return numpy.flip(array, dim), tiling.flipped(dim)
    if kind == "slice":
        step = draw(st.sampled_from([1, 1, 2, 3, -1, -2]))
        start = draw(st.integers(0, length - 1))
        most = (length - 1 - start) // step + 1 if step > 0 else start // -step + 1
        count = draw(st.integers(1, most))
        indices = [start + i * step for i in range(count)]
        return array.take(indices, dim), tiling.sliced(dim, start, count, step)
    if kind == "index":
        indices = draw(st.lists(st.integers(0, length - 1), min_size=1, max_size=4))
        return array.take(indices, dim), tiling.indexed(dim, indices)
    if kind == "select":
        index = draw(st.integers(0, length - 1))
        return array.take(index, dim), tiling.selected(dim, index)
    if kind == "cat of slices":
        cut = draw(st.integers(0, length))
        at[dim] = slice(cut, None)
        first = slice(0, cut)
        parts = [tiling.sliced(dim, cut, length - cut), tiling.sliced(dim, 0, cut)]
        other = list(at)
        other[dim] = first
        return numpy.concatenate([array[tuple(at)], array[tuple(other)]], dim), joined(parts, dim)
    spare[0] += 1
    further, view = source(spare[0], array.shape)
    assert view is not None
    join: Callable[..., Any] = numpy.concatenate if kind == "cat" else numpy.stack
    return join([array, further], dim), (joined if kind == "cat" else stacked)([tiling, view], dim)


@st.composite
def chains(draw: st.DrawFn, most: int = 3000) -> list[Pair]:
    """Return an array and what becomes of it step by step, to the end or to what strides cannot say."""
    spare = [0]
    found = [source(0, draw(shapes()))]
    for _ in range(draw(st.integers(0, 6))):
        array, tiling = found[-1]
        if array.size > most or tiling is None:
            break
        found.append(draw(steps((array, tiling), spare)))
    return found
