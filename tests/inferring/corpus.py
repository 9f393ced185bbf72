"""Pairs of checkpoints: a start, and what rules written by hand, or torch code, make of it.

The rules are the measure for those that are inferred: what a person would write.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

import statex
from tests.inferring.models import State, adapter, autoencoder, encoder, initial, random, recurrent, unet


@dataclass(frozen=True)
class Case:
    """A start, and the rules that were written for what shall become of it; with `code`, that makes it."""

    name: str
    start: Callable[[], State]
    rules: str
    params: Mapping[str, Any] = field(default_factory=dict)
    code: Callable[[State], State] | None = None

    def pair(self) -> tuple[State, State]:
        """Return the old state and the new one."""
        old = self.start()
        if self.code is not None:
            return old, self.code(old)
        return old, statex.compile(self.rules).apply(old, params=self.params)


def length(rules: str) -> int:
    """Return the number of lines of rules that say something."""
    lines = (line.partition("#")[0].strip() for line in rules.splitlines())
    return sum(1 for line in lines if line and line != "}" and not line.startswith("param "))


CASES: list[Case] = []


def case(name: str, start: Callable[[], State], rules: str, **params: Any) -> None:
    CASES.append(Case(name, start, rules, params))


def both(name: str, model: str, rules: str, **params: Any) -> None:
    """Add a case with numbers of its own everywhere, and one with zeros and ones as models begin."""
    case(name, random(model), rules, **params)
    case(f"{name}, initial", initial(model), rules, **params)


TO_META = """
rename {
  model.embed_tokens.weight                            -> tok_embeddings.weight
  model.norm.weight                                    -> norm.weight
  lm_head.weight                                       -> output.weight
  model.layers.{i}.self_attn.{p:q|k|v|o}_proj.weight   -> layers.{i}.attention.w{p}.weight
  model.layers.{i}.mlp.{p:gate=1|down=2|up=3}_proj.weight -> layers.{i}.feed_forward.w{p}.weight
  model.layers.{i}.input_layernorm.weight              -> layers.{i}.attention_norm.weight
  model.layers.{i}.post_attention_layernorm.weight     -> layers.{i}.ffn_norm.weight
}
"""
both("llama to meta", "Llama", TO_META)
both(
    "llama to meta with rope", "Llama",
    TO_META
    + "set **.w{p:q|k}.weight = rearrange('(h two d) c -> (h d two) c', d=4, two=2)\n",
)  # fmt: skip
both("prefix away", "Bert", "rename prefix 'bert.' -> ''")
both("prefix put on", "ViT", "rename prefix '' -> 'vit.'")
both("ddp", "GPT2", "rename prefix '' -> 'module.'")
case("compiled", random("Qwen2"), "rename prefix '' -> '_orig_mod.'")
both("one part", "Qwen2", "rename part self_attn -> attention")
both(
    "bert to one of ours", "Bert",
    """
rename {
  bert.encoder.layer.{i}.attention.self.{p:query=q|key=k|value=v}.{t} -> encoder.{i}.attn.{p}_proj.{t}
  bert.encoder.layer.{i}.attention.output.dense.{t}     -> encoder.{i}.attn.out_proj.{t}
  bert.encoder.layer.{i}.attention.output.LayerNorm.{t} -> encoder.{i}.norm1.{t}
  bert.encoder.layer.{i}.intermediate.dense.{t}         -> encoder.{i}.fc1.{t}
  bert.encoder.layer.{i}.output.dense.{t}               -> encoder.{i}.fc2.{t}
  bert.encoder.layer.{i}.output.LayerNorm.{t}           -> encoder.{i}.norm2.{t}
  bert.embeddings.{x:**}                                -> embeddings.{x}
  cls.predictions.{x:**}                                -> head.{x}
}
""",
)  # fmt: skip
both(
    "bert to the encoder of torch",
    "Bert",
    """
    drop cls.**
    rename bert.embeddings.{p:word=tokens|position=positions|token_type=kinds}_embeddings.weight -> {p}.weight
    rename part {
      attention.output.dense     -> self_attn.out_proj
      attention.output.LayerNorm -> norm1
      bert.encoder.layer         -> blocks.layers
      intermediate.dense         -> linear1
      output.dense               -> linear2
      output.LayerNorm           -> norm2
      bert.embeddings.LayerNorm  -> norm
    }
    merge {m:**}.attention.self.{p:query|key|value}.{t} over p -> {m}.self_attn.in_proj_{t} = cat
    """,
)
both(
    "gpt2 fused split", "GPT2",
    """
split {m:**}.c_attn.{t:weight|bias} -> {m}.{p:q|k|v}.{t} = chunk(3, dim=ndim - 1)
""",
)  # fmt: skip
both("conv1d transposed", "GPT2", "set **.{p:c_attn|c_proj|c_fc}.weight = transpose")
both(
    "gpt2 split and transposed", "GPT2",
    """
rename prefix 'transformer.' -> ''
split h.{i}.attn.c_attn.weight -> h.{i}.attn.{p:q|k|v}_proj.weight = transpose | chunk(3)
split h.{i}.attn.c_attn.bias -> h.{i}.attn.{p:q|k|v}_proj.bias = chunk(3)
set **.{p:c_proj|c_fc}.weight = transpose
""",
)  # fmt: skip
both(
    "qkv merged", "Bert",
    "merge {m:**}.attention.self.{p:query|key|value}.{t} over p -> {m}.attention.qkv.{t} = cat(dim=0)",
)  # fmt: skip
both("opt merged", "OPT", "merge {m:**}.{p:q|k|v}_proj.{t} over p -> {m}.qkv_proj.{t} = cat(dim=0)")
case(
    "kv stacked", random("Phi"),
    "merge {m:**}.k_proj.weight as k, {m}.v_proj.weight as v -> {m}.kv.weight = stack(k, v, dim=0)",
)  # fmt: skip
case("gqa merged", random("Llama"), "merge {m:**}.{p:q|k|v}_proj.weight over p -> {m}.qkv.weight = cat(dim=0)")
case("gate and up merged", random("Mistral"), "merge {m:**}.{p:gate|up}_proj.weight over p -> {m}.gate_up.weight = cat")
both(
    "neox split", "GPTNeoX",
    """
split {m:**}.query_key_value.{t} -> {m}.{p:q|k|v}.{t}
    = rearrange('(h x d) ... -> x (h d) ...', x=3, d=8) | unstack
""",
)  # fmt: skip
both(
    "bloom to ours", "Bloom",
    """
split transformer.h.{i}.self_attention.query_key_value.{t} -> layers.{i}.attn.{p:q|k|v}.{t}
    = rearrange('(h x d) ... -> x (h d) ...', x=3, d=8) | unstack
rename {
  transformer.word_embeddings.weight               -> embed.weight
  transformer.word_embeddings_layernorm.{t}        -> embed_norm.{t}
  transformer.h.{i}.self_attention.dense.{t}       -> layers.{i}.attn.out.{t}
  transformer.h.{i}.input_layernorm.{t}            -> layers.{i}.norm1.{t}
  transformer.h.{i}.post_attention_layernorm.{t}   -> layers.{i}.norm2.{t}
  transformer.h.{i}.mlp.dense_h_to_4h.{t}          -> layers.{i}.fc1.{t}
  transformer.h.{i}.mlp.dense_4h_to_h.{t}          -> layers.{i}.fc2.{t}
  transformer.ln_f.{t}                             -> norm.{t}
}
""",
)  # fmt: skip
case(
    "falcon split", random("Falcon"),
    "split {m:**}.query_key_value.weight -> {m}.{p:q|k|v}.weight = sections([32, 8, 8])",
)  # fmt: skip
case(
    "experts unstacked", random("Mixtral"),
    """
split {m:**}.experts.gate_up_proj over e -> {m}.experts.{e}.gate_up.weight = unstack
split {m:**}.experts.down_proj over e -> {m}.experts.{e}.down.weight = unstack
""",
)  # fmt: skip
OLD_MIXTRAL = """
split {m:**}.mlp.experts.gate_up_proj -> {m}.mlp.experts.{p:gate|up} = chunk(2, dim=1)
rename {m:**}.mlp.experts.down_proj -> {m}.mlp.experts.down
split {m:**}.mlp.experts.{p:gate=w1|up=w3|down=w2} over e -> {m}.block_sparse_moe.experts.{e}.{p}.weight = unstack
rename part mlp.gate -> block_sparse_moe.gate
"""
TO_MIXTRAL = """
merge {m:**}.experts.{e:int}.w1.weight as a, {m}.experts.{e}.w3.weight as b over e
    -> {m}.experts.gate_up_proj = cat(stack(a), stack(b), dim=1)
merge {m:**}.experts.{e:int}.w2.weight over e -> {m}.experts.down_proj = stack(dim=0)
rename part block_sparse_moe -> mlp
"""


def old_mixtral() -> State:
    return dict(statex.compile(OLD_MIXTRAL).apply(random("Mixtral")()))


case(
    "experts stacked, gate and up fused", old_mixtral,
    """
merge {m:**}.block_sparse_moe.experts.{e:int}.w1.weight as a, {m}.block_sparse_moe.experts.{e}.w3.weight as b over e
    -> {m}.mlp.experts.gate_up_proj = cat(stack(a), stack(b), dim=1)
merge {m:**}.block_sparse_moe.experts.{e:int}.w2.weight over e -> {m}.mlp.experts.down_proj = stack(dim=0)
rename part block_sparse_moe -> mlp
""",
)  # fmt: skip
case(
    "experts stacked alone", old_mixtral,
    "merge {m:**}.experts.{e:int}.{p:w1|w2|w3}.weight over e -> {m}.experts.{p} = stack(dim=0)",
)  # fmt: skip
case(
    "experts stacked and transposed", old_mixtral,
    "merge {m:**}.experts.{e:int}.{p:w1|w2|w3}.weight over e -> {m}.experts.{p} = stack(transpose(it), dim=0)",
)  # fmt: skip
case(
    "experts as rows", old_mixtral,
    "merge {m:**}.experts.{e:int}.{p:w1|w2|w3}.weight over e -> {m}.experts.{p} = cat(dim=0)",
)  # fmt: skip
case("to bf16", random("Llama"), "set ** = cast(bf16)")
case("to f16, norms not", random("OPT"), "set ** = cast(f16) where ndim > 1")
case("to f64", random("GPT2"), "set ** = cast(f64)")
case(
    "bf16 and renamed", random("Bert"),
    """
rename prefix 'bert.' -> ''
set ** = cast(bf16)
""",
)  # fmt: skip
case("head untied", random("GPT2"), "drop lm_head.weight")
case("tie written out", random("Qwen2"), "copy model.norm.weight -> head.norm.weight")
case("tie of the head", random("Falcon"), "drop lm_head.weight\ncopy transformer.word_embeddings.weight -> head.weight")
case("backbone alone", random("Bert"), "drop cls.**")
case("encoder alone", random("T5"), "keep encoder.**, shared.weight")
case("no biases", random("OPT"), "drop **.bias")
case("first layers", random("Llama"), "drop model.layers.{i:int}.** where i >= 2")
case(
    "layers pruned and renumbered", random("Mistral"),
    "drop model.layers.{i:int}.** where i in [1, 2]\nrenumber model.layers.{i:int}",
)  # fmt: skip
case("layers from one", random("ViT"), "rename layers.{i:int}.{x:**} -> blocks.{i + 1}.{x}")
case("layers turned round", random("OPT"), "rename {m:**}.layers.{i:int}.{x:**} -> {m}.layers.{3 - i}.{x}")
case(
    "layers in another order", random("Phi"),
    "rename model.layers.{i:0=2|1=0|2=3|3=1}.{x:**} -> model.layers.{i}.{x}",
)  # fmt: skip
STAGES = "rename model.layers.{i:int}.{x:**} -> stages.{i // 2}.blocks.{i % 2}.{x}"


def stages() -> State:
    return dict(statex.compile(STAGES).apply(random("Phi")()))


case("stages", random("Phi"), STAGES)
case("stages joined", stages, "rename stages.{i:int}.blocks.{j:int}.{x:**} -> layers.{i * 2 + j}.{x}")
case(
    "encoder and decoder",
    random("T5"),
    "rename part SelfAttention -> self_attn\nrename part EncDecAttention -> cross_attn",
)
case(
    "t5 to ours", random("T5"),
    """
rename {
  {s:encoder|decoder}.block.{i}.layer.0.SelfAttention.{x:**}  -> {s}.layers.{i}.self_attn.{x}
  {s:encoder|decoder}.block.{i}.layer.0.layer_norm.weight     -> {s}.layers.{i}.self_attn_norm.weight
  encoder.block.{i}.layer.1.DenseReluDense.{x:**}             -> encoder.layers.{i}.mlp.{x}
  encoder.block.{i}.layer.1.layer_norm.weight                 -> encoder.layers.{i}.mlp_norm.weight
  decoder.block.{i}.layer.1.EncDecAttention.{x:**}            -> decoder.layers.{i}.cross_attn.{x}
  decoder.block.{i}.layer.1.layer_norm.weight                 -> decoder.layers.{i}.cross_attn_norm.weight
  decoder.block.{i}.layer.2.DenseReluDense.{x:**}             -> decoder.layers.{i}.mlp.{x}
  decoder.block.{i}.layer.2.layer_norm.weight                 -> decoder.layers.{i}.mlp_norm.weight
}
""",
)  # fmt: skip
case("vocabulary padded", random("Llama"), "set model.embed_tokens.weight, lm_head.weight = resize([128, 32])")
case("vocabulary cut", random("Llama"), "set model.embed_tokens.weight, lm_head.weight = it[:80]")
case("positions cut off", random("OPT"), "set **.embed_positions.weight = it[2:]")
case("patches as a matrix", random("ViT"), "set **.projection.weight = flatten(start_dim=1)")
case("cls token squeezed", random("ViT"), "set embeddings.cls_token, embeddings.position_embeddings = squeeze(0)")
case("channels last", random("ViT"), "set **.projection.weight = permute([0, 2, 3, 1])")
case("bgr", random("ViT"), "set **.projection.weight = flip([1])")
case("heads apart", random("Phi"), "set **.{p:q|k|v}_proj.weight = rearrange('(h d) c -> h d c', d=8)")
case("heads apart and transposed", random("Phi"), "set **.{p:q|k|v}_proj.weight = rearrange('(h d) c -> c h d', d=8)")
case("everything transposed", random("Mistral"), "set **.{p:q_proj|k_proj|v_proj|o_proj}.weight = transpose")
case(
    "a new head of zeros",
    random("Bert"),
    "drop cls.**\nadd classifier.weight = zeros([3, 32])\nadd classifier.bias = zeros([3])",
)
case(
    "megatron", random("Llama"),
    """
merge model.layers.{i}.self_attn.q_proj.weight as a, model.layers.{i}.self_attn.k_proj.weight as b,
    model.layers.{i}.self_attn.v_proj.weight as c
    -> decoder.layers.{i}.self_attention.linear_qkv.weight
    = cat(
        rearrange(a, '(g x) c -> g x c', g=2), rearrange(b, '(g x) c -> g x c', g=2),
        rearrange(c, '(g x) c -> g x c', g=2), dim=1,
    ) | rearrange('g x c -> (g x) c')
rename {
  model.layers.{i}.self_attn.o_proj.weight -> decoder.layers.{i}.self_attention.linear_proj.weight
  model.layers.{i}.mlp.down_proj.weight    -> decoder.layers.{i}.mlp.linear_fc2.weight
  model.layers.{i}.input_layernorm.weight  -> decoder.layers.{i}.input_layernorm.weight
  model.layers.{i}.post_attention_layernorm.weight -> decoder.layers.{i}.pre_mlp_layernorm.weight
  model.norm.weight         -> decoder.final_layernorm.weight
  model.embed_tokens.weight -> embedding.word_embeddings.weight
  lm_head.weight            -> output_layer.weight
}
merge model.layers.{i}.mlp.{p:gate|up}_proj.weight over p -> decoder.layers.{i}.mlp.linear_fc1.weight = cat
""",
)  # fmt: skip


def code(name: str, start: Callable[[], State], rules: str) -> Callable[[Callable[[State], State]], None]:
    """Add a case whose new state torch code makes; the rules only say how long they would be."""

    def add(made: Callable[[State], State]) -> None:
        CASES.append(Case(name, start, rules, code=made))

    return add


@code("mha of torch", random("Phi"), "merge …\nmerge …\nrename …")
def _(state: State) -> State:
    """Return q, k and v as nn.MultiheadAttention has them."""
    found: State = OrderedDict()
    for key, tensor in state.items():
        if ".self_attn.q_proj." in key:
            parts = [state[key.replace("q_proj", f"{p}_proj")] for p in "qkv"]
            found[key.replace("q_proj.", "in_proj_")] = torch.cat(parts)
        elif ".self_attn.dense." in key:
            found[key.replace("dense", "out_proj")] = tensor.clone()
        elif "self_attn" not in key:
            found[key] = tensor.clone()
    return found


@code("linear to conv", random("ViT"), "set …")
def _(state: State) -> State:
    """Return linear layers as convolutions of size 1."""
    return {key: t[:, :, None, None].clone() if ".mlp." in key and t.ndim == 2 else t for key, t in state.items()}


@code("lora names", random("Llama"), "rename …\nrename …")
def _(state: State) -> State:
    """Return keys as peft names them around a model, with the base layers of those it adapts."""
    return {
        "base_model.model." + key.replace("q_proj.", "q_proj.base_layer.").replace("v_proj.", "v_proj.base_layer."): t
        for key, t in state.items()
    }


case("adapter as it is saved", adapter, "keep **.lora_{p:A|B}.default.weight\nrename part default -> ''")
case(
    "adapter away",
    adapter,
    "drop **.lora_{p:A|B}.**\nrename part base_layer -> ''\nrename prefix 'base_model.model.' -> ''",
)
case(
    "vae to compvis", autoencoder,
    """
rename {
  encoder.down_blocks.{i}.resnets.{j}.{x:**} -> encoder.down.{i}.block.{j}.{x}
  encoder.down_blocks.{i}.downsamplers.0.{x:**} -> encoder.down.{i}.downsample.{x}
  {s:encoder|decoder}.mid_block.resnets.{j:int}.{x:**} -> {s}.mid.block_{j + 1}.{x}
  {s:encoder|decoder}.conv_norm_out.{x:**} -> {s}.norm_out.{x}
  decoder.up_blocks.{i:int}.resnets.{j}.{x:**} -> decoder.up.{1 - i}.block.{j}.{x}
  decoder.up_blocks.{i:int}.upsamplers.0.{x:**} -> decoder.up.{1 - i}.upsample.{x}
  {s:encoder|decoder}.mid_block.attentions.0.{p:to_q=q|to_k=k|to_v=v|group_norm=norm}.{x:**} -> {s}.mid.attn_1.{p}.{x}
  {s:encoder|decoder}.mid_block.attentions.0.to_out.0.{x:**} -> {s}.mid.attn_1.proj_out.{x}
}
rename part conv_shortcut -> nin_shortcut
set **.attn_1.{p:q|k|v|proj_out}.weight = rearrange('a b -> a b 1 1')
""",
)  # fmt: skip
case(
    "unet, renamed parts",
    unet,
    "rename part attn1 -> self_attn\nrename part attn2 -> cross_attn\nrename part ff.net -> mlp",
)
case("unet, to half", unet, "set ** = cast(f16)")
case("unet, k and v merged", unet, "merge {m:**}.attn2.to_{p:k|v}.weight over p -> {m}.attn2.to_kv.weight = cat(dim=0)")
case("encoder of torch split", encoder,
     "split {m:**}.in_proj_{t} -> {m}.{p:q|k|v}_proj.{t} = chunk(3)")  # fmt: skip
case(
    "encoder of torch to bert", encoder,
    """
split layers.{i}.self_attn.in_proj_{t} -> encoder.layer.{i}.attention.self.{p:query|key|value}.{t} = chunk(3)
rename {
  layers.{i}.self_attn.out_proj.{t} -> encoder.layer.{i}.attention.output.dense.{t}
  layers.{i}.norm1.{t}              -> encoder.layer.{i}.attention.output.LayerNorm.{t}
  layers.{i}.norm2.{t}              -> encoder.layer.{i}.output.LayerNorm.{t}
  layers.{i}.linear1.{t}            -> encoder.layer.{i}.intermediate.dense.{t}
  layers.{i}.linear2.{t}            -> encoder.layer.{i}.output.dense.{t}
}
""",
)  # fmt: skip
case("gates apart", recurrent, "split {w:weight|bias}_{x} -> {p:i|f|g|o}.{w}_{x} = chunk(4)")


@code("gates in another order", recurrent, "set …")
def _(state: State) -> State:
    """Return the gates of an LSTM in the order i, o, f, g."""
    return {key: torch.cat([tensor.chunk(4)[n] for n in (0, 3, 1, 2)]) for key, tensor in state.items()}


@code("swiglu halves exchanged", random("Mixtral"), "set …")
def _(state: State) -> State:
    """Return up before gate."""
    return {key: torch.cat(t.chunk(2, 1)[::-1], 1) if "gate_up" in key else t for key, t in state.items()}


@code("rope of llama by hand", random("Llama"), "set …")
def _(state: State) -> State:
    """Return q and k as transformers' conversion of Llama permutes them."""

    def permuted(w: torch.Tensor, heads: int) -> torch.Tensor:
        return w.view(heads, w.shape[0] // heads // 2, 2, w.shape[1]).transpose(1, 2).reshape(w.shape)

    heads = {"q_proj": 4, "k_proj": 2}
    return {
        key: permuted(t, heads[key.split(".")[-2]]) if key.split(".")[-2] in heads else t for key, t in state.items()
    }
