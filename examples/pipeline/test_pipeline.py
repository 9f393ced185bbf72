"""The recipe against torch by hand, and what runs it: make, and the steps of the workflow."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from conftest import Run, assert_same_state, shell
from pipeline import models
from safetensors.torch import load_file

HERE = Path(__file__).parent
RUN = ("run", "recipe.yaml", "--allow-import")
NOTHING = "nothing has changed since the last run: nothing to do\n"


def copied(folder: Path) -> None:
    """Copy what a person would copy."""
    left = shutil.ignore_patterns("test_*", "__pycache__", "README.md")
    shutil.copytree(HERE, folder, ignore=left, dirs_exist_ok=True)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """The example in a scratch folder, with its data."""
    copied(tmp_path)
    models.save(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example after a run, for tests that only look at it."""
    folder = tmp_path_factory.mktemp("done")
    copied(folder)
    models.save(folder)
    said = shell("statex run recipe.yaml --allow-import", folder)
    assert "full: verified against Served: all 23 keys agree" in said
    assert "head: verified against Head: all 2 keys agree" in said
    return folder


def souped(folder: Path, w: float = 0.5) -> dict[str, torch.Tensor]:
    """The base, moved by `w` towards the mean of the runs."""
    base = load_file(folder / "base" / "model.safetensors")
    runs = [torch.load(folder / "runs" / f"{number}.pth", weights_only=True) for number in (1, 2)]
    return {
        key: (1 - w) * it + w * torch.stack([run[key] for run in runs]).mean(0) if it.is_floating_point() else it
        for key, it in base.items()
    }


def expected(folder: Path, w: float = 0.5) -> dict[str, torch.Tensor]:
    """What the recipe has to give, in torch."""
    state = {}
    for key, it in souped(folder, w).items():
        value = it.bfloat16() if it.is_floating_point() else it
        if ".qkv." in key:
            parts = value.unflatten(0, (models.HEADS, 3, -1)).unbind(1)
            for name, part in zip("qkv", parts, strict=True):
                state["encoder." + key.replace("qkv", f"{name}_proj")] = part.flatten(0, 1)
        else:
            state["encoder." + key] = value
    return state | head(folder)


def head(folder: Path) -> dict[str, torch.Tensor]:
    found = torch.load(folder / "head.pth", weights_only=True)["model"]
    return {f"head.{name}": value for name, value in found.items()}


def sharded(folder: Path) -> dict[str, torch.Tensor]:
    """A set of shards, by its index."""
    index: dict[str, str] = json.loads((folder / "model.safetensors.index.json").read_text())["weight_map"]
    shards = {name: load_file(folder / name) for name in set(index.values())}
    assert {(key, name) for name, shard in shards.items() for key in shard} == set(index.items())
    return {key: shards[name][key] for key, name in index.items()}


def times(folder: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in (folder / "out").rglob("*")}


def test_both_outputs_to_the_bit(done: Path) -> None:
    full = sharded(done / "out" / "model")
    assert_same_state(full, expected(done))
    assert len(list((done / "out" / "model").glob("*.safetensors"))) == 3
    assert (done / "out" / "model" / "config.json").read_bytes() == (done / "base" / "config.json").read_bytes()
    alone = torch.load(done / "out" / "head.pth", weights_only=True)
    assert_same_state(alone, head(done))
    assert str(models.Served(models.CLASSES).load_state_dict(full)) == "<All keys matched successfully>"
    assert str(models.Head(models.CLASSES).load_state_dict(alone)) == "<All keys matched successfully>"


def test_the_models_agree_on_outputs(done: Path) -> None:
    encoder, head = models.Encoder().eval(), models.Head(models.CLASSES).eval()
    rounded = {key: it.bfloat16().float() if it.is_floating_point() else it for key, it in souped(done).items()}
    encoder.load_state_dict(rounded)
    head.load_state_dict(torch.load(done / "out" / "head.pth", weights_only=True))
    served = models.Served(models.CLASSES).eval()
    served.load_state_dict(sharded(done / "out" / "model"))
    x = torch.randn(4, 7, models.WIDTH)
    with torch.no_grad():
        torch.testing.assert_close(served.float()(x), head(encoder(x)))
        torch.testing.assert_close(served.bfloat16()(x.bfloat16()).float(), head(encoder(x)), rtol=0.1, atol=0.1)


def test_the_second_run_does_nothing(statex: Run, project: Path) -> None:
    statex(*RUN)
    before = times(project)
    assert statex(*RUN).stdout.startswith(NOTHING)
    assert times(project) == before
    statex(*RUN, "-D", "w=0.3")
    assert_same_state(sharded(project / "out" / "model"), expected(project, w=0.3))


def test_without_leave_to_import_nothing_is_written(statex: Run, project: Path) -> None:
    assert "--allow-import" in statex("run", "recipe.yaml", exit_code=2).stderr
    assert not (project / "out").exists()
    assert "not checked against models:Served" in statex("check", "recipe.yaml").stdout


def test_make(tmp_path: Path) -> None:
    copied(tmp_path)
    assert "full: wrote out/model" in shell("make", tmp_path)
    assert_same_state(sharded(tmp_path / "out" / "model"), expected(tmp_path))
    first = times(tmp_path)
    assert NOTHING in shell("make", tmp_path)
    assert times(tmp_path) == first
    # A date alone is no reason to run.
    os.utime(tmp_path / "rules" / "soup.sx")
    assert NOTHING in shell("make", tmp_path)
    assert times(tmp_path) == first
    rule = tmp_path / "rules" / "soup.sx"
    rule.write_text(rule.read_text().replace("(1 - w) * it + w * mean", "w * it + (1 - w) * mean"))
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(recipe.read_text().replace("w: 0.5", "w: 0.75"))
    assert "full: wrote out/model" in shell("make", tmp_path)
    assert_same_state(sharded(tmp_path / "out" / "model"), expected(tmp_path, w=0.25))
    assert all(times(tmp_path)[name] > first[name] for name in first if name.endswith(("keys.txt", "report.json")))
    assert "encoder.layers.{0..1}.q_proj.weight" in (tmp_path / "out" / "keys.txt").read_text()
    assert "writes  out/model" in shell("make plan", tmp_path)
    # What fails leaves all as it was.
    last = times(tmp_path)
    rule.write_text(rule.read_text().replace("runs::{key}", "runs::{kye}"))
    assert "rules/soup.sx:4" in shell("make", tmp_path, exit_code=2)
    assert times(tmp_path) == last


def workflow() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((HERE / ".github" / "workflows" / "convert.yml").read_text())
    return found


def test_the_workflow_has_the_form_of_one() -> None:
    found = workflow()
    assert set(found) == {"name", True, "permissions", "jobs"}  # `on` is true to YAML 1.1
    assert set(found[True]) == {"pull_request", "push"}
    (job,) = found["jobs"].values()
    assert job["runs-on"] == "ubuntu-latest"
    for step in job["steps"]:
        assert ("uses" in step) != ("run" in step)
        assert set(step) <= {"name", "if", "uses", "with", "run"}
        assert re.fullmatch(r"actions/[a-z-]+@v\d+", step.get("uses", "actions/checkout@v4"))
    installed = [step["run"] for step in job["steps"] if "pip install" in step.get("run", "")]
    assert installed[-1] == "pip install -r requirements.txt"
    assert "statex" in (HERE / "requirements.txt").read_text().split()


def test_the_steps_of_the_workflow_run(project: Path) -> None:
    (job,) = workflow()["jobs"].values()
    commands = [step["run"] for step in job["steps"] if step.get("run", "").startswith("statex ")]
    assert [command.split()[1] for command in commands] == ["check", "plan", "run"]
    summary = project / "summary.md"
    said = [shell(command, project, GITHUB_STEP_SUMMARY=str(summary)) for command in commands]
    assert "10 statements, 2 outputs: no errors" in said[0]
    assert all(line.startswith("    ") for line in summary.read_text().splitlines())
    assert "      writes  out/model" in summary.read_text()
    assert_same_state(sharded(project / "out" / "model"), expected(project))


def test_outputs_that_come_from_a_cache_are_known_again(done: Path, tmp_path: Path) -> None:
    shutil.copytree(done, tmp_path, copy_function=shutil.copyfile, dirs_exist_ok=True)  # with dates of their own
    assert shell("statex run recipe.yaml --allow-import", tmp_path).startswith(NOTHING)


def test_the_readme_shows_commands_that_run(project: Path) -> None:
    readme = (HERE / "README.md").read_text()
    shown = re.findall(r"^    ((?:python|statex) .*?)(?: +#.*)?$", readme, re.M)
    assert len(shown) == 4
    assert [shell(command, project) for command in shown][-1].startswith(NOTHING)
    assert shell("statex schema > recipe.schema.json", project) == ""
