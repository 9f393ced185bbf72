"""A small Llama and a LoRA adapter for it, saved as transformers and peft save them.

As a script this writes base/ and adapter/.
"""

from __future__ import annotations

from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM


def save(folder: Path, dtype: torch.dtype = torch.bfloat16, **settings: object) -> None:
    """Write a base model and a float32 adapter of random weights; `settings` are further ones of the adapter."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4
    )
    base = LlamaForCausalLM(config).to(dtype)
    base.save_pretrained(folder / "base")
    lora = LoraConfig(r=4, lora_alpha=12, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM", **settings)
    adapted = get_peft_model(base, lora)
    for name, parameter in adapted.named_parameters():
        if "lora_" in name:  # peft begins with zeros, which would change nothing
            nn.init.normal_(parameter, std=0.2)
    adapted.save_pretrained(folder / "adapter")


if __name__ == "__main__":
    save(Path())
