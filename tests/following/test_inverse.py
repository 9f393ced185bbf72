"""The inverse of rules takes back what followed them, too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

import statex

RULES = """root 'model' -> 'net'
follow 'optimizer', 'ema'
merge q.{t} as q, k.{t} as k -> qk.{t} = cat(q, k)
set out.weight = transpose
rename out.{t} -> head.{t}
"""


def test_there_and_back(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = nn.ModuleDict({"q": nn.Linear(3, 3), "k": nn.Linear(3, 3), "out": nn.Linear(3, 2)})
    optimizer = torch.optim.Adam(model.parameters())
    for p in model.parameters():
        p.grad = torch.randn_like(p)
    optimizer.step()
    ema = {key: torch.randn_like(tensor) for key, tensor in model.state_dict().items()}
    checkpoint = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "ema": ema}
    torch.save(checkpoint, tmp_path / "in.pt")
    rules = statex.compile(RULES)
    back = rules.inverse(tmp_path / "in.pt").text
    assert "follow 'optimizer', 'ema'" in back.splitlines()
    statex.convert(tmp_path / "in.pt", tmp_path / "out.pt", rules)
    statex.convert(tmp_path / "out.pt", tmp_path / "again.pt", statex.compile(back))
    again = torch.load(tmp_path / "again.pt")
    held(again["ema"], ema)
    held(again["model"], checkpoint["model"])
    assert again["optimizer"]["param_groups"] == checkpoint["optimizer"]["param_groups"]
    for id, entry in checkpoint["optimizer"]["state"].items():
        held(again["optimizer"]["state"][id], entry)


def held(one: Any, other: Any) -> None:
    assert {*one} == {*other}
    for key, tensor in other.items():
        assert torch.equal(one[key], tensor), key
