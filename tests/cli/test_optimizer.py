"""An optimizer beside the state on the command line: the account, the names of its parameters, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

import statex
from tests.cli.conftest import Run

MODEL = """from torch import nn

def net():
    return nn.ModuleDict({name: nn.Linear(4, 4) for name in ('q', 'new', 'k', 'v', 'out')})
"""
MERGE = "merge q.{t} as q, k.{t} as k, v.{t} as v -> qkv.{t} = cat(q, k, v)"


def net() -> nn.ModuleDict:
    torch.manual_seed(0)
    return nn.ModuleDict({name: nn.Linear(4, 4) for name in ("q", "k", "v", "out")})


def by_decay(model: nn.Module) -> list[dict[str, Any]]:
    """Return two groups, as most trainers make them: weights with decay, and biases without."""
    named = dict(model.named_parameters())
    return [
        {"params": [p for name, p in named.items() if name.endswith("weight")]},
        {"params": [p for name, p in named.items() if name.endswith("bias")], "weight_decay": 0.0},
    ]


def saved(groups: Any = nn.Module.parameters, name: str = "in.pt") -> dict[str, Any]:
    model = net()
    optimizer = torch.optim.AdamW(groups(model))
    for p in model.parameters():
        p.grad = torch.randn_like(p)
    optimizer.step()
    found = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "epoch": 3}
    torch.save(found, name)
    return found


@pytest.fixture(autouse=True)
def _here(run: Run) -> None:
    """Work in the scratch folder of the command line."""


def test_the_summary_accounts_for_it(run: Run) -> None:
    before = saved()
    done = run("apply", "-e", MERGE, "in.pt", "out.pt")
    assert (done.exit_code, done.err) == (0, "")
    line = "optimizer: exp_avg, exp_avg_sq of 4 parameters followed; numbered in the order of the keys"
    assert line in done.out.splitlines()
    assert line in run("plan", "-e", MERGE, "in.pt").out.splitlines()
    after = torch.load("out.pt")
    assert after["epoch"] == 3
    assert after["optimizer"]["param_groups"][0]["params"] == [0, 1, 2, 3]
    old, new = before["optimizer"]["state"], after["optimizer"]["state"]
    assert torch.equal(new[0]["exp_avg"], torch.cat([old[0]["exp_avg"], old[2]["exp_avg"], old[4]["exp_avg"]]))
    assert torch.equal(new[3]["exp_avg_sq"], old[7]["exp_avg_sq"])


def test_the_plan_as_data(run: Run) -> None:
    saved()
    rules = "drop q.bias\nadd z.bias = zeros([4])\nset out.weight = pad([0, 0, 0, 2])\nfollow 'optimizer'"
    found = run("plan", "-e", rules, "in.pt", "--json").json["followed"]
    assert found == [
        {
            "path": ["optimizer"], "file": None, "what": "optimizer", "slots": ["exp_avg", "exp_avg_sq"], "followed": 7,
            "grown": ["out.weight"], "new": ["z.bias"], "dropped": ["q.bias"], "order": "keys",
        }
    ]  # fmt: skip


def test_groups_are_told_apart_by_shapes(run: Run) -> None:
    before = saved(by_decay)
    assert run("apply", "-e", MERGE, "in.pt", "out.pt").exit_code == 0
    old, new = before["optimizer"]["state"], torch.load("out.pt")["optimizer"]
    assert [group["params"] for group in new["param_groups"]] == [[0, 1], [2, 3]]
    assert [group["weight_decay"] for group in new["param_groups"]] == [0.01, 0.0]
    assert torch.equal(new["state"][2]["exp_avg"], torch.cat([old[4]["exp_avg"], old[5]["exp_avg"], old[6]["exp_avg"]]))


def two_groups(model: nn.Module) -> list[dict[str, Any]]:
    """Return groups whose parameters could be exchanged."""
    return [{"params": [*model["q"].parameters()]}, {"params": [*model["k"].parameters(), *model["v"].parameters()]}]  # type: ignore[index]


def test_names_are_asked_for_where_nothing_tells(run: Run) -> None:
    before = saved(two_groups)
    refused = run("apply", "-e", "drop v.weight", "-e", "follow 'optimizer'", "in.pt", "out.pt")
    assert refused.exit_code == 1
    assert "error[SX341]" in refused.err
    assert "its parameter 5 of group 1 can be `v.bias` or `out.bias`" in refused.err
    warned = run("apply", "-e", "drop v.weight", "in.pt", "out.pt")
    assert warned.exit_code == 0
    assert "warning[SX916]" in warned.err
    line = next(line for line in warned.err.splitlines() if "json.dumps" in line)
    model = net()
    optimizer = torch.optim.AdamW(two_groups(model))
    exec(line.partition("optimizer is: ")[2], {"model": model, "optimizer": optimizer})
    assert json.loads(Path("names.json").read_text()) == [
        ["q.weight", "q.bias"], ["k.weight", "k.bias", "v.weight", "v.bias"]
    ]  # fmt: skip
    done = run("apply", "-e", "drop v.weight", "in.pt", "out.pt", "--force", "--param-names", "names.json")
    assert (done.exit_code, done.err) == (0, "")
    after = torch.load("out.pt")["optimizer"]
    assert [group["params"] for group in after["param_groups"]] == [[0, 1], [2, 3, 4]]
    assert torch.equal(after["state"][4]["exp_avg"], before["optimizer"]["state"][5]["exp_avg"])


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ('{"optimizer": 3}', "expected a list of names for each group"),
        ('["q.weight", "q.bias"]', "names are given for [2] parameters by group, and it has [8]"),
        (json.dumps(["x.weight", *list(net().state_dict())[1:]]), "the state has no key for its parameter `x.weight`"),
        (json.dumps([*list(net().state_dict())[:-1], "q.bias"]), "`q.bias` is named for two of its parameters"),
        (json.dumps([*reversed(net().state_dict())]), "has the shape [4, 4], and `out.bias` has [4]"),
    ],
)
def test_names_that_do_not_fit(run: Run, names: str, said: str) -> None:
    saved()
    Path("names.json").write_text(names)
    rules = ("-e", "drop v.weight", "-e", "follow 'optimizer'")
    done = run("apply", *rules, "in.pt", "out.pt", "--param-names", "names.json")
    assert done.exit_code == 1
    assert "error[SX347]" in done.err
    assert said in done.err


def trainer(groups: Any) -> dict[str, Any]:
    """Save as the Trainer of transformers does: weights sorted by name, and the optimizer in a file of its own."""
    found = saved(groups)
    Path("ckpt").mkdir()
    Path("new").mkdir()
    save_file(found["model"], "ckpt/model.safetensors")
    torch.save(found["optimizer"], "ckpt/optimizer.pt")
    names = [[name for name in net().state_dict() if name.endswith(end)] for end in ("weight", "bias")]
    Path("names.json").write_text(json.dumps(names))
    return found


FILES = ("ckpt/model.safetensors", "new/model.safetensors", "--optimizer", "ckpt/optimizer.pt")


def test_a_file_of_its_own(run: Run) -> None:
    old = trainer(by_decay)["optimizer"]["state"]
    refused = run("apply", "-e", MERGE, *FILES)
    assert refused.exit_code == 1
    assert "error[SX341]: the optimizer in `optimizer.pt` cannot follow" in refused.err
    assert not list(Path("new").iterdir())
    done = run("apply", "-e", MERGE, *FILES, "--param-names", "names.json", "--verify-written")
    assert (done.exit_code, done.err) == (0, "")
    assert done.out.splitlines() == [
        "8 keys in, 4 out (320 B): 2 computed, 0 moved, 2 untouched, 0 dropped, 6 used",
        "optimizer: exp_avg, exp_avg_sq of 4 parameters followed; numbered in their old order",
        "output: wrote new/model.safetensors",
        "optimizer: wrote new/optimizer.pt",
    ]
    new = torch.load("new/optimizer.pt")
    assert [group["params"] for group in new["param_groups"]] == [[0, 1], [2, 3]]
    for slot in ("exp_avg", "exp_avg_sq"):
        assert torch.equal(new["state"][0][slot], torch.cat([old[0][slot], old[1][slot], old[2][slot]]))
        assert torch.equal(new["state"][3][slot], old[7][slot])
    assert load_file("new/model.safetensors")["qkv.weight"].shape == (12, 4)


def test_the_plan_of_a_file_of_its_own(run: Run) -> None:
    trainer(by_decay)
    given = (FILES[0], *FILES[2:], "--param-names", "names.json")
    assert "optimizer: exp_avg, exp_avg_sq of 4 parameters followed" in run("plan", "-e", MERGE, *given).out
    (found,) = run("plan", "-e", MERGE, *given, "--json").json["followed"]
    assert (found["file"], found["path"]) == ("optimizer", [])


def test_where_the_file_goes(run: Run) -> None:
    trainer(nn.Module.parameters)
    order = ("--param-names", "all.json")
    Path("all.json").write_text(json.dumps([*net().state_dict()]))
    done = run("apply", "-e", MERGE, FILES[0], "new.safetensors", "--optimizer", "ckpt/optimizer.pt=new/o.pt", *order)
    assert (done.exit_code, done.err) == (0, "")
    assert Path("new/o.pt").exists()
    into = run("apply", "-e", MERGE, FILES[0], "folder/", *FILES[2:], *order)
    assert into.exit_code == 2
    assert "--optimizer ckpt/optimizer.pt=OUT" in into.err
    over = run("apply", "-e", MERGE, FILES[0], "ckpt/new.safetensors", *FILES[2:], *order)
    assert over.exit_code == 3
    none = run("apply", "-e", MERGE, FILES[0], "n.safetensors", "--optimizer", "ckpt/model.safetensors=n.pt", *order)
    assert "error[SX340]: `model.safetensors` holds no optimizer" in none.err
    assert not Path("n.pt").exists()


def test_a_checkpoint_becomes_two_files(run: Run) -> None:
    """What safetensors cannot hold goes to a file of its own, and the old state does not."""
    old = saved()
    checkpoint = torch.load("in.pt") | {"step": 7}
    torch.save(checkpoint, "in.pt")
    into = ("out.safetensors", "--optimizer", "in.pt=rest.pt")
    done = run("apply", "-e", "root 'model' -> ''", "-e", MERGE, "in.pt", *into)
    assert (done.exit_code, done.err) == (0, "")
    assert {*load_file("out.safetensors")} == {"qkv.weight", "qkv.bias", "out.weight", "out.bias"}
    rest = torch.load("rest.pt")
    assert [*rest] == [key for key in checkpoint if key != "model"]
    assert rest["step"] == 7
    before, after = old["optimizer"]["state"], rest["optimizer"]["state"]
    assert [*after] == [0, 1, 2, 3]
    assert torch.equal(after[0]["exp_avg"], torch.cat([before[i]["exp_avg"] for i in (0, 2, 4)]))


def test_what_follows_is_not_left(run: Run) -> None:
    trainer(nn.Module.parameters)
    Path("all.json").write_text(json.dumps([*net().state_dict()]))
    Path("ckpt/scheduler.pt").write_bytes(b"")
    given = ("--optimizer", "ckpt/optimizer.pt=new.pt", "--param-names", "all.json")
    assert "output: not copied: scheduler.pt\n" in run("apply", "-e", MERGE, "ckpt/", "folder/", *given).out


@pytest.mark.parametrize("to", ["new.safetensors", "new/o/", "new.npz"])
def test_where_it_cannot_be_held(run: Run, to: str) -> None:
    saved()
    torch.save(torch.load("in.pt")["optimizer"], "optimizer.pt")
    Path("new").mkdir()
    done = run("apply", "-e", MERGE, "in.pt", "out.pt", "--optimizer", f"optimizer.pt={to}")
    assert done.exit_code == 3
    assert "error[SX614]" in done.err
    assert f"and not the optimizer for `{to.rstrip('/')}`" in done.err
    assert "a name that ends in `.pt`" in done.err
    assert not Path("out.pt").exists()


def test_an_order_that_only_the_model_tells(run: Run) -> None:
    """A new parameter stands somewhere among the others, which sorted keys do not say."""
    trainer(nn.Module.parameters)
    Path("all.json").write_text(json.dumps([*net().state_dict()]))
    Path("models.py").write_text(MODEL)
    rules = ("-e", "add new.weight = zeros([4, 4])", "-e", "add new.bias = zeros([4])")
    refused = run("apply", *rules, *FILES, "--param-names", "all.json")
    assert "error[SX341]" in refused.err
    assert "--target package.module:callable" in refused.err
    done = run("apply", *rules, *FILES, "--param-names", "all.json", "--target", "models:net")
    assert done.exit_code == 0, done.err
    new, old = torch.load("new/optimizer.pt"), torch.load("ckpt/optimizer.pt")
    assert {*new["state"]} == {0, 1, *range(4, 10)}
    assert torch.equal(new["state"][4]["exp_avg"], old["state"][2]["exp_avg"])


def test_in_python(run: Run) -> None:
    old = trainer(by_decay)["optimizer"]
    files = ("ckpt/optimizer.pt", "new/optimizer.pt")
    statex.convert(*FILES[:2], statex.compile(MERGE), optimizer=files, param_names="names.json")
    new = torch.load(files[1])
    assert torch.equal(new["state"][1]["exp_avg"], old["state"][3]["exp_avg"])


def test_there_and_back(run: Run) -> None:
    old = trainer(by_decay)["optimizer"]
    done = run("apply", "-e", MERGE, *FILES, "--param-names", "names.json", "--reversible")
    assert (done.exit_code, done.err) == (0, "")
    command = Path("new/model.back.sx").read_text().splitlines()[0]
    assert "--optimizer optimizer.pt=optimizer.pt" in command
    names = [["qkv.weight", "out.weight"], ["qkv.bias", "out.bias"]]
    Path("new.json").write_text(json.dumps(names))
    rules = ("new/model.back.sx", "new/model.safetensors", "again.safetensors")
    given = ("--optimizer", "new/optimizer.pt=again.pt", "--param-names", "new.json")
    unplaced = run("apply", *rules, *given)
    assert "so nothing says where" in unplaced.err
    Path("models.py").write_text(MODEL.replace("'new', ", ""))
    assert run("apply", *rules, *given, "--target", "models:net").exit_code == 0
    again = torch.load("again.pt")
    assert again["param_groups"] == old["param_groups"]
    for id, entry in old["state"].items():
        assert torch.equal(again["state"][id]["exp_avg"], entry["exp_avg"]), id
