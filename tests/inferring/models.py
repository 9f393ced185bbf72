"""Tiny models of the libraries that checkpoints come from, with weights that differ from one another."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import cache
from typing import Any

import torch

State = dict[str, torch.Tensor]


def randomised(state: Any, seed: int = 0) -> State:
    """Return a state of the same keys and shapes with numbers of its own in all floats; ties stay ties."""
    generator = torch.Generator().manual_seed(seed)
    made: dict[tuple[int, torch.Size], torch.Tensor] = {}
    found: State = {}
    for key, tensor in state.items():
        if not tensor.is_floating_point():
            found[key] = tensor.clone()
            continue
        place = tensor.data_ptr(), tensor.shape
        if place not in made:
            made[place] = torch.randn(tensor.shape, generator=generator).to(tensor.dtype)
        found[key] = made[place]
    return found


def kept(model: torch.nn.Module) -> State:
    """Return the state of a model as it was initialised."""
    return {key: tensor.clone() for key, tensor in model.state_dict().items()}


def _causal(name: str, **options: Any) -> torch.nn.Module:
    import transformers

    torch.manual_seed(1)
    config = getattr(transformers, f"{name}Config")(**options)
    suffix = {"GPT2": "LMHeadModel", "Bert": "ForMaskedLM", "T5": "ForConditionalGeneration", "ViT": "Model"}
    suffix |= {"CLIP": "Model", "Whisper": "ForConditionalGeneration", "Roberta": "ForMaskedLM"}
    model: torch.nn.Module = getattr(transformers, f"{name}{suffix.get(name, 'ForCausalLM')}")(config)
    return model


_SMALL = {
    "vocab_size": 96,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
}


@cache
def model(name: str) -> torch.nn.Module:
    """Return a tiny model of transformers."""
    if name == "GPT2":
        return _causal(name, vocab_size=96, n_embd=32, n_layer=4, n_head=4, n_positions=40)
    if name == "T5":
        return _causal(name, vocab_size=96, d_model=32, d_kv=8, d_ff=48, num_layers=3, num_heads=4)
    if name == "ViT":
        small = {key: value for key, value in _SMALL.items() if key != "vocab_size"}
        return _causal(name, **small, image_size=16, patch_size=4)
    if name == "OPT":
        return _causal(
            name, vocab_size=96, hidden_size=32, ffn_dim=48, num_hidden_layers=4, num_attention_heads=4,
            word_embed_proj_dim=32, max_position_embeddings=40,
        )  # fmt: skip
    if name == "Mixtral":
        return _causal(name, **_SMALL, num_key_value_heads=2, num_local_experts=4)
    if name in ("Llama", "Qwen2", "Mistral"):
        return _causal(name, **_SMALL, num_key_value_heads=2)
    return _causal(name, **_SMALL)


def random(name: str) -> Callable[[], State]:
    """Return what gives the state of a model with numbers of its own everywhere."""
    return lambda: randomised(model(name).state_dict())


def initial(name: str) -> Callable[[], State]:
    """Return what gives the state of a model as it was initialised: with zeros and ones."""
    return lambda: kept(model(name))


def adapter() -> State:
    """Return the state of a model of peft with LoRA adapters, as it is in memory."""
    import peft

    torch.manual_seed(2)
    config = peft.LoraConfig(r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    with warnings.catch_warnings(action="ignore"):  # peft asks what transformers will not have for long
        with_adapters = peft.get_peft_model(_causal("Llama", **_SMALL, num_key_value_heads=2), config)
    return {key: tensor.clone() for key, tensor in with_adapters.state_dict().items()}


def autoencoder() -> State:
    """Return the state of a tiny autoencoder of diffusers."""
    import diffusers

    torch.manual_seed(3)
    vae = diffusers.AutoencoderKL(
        block_out_channels=(16, 32), layers_per_block=1, norm_num_groups=8,
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
    )  # fmt: skip
    return randomised(vae.state_dict(), 4)


def unet() -> State:
    """Return the state of a tiny network of diffusers."""
    import diffusers

    torch.manual_seed(5)
    network = diffusers.UNet2DConditionModel(
        sample_size=8, block_out_channels=(16, 32), layers_per_block=1, norm_num_groups=8, cross_attention_dim=16,
        attention_head_dim=4, down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
    )  # fmt: skip
    return {key: tensor.clone() for key, tensor in network.state_dict().items()}


def encoder() -> State:
    """Return the state of torch's own transformer encoder."""
    torch.manual_seed(6)
    layer = torch.nn.TransformerEncoderLayer(32, 4, 48, batch_first=True)
    return randomised(torch.nn.TransformerEncoder(layer, 4).state_dict(), 7)


def recurrent() -> State:
    """Return the state of an LSTM of torch."""
    return randomised(torch.nn.LSTM(16, 24, num_layers=3, bidirectional=True).state_dict(), 8)
