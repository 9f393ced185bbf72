"""A small classifier of sequences, as it is trained and as it is served.

As a script this writes what the pipeline begins with: base/, runs/ and head.pth.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn.functional import scaled_dot_product_attention

WIDTH, HEADS, LAYERS, CLASSES = 16, 4, 2, 5


class TrainedLayer(nn.Module):
    """A layer as it is trained: queries, keys and values in one matrix, head by head."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH)
        self.mlp = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = self.qkv(x).unflatten(-1, (HEADS, 3, -1)).permute(3, 0, 2, 1, 4)
        return x + self.mlp(scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class ServedLayer(nn.Module):
    """A layer as it is served: three matrices."""

    def __init__(self) -> None:
        super().__init__()
        self.q_proj = nn.Linear(WIDTH, WIDTH)
        self.k_proj = nn.Linear(WIDTH, WIDTH)
        self.v_proj = nn.Linear(WIDTH, WIDTH)
        self.mlp = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        projected = (self.q_proj(x), self.k_proj(x), self.v_proj(x))
        q, k, v = (one.unflatten(-1, (HEADS, -1)).transpose(1, 2) for one in projected)
        return x + self.mlp(scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class Encoder(nn.Module):
    """Layers of either kind, and the mean over the sequence, normed."""

    def __init__(self, layer: type[nn.Module] = TrainedLayer) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layer() for _ in range(LAYERS))
        self.norm = nn.BatchNorm1d(WIDTH)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            x = layer(x)
        return self.norm(x.mean(dim=1))


class Served(nn.Module):
    """The model as it is served: an encoder in bfloat16, and a head."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.encoder = Encoder(ServedLayer).bfloat16()
        self.head = nn.Linear(WIDTH, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.encoder(x).to(self.head.weight.dtype))


class Head(nn.Module):
    """The head alone."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.head = nn.Linear(WIDTH, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(x)


def trained() -> dict[str, torch.Tensor]:
    """Return the state of an encoder whose running statistics have moved."""
    encoder = Encoder()
    encoder(torch.randn(8, 3, WIDTH))
    return encoder.state_dict()


def save(folder: Path) -> None:
    """Write the checkpoints that the pipeline reads."""
    torch.manual_seed(0)
    for name in ("base", "runs"):
        (folder / name).mkdir(exist_ok=True)
    save_file(trained(), folder / "base" / "model.safetensors")
    config = {"model_type": "tiny", "encoder": {"hidden_size": WIDTH, "num_attention_heads": HEADS}}
    (folder / "base" / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    for number in (1, 2):
        torch.save(trained(), folder / "runs" / f"{number}.pth")
    torch.save({"epoch": 3, "model": nn.Linear(WIDTH, CLASSES).state_dict()}, folder / "head.pth")


if __name__ == "__main__":
    save(Path())
