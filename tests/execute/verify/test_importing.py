"""Targets in files, named by their paths: imported once, under names of their own."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from statex.execute.verify.target import build_target
from tests.cli.conftest import MODELS, Run, run

__all__ = ["run"]

NET = """
from __future__ import annotations
import dataclasses, json
import torch
from beside_it import WIDTH

@dataclasses.dataclass
class Config:
    width: int = WIDTH

COUNT = []
COUNT.append(1)

class Net(torch.nn.Linear):
    def __init__(self, width: int = Config().width):
        super().__init__(2, width)

class outer:
    Inner = Net
"""


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "json.py").write_text(NET)
    (tmp_path / "beside_it.py").write_text("WIDTH = 3")
    return tmp_path / "json.py"


def test_a_file_by_its_path(file: Path) -> None:
    import json

    target = build_target(f"{file}:Net")
    assert {key: info.type.shape for key, info in target.header.entries.items()} == {"weight": (3, 2), "bias": (3,)}
    assert target.name == "Net"
    assert sys.modules["json"] is json
    again = build_target(f"{file}:outer.Inner", {"width": 5})
    assert again.header.entries["weight"].type.shape == (5, 2)
    assert type(again.module) is type(target.module)
    assert sys.modules[type(again.module).__module__].COUNT == [1]


def test_files_of_one_name_are_two_modules(tmp_path: Path) -> None:
    for width in (1, 2):
        (tmp_path / str(width)).mkdir()
        (tmp_path / str(width) / "net.py").write_text(f"import torch\ndef net(): return torch.nn.Linear({width}, 1)")
    shapes = [build_target(f"{tmp_path}/{n}/net.py:net").header.entries["weight"].type.shape for n in (1, 2)]
    assert shapes == [(1, 1), (1, 2)]


def test_every_command_takes_files(run: Run, tmp_path: Path) -> None:
    Path("deep-er").mkdir()
    Path("deep-er/my models.py").write_text(MODELS)
    spec = "deep-er/my models.py:Net"
    model = torch.nn.Sequential()
    model.add_module("linear", torch.nn.Linear(10, 5))
    model.add_module("bn", torch.nn.BatchNorm1d(5))
    torch.save(model.state_dict(), "net.pth")
    assert run("verify", "net.pth", "--target", spec).exit_code == 0
    assert run("plan", "-e", "", "net.pth", "--target", spec).exit_code == 0
    assert run("check", "-e", "", "net.pth", "--target", spec).exit_code == 0
    assert run("apply", "-e", "", "net.pth", "out.pth", "--target", spec).exit_code == 0
    assert "parameter" in run("show", "net.pth", "--target", spec).out
    assert run("verify", "net.pth", "--target", spec, "--target-arg", "width=6").exit_code == 1
