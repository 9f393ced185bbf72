"""Tensors that are cut along two dims: into numbered keys, and these into pieces."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings

import statex
from tests.effort import examples
from tests.inferring.models import State
from tests.inferring.test_corpus import equal

LAYOUTS = ("n o i", "n i o", "o n i")
"""Where the numbers, the rows and the columns of pieces stand in the tensor that has them all."""


def stacked(pieces: list[list[torch.Tensor]], layout: str) -> torch.Tensor:
    """Return pieces as one tensor: those of each number one below the other."""
    whole = torch.stack([torch.cat(own) for own in pieces])
    return whole.permute([["n", "o", "i"].index(one) for one in layout.split()]).contiguous()


def pair(count: int, words: dict[str, int], layout: str) -> tuple[State, State]:
    """Return a state of layers with all pieces in one tensor, and one with a key for each."""
    generator = torch.Generator().manual_seed(count)
    old: State = {}
    new: State = {}
    for layer in range(3):
        pieces = [[torch.randn(rows, 24, generator=generator) for rows in words.values()] for _ in range(count)]
        old[f"layers.{layer}.mlp.fused"] = stacked(pieces, layout)
        for number, own in enumerate(pieces):
            for word, one in zip(words, own, strict=True):
                new[f"layers.{layer}.experts.{number}.{word}.weight"] = one
    return old, new


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    ("words", "cut"), [({"gate": 7, "up": 7}, "chunk(2)"), ({"q": 8, "k": 3, "v": 3}, "sections([8, 3, 3])")]
)
def test_experts_whose_projections_are_fused_and_stacked(words: dict[str, int], cut: str, layout: str) -> None:
    old, new = pair(11, words, layout)
    found = statex.infer(old, new)
    assert found.proved, found.rules
    assert found.rules.count("split ") == 2, found.rules
    assert cut in found.rules
    assert "unstack" in found.rules
    # It holds for another number of experts, too.
    more, single = pair(13, words, layout)
    assert equal(statex.compile(found.rules).apply(more), single)


def test_pieces_with_a_dim_of_their_own() -> None:
    gates = [[torch.randn(2, 6, 5) for _ in range(9)] for _ in range(3)]
    old = {f"layers.{layer}.w13": torch.stack(own) for layer, own in enumerate(gates)}
    new = {
        f"layers.{layer}.experts.{number}.{word}.weight": one[at]
        for layer, own in enumerate(gates)
        for number, one in enumerate(own)
        for at, word in enumerate(("w1", "w3"))
    }
    found = statex.infer(old, new)
    assert found.proved, found.rules
    assert found.rules.count("unstack") == 2, found.rules


def test_the_key_between_is_nowhere_else() -> None:
    old, new = pair(6, {"gate": 4, "up": 4}, "n o i")
    other = {f"layers.{layer}.experts.0.gate_up.weight": torch.randn(2, 2) for layer in range(3)}
    found = statex.infer({**old, **other}, {**new, **other})
    assert found.proved, (found.rules, found.errors)


def test_pieces_that_are_not_all_are_marked() -> None:
    old, new = pair(6, {"gate": 4, "up": 4}, "n o i")
    some = {key: tensor for key, tensor in new.items() if "experts.5.up" not in key}
    found = statex.infer(old, some)
    assert found.proved, (found.rules, found.errors)
    assert "only seen here" in found.rules


@settings(max_examples=examples(5), deadline=None)
@given(
    st.integers(2, 6),
    st.lists(st.integers(2, 6), min_size=2, max_size=4),
    st.sampled_from(LAYOUTS),
    st.permutations(("gate", "up", "b", "zeta")),
)
def test_any_pieces(count: int, rows: list[int], layout: str, words: list[str]) -> None:
    old, new = pair(count, dict(zip(words, rows, strict=False)), layout)
    found = statex.infer(old, new)
    assert found.proved, (found.rules, found.errors)
    assert equal(statex.compile(found.rules).apply(old), new)
