"""Numbers of keys that follow from other numbers: `i`, `i + 1`, `11 - i`, `i // 2`, `i * 4 + j`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from statex.relating.names.rows import Computed

Column = Sequence[int]


def fitted(target: Column, columns: Sequence[Column], names: Sequence[str], at: int) -> Computed | int | None:
    """Return what makes a column of numbers of others; a number where it is the same in all keys, `None` for nothing.

    `at` is the place of the column among those of its key: of columns that fit equally well, the one at the same place
    is meant.
    """
    order = sorted(range(len(columns)), key=lambda j: abs(j - at))
    for j in order:
        if list(columns[j]) == list(target):
            return Computed(names[j])
    if len(set(target)) == 1:
        return target[0]
    for j in order:
        for one in _forms(target, columns[j], names[j]):
            if all(one.of({names[j]: x}) == y for x, y in zip(columns[j], target, strict=True)):
                return one
    for j in order:
        for k in order:
            if j != k and (found := _joint(target, columns[j], columns[k], names[j], names[k])) is not None:
                return found
    return None


def _forms(target: Column, column: Column, name: str) -> Iterator[Computed]:
    points = sorted(set(zip(column, target, strict=True)))
    (x0, y0), (x1, y1) = points[0], points[-1]
    if x1 != x0 and (y1 - y0) % (x1 - x0) == 0:
        factor = (y1 - y0) // (x1 - x0)
        offset = y0 - factor * x0
        if factor == -1 or factor > 0:
            yield Computed(name, factor, offset)
    for by in range(2, 33):
        for offset in (0, *range(1, by), *range(-by, 0)):
            yield Computed(name, 1, offset, "//", by)
            if offset == 0:
                yield Computed(name, 1, 0, "%", by)


def _joint(target: Column, one: Column, other: Column, first: str, second: str) -> Computed | None:
    """Return `x * n + y`, where that holds."""
    for x, y, z in zip(one, other, target, strict=True):
        if x:
            factor, rest = divmod(z - y, x)
            if rest or factor < 1:
                return None
            found = Computed(first, factor, 0, plus=second)
            good = all(found.of({first: a, second: b}) == c for a, b, c in zip(one, other, target, strict=True))
            return found if good else None
    return None
