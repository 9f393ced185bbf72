"""Patterns that begin with `**`, asked for again and again: keys are found by their last segments."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from statex.dsl.keys.key_index import KeyIndex
from tests.dsl.keys.test_patterns import pattern_of

KEYS = st.lists(st.lists(st.sampled_from("abc"), min_size=1, max_size=4).map(".".join), unique=True, max_size=12)
PATTERNS = st.sampled_from(["**.a", "**.b.a", "**.a.b.c", "**.*.c", "**.{x}.a", "**", "**.a.**", "**.{p:a|b}"])


@settings(max_examples=150, deadline=None)
@given(KEYS, st.lists(PATTERNS, min_size=1, max_size=30), st.data())
def test_keys_found_by_their_ends_are_those_found_one_by_one(
    keys: list[str], asked: list[str], data: st.DataObject
) -> None:
    index = KeyIndex(keys)
    known = list(keys)
    for text in asked:
        pattern = pattern_of(text)
        assert [found.key for found in index.find(pattern)] == [key for key in known if pattern.readings(key)]
        if known and data.draw(st.integers(0, 9)) == 0:
            gone = data.draw(st.sampled_from(known))
            index.discard(gone)
            index.add(gone)
            known = [*(key for key in known if key != gone), gone]
