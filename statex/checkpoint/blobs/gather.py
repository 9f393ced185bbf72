"""The elements of tensors that only move, one after the other: read in blocks, put in order in memory.

Memory is bounded whatever the size of a tensor: a block is read whole where it lies together in its sources, and in
rows where it does not, as in a transpose of a large matrix.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from math import prod
from typing import Any

from statex.checkpoint.io.crc import crc32
from statex.checkpoint.io.input_file import Buffer, Stored
from statex.core.header import TensorInfo
from statex.core.strides import Atoms, Fill, Tile, Tiling

_BLOCKS = tuple(1 << power for power in range(22, 28))
"""Bytes of a block: as few as still have rows of some length."""
_ROW = 2048
"""Bytes of a row that are worth a read of their own."""
_PANEL = 1 << 20
"""Bytes that are put in order at a time."""
_BITS = {1: "u1", 2: "<u2", 4: "<u4", 8: "<u8", 16: "<c16"}
"""numpy's types for elements of so many bytes; they are only moved."""
_TILE, _TALL = 128, 4096
"""Bytes along one dim, and elements along the other, of what is turned at a time: two cache lines of each row."""

Element = Callable[[float], bytes]
"""Gives the bytes of one element of a number."""


class Gather:
    """A tiling over `Stored`s, whose offsets count elements of `itemsize` bytes from their start."""

    def __init__(self, tiling: Tiling, itemsize: int, element: Element | None = None) -> None:
        self._tiling = tiling
        self._size = itemsize
        self._element = element
        self.nbytes = prod(tiling.shape) * itemsize

    @classmethod
    def of(cls, info: TensorInfo) -> Gather:
        """Return the elements of a strided tensor, one after the other."""
        return cls(Tiling.of(info.handle, info.offset, info.type.shape, info.strides), info.type.dtype.itemsize)

    @property
    def read(self) -> int:
        """How many bytes are read, where no more is than is needed."""
        parts = [part for part in self._tiling.parts if not isinstance(part.source, Fill)]
        return sum([_distinct(part.atoms) for part in parts]) * self._size

    @property
    def stored(self) -> list[Stored]:
        """The storages that are read, each once."""
        found = {id(part.source): part.source for part in self._tiling.parts}
        return [one for one in found.values() if isinstance(one, Stored)]

    @property
    def held(self) -> int:
        """How many bytes are in memory at once, at most."""
        budget = self._budget()
        first = next(_cut(self._tiling, budget // self._size), None)
        panels = 4 * min(_PANEL, self.nbytes)
        return panels + (sum(read.count for read in _reads(first)) * self._size if first is not None else 0)

    def buffers(self) -> Iterator[Buffer]:
        """Yield the bytes in their order, a panel at a time.

        Raises:
            StatexError: SX604 where a storage does not have the checksum that is recorded.
        """
        blocks = self._blocks()
        for stored in self.checked_apart:
            stored.check()
        for block in blocks:
            yield from self._panels(block)

    def _panels(self, block: Tiling) -> Iterator[Buffer]:
        """Yield the bytes of a block, which is let go before the next one is read: names here end with it."""
        import numpy

        for panel in _cut(self._loaded(block), _PANEL // self._size):
            target = numpy.empty(panel.shape, _BITS[self._size])
            for part in panel.parts:
                _copy(_box(target, part), _view(part, self._size))
            yield target.reshape(-1).view("u1").data

    @property
    def checked_apart(self) -> list[Stored]:
        """The storages that are read once more, for checksums that are due: of others, all bytes come by together."""
        due = [stored for stored in self.stored if stored.unverified]
        blocks = self._blocks() if due else []
        whole = {id(read.source) for block in blocks[:1] for read in _reads(block) if self._is_whole(read)}
        return [stored for stored in due if len(blocks) != 1 or id(stored) not in whole]

    def _blocks(self) -> list[Tiling]:
        return list(_cut(self._tiling, self._budget() // self._size))

    def _budget(self) -> int:
        for budget in _BLOCKS:
            first = next(_cut(self._tiling, budget // self._size), None)
            if first is None or all(read.row * self._size >= _ROW or read.is_dense for read in _reads(first)):
                return budget
        return _BLOCKS[-1]

    def _is_whole(self, read: _Read) -> bool:
        return read.is_dense and read.count * self._size == read.source.nbytes

    def _loaded(self, block: Tiling) -> Tiling:
        """Return a block over arrays in memory."""
        parts: list[Tile] = []
        for read in _reads(block):
            parts += self._read(read)
        for part in block.parts:
            if isinstance(part.source, Fill):
                assert self._element is not None, "numbers are put in by who knows the dtype"
                parts.append(Tile(part.start, self._array(self._element(part.source.value)), 0, part.dims))
        return Tiling(block.shape, tuple(parts))

    def _array(self, data: Any) -> Any:
        import numpy

        return numpy.frombuffer(data, _BITS[self._size])

    def _read(self, read: _Read) -> list[Tile]:
        import numpy

        stored, size = read.source, self._size
        file, base = stored.extent.file, stored.extent.offset
        data: memoryview = numpy.empty(read.count * size, numpy.uint8).data
        step = read.row * size
        for number, start in enumerate(read.starts()):
            file.read_into(base + start * size, data[number * step : (number + 1) * step])
        if stored.unverified and self._is_whole(read):
            stored.compare(crc32(data))
        array = self._array(data)
        if read.is_dense:
            return [Tile(part.start, array, part.offset - read.first, part.dims) for part in read.parts]
        (part,) = read.parts
        return [read.compacted(part, array)]


class _Read:
    """What is read for some parts of a block that have one source: all they reach over, or rows of it.

    `outer` are the lengths and strides of what is read row by row, the largest stride first; `row` elements are read
    at a time, from `first` on.
    """

    def __init__(self, source: Stored, parts: Sequence[Tile], first: int, outer: Atoms, row: int) -> None:
        self.source = source
        self.parts = parts
        self.first = first
        self.outer = outer
        self.row = row
        self.count = row * prod([length for length, _ in outer])

    @property
    def is_dense(self) -> bool:
        """True where all is read at once."""
        return not self.outer

    def starts(self) -> Iterator[int]:
        """Yield where rows start."""
        starts: Iterable[int] = [self.first]
        for length, stride in self.outer:
            starts = [start + index * stride for start in starts for index in range(length)]
        return iter(starts)

    def compacted(self, part: Tile, array: Any) -> Tile:
        """Return the part over the rows that were read, which now follow one another."""
        steps: dict[int, int] = {}
        step = self.row
        for length, stride in reversed(self.outer):
            steps[stride] = step
            step *= length
        offset, dims = part.offset - self.first, []
        for atoms in part.dims:
            own = []
            for length, stride in atoms:
                near = steps.get(abs(stride))
                if near is None:
                    own.append((length, stride))
                    continue
                if stride < 0:
                    # What is counted from the far end is as near as the rows now are.
                    offset += (length - 1) * (near + stride)
                    near = -near
                own.append((length, near))
            dims.append(tuple(own))
        return Tile(part.start, array, offset, tuple(dims))


def _reads(block: Tiling) -> list[_Read]:
    """Return what is read for a block."""
    sources: dict[int, list[Tile]] = {}
    for part in block.parts:
        if not isinstance(part.source, Fill):
            sources.setdefault(id(part.source), []).append(part)
    found: list[_Read] = []
    for parts in sources.values():
        extents = [part.extent for part in parts]
        first, last = min(low for low, _ in extents), max(high for _, high in extents)
        if last - first <= 2 * sum([_distinct(part.atoms) for part in parts]):
            found.append(_Read(_stored(parts[0]), parts, first, (), last - first))
        else:
            found += [_rows(part) for part in parts]
    return found


def _rows(part: Tile) -> _Read:
    """Return how a part is read whose elements lie far from one another."""
    first, last = part.extent
    strides = sorted([(abs(stride), length) for stride, length in _steps(part)], reverse=True)
    if len({stride for stride, _ in strides}) < len(strides):
        return _Read(_stored(part), [part], first, (), last - first)  # two dims run along the same elements
    reach, outer = last - first, list[tuple[int, int]]()
    count = prod([length for _, length in strides])
    for stride, length in strides:
        if reach <= 2 * count:
            break
        outer.append((length, stride))
        reach -= (length - 1) * stride
        count //= length
    return _Read(_stored(part), [part], first, tuple(outer), reach)


def _steps(part: Tile) -> list[tuple[int, int]]:
    return [(stride, length) for atoms in part.dims for length, stride in atoms if stride]


def _stored(part: Tile) -> Stored:
    assert isinstance(part.source, Stored)
    return part.source


def _distinct(atoms: Atoms) -> int:
    return prod([length for length, stride in atoms if stride])


def _cut(tiling: Tiling, most: int) -> Iterator[Tiling]:
    """Yield parts of a tiling, in order, of so many elements at most."""
    count = prod(tiling.shape)
    if not count:
        return
    if count <= most or not tiling.shape:
        yield tiling
        return
    length = tiling.shape[0]
    rows = most // (count // length)
    for start in range(0, length, max(rows, 1)):
        if not rows:
            yield from _cut(tiling.selected(0, start), most)
            continue
        part = tiling.sliced(0, start, min(rows, length - start))
        assert part is not None, "consecutive rows have places"
        yield part


# --- in memory ------------------------------------------------------------------------------------------------------


def _view(part: Tile, size: int) -> Any:
    """Return the elements of a part, with a dim for each of its lengths."""
    import numpy

    atoms = [atom for atoms in part.dims for atom in atoms]
    shape, strides = [length for length, _ in atoms], [stride * size for _, stride in atoms]
    array: Any = part.source
    return numpy.lib.stride_tricks.as_strided(array[part.offset :], shape, strides, writeable=False)


def _box(target: Any, part: Tile) -> Any:
    """Return the place of a part in the result, with a dim for each of its lengths."""
    import numpy

    at = sum(start * stride for start, stride in zip(part.start, target.strides, strict=True)) // target.itemsize
    shape: list[int] = []
    strides: list[int] = []
    for atoms, stride in zip(part.dims, target.strides, strict=True):
        inner = prod([length for length, _ in atoms])
        for length, _ in atoms:
            inner //= length
            shape.append(length)
            strides.append(inner * stride)
    return numpy.lib.stride_tricks.as_strided(target.reshape(-1)[at:], shape, strides)


def _copy(target: Any, source: Any) -> None:
    """Copy elements; where rows of one are columns of the other, in tiles that stay in the processor's cache."""
    size = source.itemsize
    last = source.ndim - 1
    near = next((dim for dim in range(source.ndim) if abs(source.strides[dim]) == size), last)
    if near == last or source.shape[near] * size < _TILE or source.shape[last] < 16:
        target[...] = source
        return
    width = _TILE // size
    for left in range(0, source.shape[near], width):
        for top in range(0, source.shape[last], _TALL):
            at = [slice(None)] * source.ndim
            at[near], at[last] = slice(left, left + width), slice(top, top + _TALL)
            target[tuple(at)] = source[tuple(at)]
