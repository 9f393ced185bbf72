"""A small classifier: what is trained, what is served, and the files that a pipeline begins with.

python models.py     # writes base/, runs/ and head.pth
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

CONFIG = {"model_type": "tiny", "encoder": {"hidden_size": 16, "num_attention_heads": 4, "layers": 2}}


class Layer(nn.Module):
    """A layer as it is trained: queries, keys and values in one matrix, head by head."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.qkv = nn.Linear(width, 3 * width)
        self.mlp = nn.Linear(width, width)


class Trained(nn.Module):
    """The model as it is trained."""

    def __init__(self) -> None:
        super().__init__()
        width = CONFIG["encoder"]["hidden_size"]
        self.layers = nn.ModuleList(Layer(width) for _ in range(CONFIG["encoder"]["layers"]))
        self.norm = nn.BatchNorm1d(width)


class ServedLayer(nn.Module):
    """A layer as it is served: three matrices."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.q_proj = nn.Linear(width, width)
        self.k_proj = nn.Linear(width, width)
        self.v_proj = nn.Linear(width, width)
        self.mlp = nn.Linear(width, width)


class Served(nn.Module):
    """The model as it is served: an encoder in bfloat16, and a head."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        width = CONFIG["encoder"]["hidden_size"]
        self.encoder = nn.Module()
        self.encoder.layers = nn.ModuleList(ServedLayer(width) for _ in range(CONFIG["encoder"]["layers"]))
        self.encoder.norm = nn.BatchNorm1d(width)
        self.encoder.bfloat16()
        self.head = nn.Linear(width, classes)


class Head(nn.Module):
    """The head alone."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.head = nn.Linear(CONFIG["encoder"]["hidden_size"], classes)


def save(folder: Path) -> None:
    """Write the checkpoints that the pipeline reads."""
    torch.manual_seed(0)
    (folder / "base").mkdir(exist_ok=True)
    (folder / "runs").mkdir(exist_ok=True)
    save_file(Trained().state_dict(), folder / "base" / "model.safetensors")
    (folder / "base" / "config.json").write_text(json.dumps(CONFIG, indent=2))
    for number in (1, 2):
        torch.save(Trained().state_dict(), folder / "runs" / f"{number}.pth")
    torch.save({"epoch": 3, "model": nn.Linear(16, 5).state_dict()}, folder / "head.pth")


if __name__ == "__main__":
    save(Path())
