"""`renumber` changes numbers and nothing else, against plain code over keys."""

from __future__ import annotations

import re
from collections.abc import Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import statex
from statex import StatexError
from tests.effort import examples


def renumbered(pattern: str, keys: Sequence[str]) -> list[str]:
    state = {key: torch.full((1,), float(number)) for number, key in enumerate(keys)}
    result = statex.compile(f"renumber {pattern}").apply(state)
    assert all(one is other for one, other in zip(result.values(), state.values(), strict=True))
    return list(result)


def by_hand(expression: str, keys: Sequence[str]) -> list[str]:
    """Close the gaps in the group `i` of an expression, for each text that is before it."""
    found = {key: re.match(expression, key) for key in keys}
    numbers: dict[str, set[int]] = {}
    for key, match in found.items():
        if match is not None:
            numbers.setdefault(key[: match.start("i")], set()).add(int(match["i"]))
    result = []
    for key, match in found.items():
        if match is None:
            result.append(key)
            continue
        before = key[: match.start("i")]
        result.append(f"{before}{sorted(numbers[before]).index(int(match['i']))}{key[match.end('i') :]}")
    return result


PATTERNS = {
    "{s:encoder=enc|decoder=dec}.layers.{i:int}": r"(?:encoder|decoder)\.layers\.(?P<i>\d+)(?=\.|$)",
    "{s:encoder=|decoder=a.b}.layers.{i:int}": r"(?:encoder|decoder)\.layers\.(?P<i>\d+)(?=\.|$)",
    "{s:encoder.layers=e|decoder.layers=d}.{i:int}": r"(?:encoder|decoder)\.layers\.(?P<i>\d+)(?=\.|$)",
    "{_:encoder=enc|decoder}.layers.{i:int}": r"(?:encoder|decoder)\.layers\.(?P<i>\d+)(?=\.|$)",
    "{_}.layers.{i:int}": r"[^.]+\.layers\.(?P<i>\d+)(?=\.|$)",
    "*.layers.{i:int}": r"[^.]+\.layers\.(?P<i>\d+)(?=\.|$)",
    "decoder.layers.{i:int}.{p:w=weight|b=bias}": r"decoder\.layers\.(?P<i>\d+)\.(?:w|b)(?=\.|$)",
    "decoder.layers{i:int}": r"decoder\.layers(?P<i>\d+)(?=\.|$)",
}
KEYS = [
    f"{side}.{layers}{number}{rest}"
    for side in ("encoder", "decoder", "head")
    for layers in ("layers.", "layers")
    for number in (0, 2, 3, 10)
    for rest in ("", ".w", ".b", ".w.x")
]


@pytest.mark.parametrize("pattern", PATTERNS)
def test_only_the_number_changes(pattern: str) -> None:
    @settings(max_examples=examples(60), deadline=None)
    @given(st.lists(st.sampled_from(KEYS), unique=True))
    def holds(keys: list[str]) -> None:
        wanted = by_hand(PATTERNS[pattern], keys)
        if wanted == keys and not any(re.match(PATTERNS[pattern], key) for key in keys):
            return
        assert renumbered(pattern, keys) == wanted

    holds()


def test_translations_stay_out_of_it() -> None:
    keys = ["encoder.layers.5.weight", "encoder.layers.9.weight", "decoder.layers.9.weight"]
    wanted = ["encoder.layers.0.weight", "encoder.layers.1.weight", "decoder.layers.0.weight"]
    assert renumbered("{s:encoder=enc|decoder=dec}.layers.{i:int}", keys) == wanted


def test_groups_may_be_ragged() -> None:
    assert renumbered("l.{i:int}", ["l.0.w", "l.2.w", "l.2.b", "l.5.b"]) == ["l.0.w", "l.1.w", "l.1.b", "l.2.b"]


def test_what_a_block_leaves_without_a_name_is_told_apart() -> None:
    state = {key: torch.ones(1) for key in ("a.l.3.w", "b.l.4.w", "c.w")}
    assert list(statex.compile("within {_}.l { renumber {i:int} }").apply(state)) == ["a.l.0.w", "b.l.0.w", "c.w"]
    assert list(statex.compile("within {_:a=x|b} { rename l.{i}.w -> m }").apply(state)) == ["a.m", "b.m", "c.w"]


@pytest.mark.parametrize("pattern", ["/l\\.(\\d+)/", "''", "{_:int}", "l.{i:int}.{j:int}", "l.w"])
def test_what_has_not_one_number(pattern: str) -> None:
    with pytest.raises(StatexError) as caught:
        renumbered(pattern, ["l.0.w"])
    assert [found.code.id for found in caught.value.diagnostics] == ["SX315"]


def test_a_choice_of_digits_is_a_number() -> None:
    assert renumbered("l.{i:2|5}.{p:a=b|w}", ["l.2.w", "l.5.w", "l.7.w"]) == ["l.0.w", "l.1.w", "l.7.w"]
