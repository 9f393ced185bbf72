"""Tilings against numpy: the same views, slices and joins of an array whose elements are their own places."""

from __future__ import annotations

from collections import Counter

from hypothesis import given, settings

from statex.strides import MOST_PARTS
from tests.tilings import Pair, chains, elements, filled


def test_a_tiling_is_what_numpy_makes_of_an_array() -> None:
    seen: Counter[bool] = Counter()

    @settings(max_examples=2000, deadline=None)
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
