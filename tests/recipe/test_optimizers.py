"""Optimizers in recipes: beside the state of several outputs, and in files of their own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from tests.cli.conftest import Run, run

__all__ = ["run"]

RULES = "rules: ['merge q.{t} as q, k.{t} as k -> qk.{t} = cat(q, k)']\n"


@pytest.fixture
def saved(run: Run) -> Any:
    """Save a model and its optimizer in one file and in two, and return the optimizer's state."""
    torch.manual_seed(0)
    model = nn.ModuleDict({name: nn.Linear(3, 3) for name in ("q", "k", "out")})
    optimizer = torch.optim.Adam(model.parameters())
    for p in model.parameters():
        p.grad = torch.randn_like(p)
    optimizer.step()
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, "in.pt")
    save_file(model.state_dict(), "model.safetensors")
    torch.save(optimizer.state_dict(), "optimizer.pt")
    Path("names.json").write_text(json.dumps([*model.state_dict()]))
    return optimizer.state_dict()["state"]


def test_each_output_has_the_optimizer_of_its_own_parameters(run: Run, saved: Any) -> None:
    Path("recipe.yaml").write_text(
        f"statex: 1\ninputs: {{main: {{path: in.pt, root: model}}}}\n{RULES}"
        "outputs: {all: {path: all.pt}, some: {path: some.pt, keep: 'out.**'}}\n"
    )
    done = run("run", "recipe.yaml")
    assert (done.exit_code, done.err) == (0, "")
    every, some = torch.load("all.pt")["optimizer"], torch.load("some.pt")["optimizer"]
    assert every["param_groups"][0]["params"] == [0, 1, 2, 3]
    assert some["param_groups"][0]["params"] == [0, 1]
    assert torch.equal(some["state"][0]["exp_avg"], saved[4]["exp_avg"])
    assert torch.equal(every["state"][0]["exp_avg"], torch.cat([saved[0]["exp_avg"], saved[2]["exp_avg"]]))


def test_a_file_of_its_own(run: Run, saved: Any) -> None:
    Path("recipe.yaml").write_text(
        f"statex: 1\ninputs: {{main: model.safetensors}}\n{RULES}param_names: names.json\n"
        "outputs: {moments: {path: new.pt, optimizer: optimizer.pt}, full: {path: new.safetensors}}\n"
        "policy: {unchanged: skip}\nreport: report.json\n"
    )
    done = run("run", "recipe.yaml")
    assert (done.exit_code, done.err) == (0, "")
    new = torch.load("new.pt")
    assert torch.equal(new["state"][1]["exp_avg"], torch.cat([saved[1]["exp_avg"], saved[3]["exp_avg"]]))
    report = json.loads(Path("report.json").read_text())
    assert [one["followed"] for one in report["followed"]] == [4]
    assert report["inputs"]["moments"][0]["path"] == "optimizer.pt"
    assert "nothing has changed" in run("run", "recipe.yaml").out
    assert "the input `moments`" in run("plan", "recipe.yaml").out
    Path("names.json").write_text(json.dumps([list(json.loads(Path("names.json").read_text()))]))
    assert "nothing has changed" not in run("run", "recipe.yaml").out
    torch.save({"state": {}, "param_groups": [{"params": [*range(6)]}]}, "optimizer.pt")
    assert run("run", "recipe.yaml").exit_code == 0
    assert torch.load("new.pt")["state"] == {}


def test_an_output_is_one_or_the_other(run: Run, saved: Any) -> None:
    Path("recipe.yaml").write_text(
        "statex: 1\ninputs: {main: in.pt}\noutputs: {a: {path: a.pt}, b: {path: b.pt, optimizer: o.pt, keep: '**'}}\n"
    )
    done = run("check", "recipe.yaml")
    assert done.exit_code == 2
    assert "`outputs.b` takes `optimizer` or `keep`, and has both" in done.err
