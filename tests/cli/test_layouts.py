"""`statex plan --layout`: which bytes would stand where."""

from __future__ import annotations

from pathlib import Path

import torch

from tests.checkpoint.blobs.test_write_plan import RULES, STATE
from tests.cli.conftest import Run


def test_the_command_prints_it(run: Run) -> None:
    torch.save(STATE, "in.pth")
    printed = run("plan", "-e", RULES, "in.pth", "--layout", "--format", "safetensors").out
    assert "in.safetensors: 25.0 KiB\n" in printed
    as_json = run("plan", "-e", RULES, "in.pth", "--layout", "--json", "--format", "safetensors").json["layout"]
    run("apply", "-e", RULES, "in.pth", "out.safetensors")
    assert as_json["bytes"] == Path("out.safetensors").stat().st_size
    for part in as_json["files"][0]["parts"]:
        for key in part["keys"]:
            assert f"{part['offset']:>14}  {part['bytes']:>12}  {key}\n" in printed


def test_the_command_prints_that_of_a_recipe(run: Run) -> None:
    torch.save(STATE, "in.pth")
    Path("r.yaml").write_text(
        "statex: 1\ninputs: {main: in.pth}\noutputs:\n  a: a.npz\n  b: {path: b/, shard_size: 5000}\n"
    )
    as_json = run("plan", "r.yaml", "--layout", "--json").json["layouts"]
    printed = run("plan", "r.yaml", "--layout").out
    run("run", "r.yaml")
    sizes = {file["name"]: file["bytes"] for one in as_json.values() for file in one["files"]}
    assert sizes == {path.name: path.stat().st_size for path in [Path("a.npz"), *Path("b").iterdir()]}
    assert "\na.npz: " in printed
    assert f"\nb/{next(iter(name for name in sizes if name.startswith('pytorch_model-00002')))}: " in printed
