"""Lengths in rules that a config.json beside the checkpoint has a name for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

import statex
from statex.grammar.printer import show
from statex.inferring.sizes import sizes_of
from tests.inferring.test_corpus import equal

ROPE = "set **.{p:q|k}_proj.weight = rearrange('(h two d) c -> (h d two) c', d=8, two=2)\n"


def old(heads: int = 6, layers: int = 3) -> dict[str, torch.Tensor]:
    width = 16 * heads
    return {
        f"layers.{i}.{p}_proj.weight": torch.randn(width // (3 if p == "k" else 1), width)
        for i in range(layers) for p in "qkv"
    }  # fmt: skip


def in_folder(folder: Path, state: dict[str, torch.Tensor], config: Any) -> Path:
    save_file(state, folder / "model.safetensors")
    (folder / "config.json").write_text(config if isinstance(config, str) else json.dumps(config))
    return folder


def test_a_size_becomes_a_parameter(tmp_path: Path) -> None:
    state = old()
    new = statex.compile(ROPE).apply(state)
    folder = in_folder(tmp_path, state, {"hidden_size": 96, "num_attention_heads": 6, "num_key_value_heads": 2})
    found = statex.infer(folder, new)
    assert found.proved, found.errors
    assert "param hidden_size: int = 96  # config.json\n" in found.rules or "# config.json" in found.rules
    assert "hidden_size // num_attention_heads // 2" in found.rules
    # The rules are for other sizes, too.
    wider = {key: torch.randn(tensor.shape[0] * 2, tensor.shape[1] * 2) for key, tensor in state.items()}
    again = statex.compile(ROPE.replace("d=8", "d=16")).apply(wider)
    params = {"hidden_size": 192, "num_attention_heads": 6}
    assert equal(statex.compile(found.rules).apply(wider, params=params), again)


@pytest.mark.parametrize(
    "config",
    [
        {"hidden_size": 96, "num_attention_heads": 6, "num_experts": 8},  # two things that are 8
        {"num_hidden_layers": 8, "max_position_embeddings": 8},  # no lengths of axes
        {"num_attention_heads": True, "head_dim": "16"}, [1], "{", "", "[" * 200_000,
    ],
    ids=lambda config: str(config)[:50],
)  # fmt: skip
def test_a_number_that_may_be_several_things_stays(tmp_path: Path, config: Any) -> None:
    state = old()
    found = statex.infer(in_folder(tmp_path, state, config), statex.compile(ROPE).apply(state))
    assert found.proved
    assert "param" not in found.rules


def test_names_that_a_program_has_are_not_declared_again(tmp_path: Path) -> None:
    state = old()
    folder = in_folder(tmp_path, state, {"head_dim": 16})
    begun = "param head_dim: int = 16\nset **.v_proj.weight = rearrange('(h d) c -> (d h) c', d=head_dim)\n"
    new = statex.compile(ROPE).apply(statex.compile(begun).apply(state))
    found = statex.infer(folder, new, start=begun)
    assert found.proved, found.errors
    assert found.rules.count("param ") == 1


def test_what_sizes_are() -> None:
    found = sizes_of({"n_embd": 64, "n_head": 4, "n_inner": 256})
    assert {value: show(written) for value, (written, _) in found.written.items()} == {
        64: "n_embd", 4: "n_head", 256: "n_inner", 16: "n_embd // n_head", 8: "n_embd // n_head // 2",
    }  # fmt: skip


def test_sizes_of_several_configurations() -> None:
    found = sizes_of({"text_config": {"hidden_size": 64, "n_head": 4}, "vision_config": {"hidden_size": 48}, "dim": 7})
    assert {value: show(written) for value, (written, _) in found.written.items()} == {
        7: "dim", 64: "hidden_size", 4: "n_head", 16: "hidden_size // n_head", 8: "hidden_size // n_head // 2",
        48: "vision_hidden_size",
    }  # fmt: skip
    assert found.paths["vision_hidden_size"] == "vision_config.hidden_size"
    same = sizes_of({"hidden_size": 64, "text_config": {"hidden_size": 64, "n_head": 4}})
    assert (show(same.written[64][0]), same.paths) == ("hidden_size", {"n_head": "text_config.n_head"})
