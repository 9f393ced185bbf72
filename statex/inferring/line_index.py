"""The lines of many tensors, looked up by their hashes; those that are too many for memory are in a temporary file."""

from __future__ import annotations

import os
import tempfile
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from math import prod
from typing import Any, Protocol

from statex.core.record import record
from statex.inferring.lines import Dims, dims_of, line_hashes

_HELD_LINES = 1 << 21
"""So many lines are held in memory, of 16 bytes each; when there are more, these go to a file."""
_BLOCK = 128
"""Lines of a file that are read at a time."""
_PLACES = 64
"""So many places are told of a line that is at several."""
_ASKED = 2048
"""Lines that are looked up in a file at a time."""

_LINE = [("hash", "<u8"), ("tensor", "<u4"), ("place", "<u4")]
"""A line: its hash, the number of its tensor, and its place among all lines of that."""


@record
class Hit:
    """Where a line was found: the number of a tensor, its dims, and the number of the line along them."""

    tensor: int
    dims: Dims
    line: int


class _Sorted(Protocol):
    """Lines in the order of their hashes."""

    def found(self, hashes: Any) -> tuple[Any, Any]:
        """Return at how many places each line is, `_PLACES` at most, and these one after the other."""


class _InMemory:
    def __init__(self, lines: Any) -> None:
        self.lines = lines
        self._hashes = lines["hash"].copy()

    def found(self, hashes: Any) -> tuple[Any, Any]:
        import numpy

        left = numpy.searchsorted(self._hashes, hashes, "left")
        counts = numpy.minimum(numpy.searchsorted(self._hashes, hashes, "right") - left, _PLACES)
        first = numpy.repeat(left - (numpy.cumsum(counts) - counts), counts)
        return counts, self.lines[first + numpy.arange(len(first))]


class _InFile:
    """Lines in a file, of which memory has the hash of one of each block."""

    def __init__(self, file: Any, lines: Any) -> None:
        self._file, self._count = file, len(lines)
        self._start = file.seek(0, os.SEEK_END)
        file.write(memoryview(lines).cast("B"))
        file.flush()
        self._fences = lines["hash"][::_BLOCK].copy()

    def found(self, hashes: Any) -> tuple[Any, Any]:
        import numpy

        counts, lines = [], []
        for at in range(0, len(hashes), _ASKED):
            own, where = self._few(hashes[at : at + _ASKED])
            counts.append(own)
            lines.append(where)
        return numpy.concatenate(counts), numpy.concatenate(lines)

    def _few(self, hashes: Any) -> tuple[Any, Any]:
        import numpy

        # The first line of a hash is in the block before the first fence that is not below it, or at its end.
        blocks = numpy.maximum(numpy.searchsorted(self._fences, hashes, "left") - 1, 0)
        read: Any = numpy.zeros((len(hashes), _BLOCK + _PLACES), _LINE)
        size = read.itemsize
        for row, block in zip(read, blocks.tolist(), strict=True):
            there = min(len(row), self._count - block * _BLOCK)
            os.preadv(self._file.fileno(), [row[:there]], self._start + block * _BLOCK * size)
        behind = numpy.arange(read.shape[1]) + blocks[:, None] * _BLOCK >= self._count
        here = (read["hash"] == hashes[:, None]) & ~behind
        here &= here.cumsum(axis=1) <= _PLACES
        return here.sum(axis=1), read[here]


class LineIndex:
    """The lines of many tensors, looked up by their hashes; a context manager that leaves no file."""

    def __init__(self) -> None:
        self._new: list[Any] = []
        self._count = 0
        self._sorted: list[_Sorted] = []
        self._file: Any = None
        self._shapes: dict[int, tuple[int, ...]] = {}
        self._dims: dict[tuple[int, ...], tuple[list[Dims], list[int]]] = {}

    def __enter__(self) -> LineIndex:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()

    @property
    def is_in_file(self) -> bool:
        """True where there were too many lines for memory."""
        return self._file is not None

    def add(self, tensors: Sequence[int], bits: Any) -> None:
        """Add the lines of tensors of one shape, stacked."""
        shape = bits.shape[1:]
        kept = [(0, *(d + 1 for d in dims)) for dims in dims_of(shape)]
        self.add_hashes(tensors, shape, list(line_hashes(bits, kept).values()))

    def add_hashes(self, tensors: Sequence[int], shape: tuple[int, ...], hashes: Sequence[Any]) -> None:
        """Add lines by their hashes: along each of the dims that are worth it, of all these tensors together."""
        import numpy

        if shape not in self._dims:
            dims = list(dims_of(shape))
            self._dims[shape] = dims, [0, *accumulate(prod(shape[d] for d in one) for one in dims)]
        self._shapes.update(dict.fromkeys(tensors, shape))
        table = numpy.concatenate([one.reshape(len(tensors), -1) for one in hashes], axis=1)
        lines = numpy.empty(table.size, _LINE)
        lines["hash"] = table.reshape(-1)
        lines["tensor"] = numpy.repeat(numpy.array(tensors, numpy.uint32), table.shape[1])
        lines["place"] = numpy.tile(numpy.arange(table.shape[1], dtype=numpy.uint32), len(tensors))
        self._new.append(lines)
        self._count += len(lines)
        if self._count >= _HELD_LINES:
            self._put_away()

    def _ordered(self) -> Any:
        """Return the lines that were added, in order; of equal ones the first comes first."""
        import numpy

        lines = numpy.concatenate([numpy.empty(0, _LINE), *self._new])
        self._new, self._count = [], 0
        return lines[numpy.argsort(lines["hash"], kind="stable")]

    def _put_away(self) -> None:
        if self._file is None:
            # It has no name, or loses it at once: nothing is left of it, whatever happens.
            self._file = tempfile.TemporaryFile()  # noqa: SIM115 (it is open as long as the index is)
        self._sorted.append(_InFile(self._file, self._ordered()))

    def found(self, hashes: Any, zeros: Any) -> list[list[Hit]] | None:
        """Return where lines are, each with some places; `None` where one is nowhere.

        Lines of zeros, whose hash is `zeros`, may be nowhere.
        """
        if self._new:
            self._sorted.append(_InMemory(self._ordered()))
        flat = hashes.reshape(-1)
        found = [one.found(flat) for one in self._sorted]
        nowhere = flat != zeros
        for counts, _ in found:
            nowhere &= counts == 0
        if not len(flat) or nowhere.any():
            return None
        hits: list[list[Hit]] = [[] for _ in range(len(flat))]
        for counts, lines in found:
            own = iter(zip(lines["tensor"].tolist(), lines["place"].tolist(), strict=True))
            for at, count in enumerate(counts.tolist()):
                for _ in range(count):
                    hits[at].append(self._hit(*next(own)))
        return [one[:_PLACES] for one in hits]

    def _hit(self, tensor: int, place: int) -> Hit:
        dims, starts = self._dims[self._shapes[tensor]]
        number = bisect_right(starts, place) - 1
        return Hit(tensor, dims[number], place - starts[number])
