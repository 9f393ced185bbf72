"""Programs with a checkpoint each: those of the examples and of the documents that lose nothing."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).parent.parent.parent
KeyValues = dict[str, Any]


@dataclass(frozen=True)
class Program:
    """Rules, a state they are for, and parameters; how many statements are undone without being turned round."""

    name: str
    rules: Any
    state: KeyValues
    given: dict[str, Any] = field(default_factory=dict)
    generated: int = 0
    in_order: bool = True


def random(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Return a tensor of random numbers."""
    return torch.randn(*shape).to(dtype)


def llama() -> KeyValues:
    state: KeyValues = {
        "tok_embeddings.weight": random(10, 16),
        "norm.weight": random(16),
        "output.weight": random(10, 16),
    }
    for i in range(2):
        rows = {"q": 16, "k": 8, "v": 8, "o": 16}
        state |= {f"layers.{i}.attention.w{p}.weight": random(n, 16) for p, n in rows.items()}
        state |= {f"layers.{i}.feed_forward.w{p}.weight": random(16, 16) for p in "123"}
        state |= {f"layers.{i}.{norm}.weight": random(16) for norm in ("attention_norm", "ffn_norm")}
    return state


def experts(names: str = "w{}") -> KeyValues:
    state: KeyValues = {}
    for i in range(2):
        state[f"model.layers.{i}.block_sparse_moe.gate.weight"] = random(11, 4)
        for e in range(11):
            for w, shape in (("w1", (6, 4)), ("w3", (6, 4)), ("w2", (4, 6))):
                state[f"model.layers.{i}.block_sparse_moe.experts.{e}.{w}.weight"] = random(*shape)
    return state


def gpt2() -> KeyValues:
    return {
        f"h.{i}.{m}.{t}": random(*((4, n) if t == "weight" else (n,)))
        for i in range(2)
        for m, n in (("attn.c_attn", 12), ("attn.c_proj", 4), ("mlp.c_fc", 8))
        for t in ("weight", "bias")
    }


def encoder() -> KeyValues:
    state: KeyValues = {"position_ids": torch.arange(4), "head.weight": random(2, 8), "norm.weight": random(8)}
    for i in range(2):
        for p in "qkv":
            state |= {f"blocks.{i}.attention.{p}.weight": random(8, 8), f"blocks.{i}.attention.{p}.bias": random(8)}
        state |= {f"blocks.{i}.{n}.weight": random(8) for n in ("ln_1", "ln_2")}
    return state


def megatron() -> KeyValues:
    return {f"decoder.layers.{i}.linear_qkv.{t}": random(*((24, 5) if t == "weight" else (24,)))
            for i in range(2) for t in ("weight", "bias")}  # fmt: skip


def fused() -> KeyValues:
    return {f"layers.{i}.qkv.{t}": random(*((24, 8) if t == "weight" else (24,)))
            for i in range(2) for t in ("weight", "bias")}  # fmt: skip


EXAMPLES = ROOT / "examples"
MIGRATIONS = EXAMPLES / "migrations" / "encoder" / "migrations"
FUSING = MIGRATIONS / "0002_fuse_qkv.sx"
_DECODER = """
param heads: int
param kv_heads: int
param head_dim: int
split decoder.layers.{i}.linear_qkv.{t:weight|bias} -> model.layers.{i}.self_attn.{p:q|k|v}_proj.{t}
    = rearrange('(g x d) ... -> x g d ...', g=kv_heads, d=head_dim)
    | sections([heads // kv_heads, 1, 1], dim=0)
    | rearrange('x g d ... -> (g x d) ...')
"""
_TABLES = """
rename {
  tok_embeddings.weight                    -> model.embed_tokens.weight
  layers.{i}.attention.w{p:q|k|v|o}.weight -> model.layers.{i}.self_attn.{p}_proj.weight
  rope.freqs                               ->? model.rope.freqs
}
rename part {
  self_attn.{p:q_proj=query|k_proj=key|v_proj=value} -> attention.{p}
  feed_forward.w1                                    -> fc1
}
"""

_MACRO = """
macro fuse(m) {
  merge {$m}.{p:q|k|v}_proj.weight over p -> {$m}.qkv.weight = cat(dim=0)
}
use fuse("layers.{i}.attn")
"""

PROGRAMS = [
    Program("llama", EXAMPLES / "llama" / "rules.sx", llama(), {"heads": 2, "kv_heads": 1}),
    Program("gpt2", EXAMPLES / "gpt2" / "rules.sx", gpt2()),
    Program("experts", EXAMPLES / "experts" / "rules.sx", experts(), in_order=False),
    Program("card", "rename prefix '' -> 'ds'", {"linear.weight": random(2, 2)}),
    Program("lightning", "rename part { model.module._orig_mod -> '' }",
            {f"model.module._orig_mod.{k}": random(3) for k in ("conv.weight", "head.bias")}, generated=1),
    Program("lightning, kept", "rename prefix 'model.module._orig_mod.' -> 'model.'",
            {f"model.module._orig_mod.{k}": random(3) for k in ("conv.weight", "head.bias")}),
    Program("migration 1", MIGRATIONS / "0001_name_layers.sx", encoder()),
    Program("migration 2", [MIGRATIONS / "0001_name_layers.sx", FUSING], encoder(), {"heads": 2}, in_order=False),
    Program("pipeline", EXAMPLES / "pipeline" / "rules" / "split_qkv.sx", fused(), {"heads": 2}),
    Program("language: tables", _TABLES, llama()),
    Program("language: split", _DECODER, megatron(), {"heads": 4, "kv_heads": 2, "head_dim": 3}),
    Program("language: macro", _MACRO, {f"layers.{i}.attn.{p}_proj.weight": random(2) for i in (0, 1) for p in "qkv"}),
]  # fmt: skip
