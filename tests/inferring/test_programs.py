"""Random programs applied to random states are inferred and proved, or what is not explained is said."""

from __future__ import annotations

from collections import Counter

import hypothesis.strategies as st
import torch
from hypothesis import HealthCheck, given, settings

import statex
from tests.effort import examples, least
from tests.inferring.test_corpus import equal

MODULES = ("attn.q", "attn.k", "attn.v", "attn.out", "mlp.up", "mlp.down", "norm")
WORDS = ("q", "query", "wq", "proj", "fc1", "dense", "gate", "x_norm", "self")


@st.composite
def states(draw: st.DrawFn) -> dict[str, torch.Tensor]:
    """Give a state of layers with modules, of one of two dtypes."""
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    dtype = draw(st.sampled_from((torch.float32, torch.bfloat16)))
    modules = draw(st.lists(st.sampled_from(MODULES), min_size=2, max_size=6, unique=True))
    width = draw(st.sampled_from((8, 12)))
    found: dict[str, torch.Tensor] = {}
    for layer in range(draw(st.integers(1, 5))):
        for module in modules:
            shape = (width,) if module == "norm" else (width * (2 if module == "mlp.up" else 1), width)
            found[f"layers.{layer}.{module}.weight"] = torch.randn(shape, generator=generator).to(dtype)
            found[f"layers.{layer}.{module}.bias"] = torch.randn(shape[0], generator=generator).to(dtype)
    found["embed.weight"] = torch.randn((24, width), generator=generator).to(dtype)
    return found


RULES = st.one_of(
    st.sampled_from(("model", "net.x", "backbone")).map(lambda word: f"rename prefix '' -> '{word}.'"),
    st.tuples(st.sampled_from(("attn", "mlp", "norm", "layers")), st.sampled_from(WORDS)).map(
        lambda pair: f"rename? part {pair[0]} -> {pair[1]}_new"
    ),
    st.tuples(st.sampled_from(("q", "k", "v", "up", "down")), st.sampled_from(WORDS)).map(
        lambda pair: f"rename? {{m:**}}.{pair[0]}.{{t}} -> {{m}}.{pair[1]}2.{{t}}"
    ),
    st.integers(1, 4).map(lambda by: f"rename? layers.{{i:int}}.{{x:**}} -> layers.{{i + {by}}}.{{x}}"),
    st.sampled_from(("drop? **.bias", "drop? embed.weight", "drop? **.norm.*")),
    st.sampled_from(("bf16", "f16", "f32", "f64")).map(lambda to: f"set ** = cast({to})"),
    st.sampled_from(
        (
            "set? **.up.weight = transpose",
            "set? ** = transpose where ndim == 2",
            "set? **.{p:q|k}.weight = rearrange('(h two d) c -> (h d two) c', h=2, two=2)",
            "set? **.down.weight = flip(0)",
            "set? embed.weight = resize([32, -1])",
            "set? embed.weight = it[:20]",
            "split? {m:**}.up.{t} -> {m}.gate_half.{t}, {m}.up_half.{t} = chunk(2)",
            "split? {m:**}.up.weight over e -> {m}.up_rows.{e}.weight = unstack",
            "merge? layers.{e:int}.attn.{p:q|k}.{t} over e -> stacked.{p}.{t} = stack",
            "merge? {m:**}.attn.{p:q|k|v}.weight over p -> {m}.attn.qkv.weight = cat(dim=0)",
            "merge? {m:**}.q.weight as q, {m}.k.weight as k -> {m}.qk.weight = cat(transpose(q), k, dim=1)",
            "merge? {m:**}.q.{t} as q, {m}.k.{t} as k -> {m}.qk.{t} = stack(q, k, dim=-1)",
            "split? {m:**}.out.weight -> {m}.out.{p:a|b|c}.weight = sections([3, 1, 4], dim=1)",
            "set? **.{p:out|down}.weight = it[1:5]",
            "copy? embed.weight -> head.weight",
            "add extra.scale = ones([3])",
        )
    ),
)


def test_random_programs() -> None:
    seen: Counter[str] = Counter()

    @settings(max_examples=examples(60), deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(states(), st.lists(RULES, min_size=1, max_size=3))
    def holds(state: dict[str, torch.Tensor], rules: list[str]) -> None:
        new = state
        # Of numbers that were rounded twice, nobody can tell to what they were rounded first.
        casts = [rule for rule in rules if "cast" in rule]
        for rule in (rule for rule in rules if rule not in casts[1:]):
            try:
                new = dict(statex.compile(rule).apply(new))
            except statex.StatexError:
                continue  # rules that do not fit what those before them have left
        found = statex.infer(state, new)
        assert found.proved, found.rules
        assert equal(statex.compile(found.rules).apply(state), new)
        seen["programs"] += bool(found.rules)
        seen["changed"] += new.keys() != state.keys() or not equal(new, state)

    holds()
    assert seen["changed"] > least(30), seen
    assert seen["programs"] >= seen["changed"], seen
