"""Tilings against numpy: the same views, slices and joins of an array whose elements are their own places."""

from __future__ import annotations

from collections import Counter

import numpy
import pytest
from hypothesis import given, settings

from statex.core.strides import MOST_PARTS, joined
from tests.core.tilings import Pair, chains, elements, filled, source
from tests.effort import examples


def test_a_tiling_is_what_numpy_makes_of_an_array() -> None:
    seen: Counter[bool] = Counter()

    @settings(max_examples=examples(2000), deadline=None)
    @given(chains())
    def holds(chain: list[Pair]) -> None:
        for array, tiling in chain:
            seen[tiling is not None] += 1
            if tiling is not None:
                assert tiling.shape == array.shape
                assert len(tiling.parts) <= MOST_PARTS
                assert (filled(tiling) == array).all()
                assert (elements(tiling) == array).all()

    holds()
    # Strides cannot say it all, but nearly.
    assert 20 * seen[False] < seen[True]


@pytest.mark.parametrize(("rows", "is_said"), [(200, True), (4000, False)])
def test_what_cuts_every_row_of_many(rows: int, is_said: bool) -> None:
    array, tiling = source(0, (10, rows))
    assert tiling is not None
    flat = tiling.permuted([1, 0]).reshaped((10 * rows,))
    assert flat is not None
    rolled = joined([flat.sliced(0, 10 * rows - 1, 1), flat.sliced(0, 0, 10 * rows - 1)], 0)
    assert rolled is not None
    found = rolled.reshaped((rows, 10))
    assert (found is not None) is is_said, "there may be so many parts, and no more"
    if found is not None:
        assert (filled(found) == numpy.roll(array.T.reshape(-1), 1).reshape(rows, 10)).all()
