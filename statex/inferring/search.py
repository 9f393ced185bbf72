"""The search for what each new tensor is made of, from what is cheap and certain to what has to be looked for."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

from statex.core.dtypes import DType, Kind
from statex.core.progress import READING, Add, Phases, Tell, unheard
from statex.core.record import record
from statex.inferring.analogies import Analogies, some_layers
from statex.inferring.arranging import ZEROS, Found, values_of, with_ones
from statex.inferring.casting import can_be_cast, cast_bits, cast_crc
from statex.inferring.comparing import holds
from statex.inferring.layouts import layouts
from statex.inferring.likeness import Likeness, assigned, beside, places
from statex.inferring.line_index import Hit, LineIndex
from statex.inferring.lines import Dims, dims_of, hash_of_zeros, hashes_of_parts, line_hashes, rows_at_once
from statex.inferring.sides import Identity, TensorSide, is_computable, number_of, unsigned
from statex.relating.relations import Constant, MadeTensor, Relation, Relations
from statex.relating.values import Joined, MovedValue, SourceTensor, Value, moved, sources, variants

_HELD = 8
"""Tensors that are held in memory while what is made of them is looked for."""
_HELD_BYTES = 4 << 20
"""Bytes of the largest tensor that is held."""
_TOGETHER = 1 << 17
"""Elements of small tensors whose lines are hashed at once; the rows of larger ones are read a few at a time."""
_VALUES = 24
"""So many values are computed and compared for one way in which the lines of a tensor were found."""


Pool = Sequence[tuple[str, DType | None]]
"""Old keys that lines are looked for in, each with the dtype that it is cast to."""


@record
class _FoundLines:
    """Where the lines of a new tensor along some `dims` are in a pool; `places` is the shape of the table of lines."""

    key: str
    dims: Dims
    hits: list[list[Hit]]
    places: tuple[int, ...]


def searched(old: TensorSide, new: TensorSide, tell: Tell | None = None) -> Relations:
    """Return what became of what.

    Raises:
        StatexError: 6xx for the files.
    """
    search = _Search(old, new, tell)
    try:
        return search.run()
    finally:
        search.forget()


class _Search:
    def __init__(self, old: TensorSide, new: TensorSide, tell: Tell | None) -> None:
        self.old, self.new = old, new
        self.phases = Phases(tell)
        self.looked_at: Add = unheard
        self.made: dict[str, Relation] = {}
        self.used: set[str] = set()
        """Old keys that something is made of."""
        self.ambiguous: list[str] = []
        self.plain: list[tuple[list[str], list[str]]] = []
        """Old and new keys of equal contents that are one number all over, which says little."""
        self.likeness = Likeness()
        self._held = lru_cache(_HELD)(self._bits)
        self._last: tuple[str, Any] = ("", None)
        self._number = lru_cache(4096)(self._number_of)

    def forget(self) -> None:
        """Give back what is held; it holds the search itself, and who started it may have no collector at work."""
        self.likeness.forget()
        vars(self).clear()

    def run(self) -> Relations:
        """Look for all."""
        self._equal()
        self._cast()
        self._layouts()
        self._beside()
        for old, keys in self.plain:
            self._assign(old, [key for key in keys if key not in self.made])
        if any(
            isinstance(one.value, SourceTensor) and one.value.cast
            for one in self.made.values()
            if isinstance(one, MadeTensor)
        ):
            self._cast(plain=True)
        self._constants()
        self._no_tensors()
        left = [key for key in self.new.header.entries if key not in self.made]
        return Relations(
            tuple(self.old.header.entries),
            tuple(self.new.header.entries),
            {key: self.made[key] for key in self.new.header.entries if key in self.made},
            self._ties(),
            dict.fromkeys(left),
            tuple(self.ambiguous),
        )

    # --- equal contents --------------------------------------------------------------------------------------------

    def _equal(self) -> None:
        """Find what is equal as a whole; of contents that several have, names tell which is meant."""
        by_old: defaultdict[Identity, list[str]] = defaultdict(list)
        by_new: defaultdict[Identity, list[str]] = defaultdict(list)
        old_ids, new_ids = self._identities()
        for key, identity in old_ids:
            by_old[identity].append(key)
        for key, identity in new_ids:
            if identity in by_old:
                by_new[identity].append(key)
        unclear: list[tuple[list[str], list[str]]] = []
        for identity, keys in by_new.items():
            if self._is_plain(keys[0]):
                self.plain.append((by_old[identity], keys))
            elif len(keys) == len(by_old[identity]) == 1:
                self._is(keys[0], by_old[identity][0])
            else:
                unclear.append((by_old[identity], keys))
        for old, keys in sorted(unclear, key=lambda pair: len(pair[0]) * len(pair[1])):
            self._assign(old, keys)

    def _identities(self) -> tuple[list[tuple[str, Identity]], list[tuple[str, Identity]]]:
        """Return the identities of old and of new tensors, of types that both sides have: others are equal to none."""
        types = {*self.old.kinds.values()} & {*self.new.kinds.values()}
        sides = [(side, [key for key, kind in side.kinds.items() if kind in types]) for side in (self.old, self.new)]
        total = sum(side.kinds[key].nbytes for side, keys in sides for key in keys)
        added = self.phases.begin(READING, total)
        old, new = ([(key, side.identity(key, added)) for key in keys] for side, keys in sides)
        return old, new

    def _take(self, made: MadeTensor) -> None:
        self.made[made.target] = made
        self.used.update(made.keys)

    def _is(self, key: str, old: str) -> None:
        self._take(MadeTensor(key, (old,), SourceTensor()))
        self.likeness.learn(old, key)

    def _assign(self, old: Sequence[str], keys: Sequence[str]) -> None:
        """Give each of some new keys one of the old ones that are equal to it; a tie is one tensor."""
        if not keys:
            return
        plain = self._is_plain(keys[0])
        old = [key for key in old if key not in self.used] or old
        found = assigned(old, keys, self.likeness, places(old, keys))
        distinct = {self.old.tie(key) or key for key in old}
        for key in keys:
            near = found.get(key)
            if near is None and not plain:
                near = max(old, key=lambda one: self.likeness.score(one, key))
            if near is not None:
                self._take(MadeTensor(key, (near,), SourceTensor()))
        if len(distinct) > 1:
            self.ambiguous += [key for key in keys if key in self.made]

    def _is_plain(self, key: str) -> bool:
        return self._number(key) is not None

    def _number_of(self, key: str) -> int | float | bool | None:
        """Return the number that a new tensor has all over, `None` where it has several."""
        import numpy

        kind = self.new.kinds[key]
        if not is_computable(kind.dtype) or kind.dtype.is_complex or not kind.numel or self.new.is_various(key):
            return None
        first = None
        for piece in self.new.pieces(key):
            own = numpy.frombuffer(piece, unsigned(kind.dtype))
            first = own[0] if first is None else first
            if (own != first).any():
                return None
        return number_of(numpy.array([first]), kind.dtype)

    # --- casts -----------------------------------------------------------------------------------------------------

    def _left(self, plain: bool = False) -> list[str]:
        """Return the new keys that are not explained; those of one number all over are left out, or they alone."""
        return [
            key
            for key, kind in self.new.kinds.items()
            if key not in self.made and is_computable(kind.dtype) and kind.numel and self._is_plain(key) == plain
        ]

    def _unused(self) -> list[str]:
        return [key for key, kind in self.old.kinds.items() if key not in self.used and is_computable(kind.dtype)]

    def _cast(self, plain: bool = False) -> None:
        """Find tensors that are others in another dtype; numbers that were rounded are not found in another way."""
        wanted: defaultdict[tuple[int, ...], set[DType]] = defaultdict(set)
        left = self._left(plain)
        for key in left:
            wanted[self.new.kinds[key].shape].add(self.new.kinds[key].dtype)
        by_cast: defaultdict[tuple[tuple[int, ...], DType, int], list[tuple[str, DType]]] = defaultdict(list)
        for key, kind in self.old.kinds.items() if wanted else ():
            for dtype in wanted.get(kind.shape, ()):
                if is_computable(kind.dtype) and dtype is not kind.dtype and can_be_cast(kind, dtype):
                    by_cast[kind.shape, dtype, cast_crc(self.old, key, dtype)].append((key, dtype))
        buckets: defaultdict[tuple[tuple[int, ...], DType, int], list[str]] = defaultdict(list)
        there = {place[:2] for place in by_cast}
        for key in left:
            if (self.new.kinds[key].shape, self.new.kinds[key].dtype) not in there:
                continue
            kind, crc = self.new.identity(key, unheard)
            buckets[kind.shape, kind.dtype, crc].append(key)
        used = frozenset(self.used)
        for place, keys in buckets.items():
            olds = [key for key, _ in by_cast.get(place, ()) if key not in used]
            found = assigned(olds, keys, self.likeness, places(olds, keys))
            for key, near in found.items():
                self._take(MadeTensor(key, (near,), SourceTensor(0, place[1])))
                self.likeness.learn(near, key)

    def bits(self, key: str, cast: DType | None = None) -> Any:
        """Return an old tensor as bits; small ones are held for the next that asks."""
        small = self.old.kinds[key].nbytes <= _HELD_BYTES
        return self._held(key, cast) if small else self._bits(key, cast)

    def new_bits(self, key: str) -> Any:
        """Return a new tensor as bits; the last one is held, and given back before the next is read."""
        if self._last[0] != key:
            self._last = "", None
            self._last = key, self.new.bits(key)
        return self._last[1]

    def _bits(self, key: str, cast: DType | None = None) -> Any:
        """Return an old tensor as bits, cast if that is wanted."""
        found = self.old.bits(key)
        kind = self.old.kinds[key]
        return found if cast is None or cast is kind.dtype else cast_bits(found, kind.dtype, cast)

    # --- layouts, pieces and several sources ---------------------------------------------------------------------

    def _layouts(self) -> None:
        """Find tensors by their lines, among old ones that nothing else is made of first, then among all."""
        for names in (self._unused, lambda: list(self.old.kinds)):
            left = self._left()
            if not left:
                return
            self.looked_at = self.phases.begin(READING, sum(self.new.kinds[key].nbytes for key in left))
            for dtype in dict.fromkeys(self.new.kinds[key].dtype for key in left):
                own = [key for key in left if self.new.kinds[key].dtype is dtype]
                kinds = self.old.kinds
                pool = [one for one in names() if kinds[one].numel and self._may_be(kinds[one].dtype, dtype)]
                same = [one for one in pool if self.old.kinds[one].dtype is dtype]
                self._by_lines(own, [(one, None) for one in same])
                other = [one for one in pool if self.old.kinds[one].dtype is not dtype]
                cast: list[tuple[str, DType | None]] = [(one, dtype) for one in other]
                self._by_lines([key for key in own if key not in self.made], cast)

    @staticmethod
    def _may_be(old: DType, new: DType) -> bool:
        return old is new or (old.kind is Kind.FLOAT and new.kind is Kind.FLOAT and old.itemsize > 1 < new.itemsize)

    def _by_lines(self, keys: Sequence[str], pool: Pool) -> None:
        """Find tensors by their lines: where there are many layers, those of a few, and then what is like them."""
        casts = dict(pool)
        few = some_layers(keys, list(casts))
        if few is not None:
            self._among(few[0], [(one, casts[one]) for one in few[1]])
            self._alike([key for key in keys if key not in self.made], casts)
        self._among([key for key in keys if key not in self.made], pool)

    def _among(self, keys: Sequence[str], pool: Pool) -> None:
        if not keys or not pool:
            return
        with LineIndex() as index:
            self._fill(index, pool)
            for key in keys:
                value = self._looked_up(key, pool, index)
                self.looked_at(self.new.kinds[key].nbytes)
                if value is not None:
                    self._take(value)
                    for one in value.keys:
                        self.likeness.learn(one, key)

    def _fill(self, index: LineIndex, pool: Pool) -> None:
        """Put the lines of a pool into an index: of small tensors many at a time, of large ones a few rows."""
        import numpy

        numbers: list[int] = []
        several: list[Any] = []

        def put() -> None:
            if numbers:
                index.add(numbers, numpy.stack(several))
            numbers.clear()
            several.clear()

        for number, (key, cast) in enumerate(pool):
            shape = self.old.kinds[key].shape
            if cast is None and self.old.kinds[key].numel > _TOGETHER and len(shape) > 1:
                parts = self.old.rows(key, rows_at_once(shape))
                index.add_hashes([number], shape, list(hashes_of_parts(shape, parts, list(dims_of(shape))).values()))
                continue
            if several and (several[0].shape != shape or len(several) * several[0].size > _TOGETHER):
                put()
            numbers.append(number)
            several.append(self._bits(key, cast))
        put()

    def _alike(self, keys: Sequence[str], casts: Mapping[str, DType | None]) -> None:
        """Try for keys what others of their class are made by; bits say whether it is right."""
        ways = Analogies(one for one in self.made.values() if isinstance(one, MadeTensor) and one.keys[0] in casts)
        for key in keys:
            for one in ways.of(key):
                if casts.keys() >= {*one.keys} and self._is_made(one):
                    self._take(one)
                    self.looked_at(self.new.kinds[key].nbytes)
                    break

    def _is_made(self, one: MadeTensor) -> bool:
        """Say whether a new tensor is what it is said to be, in all bits."""
        return holds(one.value, lambda own: self.bits(one.keys[own.number], own.cast), self.new_bits(one.target))

    def _looked_up(self, key: str, pool: Pool, index: LineIndex) -> MadeTensor | None:
        bits = self.new_bits(key)
        kept = list(dims_of(bits.shape))
        for dims, hashes in line_hashes(bits, kept).items():
            zeros = hash_of_zeros(bits.size // max(1, hashes.size))
            hits = index.found(hashes, zeros)
            if hits is None:
                continue
            for value, numbers in self._values(_FoundLines(key, dims, hits, hashes.shape), pool):
                if self._holds(value, numbers, pool, bits):
                    return _named(key, value, numbers, pool)
        return None

    def _values(self, lines: _FoundLines, pool: Pool) -> Iterator[tuple[Value, Sequence[int]]]:
        """Yield values that a tensor may be, with the numbers of their sources in the pool."""
        count = 0
        if not lines.dims:
            for hit in self._by_likeness(lines.hits[0], pool, lines.key):
                if not hit.dims:
                    for moves in layouts(self.old.kinds[pool[hit.tensor][0]].shape, self.new.kinds[lines.key].shape):
                        yield moved(SourceTensor(0, pool[hit.tensor][1]), *moves), (hit.tensor,)
        found_tables = list(self._tables(lines, pool))
        for found in [*found_tables, *(one for table in found_tables for one in with_ones(table))]:
            for value in values_of(found):
                numbers = [one.number for one in dict.fromkeys(sources(value))]
                yield _renumbered(value, numbers, pool), numbers
                count += 1
                if count >= _VALUES:
                    return

    def _by_likeness(self, hits: Sequence[Hit], pool: Pool, key: str) -> list[Hit]:
        return sorted(hits, key=lambda hit: -self.likeness.score(pool[hit.tensor][0], key))[:8]

    def _tables(self, one: _FoundLines, pool: Pool) -> Iterator[Found]:
        """Yield which line of which source each is: of several that are equal, the one that most others agree on."""
        import numpy

        votes = Counter((hit.tensor, hit.dims) for own in one.hits for hit in own)
        for tensor, place in votes:
            votes[tensor, place] += round(2 * self.likeness.score(pool[tensor][0], one.key))
        found = numpy.full(len(one.hits), ZEROS, numpy.int64)
        lines = numpy.zeros(len(one.hits), numpy.int64)
        along: dict[int, Dims] = {}
        before: Hit | None = None
        for number, own in enumerate(one.hits):
            if not own:
                before = None
                continue
            best = _next(before, own) or max(
                own, key=lambda hit: (along.get(hit.tensor, hit.dims) == hit.dims, votes[hit.tensor, hit.dims])
            )
            if along.setdefault(best.tensor, best.dims) != best.dims:
                return
            found[number], lines[number] = best.tensor, best.line
            before = best
        shapes = {tensor: self.old.kinds[pool[tensor][0]].shape for tensor in along}
        shape, places = self.new.kinds[one.key].shape, one.places
        yield Found(shape, one.dims, found.reshape(places), lines.reshape(places), shapes, along)

    def _holds(self, value: Value, numbers: Sequence[int], pool: Pool, bits: Any) -> bool:
        """Say whether a tensor is a value, in all bits."""
        return holds(value, lambda one: self.bits(pool[numbers[one.number]][0], one.cast), bits)

    # --- by likeness -------------------------------------------------------------------------------------------

    def _beside(self) -> None:
        """Try, for what is left and for numbers all over, what the keys beside them are made by."""
        by_module: defaultdict[str, list[MadeTensor]] = defaultdict(list)
        for key, one in self.made.items():
            if isinstance(one, MadeTensor) and not one.is_whole:
                by_module[key.rpartition(".")[0]].append(one)
        for key in self.new.kinds:
            if key in self.made or not is_computable(self.new.kinds[key].dtype):
                continue
            for one in by_module.get(key.rpartition(".")[0], ()):
                made = self._like(key, one)
                if made is not None:
                    self._take(made)
                    break

    def _like(self, key: str, one: MadeTensor) -> MadeTensor | None:
        """Return a new tensor as made like the one beside it, of the sources beside those of that one."""
        keys = tuple(beside(old, one.target, key) for old in one.keys)
        if any(old not in self.old.kinds for old in keys):
            return None
        if any(self.old.kinds[old].dtype is not self.new.kinds[key].dtype for old in keys):
            return None
        for value in variants(one.value):
            made = MadeTensor(key, keys, value)
            if self._is_made(made):
                return made
        return None

    def _constants(self) -> None:
        for key, kind in self.new.kinds.items():
            if key in self.made:
                continue
            number = self._number(key)
            if number is not None or self._counts(key):
                self.made[key] = Constant(key, kind, number)

    def _counts(self, key: str) -> bool:
        """Say whether a new tensor has the numbers from 0 on, as position ids do."""
        import numpy

        kind = self.new.kinds[key]
        if kind.dtype.kind is not Kind.INT or kind.numel < 2:
            return False
        return bool((self.new_bits(key).reshape(-1) == numpy.arange(kind.numel, dtype=numpy.uint64)).all())

    def _no_tensors(self) -> None:
        """Let entries that are no tensors stay where they are."""
        for key in self.new.header.entries:
            if key not in self.new.kinds and key in self.old.header.entries and key not in self.old.kinds:
                self._take(MadeTensor(key, (key,), SourceTensor()))

    # --- the account ---------------------------------------------------------------------------------------------

    def _ties(self) -> tuple[tuple[str, ...], ...]:
        found: defaultdict[object, list[str]] = defaultdict(list)
        for key in self.new.kinds:
            tie = self.new.tie(key)
            if tie is not None:
                found[tie].append(key)
        return tuple(tuple(keys) for keys in found.values() if len(keys) > 1)


def _next(before: Hit | None, own: Sequence[Hit]) -> Hit | None:
    """Return the line that follows the one before, where it is among the places."""
    if before is None:
        return None
    return next((hit for hit in own if (hit.tensor, hit.line) == (before.tensor, before.line + 1)), None)


def _renumbered(value: Value, numbers: Sequence[int], pool: Pool) -> Value:
    """Return a value whose sources are numbered by their places among `numbers`, cast as the pool has them."""
    match value:
        case SourceTensor():
            return SourceTensor(numbers.index(value.number), pool[value.number][1])
        case MovedValue():
            return MovedValue(_renumbered(value.value, numbers, pool), value.moves)
        case Joined():
            return Joined(value.name, tuple(_renumbered(one, numbers, pool) for one in value.values), value.dim)


def _named(key: str, value: Value, numbers: Sequence[int], pool: Pool) -> MadeTensor:
    return MadeTensor(key, tuple(pool[number][0] for number in numbers), value)
