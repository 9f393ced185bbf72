"""peft's `merge_and_unload` is the reference, for bits and for logits."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from conftest import Run, assert_same_state
from lora import models
from peft import PeftModel
from safetensors.torch import load_file
from transformers import LlamaForCausalLM

HERE = Path(__file__).parent

# peft asks transformers for what that has renamed.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")


def saved(folder: Path, dtype: torch.dtype = torch.bfloat16, **settings: object) -> None:
    """Write the recipe and the files it reads; `settings` are those of the adapter."""
    (folder / "recipe.yaml").write_bytes((HERE / "recipe.yaml").read_bytes())
    models.save(folder, dtype, **settings)


def loaded(folder: Path) -> LlamaForCausalLM:
    return LlamaForCausalLM.from_pretrained(folder, dtype="auto", local_files_only=True).eval()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_the_merged_model_is_that_of_peft(dtype: torch.dtype, statex: Run, tmp_path: Path) -> None:
    saved(tmp_path, dtype)
    done = statex("run", "recipe.yaml")
    assert "verified against base: all 21 keys agree" in done.stdout
    base = load_file(tmp_path / "base" / "model.safetensors")
    state = load_file(tmp_path / "merged" / "model.safetensors")
    reference = PeftModel.from_pretrained(loaded(tmp_path / "base"), str(tmp_path / "adapter")).merge_and_unload()
    assert_same_state(state, reference.state_dict())
    assert {it.dtype for it in state.values()} == {dtype}
    changed = {key.split(".")[-2] for key in base if not torch.equal(state[key], base[key])}
    assert changed == {"q_proj", "v_proj"}
    for name in ("config.json", "generation_config.json"):
        assert (tmp_path / "merged" / name).read_bytes() == (tmp_path / "base" / name).read_bytes()
    tokens = torch.randint(0, 64, (2, 9))
    with torch.no_grad():
        assert torch.equal(loaded(tmp_path / "merged")(tokens).logits, reference(tokens).logits)
    assert "nothing to do" in statex("run", "recipe.yaml").stdout


def test_ranks_and_alphas_of_single_modules(statex: Run, tmp_path: Path) -> None:
    saved(tmp_path, rank_pattern={"v_proj": 2}, alpha_pattern={"layers.0.self_attn.q_proj": 5})
    statex("run", "recipe.yaml")
    reference = PeftModel.from_pretrained(loaded(tmp_path / "base"), str(tmp_path / "adapter")).merge_and_unload()
    assert_same_state(load_file(tmp_path / "merged" / "model.safetensors"), reference.state_dict())


def test_another_alpha_is_another_model(statex: Run, tmp_path: Path) -> None:
    saved(tmp_path)
    statex("run", "recipe.yaml")
    first = load_file(tmp_path / "merged" / "model.safetensors")
    config = tmp_path / "adapter" / "adapter_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "lora_alpha": 24}))
    statex("run", "recipe.yaml")
    base = load_file(tmp_path / "base" / "model.safetensors")
    second = load_file(tmp_path / "merged" / "model.safetensors")
    for key in (f"model.layers.{layer}.self_attn.q_proj.weight" for layer in range(2)):
        once, twice = first[key].float() - base[key].float(), second[key].float() - base[key].float()
        torch.testing.assert_close(twice, 2 * once, rtol=0.02, atol=0.02)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"use_rslora": True}, "expect not use_rslora"),
        ({"init_lora_weights": "pissa"}, "expect init_lora_weights in [true, false]"),  # its base is another one
        ({"use_dora": True}, "lora_magnitude_vector"),
        ({"modules_to_save": ["lm_head"]}, "base_model.model.lm_head.weight"),
    ],
)
def test_adapters_of_another_kind_are_refused(
    settings: dict[str, object], said: str, statex: Run, tmp_path: Path
) -> None:
    saved(tmp_path, **settings)
    done = statex("run", "recipe.yaml", exit_code=1)
    assert said in done.stderr
    assert not (tmp_path / "merged").exists()
    assert not (tmp_path / "merged.json").exists()
