"""Patterns that begin with `**`, asked for again and again: keys are found by their last segments."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from statex.dsl.keys.key_index import KeyIndex
from tests.dsl.keys.test_patterns import pattern_of
from tests.effort import examples

KEYS = st.lists(st.lists(st.sampled_from("abc"), min_size=1, max_size=4).map(".".join), unique=True, max_size=12)
PATTERNS = st.sampled_from(["**.a", "**.b.a", "**.a.b.c", "**.*.c", "**.{x}.a", "**", "**.a.**", "**.{p:a|b}"])


@settings(max_examples=examples(150), deadline=None)
@given(KEYS, st.lists(PATTERNS, min_size=1, max_size=40), st.data())
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


@pytest.mark.parametrize(
    "text",
    [
        "**.b.a",
        "**.{x}.a",
        "**.a",
        "**",
        "**.{p:a|b}",
        "**.c.**",
        "a.**.b",
        "a.**.b.**",
        "*.**.c.**",
        "{x}.*.**",
        "b.{m:**}",
    ],
)
def test_the_way_of_looking_keys_up_does_not_tell(text: str) -> None:
    keys = [".".join(segments) for length in (1, 2, 3) for segments in product("abc", repeat=length)]
    index, pattern = KeyIndex(keys), pattern_of(text)
    wanted = [key for key in keys if pattern.readings(key)]
    for _ in range(30):  # each key is read at first, then keys are looked up by their segments, then by their last ones
        assert [found.key for found in index.find(pattern)] == wanted
    index.discard("b.a")
    index.add("b.a")
    assert [found.key for found in index.find(pattern)] == [key for key in wanted if key != "b.a"] + [
        key for key in wanted if key == "b.a"
    ]


@pytest.mark.parametrize("text", ["a.**.b.**.a", "a.**.a.**", "*.**.b.**.*", "b.**.{x}.**.a"])
def test_a_key_that_is_reached_in_several_ways_hides_no_other(text: str) -> None:
    keys = [".".join(segments) for length in range(1, 7) for segments in product("ab", repeat=length)]
    index, pattern = KeyIndex(keys), pattern_of(text)
    for _ in range(20):
        assert {found.key for found in index.find(pattern)} == {key for key in keys if pattern.readings(key)}
