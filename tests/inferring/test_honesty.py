"""What is not explained is said, and no wrong program is called proved."""

from __future__ import annotations

import time

import torch

import statex
from statex.inferring.infer import part_of
from statex.inferring.proof import proved
from statex.inferring.sides import CheckpointSide
from statex.session.request import InputSpec, Request
from tests.inferring.models import State, random


def renamed(state: State) -> State:
    return {f"model.{key}": tensor for key, tensor in state.items()}


def test_a_tensor_from_nowhere() -> None:
    old = random("ViT")()
    new = renamed(old) | {"model.extra.weight": torch.randn(3, 5)}
    found = statex.infer(old, new)
    assert not found.proved
    assert list(found.unexplained) == ["model.extra.weight"]
    made = statex.compile(found.rules).apply(old)
    assert made.keys() == new.keys() - {"model.extra.weight"}


def test_one_bit_that_differs() -> None:
    old = random("ViT")()
    new = renamed({key: tensor.clone() for key, tensor in old.items()})
    new["model.pooler.dense.weight"].view(torch.int32)[3, 4] ^= 1
    found = statex.infer(old, new)
    assert not found.proved
    assert found.unexplained == {"model.pooler.dense.weight": "pooler.dense.weight"}


def test_numbers_that_were_computed_are_not_explained() -> None:
    old = {"a.weight": torch.randn(8, 8), "b.weight": torch.randn(8, 8)}
    found = statex.infer(old, {"c.weight": old["a.weight"] + old["b.weight"]})
    assert not found.proved
    assert list(found.unexplained) == ["c.weight"]


def test_negative_zeros_and_payloads_count() -> None:
    bits = torch.tensor([0, -(2**31), 0x7FC00001, 0x7F800001], dtype=torch.int32)
    old = {"a.weight": bits.view(torch.float32)}
    same = statex.infer(old, {"b.weight": old["a.weight"].clone()})
    assert same.proved
    other = statex.infer(old, {"b.weight": torch.tensor([0.0, 0.0, torch.nan, torch.nan])})
    assert not other.proved


def test_a_wrong_program_is_not_proved() -> None:
    old = random("ViT")()
    new = renamed(old)
    with CheckpointSide(new, "the new checkpoint") as side:
        part = part_of("rename prefix '' -> 'model.'\nset **.dense.weight = transpose\n")
        proof = proved(Request(InputSpec(old), (part,)), side)
        assert not proof.holds
        assert list(proof.different) == ["model.pooler.dense.weight"]
        part = part_of("rename prefix '' -> 'model.'\nadd extra.weight = zeros([2])\n")
        further = proved(Request(InputSpec(old), (part,)), side)
        assert further.further == ("extra.weight",)
        assert not further.holds


def test_contents_that_are_equal_are_told() -> None:
    ones = torch.ones(6)
    old = {"a.norm1.weight": ones.clone(), "a.norm2.weight": ones.clone(), "a.fc.weight": torch.randn(6, 6)}
    new = {"b.norm1.weight": ones.clone(), "b.norm2.weight": ones.clone(), "b.fc.weight": old["a.fc.weight"]}
    found = statex.infer(old, new)
    assert found.proved
    assert set(found.ambiguous) == {"b.norm1.weight", "b.norm2.weight"}
    assert found.rules == "rename prefix 'a.' -> 'b.'  # 3 keys\n"


def test_names_decide_between_equal_contents() -> None:
    old = random("Llama")()
    for i in range(4):
        for name in ("input_layernorm", "post_attention_layernorm"):
            old[f"model.layers.{i}.{name}.weight"] = torch.ones(32)
    new = {key.replace("post_attention_layernorm", "ffn_norm"): tensor.clone() for key, tensor in old.items()}
    found = statex.infer(old, new)
    assert found.proved
    assert "input_layernorm" not in found.rules


def test_what_holds_for_these_layers_alone_is_marked() -> None:
    old = random("OPT")()
    order = {"0": "2", "1": "0", "2": "3", "3": "1"}
    new = {}
    for key, tensor in old.items():
        before, layers, rest = key.partition(".layers.")
        number, _, after = rest.partition(".")
        new[f"{before}{layers}{order[number]}.{after}" if layers else key] = tensor
    found = statex.infer(old, new)
    assert found.proved
    assert "only seen here" in found.rules
    assert found.carries_over is False


def test_a_uniform_program_carries_over() -> None:
    old = random("OPT")()
    found = statex.infer(old, {key.replace("layers", "blocks"): tensor for key, tensor in old.items()})
    assert (found.proved, found.carries_over) == (True, True)


def test_nothing_to_do() -> None:
    old = random("OPT")()
    found = statex.infer(old, dict(old))
    assert (found.proved, found.rules) == (True, "")


def test_nothing_in_common() -> None:
    found = statex.infer({"a.w": torch.randn(4, 4)}, {"b.w": torch.randn(5, 5)})
    assert (found.proved, found.unexplained) == (False, {"b.w": "a.w"})


def test_empty_states() -> None:
    assert statex.infer({}, {}).proved
    assert not statex.infer({}, {"b.w": torch.randn(5, 5)}).proved
    assert statex.infer({"b.w": torch.randn(5, 5)}, {}).proved


def test_scalars_empty_tensors_and_other_dtypes() -> None:
    old = {
        "bn.num_batches_tracked": torch.tensor(7),
        "bn.mask": torch.tensor([True, False, True]),
        "bn.none": torch.zeros(0, 3),
        "bn.c": torch.randn(4, dtype=torch.complex128),
        "bn.f8": torch.randn(4, 4).to(torch.float8_e4m3fn),
    }
    found = statex.infer(old, {key.replace("bn", "norm"): tensor for key, tensor in old.items()})
    assert found.proved
    assert found.rules == "rename prefix 'bn.' -> 'norm.'  # 5 keys\n"


def test_numbers_all_over() -> None:
    old = {"fc.weight": torch.randn(3, 3)}
    for made in (
        torch.zeros(4), torch.ones(2, 3, dtype=torch.float16), torch.full((2,), 0.1), torch.full((2,), -3.5),
        torch.full((3,), -0.0), torch.full((2,), 1e-30), torch.tensor(5), torch.full((2, 2), -7, dtype=torch.int8),
        torch.ones(3, dtype=torch.bool), torch.zeros(3, dtype=torch.bool), torch.arange(9)[None], torch.arange(6),
        torch.arange(6).reshape(2, 3), torch.full((2,), 1e30, dtype=torch.float64),
        torch.zeros(2, dtype=torch.bfloat16),
    ):  # fmt: skip
        found = statex.infer(old, old | {"new.buffer": made})
        assert found.proved, (made, found.rules, found.errors)
    for made in (torch.full((2,), torch.nan), torch.full((2,), torch.inf)):
        assert not statex.infer(old, old | {"new.buffer": made}).proved


def test_a_thousand_keys_take_few_seconds() -> None:
    names = ("attn.q", "attn.k", "attn.v", "attn.out", "mlp.up", "mlp.down", "norm1", "norm2")
    generator = torch.Generator().manual_seed(0)
    old = {f"layers.{i}.{name}.weight": torch.randn(4, 4, generator=generator) for i in range(125) for name in names}
    words = {"attn.out": "self_attn.o_proj", "mlp.up": "fc1", "mlp.down": "fc2", "norm1": "ln_1", "norm2": "ln_2"}
    new = {}
    for key, tensor in old.items():
        _, layer, *name, last = key.split(".")
        word = words.get(".".join(name), f"self_attn.{name[-1]}_proj")
        new[f"model.decoder.layers.{layer}.{word}.{last}"] = tensor
    start = time.process_time()
    found = statex.infer(old, new)
    assert found.proved
    assert len(found.rules.splitlines()) <= 8
    assert time.process_time() - start <= 5


def test_odd_keys() -> None:
    old = {"a b.weight": torch.randn(3, 3), "x/y:0": torch.randn(4), "q-1.{w}": torch.randn(5), "*": torch.randn(2, 2)}
    new = {"a_b.weight": old["a b.weight"], "x.y": old["x/y:0"], "q 1.{w}": old["q-1.{w}"], "s*": old["*"]}
    assert statex.infer(old, new).proved


def test_keys_that_change_places() -> None:
    old = {"a.weight": torch.randn(3, 3), "b.weight": torch.randn(3, 3)}
    assert statex.infer(old, {"a.weight": old["b.weight"], "b.weight": old["a.weight"]}).proved


def test_a_split_onto_a_name_that_goes() -> None:
    old = {"a.weight": torch.randn(6, 3), "b.weight": torch.randn(3, 3)}
    new = {"b.weight": old["a.weight"][:3], "c.weight": old["a.weight"][3:], "d.weight": old["b.weight"]}
    assert statex.infer(old, new).proved


def test_experts_alone() -> None:
    old = {f"layers.{i}.experts.{e}.w1.weight": torch.randn(6, 4) for i in range(2) for e in range(3)}
    new = {
        f"layers.{i}.experts.w1.weight": torch.stack([old[f"layers.{i}.experts.{e}.w1.weight"] for e in range(3)])
        for i in range(2)
    }
    # The first number of their keys says nothing of what is stacked.
    found = statex.infer(old, new)
    assert found.proved, found.errors
    assert statex.infer(new, old).proved
