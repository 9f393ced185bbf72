"""A small encoder that loads the checkpoints of all of its releases."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

import statex

CHAIN = statex.migrations(Path(__file__).parent / "migrations")
HEADS = 4


class Attention(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, length, width = x.shape
        q, k, v = self.qkv(x).view(batch, length, HEADS, 3, width // HEADS).permute(3, 0, 2, 1, 4)
        seen = nn.functional.scaled_dot_product_attention(q, k, v)
        return self.out(seen.transpose(1, 2).reshape(batch, length, width))


class Layer(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(width)
        self.attention = Attention(width)
        self.mlp_norm = nn.LayerNorm(width)
        self.mlp = nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.attention(self.attention_norm(x))
        return x + self.mlp(self.mlp_norm(x)).relu()


class Classifier(nn.Module):
    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(width)
        self.linear = nn.Linear(width, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(self.norm(x))


class Encoder(nn.Module):
    """The encoder of release 0.4: layout 3."""

    def __init__(self, width: int = 16, classes: int = 3, depth: int = 2, length: int = 8) -> None:
        super().__init__()
        self.embed = nn.Embedding(32, width)
        self.position = nn.Embedding(length, width)
        self.layers = nn.ModuleList(Layer(width) for _ in range(depth))
        self.classifier = Classifier(width, classes)
        statex.attach(self, CHAIN, heads=HEADS)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.embed(tokens) + self.position(torch.arange(tokens.shape[1], device=tokens.device))
        for layer in self.layers:
            x = layer(x)
        return self.classifier(x.mean(dim=1))
