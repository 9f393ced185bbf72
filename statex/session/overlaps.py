"""Decides whether tensors over one storage have bytes in common: slices of a fused matrix have none."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from statex.core.header import TensorInfo

_STEPS = 10_000
"""So much is tried of two tensors; strides that need more were made to need it."""

_NEIGHBOURS = 100
"""So many of the tensors that begin after a tensor, before it ends, are compared with it."""

Named = tuple[str, TensorInfo]


def overlapping(infos: Iterable[Named]) -> Iterator[list[str]]:
    """Yield the keys of those tensors over one storage that overlap, directly or through others."""
    for members in _meeting(infos):
        group = list(range(len(members)))
        for i, (_, one) in enumerate(members):
            for j in range(i + 1, min(len(members), i + _NEIGHBOURS)):
                if group[j] != group[i] and overlap(one, members[j][1]):
                    group = [group[i] if number == group[j] else number for number in group]
        found: dict[int, list[str]] = {}
        for number, (key, _) in zip(group, members, strict=True):
            found.setdefault(number, []).append(key)
        yield from (keys for keys in found.values() if len(keys) > 1)


def _meeting(infos: Iterable[Named]) -> Iterator[list[Named]]:
    """Yield runs of tensors that begin before the ones before them end."""
    members: list[Named] = []
    reached = 0
    for key, info in sorted(infos, key=lambda one: _range(one[1])):
        start, end = _range(info)
        if members and start >= reached:
            yield members
            members = []
        members.append((key, info))
        reached = max(reached, end)
    if members:
        yield members


def _range(info: TensorInfo) -> tuple[int, int]:
    """Return where in its storage a tensor begins and ends, in bytes."""
    size = info.type.dtype.itemsize
    return info.offset * size, (info.offset + info.span) * size


def overlap(first: TensorInfo, second: TensorInfo) -> bool:
    """Say whether two tensors over one storage have a byte in common."""
    if not first.type.numel or not second.type.numel:
        return False
    terms: dict[int, list[int]] = {}
    distance = _range(first)[0] - _range(second)[0]
    for info, sign in ((second, 1), (first, -1)):
        size = info.type.dtype.itemsize
        steps = [(1, size), *((s * size, n) for s, n in zip(info.strides, info.type.shape, strict=True))]
        for stride, count in steps:
            least_most = terms.setdefault(stride, [0, 0])
            least_most[sign > 0] += sign * (count - 1)
    terms.pop(0, None)
    ordered = sorted(((stride, low, high) for stride, (low, high) in terms.items()), reverse=True)
    return _is_sum(distance, ordered, [_STEPS])


def _is_sum(wanted: int, terms: Sequence[tuple[int, int, int]], steps: list[int]) -> bool:
    """Say whether a number is a sum of multiples of strides, each between its bounds; true if that takes too long."""
    if not terms:
        return wanted == 0
    if steps[0] <= 0:
        return True
    steps[0] -= 1
    (stride, low, high), rest = terms[0], terms[1:]
    least = sum(s * a for s, a, _ in rest)
    most = sum(s * b for s, _, b in rest)
    first = max(low, -((most - wanted) // stride))
    last = min(high, (wanted - least) // stride)
    return any(_is_sum(wanted - number * stride, rest, steps) for number in range(first, last + 1))
