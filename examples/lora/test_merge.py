"""merge.sx against peft's `merge_and_unload`, to the bit, for every kind of adapter that it is for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import assert_same_state
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
)

import statex

RULES = Path(__file__).parent / "merge.sx"

pytestmark = pytest.mark.filterwarnings(
    "ignore:`is_gradient_checkpointing` is deprecated:FutureWarning",
    "ignore:Setting `save_embedding_layers`:UserWarning",
    "ignore:The following .*_pattern keys did not match:RuntimeWarning",
    "ignore:Adapter 'default'. .* LoRA tensor",
    "ignore:fan_in_fan_out is set to False:UserWarning",
    "ignore:Model has `tie_word_embeddings=True`:UserWarning",
    "ignore:Input and output embeddings are no longer tied:UserWarning",
)


def llama(*, tied: bool = False) -> PreTrainedModel:
    config = LlamaConfig(
        vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        attention_bias=True, tie_word_embeddings=tied,
    )  # fmt: skip
    return LlamaForCausalLM(config)


def gpt2() -> PreTrainedModel:
    # Its linear layers are Conv1D, whose weights are transposed: `fan_in_fan_out`.
    return GPT2LMHeadModel(
        GPT2Config(vocab_size=64, n_positions=16, n_embd=32, n_layer=2, n_head=4, bos_token_id=0, eos_token_id=1)
    )


MODELS = {"llama": (llama, ["q_proj", "v_proj"], "embed_tokens"), "gpt2": (gpt2, ["c_attn", "c_proj"], "wte")}


def save(folder: Path, name: str, dtype: torch.dtype, settings: dict[str, Any]) -> None:
    """Save a base model and an adapter whose weights, norms and biases all differ from what they begin with."""
    make, targets, embedding = MODELS[name]
    torch.manual_seed(0)
    base = make().to(dtype)
    base.save_pretrained(folder / "base")
    settings = {"target_modules": targets, **settings}
    settings["target_modules"] = [embedding if t == "EMBEDDING" else t for t in settings["target_modules"]]
    adapted = get_peft_model(base, LoraConfig(r=4, lora_alpha=12, task_type="CAUSAL_LM", **settings))
    made = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for key, parameter in adapted.named_parameters():
            trained = "lora_" in key or "modules_to_save" in key or (settings.get("bias") and key.endswith("bias"))
            if trained:
                parameter.add_(torch.randn(parameter.shape, generator=made).to(parameter.dtype) * 0.2)
    adapted.save_pretrained(folder / "adapter")


def merge(folder: Path, **given: Any) -> dict[str, torch.Tensor]:
    config = json.loads((folder / "adapter" / "adapter_config.json").read_text())
    rules = statex.load(RULES)
    known = {key: value for key, value in config.items() if key in rules.parameters and value is not None}
    done = statex.convert(
        folder / "base", folder / "merged.safetensors", rules,
        inputs={"lora": folder / "adapter"}, params={**known, **given},
    )  # fmt: skip
    assert not done.warnings
    return load_file(folder / "merged.safetensors")


def merged_by_peft(folder: Path) -> dict[str, torch.Tensor]:
    base = AutoModelForCausalLM.from_pretrained(folder / "base", dtype="auto", local_files_only=True)
    state = PeftModel.from_pretrained(base, str(folder / "adapter")).merge_and_unload().state_dict()
    if base.config.tie_word_embeddings:
        del state["lm_head.weight"]  # a tie, which transformers saves once
    return state


KINDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "rslora": {"use_rslora": True},
    "alpha and rank patterns": {
        "alpha_pattern": {"q_proj": 20, r"h\.\d+\.attn\.c_attn": 5},
        "rank_pattern": {"layers.1.self_attn.v_proj": 2, "1.attn.c_attn": 3},
        "use_rslora": True,
    },
    "dora": {"use_dora": True, "alpha_pattern": {"v_proj|c_proj": 3}},
    "embeddings": {"target_modules": ["EMBEDDING"]},
    "biases": {"bias": "all"},
    "biases of adapted layers": {"bias": "lora_only"},
    "biases of the adapter": {"lora_bias": True},
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", list(KINDS))
@pytest.mark.parametrize("name", list(MODELS))
def test_every_bit_is_that_of_peft(name: str, kind: str, dtype: torch.dtype, tmp_path: Path) -> None:
    save(tmp_path, name, dtype, KINDS[kind])
    found = merge(tmp_path)
    assert_same_state(found, merged_by_peft(tmp_path))
    base = load_file(tmp_path / "base" / "model.safetensors")
    assert any(not torch.equal(found[key], base[key]) for key in base)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_modules_that_were_trained_whole_take_the_place_of_the_base_s(dtype: torch.dtype, tmp_path: Path) -> None:
    save(tmp_path, "llama", dtype, {"modules_to_save": ["lm_head"]})
    assert_same_state(merge(tmp_path), merged_by_peft(tmp_path))


@pytest.mark.parametrize("whole", [["embed_tokens"], ["embed_tokens", "lm_head"], ["lm_head"]])
def test_an_embedding_that_was_trained_whole_stops_it_if_the_head_is_tied_to_it(
    whole: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(MODELS, "tied", (lambda: llama(tied=True), ["q_proj"], "embed_tokens"))
    save(tmp_path, "tied", torch.float32, {"modules_to_save": whole})
    base = AutoModelForCausalLM.from_pretrained(tmp_path / "base", local_files_only=True)
    by_peft = PeftModel.from_pretrained(base, str(tmp_path / "adapter")).merge_and_unload()
    assert by_peft.lm_head.weight is not by_peft.model.embed_tokens.weight
    with pytest.raises(statex.StatexError, match="lm_head"):
        merge(tmp_path)
    assert not (tmp_path / "merged.safetensors").exists()


def test_an_embedding_that_was_trained_whole_beside_a_head_of_its_own(tmp_path: Path) -> None:
    save(tmp_path, "llama", torch.float32, {"modules_to_save": ["embed_tokens"]})
    assert_same_state(merge(tmp_path), merged_by_peft(tmp_path))


def test_an_adapter_in_half_precision_is_computed_with_in_f32(tmp_path: Path) -> None:
    save(tmp_path, "llama", torch.bfloat16, {})
    path = tmp_path / "adapter" / "adapter_model.safetensors"
    save_file({key: value.to(torch.bfloat16) for key, value in load_file(path).items()}, path, {"format": "pt"})
    assert_same_state(merge(tmp_path), merged_by_peft(tmp_path))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"init_lora_weights": "pissa"}, "the parameter `init_lora_weights` takes a bool"),
        ({"trainable_token_indices": [1, 2]}, "trainable_token_indices == none"),
        ({"layer_replication": [[0, 2], [1, 2]]}, "layer_replication == none"),
        ({"use_dora": True, "target_modules": ["EMBEDDING"]}, "lora_embedding_A"),
    ],
)
def test_what_would_change_the_numbers_in_another_way_stops_it(
    settings: dict[str, Any], said: str, tmp_path: Path
) -> None:
    save(tmp_path, "llama", torch.float32, settings)
    with pytest.raises(statex.StatexError) as error:
        merge(tmp_path)
    assert said in str(error.value)
    assert not (tmp_path / "merged.safetensors").exists()


@pytest.mark.parametrize(
    "option",
    [
        "use_qalora", "use_bdlora", "arrow_config", "velora_config", "monteclora_config", "alora_invocation_tokens",
        "target_parameters",
    ],
)  # fmt: skip
def test_every_option_that_it_does_not_know_stops_it(option: str, tmp_path: Path) -> None:
    save(tmp_path, "llama", torch.float32, {})
    with pytest.raises(statex.StatexError, match=f"expect .*{option}"):
        merge(tmp_path, **{option: True if option == "use_qalora" else [1]})
