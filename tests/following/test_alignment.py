"""Parameters in line with keys: compared with all ways there are, on small cases, and bounded on large ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from statex.core.dtypes import FLOAT32
from statex.core.header import TensorInfo, TensorType
from statex.following.alignment import Aligned, Ambiguous, Misfit, by_order
from statex.following.optimizer import KnownParameter, Optimizer
from tests.effort import examples

Shape = tuple[int, ...] | None


def optimizer(groups: Sequence[Sequence[Shape]]) -> Optimizer:
    """Return an optimizer of groups of shapes, `None` where it has kept nothing yet."""
    members = []
    for number, group in enumerate(groups):
        for shape in group:
            entry = {"exp_avg": TensorInfo(TensorType(FLOAT32, shape))} if shape is not None else None
            members.append(KnownParameter(len(members), None, number, entry))
    return Optimizer(tuple(members), len(groups), False, tuple({} for _ in groups))


def ways(keys: Sequence[tuple[int, ...]], groups: Sequence[Sequence[Shape]]) -> Iterator[dict[Any, int]]:
    """Yield every way to give each member a key, in order in its group, with its shape."""

    def go(at: int, done: list[int], found: dict[Any, int]) -> Iterator[dict[Any, int]]:
        if at == len(keys):
            if all(count == len(group) for count, group in zip(done, groups, strict=True)):
                yield dict(found)
            return
        yield from go(at + 1, done, found)
        for number, group in enumerate(groups):
            if done[number] < len(group) and group[done[number]] in (None, keys[at]):
                place = sum(map(len, groups[:number])) + done[number]
                after = [count + (number == n) for n, count in enumerate(done)]
                yield from go(at + 1, after, {**found, place: at})

    yield from go(0, [0] * len(groups), {})


SHAPES = st.sampled_from([(1,), (2,), (3,)])


@settings(max_examples=examples(400), deadline=None)
@given(
    st.lists(SHAPES, max_size=6),
    st.lists(st.lists(st.none() | SHAPES, max_size=4), min_size=1, max_size=3),
)
def test_there_is_one_way_or_it_is_said_why_not(keys: list[tuple[int, ...]], groups: list[list[Shape]]) -> None:
    every = list(ways(keys, groups))
    found = by_order(optimizer(groups), {f"k{i}": shape for i, shape in enumerate(keys)})
    if not every:
        assert isinstance(found, Misfit)
    elif len(every) == 1:
        assert isinstance(found, Aligned)
        assert found.keys == {id: f"k{at}" for id, at in every[0].items()}
    else:
        assert isinstance(found, Ambiguous)
        assert found.member is not None
        assert {*found.keys} <= {f"k{one[found.member.id]}" for one in every}
        assert len({*found.keys}) == 2


def test_ways_are_counted_to_an_end_in_large_models_too() -> None:
    keys = {f"k{i}": (4, 4) if i % 2 else (4,) for i in range(20_000)}
    decay, other = [s for s in keys.values() if len(s) == 2], [s for s in keys.values() if len(s) == 1]
    assert isinstance(by_order(optimizer([decay, other]), keys), Aligned)
    assert isinstance(by_order(optimizer([[None] * 10_000, [None] * 10_000]), keys), Ambiguous)
    assert isinstance(by_order(optimizer([decay[:9_000], other[:9_000]]), keys), Ambiguous)
