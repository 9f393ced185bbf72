"""The script that somebody left: python convert.py bert.pth encoder.pth."""

import sys

import torch

state = torch.load(sys.argv[1], weights_only=True)
result = {}
for name in list(state):
    new = name.replace("embeddings.word_embeddings", "tokens").replace("embeddings.position_embeddings", "positions")
    new = new.replace("embeddings.token_type_embeddings", "kinds").replace("embeddings.LayerNorm", "norm")
    new = new.replace("encoder.layer.", "blocks.layers.").replace("attention.output.dense", "self_attn.out_proj")
    new = new.replace("attention.output.LayerNorm", "norm1").replace("output.LayerNorm", "norm2")
    new = new.replace("intermediate.dense", "linear1").replace("output.dense", "linear2")
    if ".attention.self." not in new:
        result[new] = state[name]
    elif ".query." in new:
        parts = [state[name.replace("query", other)] for other in ("query", "key", "value")]
        base, kind = new.split(".attention.self.query.")
        result[f"{base}.self_attn.in_proj_{kind}"] = torch.cat(parts)
torch.save(result, sys.argv[2])
