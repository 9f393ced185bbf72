"""The command line in this process, in a scratch folder, and the files most tests run it on."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from statex.cli import main

MODELS = """
from torch import nn

class Net(nn.Module):
    def __init__(self, width=5):
        super().__init__()
        self.linear = nn.Linear(10, width)
        self.bn = nn.BatchNorm1d(width)

def broken():
    raise ValueError("no model today")

number = 3
"""


def _refuse(constant: str) -> None:
    raise ValueError(f"`{constant}` is no JSON")


@dataclass(frozen=True)
class Ended:
    """How a run ended, and what it printed."""

    exit_code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out, parse_constant=_refuse)


Run = Callable[..., Ended]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run `statex …` in a scratch folder that holds `models.py`."""
    (tmp_path / "models.py").write_text(MODELS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "models", raising=False)

    def call(*arguments: object) -> Ended:
        capsys.readouterr()
        code: object = 0
        try:
            main([str(a) for a in arguments])
        except SystemExit as ended:
            code = ended.code
        text = capsys.readouterr()
        return Ended(code if isinstance(code, int) else 0, text.out, text.err)

    return call


@pytest.fixture
def state(tmp_path: Path) -> dict[str, torch.Tensor]:
    """A small state of three layers, saved as `in.pth`."""
    torch.manual_seed(0)
    made = {f"layers.{i}.{n}.weight": torch.randn(4, 4) for i in range(3) for n in "qkv"}
    made["layers.0.q.bias"] = torch.randn(4).to(torch.bfloat16)
    made["emb.weight"] = torch.randn(7, 4)
    torch.save(made, tmp_path / "in.pth")
    return made
