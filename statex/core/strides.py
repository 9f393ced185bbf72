"""Positions of a tensor's elements in other tensors, after views, slices and joins, without reading a byte.

A tensor that only moves elements is a tiling of boxes, each a strided view of one source. A dim of a view may be
compound, made of several lengths with a stride each: so dims can be joined that no single stride describes, as in
einops' `(h two d)`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate, product
from math import prod

from statex.core.record import record

Dims = tuple[int, ...]
Atoms = tuple[tuple[int, int], ...]
"""Lengths and strides (in elements), the outermost first; no length is 1, and no two could be one."""
_Taken = tuple[int, Atoms]
"""Atoms, and the offset at which they begin."""

MOST_PARTS = 1 << 12
"""More boxes than this are not worth following."""


@record
class Fill:
    """A source of one number, again and again."""

    value: float


@record
class Tile:
    """A box of a tensor: where it starts, and the view that fills it; `source` is whatever holds the elements."""

    start: Dims
    source: object
    offset: int
    dims: tuple[Atoms, ...]

    @property
    def shape(self) -> Dims:
        """The lengths of the box."""
        return tuple([length_of(atoms) for atoms in self.dims])

    @property
    def atoms(self) -> Atoms:
        """The lengths and strides of all dims in order, as few as there can be."""
        return simplified([atom for atoms in self.dims for atom in atoms])

    @property
    def extent(self) -> tuple[int, int]:
        """The first element of the source that is taken, and the one after the last."""
        strides = [(length - 1) * stride for atoms in self.dims for length, stride in atoms]
        low = self.offset + sum(stride for stride in strides if stride < 0)
        return low, self.offset + sum(stride for stride in strides if stride > 0) + 1

    def placed(self, start: Dims, offset: int, dims: tuple[Atoms, ...]) -> Tile:
        """Return another box from the same source, which begins `offset` elements after this one."""
        return Tile(start, self.source, self.offset + offset, dims)


@record
class Tiling:
    """The elements of a tensor as boxes that cover it, none twice.

    Methods return the tiling of a result, or `None` where strides cannot describe it. Arguments are those of valid
    calls, with dims counted from 0.
    """

    shape: Dims
    parts: tuple[Tile, ...]

    @classmethod
    def of(cls, source: object, offset: int, shape: Dims, strides: Dims) -> Tiling:
        """Return the tiling of a strided view."""
        dims = tuple([simplified([atom]) for atom in zip(shape, strides, strict=True)])
        return cls(shape, (Tile((0,) * len(shape), source, offset, dims),) if prod(shape) else ())

    @classmethod
    def filled(cls, source: Fill, shape: Dims) -> Tiling:
        """Return a tensor of one number."""
        return cls.of(source, 0, shape, (0,) * len(shape))

    def permuted(self, order: Sequence[int]) -> Tiling:
        """Put the dims into another order."""
        parts = [
            part.placed(tuple([part.start[dim] for dim in order]), 0, tuple([part.dims[dim] for dim in order]))
            for part in self.parts
        ]
        return Tiling(tuple([self.shape[dim] for dim in order]), tuple(parts))

    def sliced(self, dim: int, start: int, count: int, step: int = 1) -> Tiling | None:
        """Take `count` indices of a dim, from `start` on; a negative step goes down."""
        if step < 0:
            found = self.sliced(dim, start + (count - 1) * step, count, -step)
            return None if found is None else found.flipped(dim)
        parts: list[Tile] = []
        for part in self.parts:
            before = part.start[dim] - start
            first, last = max(0, -(-before // step)), min(count, -(-(before + length_of(part.dims[dim])) // step))
            if first >= last:
                continue
            pieces = _stepped(part.dims[dim], first * step - before, last - first, step)
            if pieces is None:
                return None
            for offset, atoms in pieces:
                parts.append(part.placed(_with(part.start, dim, first), offset, _with(part.dims, dim, atoms)))
                first += length_of(atoms)
        return _tiling(_with(self.shape, dim, count), parts)

    def flipped(self, dim: int) -> Tiling:
        """Turn a dim round."""
        parts = []
        for part in self.parts:
            atoms = part.dims[dim]
            start = self.shape[dim] - part.start[dim] - length_of(atoms)
            offset = sum([(length - 1) * stride for length, stride in atoms])
            turned = tuple([(length, -stride) for length, stride in atoms])
            parts.append(part.placed(_with(part.start, dim, start), offset, _with(part.dims, dim, turned)))
        return Tiling(self.shape, tuple(parts))

    def indexed(self, dim: int, indices: Sequence[int]) -> Tiling | None:
        """Take some indices of a dim, in any order and as often as they are named."""
        if len(indices) > MOST_PARTS:
            return None
        runs: list[tuple[int, int]] = []
        for index in indices:
            if runs and sum(runs[-1]) == index:
                runs[-1] = runs[-1][0], runs[-1][1] + 1
            else:
                runs.append((index, 1))
        return (
            joined([self.sliced(dim, start, count) for start, count in runs], dim) if runs else (self.sliced(dim, 0, 0))
        )

    def selected(self, dim: int, index: int) -> Tiling:
        """Take one index of a dim, which goes."""
        found = self.sliced(dim, index, 1)
        assert found is not None, "a single element has a place"
        return found.squeezed((dim,))

    def squeezed(self, dims: Sequence[int]) -> Tiling:
        """Take away dims of length 1."""
        return self.permuted([dim for dim in range(len(self.shape)) if dim not in dims])

    def unsqueezed(self, dim: int) -> Tiling:
        """Add a dim of length 1."""
        parts = [part.placed(_and(part.start, dim, 0), 0, _and(part.dims, dim, ())) for part in self.parts]
        return Tiling(_and(self.shape, dim, 1), tuple(parts))

    def expanded(self, shape: Dims) -> Tiling:
        """Repeat along dims of length 1, and along new ones before the others."""
        found = self
        for _ in range(len(shape) - len(self.shape)):
            found = found.unsqueezed(0)
        parts = []
        for part in found.parts if prod(shape) else ():
            dims = [
                atoms if old == new else simplified([(new, 0)])
                for atoms, old, new in zip(part.dims, found.shape, shape, strict=True)
            ]
            parts.append(part.placed(part.start, 0, tuple(dims)))
        return Tiling(shape, tuple(parts))

    def reshaped(self, shape: Dims) -> Tiling | None:
        """Give the elements another shape, in their order."""
        if not prod(shape):
            return Tiling(shape, ())
        if len(self.parts) == 1:  # the common case: one box that is all there is
            dims = _split(self.parts[0].atoms, shape)
            if dims is not None:
                return Tiling(shape, (self.parts[0].placed((0,) * len(shape), 0, dims),))
        groups = list(_groups(self.shape, shape))
        parts: list[Tile] = []
        for part in self.parts:
            found = _regrouped(part, self.shape, shape, groups)
            if found is None:
                return None
            parts += found
            if len(parts) > MOST_PARTS:
                return None
        return Tiling(shape, tuple(parts))

    def runs(self) -> Iterator[tuple[object, int, int]]:
        """Yield sources, offsets and counts of the elements in their order; neighbours may be one run or two."""
        if not self.shape:
            yield from [(part.source, part.offset, 1) for part in self.parts]
            return
        for band in _bands(self.parts):
            if len(band) == 1 and band[0].shape[1:] == self.shape[1:]:
                yield from _runs_of(band[0])
                continue
            rows = Tiling(self.shape, tuple(band))
            start, end = band[0].start[0], max(part.start[0] + length_of(part.dims[0]) for part in band)
            for index in range(start, end):
                yield from rows.selected(0, index).runs()

    @property
    def pieces(self) -> int:
        """About how many runs there are."""
        return sum([prod(part.shape) // _together(part, self.shape) for part in self.parts])


def joined(tilings: Sequence[Tiling | None], dim: int) -> Tiling | None:
    """Join tensors along a dim that they have."""
    parts: list[Tile] = []
    at = 0
    for one in tilings:
        if one is None or len(parts) + len(one.parts) > MOST_PARTS:
            return None
        parts += [part.placed(_with(part.start, dim, part.start[dim] + at), 0, part.dims) for part in one.parts]
        at += one.shape[dim]
    assert tilings[0] is not None
    return Tiling(_with(tilings[0].shape, dim, at), tuple(parts))


def stacked(tilings: Sequence[Tiling], dim: int) -> Tiling | None:
    """Join tensors along a new dim."""
    return joined([one.unsqueezed(dim) for one in tilings], dim)


def simplified(atoms: Iterable[tuple[int, int]]) -> Atoms:
    """Return as few lengths and strides as describe the same elements in the same order."""
    found: list[tuple[int, int]] = []
    for length, stride in atoms:
        if length == 1:
            continue
        if found and found[-1][1] == length * stride:
            found[-1] = found[-1][0] * length, stride
        else:
            found.append((length, stride))
    return tuple(found)


def length_of(atoms: Atoms) -> int:
    """Return the length of a dim."""
    return prod([length for length, _ in atoms])


def _with(values: tuple, dim: int, value: object) -> tuple:  # type: ignore[type-arg]
    return (*values[:dim], value, *values[dim + 1 :])


def _and(values: tuple, dim: int, value: object) -> tuple:  # type: ignore[type-arg]
    return (*values[:dim], value, *values[dim:])


def _tiling(shape: Dims, parts: list[Tile]) -> Tiling | None:
    return Tiling(shape, tuple(parts) if prod(shape) else ()) if len(parts) <= MOST_PARTS else None


# --- parts of a dim -------------------------------------------------------------------------------------------------


def _taken(atoms: Atoms, first: int, count: int) -> list[_Taken]:
    """Return `count` indices of a dim, from `first` on, as pieces that follow one another."""
    if not count:
        return []
    if not atoms:
        return [(0, ())]
    (_, stride), inner = atoms[0], atoms[1:]
    size = length_of(inner)
    if size == 1:
        return [(first * stride, simplified([(count, stride)]))]
    outer, rest = divmod(first, size)
    pieces: list[_Taken] = []
    if rest:
        head = min(size - rest, count)
        pieces += [(outer * stride + offset, found) for offset, found in _taken(inner, rest, head)]
        outer, count = outer + 1, count - head
    whole, tail = divmod(count, size)
    if whole:
        pieces.append((outer * stride, simplified([(whole, stride), *inner])))
    return pieces + [((outer + whole) * stride + offset, found) for offset, found in _taken(inner, 0, tail)]


def _stepped(atoms: Atoms, first: int, count: int, step: int) -> list[_Taken] | None:
    """Return every `step`-th index of a dim as pieces that follow one another."""
    if step == 1 or count == 1:
        return _taken(atoms, first, count)
    if len(atoms) == 1:
        return [(first * atoms[0][1], simplified([(count, atoms[0][1] * step)]))]
    spans = _taken(atoms, first, (count - 1) * step)
    split = _split(spans[0][1], (count - 1, step)) if len(spans) == 1 else None
    if split is None:
        return None
    return [(spans[0][0], split[0]), *_taken(atoms, first + (count - 1) * step, 1)]


def _split(atoms: Atoms, lengths: Sequence[int]) -> tuple[Atoms, ...] | None:
    """Make several dims of one, or return `None` where a length would end within an index of another atom."""
    rest = list(atoms)
    dims: list[Atoms] = []
    for length in reversed(lengths):
        own: list[tuple[int, int]] = []
        while length > 1:
            size, stride = rest.pop()
            if length % size == 0:
                own.insert(0, (size, stride))
                length //= size
            elif size % length == 0:
                own.insert(0, (length, stride))
                rest.append((size // length, stride * length))
                break
            else:
                return None
        dims.insert(0, simplified(own))
    return tuple(dims)


# --- other shapes ---------------------------------------------------------------------------------------------------

_Group = tuple[slice, slice]


def _groups(old: Dims, new: Dims) -> Iterator[_Group]:
    """Yield the dims of two shapes that have as many elements, as few together as possible."""
    i = j = 0
    while i < len(old) or j < len(new):
        start, end = i, j
        one = other = 1
        if i < len(old):
            one, i = old[i], i + 1
        if j < len(new):
            other, j = new[j], j + 1
        while one != other:
            if one < other:
                one, i = one * old[i], i + 1
            else:
                other, j = other * new[j], j + 1
        yield slice(start, i), slice(end, j)


_Box = tuple[Dims, int, tuple[Atoms, ...]]
"""Where a box starts in some of the dims, its offset, and its view."""


def _regrouped(part: Tile, old: Dims, new: Dims, groups: Sequence[_Group]) -> list[Tile] | None:
    choices: list[list[_Box]] = []
    for before, after in groups:
        boxes: list[_Box] = []
        for at, offset, atoms in _flattened(old[before], part.start[before], part.dims[before]):
            found = _unflattened(new[after], at, atoms)
            if found is None:
                return None
            boxes += [(start, offset + more, dims) for start, more, dims in found]
            if len(boxes) > MOST_PARTS:
                return None
        choices.append(boxes)
    if prod([len(boxes) for boxes in choices]) > MOST_PARTS:
        return None
    return [
        part.placed(
            tuple([at for start, _, _ in boxes for at in start]),
            sum([offset for _, offset, _ in boxes]),
            tuple([atoms for _, _, dims in boxes for atoms in dims]),
        )
        for boxes in product(*choices)
    ]


def _flattened(shape: Dims, start: Dims, dims: tuple[Atoms, ...]) -> Iterator[tuple[int, int, Atoms]]:
    """Yield the runs of a box in the one dim that all are joined to: where they start, their offsets and views."""
    if not shape:
        yield 0, 0, ()
        return
    size = prod(shape[1:])
    if all(length_of(atoms) == length for atoms, length in zip(dims[1:], shape[1:], strict=True)):
        yield start[0] * size, 0, simplified([atom for atoms in dims for atom in atoms])
        return
    for index in range(length_of(dims[0])):
        ((offset, _),) = _taken(dims[0], index, 1)
        for at, more, atoms in _flattened(shape[1:], start[1:], dims[1:]):
            yield (start[0] + index) * size + at, offset + more, atoms


def _unflattened(shape: Dims, at: int, atoms: Atoms) -> list[_Box] | None:
    """Return the boxes that a run of the joined dim fills, or `None` where these are too many."""
    if len(shape) < 2:
        return [((at,) * len(shape), 0, (atoms,) * len(shape))]
    size = prod(shape[1:])
    boxes: list[_Box] = []
    pending = [(at, 0, atoms)]
    while pending:
        at, offset, atoms = pending.pop()
        count = length_of(atoms)
        outer, rest = divmod(at, size)
        head = min(size - rest, count) if rest or count < size else count - count % size
        if not rest and count % size == 0:
            dims = _split(atoms, (count // size, *shape[1:]))
            found = None if dims is None else [((outer, *(0,) * (len(shape) - 1)), 0, dims)]
        elif head < count:
            # Each may have its own in every row: a stack, and no recursion.
            pieces = [*_taken(atoms, 0, head), *_taken(atoms, head, count - head)]
            ends = accumulate([length_of(piece) for _, piece in pieces], initial=at)
            pending += reversed(
                [(start, offset + more, piece) for start, (more, piece) in zip(ends, pieces, strict=False)]
            )
            found = []
        else:
            inner = _unflattened(shape[1:], rest, atoms)
            found = None if inner is None else [((outer, *start), more, ((), *dims)) for start, more, dims in inner]
        if found is None or len(boxes) + len(found) > MOST_PARTS:
            return None
        boxes += [(start, offset + more, dims) for start, more, dims in found]
    return boxes


# --- the order of the elements --------------------------------------------------------------------------------------


def _bands(parts: Sequence[Tile]) -> Iterator[list[Tile]]:
    """Yield the parts that lie beside each other, band after band along the first dim."""
    band: list[Tile] = []
    end = 0
    for part in sorted(parts, key=lambda part: part.start):
        if band and part.start[0] >= end:
            yield band
            band = []
        band.append(part)
        end = max(end, part.start[0] + length_of(part.dims[0]))
    if band:
        yield band


def _runs_of(part: Tile) -> Iterator[tuple[object, int, int]]:
    atoms = part.atoms
    count = 1
    if atoms and atoms[-1][1] == 1:
        count, atoms = atoms[-1][0], atoms[:-1]
    for places in product(
        *[range(0, length * stride, stride) if stride else (0,) * length for length, stride in atoms]
    ):
        yield part.source, part.offset + sum(places), count


def _together(part: Tile, shape: Dims) -> int:
    """Return how many elements of a part follow one another, in it and in its source."""
    atoms = part.atoms
    count = atoms[-1][0] if atoms and atoms[-1][1] == 1 else 1
    most = 1
    for own, length in zip(reversed(part.shape), reversed(shape), strict=True):
        most *= own
        if own != length:
            break
    return min(count, most)
