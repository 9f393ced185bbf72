"""The encoder as its earlier releases had it; `saved(layout)` is what these saved."""

from __future__ import annotations

import torch
from torch import nn

HEADS = 4


class Attention(nn.Module):
    def __init__(self, width: int, fused: bool) -> None:
        super().__init__()
        self.fused = fused
        if fused:
            self.qkv = nn.Linear(width, 3 * width)
        else:
            self.q, self.k, self.v = (nn.Linear(width, width) for _ in range(3))
        self.out = nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, length, width = x.shape
        if self.fused:
            q, k, v = self.qkv(x).view(batch, length, HEADS, 3, width // HEADS).permute(3, 0, 2, 1, 4)
        else:
            q, k, v = (one(x).view(batch, length, HEADS, -1).transpose(1, 2) for one in (self.q, self.k, self.v))
        seen = nn.functional.scaled_dot_product_attention(q, k, v)
        return self.out(seen.transpose(1, 2).reshape(batch, length, width))


class Block(nn.Module):
    def __init__(self, width: int, layout: int) -> None:
        super().__init__()
        self.first, self.second = ("ln_1", "ln_2") if layout == 0 else ("attention_norm", "mlp_norm")
        self.add_module(self.first, nn.LayerNorm(width))
        self.attention = Attention(width, fused=layout == 2)
        self.add_module(self.second, nn.LayerNorm(width))
        self.mlp = nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.attention(getattr(self, self.first)(x))
        return x + self.mlp(getattr(self, self.second)(x)).relu()


class Encoder(nn.Module):
    """The encoder of layout 0 (release 0.1), 1 (0.2) or 2 (0.3)."""

    position_ids: torch.Tensor

    def __init__(self, layout: int, width: int = 16, classes: int = 3, depth: int = 2, length: int = 8) -> None:
        super().__init__()
        self.name = "blocks" if layout == 0 else "layers"
        self.embed = nn.Embedding(32, width)
        self.position = nn.Embedding(length, width)
        self.register_buffer("position_ids", torch.arange(length))
        self.add_module(self.name, nn.ModuleList(Block(width, layout) for _ in range(depth)))
        self.norm = nn.BatchNorm1d(width)
        self.head = nn.Linear(width, classes)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.embed(tokens) + self.position(self.position_ids[: tokens.shape[1]])
        for block in getattr(self, self.name):
            x = block(x)
        return self.head(self.norm(x.mean(dim=1)))
