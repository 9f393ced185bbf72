"""`statex apply --reversible`: what it writes makes the input of the output again, by the command that it prints."""

from __future__ import annotations

import json
import os
import shlex
import shutil
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

import statex
from tests.cli.conftest import Run

RULES = """\
# The projections stand in one tensor now.
merge layers.{i}.q, layers.{i}.k -> layers.{i}.qk = cat
set embed = it[:2]
drop layers.*.unused
"""


def state() -> OrderedDict[str, torch.Tensor]:
    torch.manual_seed(0)
    found = OrderedDict((f"layers.{i}.{name}", torch.randn(3, 4)) for i in range(2) for name in ("q", "k", "unused"))
    found["embed"] = torch.randn(5, 4)
    return found


def read(path: str) -> Any:
    with statex.open(path) as found:
        return {key: found[key].clone() for key in found}


def undone(run: Run, out: str) -> dict[str, torch.Tensor]:
    """Carry out the printed command, with another name for what it makes, and return that."""
    command = next(line for line in out.splitlines() if line.startswith("  to undo it: "))
    words = shlex.split(command.removeprefix("  to undo it: "))
    assert (words[:2], words[4]) == (["statex", "apply"], "in.pth")
    assert run(*words[1:4], "again.pth", *words[5:]).exit_code == 0
    return read("again.pth")


@pytest.mark.parametrize("output", ["out.pth", "out.safetensors", "folder/", "out.npz"])
@pytest.mark.parametrize("wrap", [False, True])
def test_the_printed_command_makes_the_input_again(output: str, wrap: bool, run: Run) -> None:
    torch.save({"model": state(), "epoch": 3} if wrap else state(), "in.pth")
    Path("rules.sx").write_text(("root 'model' -> ''\n" if wrap else "") + RULES)
    ended = run("apply", "rules.sx", "in.pth", output, "--reversible", "--format", *_format(output))
    assert (ended.exit_code, ended.err.count("error")) == (0, 0)
    name = output.rstrip("/").partition(".")[0]
    assert f"wrote {name}.back.sx and {name}.lost.safetensors" in ended.out
    assert ("  not undone: what is changed around the state: epoch\n" in ended.out) == wrap
    lost = read(f"{name}.lost.safetensors")
    assert set(lost) == {"layers.0.unused", "layers.1.unused", "embed"}
    assert torch.equal(lost["embed"], state()["embed"][2:])
    assert "  3 tensors come from the input `lost`, 1 of them in part: 144 B of 176 B\n" in ended.out
    text = Path(f"{name}.back.sx").read_text()
    assert text.startswith(f"# statex apply {name}.back.sx {output.rstrip('/')} in.pth --in lost=")
    assert "# The projections stand in one tensor now." in text
    back = undone(run, ended.out)
    assert set(back) == set(state())
    assert all(torch.equal(back[key], value) for key, value in state().items())


def _format(output: str) -> list[str]:
    return [{"pth": "torch", "npz": "npz"}.get(output.rpartition(".")[2], "safetensors")]


def test_what_loses_nothing_needs_no_further_file(run: Run) -> None:
    torch.save({"one": {"w": torch.ones(2)}, "two": {"w": torch.zeros(2)}}, "in.pth")
    ended = run("apply", "-e", "rename w -> v", "in.pth", "out.pth", "--reversible", "--root", "two")
    assert ended.exit_code == 0
    assert not Path("out.lost.safetensors").exists()
    assert "  to undo it: statex apply out.back.sx out.pth in.pth --root two" in ended.out
    assert run("apply", "out.back.sx", "out.pth", "again.pth", "--root", "two").exit_code == 0
    again = torch.load("again.pth", weights_only=True)
    assert list(again["two"]) == ["w"]


@pytest.mark.parametrize("name", ["a\ndrop **\n.pth", "a\x85drop **", "-in.pth", "in\udcff.pth"])
def test_names_of_files_are_neither_rules_nor_options(name: str, run: Run) -> None:
    torch.save({"w": torch.ones(2)}, name)
    done = statex.convert(name, "out.pth", "rename w -> v", reversible=True)
    assert done.reversal is not None
    assert statex.compile(Path("out.back.sx")).apply({"v": torch.ones(2)}).keys() == {"w"}
    words = shlex.split(done.reversal.command)
    Path(name).unlink()
    assert run(*words[1:]).exit_code == 0
    assert read(name).keys() == {"w"}


@pytest.mark.parametrize("source", ["folder", "folder/model.safetensors.index.json"])
@pytest.mark.parametrize("output", ["out.pth", "out.safetensors", "out/"])
def test_a_folder_comes_back_as_one(source: str, output: str, run: Run) -> None:
    torch.save({"v": torch.ones(2), "w": torch.ones(3)}, "in.pth")
    split = ["--format", "safetensors", "--shard-size", "8"]
    assert run("apply", "-e", "rename v -> u", "in.pth", "folder/", *split).exit_code == 0
    ended = run("apply", "-e", "rename w -> x", source, output, "--reversible")
    shutil.rmtree("folder")
    command = next(line for line in ended.out.splitlines() if line.startswith("  to undo it: "))
    assert run(*shlex.split(command.removeprefix("  to undo it: "))[1:]).exit_code == 0
    assert read("folder").keys() == {"u", "w"}
    assert any(name.endswith(".safetensors") for name in os.listdir("folder"))


@pytest.mark.parametrize("options", [["--copy-files"], ["--copy-files", "--no-update-config"], []])
def test_files_that_were_copied_along_are_copied_back(options: list[str], run: Run) -> None:
    Path("folder").mkdir()
    save_file({"w": torch.ones(3)}, "folder/model.safetensors")
    Path("folder/config.json").write_text('{"torch_dtype": "float32"}')
    ended = run("apply", "-e", "set w = cast(bf16)", "folder/", "out/", "--reversible", *options)
    shutil.rmtree("folder")
    command = next(line for line in ended.out.splitlines() if line.startswith("  to undo it: "))
    words = shlex.split(command.removeprefix("  to undo it: "))
    assert [word for word in words if word in options] == options
    assert run(*words[1:]).exit_code == 0
    assert read("folder")["w"].dtype == torch.float32
    found = Path("folder/config.json")
    assert found.read_text() == '{"torch_dtype": "float32"}' if options else not found.exists()


def test_a_dry_run_writes_nothing_and_json_names_the_files(run: Run) -> None:
    torch.save(state(), "in.pth")
    Path("rules.sx").write_text(RULES)
    before = sorted(os.listdir())
    ended = run("apply", "rules.sx", "in.pth", "out.pth", "--reversible", "--dry-run")
    assert "dry run: out.back.sx and out.lost.safetensors were not written" in ended.out
    assert sorted(os.listdir()) == before
    found = run("apply", "rules.sx", "in.pth", "out.pth", "--reversible", "--json").json["reversal"]
    assert found["files"] == ["out.back.sx", "out.lost.safetensors"]
    assert shlex.split(found["command"])[-2:] == ["--in", "lost=out.lost.safetensors"]
    assert {one["name"]: (one["bytes"], one["in_part"]) for one in found["stored"]} == {
        "layers.0.unused": (48, False), "layers.1.unused": (48, False), "embed": (48, True),
    }  # fmt: skip
    assert run("apply", "rules.sx", "in.pth", "other.pth", "--json").json["reversal"] is None


@pytest.mark.parametrize("name", ["out.back.sx", "out.lost.safetensors"])
def test_files_that_are_there_are_replaced_only_with_force(name: str, run: Run) -> None:
    torch.save(state(), "in.pth")
    Path("rules.sx").write_text(RULES)
    Path(name).write_text("mine")
    ended = run("apply", "rules.sx", "in.pth", "out.pth", "--reversible")
    assert ended.err.startswith(f"error[SX610]: `{name}` exists")
    assert not Path("out.pth").exists()
    assert Path(name).read_text() == "mine"
    assert run("apply", "rules.sx", "in.pth", "out.pth", "--reversible", "--force").exit_code == 0
    assert Path(name).read_bytes() != b"mine"


def test_all_files_appear_or_none(run: Run) -> None:
    """What does not fit its target is not written, and neither is what would undo it."""
    torch.save(state(), "in.pth")
    torch.save({"other": torch.ones(2)}, "like.pth")
    Path("rules.sx").write_text(RULES)
    before = sorted(os.listdir())
    ended = run("apply", "rules.sx", "in.pth", "out.pth", "--reversible", "--like", "like.pth")
    assert "SX501" in ended.err
    assert sorted(os.listdir()) == before


def test_what_is_not_a_tensor_cannot_be_kept_apart(run: Run) -> None:
    torch.save({"w": torch.ones(2), "extra": {1, 2}}, "in.pth")
    ended = run("apply", "-e", "drop extra", "in.pth", "out.pth", "--reversible")
    assert ended.err.startswith("error[SX333]")
    assert "without `--reversible`, no inverse is written" in ended.err
    assert not Path("out.pth").exists()


def test_a_state_in_memory(tmp_path: Path) -> None:
    given = state()
    done = statex.convert(given, tmp_path / "out.safetensors", RULES, reversible=True)
    assert done.reversal is not None
    assert [path.name for path in done.reversal.paths] == ["out.back.sx", "out.lost.safetensors"]
    lost = tmp_path / "out.lost.safetensors"
    statex.convert(tmp_path / "out.safetensors", tmp_path / "x.pth", tmp_path / "out.back.sx", inputs={"lost": lost})
    back = torch.load(tmp_path / "x.pth", weights_only=True)
    assert all(torch.equal(back[key], value) for key, value in given.items())


STEPS = {
    "0001_fuse.sx": "# The projections stand in one tensor now.\nmerge q.{t}, k.{t} -> qk.{t} = cat\n",
    "0002_crop.sx": "param rows: int = 2\nset embed = it[:rows]\nrename part out -> head\n",
}


def chain() -> dict[str, torch.Tensor]:
    """Write a chain of migrations, and return a state of its first layout."""
    Path("migrations").mkdir()
    for name, text in STEPS.items():
        Path("migrations", name).write_text(text)
    return {"q.w": torch.randn(2, 2), "k.w": torch.randn(3, 2), "embed": torch.randn(5, 4), "out.w": torch.randn(2)}


@pytest.mark.parametrize("at", ["", "model.encoder"])
def test_a_migration_can_be_reversible(at: str, run: Run) -> None:
    old = {f"{at}.{key}" if at else key: value for key, value in chain().items()}
    if at:
        old["model.head.w"] = torch.randn(2)
    torch.save(old, "in.pth")
    ended = run("migrate", "in.pth", "out.pth", "--reversible", *(["--at", at, "--from", "0"] if at else []))
    assert (ended.exit_code, ended.err) == (0, "")
    assert "wrote out.back.sx and out.lost.safetensors\n" in ended.out
    assert "  1 tensor comes from the input `lost`, in part: 48 B of 80 B\n" in ended.out
    assert "not undone" not in ended.out
    assert "# The projections stand in one tensor now." in Path("out.back.sx").read_text()
    back = undone(run, ended.out)
    assert back.keys() == old.keys()
    assert all(torch.equal(back[key], value) for key, value in old.items())


def test_the_version_of_a_layout_is_named_as_not_undone(run: Run) -> None:
    save_file(chain(), "in.safetensors")
    ended = run("migrate", "in.safetensors", "out.safetensors", "--reversible")
    assert "  not undone: the version of the layout, which is noted in the output\n" in ended.out
    done = statex.migrate("in.safetensors", "other.safetensors", "migrations", reversible=True)
    assert done.reversal is not None
    assert [path.name for path in done.reversal.paths] == ["other.back.sx", "other.lost.safetensors"]


RECIPE = """\
statex: 1
inputs: {main: in.pth}
params: {rows: 2}
rules:
  - merge layers.{i}.q, layers.{i}.k -> layers.{i}.qk = cat
  - {file: crop.sx, with: {rows: {param: rows}}}
  - rename embed -> embed.{$rows}
outputs: out/model.pth
policy: {reversible: true, unchanged: skip}
report: out/report.json
"""


def recipe(change: Callable[[str], str] = lambda text: text) -> None:
    """Write a recipe, its input and a rule file of its own."""
    torch.save(state(), "in.pth")
    Path("crop.sx").write_text("param rows: int\nset embed = it[:rows]\n")
    Path("recipe.yaml").write_text(change(RECIPE))


def test_a_recipe_can_be_reversible(run: Run) -> None:
    recipe()
    planned = run("plan", "recipe.yaml")
    assert "  writes  out/model.back.sx           to undo it\n" in planned.out
    assert "wrote" not in planned.out
    ended = run("run", "recipe.yaml")
    assert (ended.exit_code, ended.err) == (0, "")
    assert "wrote out/model.back.sx and out/model.lost.safetensors\n" in ended.out
    command = Path("out/model.back.sx").read_text().partition("\n")[0].removeprefix("# ")
    os.chdir("out")
    assert run(*shlex.split(command)[1:4], "again.pth", *shlex.split(command)[5:]).exit_code == 0
    back = read("again.pth")
    assert all(torch.equal(back[key], value) for key, value in state().items())
    assert back.keys() == state().keys()
    made = json.loads(Path("report.json").read_text())["outputs"]
    assert {name: list(one["files"]) for name, one in made.items()} == {
        "main": ["out/model.pth"],
        "main.lost": ["out/model.lost.safetensors"],
        "main.back": ["out/model.back.sx"],
    }


def test_a_recipe_replaces_its_own_way_back_alone(run: Run) -> None:
    recipe()
    assert run("run", "recipe.yaml").exit_code == 0
    assert "nothing to do" in run("run", "recipe.yaml").out
    recipe(lambda text: text.replace("rows: 2}\nrules", "rows: 3}\nrules"))
    assert run("run", "recipe.yaml").exit_code == 0
    assert len(read("out/model.lost.safetensors")["embed"]) == 2
    Path("out/model.back.sx").write_text("mine")
    refused = run("run", "recipe.yaml")
    assert (refused.exit_code, "error[SX610]: `out/model.back.sx` exists" in refused.err) == (3, True)
    assert Path("out/model.back.sx").read_text() == "mine"
    assert run("run", "recipe.yaml", "--force").exit_code == 0


@pytest.mark.parametrize(
    "outputs",
    ["{a: a.pth, b: b.pth}", "{path: a.pth, keep: '**'}", "{a: {path: a.pth, optimizer: in.pth}}"],
)
def test_a_recipe_is_reversible_with_one_whole_output(outputs: str, run: Run) -> None:
    recipe(lambda text: text.replace("outputs: out/model.pth", f"outputs: {outputs}"))
    ended = run("check", "recipe.yaml")
    assert "error[SX704]: the recipe takes `reversible` only with one output that holds the whole result" in ended.err


def trained_with(names: str) -> dict[str, Any]:
    model = torch.nn.ModuleDict({name: torch.nn.Linear(3, 2) for name in names})
    optimizer = torch.optim.AdamW(model.parameters())
    for p in model.parameters():
        p.grad = torch.randn_like(p)
    optimizer.step()
    return {"model": model.state_dict(), "optimizer": optimizer.state_dict()}


def test_what_an_optimizer_does_not_get_back_is_said(run: Run) -> None:
    saved = trained_with("ab")
    torch.save(saved, "in.pth")
    said = run("apply", "-e", "drop a.**", "in.pth", "out.pth", "--reversible").out
    assert "not undone: what `optimizer` keeps of tensors that come from the input `lost`\n" in said
    assert "not undone: the positions in `optimizer`" not in said
    command = next(line for line in said.splitlines() if line.startswith("  to undo it: "))
    assert run(*shlex.split(command.removeprefix("  to undo it: "))[1:], "--force").exit_code == 0
    back = torch.load("in.pth", weights_only=True)
    # That is what is said: nothing is kept of `a`, and `b` has its moments at its own places.
    assert list(back["model"]) == ["a.weight", "a.bias", "b.weight", "b.bias"]
    assert list(back["optimizer"]["state"]) == [2, 3]
    old = saved["optimizer"]["state"]
    assert all(torch.equal(back["optimizer"]["state"][i]["exp_avg"], old[i]["exp_avg"]) for i in (2, 3))
    torch.save(saved, "in.pth")
    moved = ["-e", "copy a.weight -> c.weight", "-e", "drop a.weight"]
    said = run("apply", *moved, "in.pth", "moved.pth", "--reversible").out
    assert "not undone: the order of the keys\n" in said
    assert "`optimizer`" not in said
    command = next(line for line in said.splitlines() if line.startswith("  to undo it: "))
    assert run(*shlex.split(command.removeprefix("  to undo it: "))[1:], "--force").exit_code == 0
    back = torch.load("in.pth", weights_only=True)["optimizer"]["state"]
    assert all(torch.equal(back[i]["exp_avg"], old[i]["exp_avg"]) for i in range(4))
    said = run("apply", "-e", "rename a.{t} -> c.{t}", "in.pth", "other.pth", "--reversible").out
    assert "not undone" not in said
