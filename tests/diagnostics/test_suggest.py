"""Near names and lists in words."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from statex.diagnostics.suggest import did_you_mean, join_words

LLAMA = [
    f"model.layers.{i}.{part}.weight"
    for i in range(12)
    for part in ("self_attn.q_proj", "self_attn.k_proj", "mlp.gate_proj", "mlp.up_proj", "input_layernorm")
] + ["model.embed_tokens.weight", "model.norm.weight", "lm_head.weight"]


@pytest.mark.parametrize(
    ("word", "candidates", "near"),
    [
        ("haeds", ["heads", "kv_heads", "hidden"], "heads"),
        ("transposed", ["transpose", "permute", "reshape"], "transpose"),
        ("Heads", ["heads", "beads"], "heads"),
        ("norm.weight", LLAMA, "model.norm.weight"),
        ("model.norm.weight", ["norm.weight", "norm.bias"], "norm.weight"),
        ("model.norm.wieght", LLAMA, "model.norm.weight"),
        ("model.layers.3.attn.q_proj.weight", LLAMA, "model.layers.3.self_attn.q_proj.weight"),
        ("model.layers.11.self_attn.q_porj.weight", LLAMA, "model.layers.11.self_attn.q_proj.weight"),
        ("linear.weight", ["dslinear.weight", "dslinear.bias", "dsbn.weight"], "dslinear.weight"),
        ("encoder.module._orig_mod.wrapped.fc.weight", ["fc.weight", "fc.bias"], "fc.weight"),
    ],
)
def test_near(word: str, candidates: list[str], near: str) -> None:
    assert did_you_mean(word, candidates) == [near]


@pytest.mark.parametrize(
    ("word", "candidates"),
    [
        ("lm_head.weight", ["model.embed_tokens.weight"]),  # a shared last segment says nothing
        ("fc.weight", ["classifier.weight"]),
        ("weight", ["model.norm.weight"]),
        ("12", ["13"]),
        ("heads", ["heads"]),  # the word itself is no suggestion
        ("zzz", LLAMA),
        ("x", []),
        ("", ["a"]),
    ],
)
def test_nothing_near(word: str, candidates: list[str]) -> None:
    assert did_you_mean(word, candidates) == []


def test_several_nearest_first() -> None:
    found = did_you_mean("model.layers.2.mlp.gate.weight", LLAMA, n=3)
    assert found[0] == "model.layers.2.mlp.gate_proj.weight"
    assert len(found) == len(set(found)) == 3


def test_numbers_are_equal_or_not() -> None:
    assert did_you_mean("h.12.attn.weigth", [f"h.{i}.attn.weight" for i in range(200)]) == ["h.12.attn.weight"]


def test_a_hundred_thousand_candidates() -> None:
    keys = [f"model.layers.{i}.mlp.experts.{e}.w{n}.weight" for i in range(60) for e in range(600) for n in (1, 2, 3)]
    assert len(keys) > 100_000
    started = time.process_time()
    assert did_you_mean("model.layers.59.mlp.expert.599.w2.weight", keys) == [
        "model.layers.59.mlp.experts.599.w2.weight"
    ]
    flat = [f"{i:x}" * 20 for i in range(100_000)]
    did_you_mean(flat[77] + "a", flat)
    assert time.process_time() - started < 10


WORDS = st.text("ab.c0", max_size=12)


@given(WORDS, st.lists(WORDS), st.integers(0, 4))
def test_suggestions_are_candidates(word: str, candidates: list[str], n: int) -> None:
    found = did_you_mean(word, candidates, n)
    assert len(found) == len(set(found)) <= n
    assert set(found) <= set(candidates) - {word}


@pytest.mark.parametrize(
    ("words", "joined"),
    [
        ([], ""),
        (["a"], "a"),
        (["a", "b"], "a and b"),
        (["a", "b", "c"], "a, b and c"),
        (["a", "b", "c", "d"], "a, b, c and 1 more"),
        ([*"abc", *map(str, range(29))], "a, b, c and 29 more"),
    ],
)
def test_join_words(words: list[str], joined: str) -> None:
    assert join_words(words) == joined


def test_join_words_otherwise() -> None:
    assert join_words(["q", "k", "v"], limit=1, last="or") == "q or 2 more"
    assert join_words(["q", "k", "v"], last="or") == "q, k or v"
