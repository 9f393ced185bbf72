"""Objects that statex does not load, on the command line and in recipes."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest
import torch

from tests.cli.conftest import Run


class Config:
    """A class that only this test has."""


NAME = f"{Config.__module__}.Config"


@pytest.fixture(autouse=True)
def saved(tmp_path: Path) -> Path:
    state = torch.nn.Linear(3, 2).state_dict()
    content = {"state_dict": state, "args": argparse.Namespace(lr=1), "config": Config(), "hyper": {"cfg": Config()}}
    torch.save(content, tmp_path / "in.pth")
    return tmp_path / "in.pth"


def test_show(run: Run) -> None:
    shown = run("show", "in.pth")
    assert "around the state: args (<argparse.Namespace>)" in shown.out
    assert f"around the state: config (<{NAME}>)" in shown.out
    assert "args.lr = 1" in shown.out
    assert run("show", "in.pth", "--json").json["foreign"] == {"args": "argparse.Namespace", "config": NAME}


def test_apply_stops_and_names_both_ways(run: Run) -> None:
    stopped = run("apply", "-e", "rename weight -> w", "in.pth", "out.pth")
    assert stopped.exit_code == 3
    assert stopped.err == (
        "error[SX640]: `in.pth` holds objects that only code of their authors can load\n"
        f"    config     <{NAME}>\n"
        f"    hyper.cfg  <{NAME}>\n"
        "  = note: statex does not load them; it can leave them out, or write them as they were read\n"
        "  = help: drop value('config'); drop value('hyper.cfg')\n"
        "  = help: --keep-foreign\n"
    )
    assert not Path("out.pth").exists()


def test_keep_foreign(run: Run) -> None:
    kept = run("apply", "-e", "rename weight -> w", "in.pth", "out.pth", "--keep-foreign")
    assert kept.exit_code == 0
    assert "as dangerous to `torch.load(weights_only=False)` as it was in the input" in kept.err
    found = torch.load("out.pth", weights_only=False)
    assert list(found["state_dict"]) == ["w", "bias"]
    assert type(found["hyper"]["cfg"]) is Config
    assert run("apply", "-e", "", "in.pth", "b.pth", "--keep-foreign", "-W", "error").exit_code == 1


def test_recipes(run: Run) -> None:
    recipe = "statex: 1\ninputs: {main: in.pth}\nrules: ['rename weight -> w']\noutputs: out.pth\n"
    Path("recipe.yaml").write_text(recipe)
    stopped = run("run", "recipe.yaml")
    assert stopped.exit_code == 3
    assert "policy: {keep_foreign: true}" in stopped.err
    assert run("plan", "recipe.yaml").exit_code == 3
    Path("recipe.yaml").write_text(recipe + "policy: {keep_foreign: true}\n")
    assert "SX912" in run("run", "recipe.yaml").err
    assert type(torch.load("out.pth", weights_only=False)["config"]) is Config
