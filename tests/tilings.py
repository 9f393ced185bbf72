"""The elements of a tiling over sources that are numbers: element `i` of source `n` is `100_000 * n + i`."""

from __future__ import annotations

from typing import Any

import numpy

from statex.strides import Fill, Tiling

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
