"""The help for a result that does not fit a model of transformers: carried out, it makes it fit."""

from __future__ import annotations

import pytest
import torch

import statex
from statex import StatexError
from tests.inferring.models import State, model, random

CASES = {
    "fused": ("ViT", "merge {m:**}.{p:q|k|v}_proj.{t} over p -> {m}.qkv.{t} = cat(dim=0)"),
    "other words": ("OPT", "rename part self_attn -> attention\nrename part { fc1 -> w1; fc2 -> w2 }"),
    "meta": (
        "Llama",
        "rename part { self_attn.q_proj -> attn.wq; self_attn.k_proj -> attn.wk; self_attn.v_proj -> attn.wv }\n"
        "rename part { self_attn.o_proj -> attn.wo; mlp.gate_proj -> ffn.w1; mlp.down_proj -> ffn.w2 }\n"
        "rename part { mlp.up_proj -> ffn.w3; input_layernorm -> attn_norm; post_attention_layernorm -> ffn_norm }",
    ),
    "transposed and renamed": ("OPT", "rename part fc1 -> up\nset **.up.weight = transpose"),
}


def helps(state: State, module: torch.nn.Module) -> tuple[str, ...]:
    """Return the help for a state that does not fit a module."""
    with pytest.raises(StatexError) as caught:
        statex.verify(state, module)
    (found,) = caught.value.diagnostics
    assert found.code.id == "SX501"
    return tuple([note.text for note in found.notes if note.kind == "help"])


@pytest.mark.parametrize("case", CASES)
def test_the_help_makes_it_fit(case: str) -> None:
    name, rules = CASES[case]
    theirs = random(name)()
    ours = dict(statex.compile(rules).apply(theirs))
    lines = helps(ours, model(name))
    assert 1 <= len(lines) <= 5
    made = statex.compile("\n".join(lines)).apply(ours)
    assert statex.verify(made, model(name)).fits
    assert all(torch.equal(made[key], tensor) for key, tensor in theirs.items())


def test_nothing_is_proposed_to_go() -> None:
    old = {"a.weight": torch.randn(4, 3), "odd.scale": torch.randn(7)}
    module = torch.nn.ModuleDict({"b": torch.nn.Linear(3, 4, bias=False)})
    lines = helps(old, module)
    assert "rename a.weight -> b.weight" in lines
    assert not any("drop" in line for line in lines)


def test_no_rows_are_proposed_to_go() -> None:
    """Rules for a model may be guessed that cut a vocabulary; what help says can be pasted, and loses nothing."""
    old = {"wte.weight": torch.randn(9, 4), "fc1.weight": torch.randn(3, 4)}
    parts = {"embed_tokens": torch.nn.Embedding(7, 4), "up": torch.nn.Linear(4, 3, bias=False)}
    module = torch.nn.ModuleDict(parts)
    assert "it[:7]" in statex.infer(old, target=module).rules
    lines = helps(old, module)
    assert not any("[:7]" in line for line in lines), lines


def test_a_guess_is_called_one() -> None:
    """A projection of q, k and v may be cut in three, or head by head: its shape is the same."""
    old = {"a.query_key_value.weight": torch.randn(12, 4)}
    module = torch.nn.ModuleDict({"a": torch.nn.ModuleDict({f"{p}_proj": torch.nn.Linear(4, 4, False) for p in "qkv"})})
    (line,) = helps(old, module)
    rule, _, note = line.partition("  # ")
    assert (rule.startswith("split "), note) == (True, "guess: from names and shapes")
    assert statex.verify(statex.compile(line).apply(old), module).fits
