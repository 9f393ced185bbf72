"""transformers' BERT, and the encoder of a team that moved from it to torch's own layers."""

from __future__ import annotations

import torch
from torch import nn
from transformers import BertConfig, BertModel

VOCAB, WIDTH, HEADS, INNER, POSITIONS = 97, 32, 4, 48, 24


def bert(layers: int = 3) -> BertModel:
    """Return an untrained BERT."""
    config = BertConfig(
        vocab_size=VOCAB,
        hidden_size=WIDTH,
        num_hidden_layers=layers,
        num_attention_heads=HEADS,
        intermediate_size=INNER,
        max_position_embeddings=POSITIONS,
        type_vocab_size=2,
        layer_norm_eps=1e-5,  # as torch's layers have it
    )
    return BertModel(config, add_pooling_layer=False)


class Encoder(nn.Module):
    """The same computation by `nn.TransformerEncoder`, for single texts."""

    def __init__(self, layers: int = 3) -> None:
        super().__init__()
        self.tokens = nn.Embedding(VOCAB, WIDTH)
        self.positions = nn.Embedding(POSITIONS, WIDTH)
        self.kinds = nn.Embedding(2, WIDTH)
        self.norm = nn.LayerNorm(WIDTH)
        layer = nn.TransformerEncoderLayer(WIDTH, HEADS, INNER, activation="gelu", batch_first=True)
        self.blocks = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Return the last hidden states, shape (batch, length, WIDTH), of tokens, shape (batch, length)."""
        places = torch.arange(tokens.shape[1])
        hidden = self.tokens(tokens) + self.positions(places) + self.kinds.weight[0]
        return self.blocks(self.norm(hidden))
