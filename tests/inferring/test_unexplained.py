"""What nothing explains: it keeps no rule from being general, and it is said what it is like and how it differs."""

from __future__ import annotations

import pytest
import torch

import statex
from tests.inferring.models import State
from tests.inferring.test_corpus import equal


def layers(count: int = 3) -> State:
    """Return the state of some layers, with a mask that is in each of them."""
    torch.manual_seed(0)
    found: State = {"embed.weight": torch.randn(12, 6)}
    for n in range(count):
        found[f"h.{n}.attn.dense.weight"] = torch.randn(6, 6)
        found[f"h.{n}.fc.weight"] = torch.randn(8, 6)
        found[f"h.{n}.fc.bias"] = torch.randn(8)
        found[f"h.{n}.attn.mask"] = torch.randn(9)
    return found


RULES = (
    "drop **.mask\nrename part attn.dense -> self_attn.out\nrename prefix 'h.' -> 'model.layers.'",
    "rename prefix '' -> 'model.'\nset **.fc.weight = transpose",
    "merge {m:**}.attn.dense.weight as a, {m}.fc.weight as b -> {m}.both.weight = cat(a, b)",
    "rename {m:**}.fc.{t} -> {m}.mlp.up.{t}\nset **.up.{p:weight|bias} = flip(0)",
)


@pytest.mark.parametrize("written", RULES)
def test_a_tensor_that_was_changed_is_in_the_rules_of_the_others(written: str) -> None:
    old = layers()
    new = dict(statex.compile(written).apply(old))
    before = statex.infer(old, new)
    assert before.proved
    for key in [key for key in new if key.rpartition(".")[2] != "mask" and ".1." in key]:
        changed = {**new, key: new[key].clone()}
        changed[key].view(-1)[3] += 1
        found = statex.infer(old, changed)
        assert not found.proved
        assert list(found.unexplained) == [key]
        assert "only seen here" not in found.rules, found.rules
        # The rules make of all else what they made before, and for the key what stood under it.
        assert equal(statex.compile(found.rules).apply(old), new), found.rules
        assert f"1 of {new[key].numel()} elements" in found.differences[key]
        assert "max abs 1" in found.differences[key]


@pytest.mark.parametrize("key", ["h.1.q.weight", "h.2.v.bias", "h.1.moe.3.up.weight", "h.3.moe.0.gate.weight"])
def test_a_piece_that_was_changed_is_cut_as_the_others(key: str) -> None:
    old = {
        f"h.{n}.qkv.{t}": torch.randn(12, 6)[:, : 6 if t == "weight" else 1]
        for n in range(4)
        for t in ("weight", "bias")
    }
    old |= {f"h.{n}.moe.fused": torch.randn(5, 8, 6) for n in range(4)}
    new = dict(
        statex.compile(
            "split {m:**}.qkv.{t} -> {m}.{p:q|k|v}.{t} = chunk(3)\n"
            "split {m:**}.fused over e -> {m}.{e}.both.weight = unstack\n"
            "split {m:**}.both.weight -> {m}.{p:gate|up}.weight = chunk(2)\n"
        ).apply(old)
    )
    changed = {**new, key: new[key].clone()}
    changed[key].view(-1)[3] += 1
    found = statex.infer(old, changed)
    assert list(found.unexplained) == [key]
    assert found.rules.count("split ") == 3, found.rules
    assert "add " not in found.rules
    assert equal(statex.compile(found.rules).apply(old), new), found.rules


def test_a_tensor_of_another_shape_is_renamed_with_the_others() -> None:
    old = layers()
    new = {f"model.{key}": tensor for key, tensor in old.items()}
    new["model.embed.weight"] = torch.randn(14, 6)
    found = statex.infer(old, new)
    assert found.unexplained == {"model.embed.weight": "embed.weight"}
    assert found.rules.startswith("rename prefix '' -> 'model.'")
    assert found.differences == {"model.embed.weight": "f32[12, 6] and not f32[14, 6]"}


def test_what_is_like_nothing_is_said_to_be_like_nothing() -> None:
    old = {"lm_head.weight": torch.randn(8, 6), "h.0.attn.in_proj.weight": torch.randn(18, 6)}
    odd = {"rope.freqs": torch.randn(3), "h.0.attn.causal": torch.ones(4, 4).tril().bool()}
    found = statex.infer(old, {**old, **odd})
    assert found.unexplained == dict.fromkeys(odd)
    assert found.differences == {}
    like = {**old, "h.0.attn.causal": torch.randn(4)}
    near = statex.infer({**old, "h.0.causal": torch.randn(4)}, like)
    assert near.unexplained == {"h.0.attn.causal": "h.0.causal"}


def test_keys_that_are_needed_for_nothing_stay_where_something_may_need_them() -> None:
    old = layers()
    new = {key: tensor for key, tensor in old.items() if "mask" not in key} | {"new.weight": torch.randn(5, 5)}
    found = statex.infer(old, new)
    assert "drop" not in found.rules
    assert list(found.unexplained) == ["new.weight"]


def test_the_nearest_key_is_one_of_the_old_checkpoint_where_rules_came_first() -> None:
    old = layers()
    new = {f"x.{key}": tensor for key, tensor in old.items()}
    new["x.h.1.fc.weight"] = torch.randn(8, 6)
    found = statex.infer(old, new, start="rename prefix '' -> 'x.'")
    assert found.unexplained == {"x.h.1.fc.weight": "h.1.fc.weight"}


def test_shapes_are_said_where_a_model_has_others() -> None:
    old = {"fc.weight": torch.randn(8, 6), "out.weight": torch.randn(5, 8)}
    found = statex.infer(old, like={**old, "out.weight": torch.randn(7, 9)})
    assert found.unexplained == {"out.weight": "out.weight"}
    assert found.differences == {"out.weight": "f32[5, 8] and not f32[7, 9]"}
