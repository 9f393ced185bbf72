"""Averages of the parameters go through the rules as a second state: what is applied to it gives the same."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

import statex

State = dict[str, Any]

RULES = {
    "moved": "rename 0.{p} -> first.{p}\nset 2.weight = transpose\ndrop 2.bias",
    "computed": "set 0.weight = it * 2 + 2.weight @ 0.weight\nset 2.bias = mean(it, 0.bias)",
    "merged": "merge 0.{p} as a, 2.{p} as b -> both.{p} = cat(b, a)",
    "new": "add 3.bias = ones([3])\nrename part 1 -> norm",
    "from another": "input ft\nset 0.weight = it + ft::0.weight\ncopy ft::2.bias -> 4.bias\ndrop ft::**",
    "cast": "set ** = cast(f64) where is_floating_point(it)",
}


FROM_ANOTHER = "input ft\nset 2.weight = it + ft::2.weight\ndrop ft::**"


class Net(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(nn.Linear(3, 3), nn.BatchNorm1d(3), nn.Linear(3, 3))


def state(seed: int) -> State:
    torch.manual_seed(seed)
    return OrderedDict((key, torch.randn(t.shape).to(t.dtype)) for key, t in Net().state_dict().items())


def applied(rules: str, checkpoint: Any, root: str) -> Any:
    given = {"ft": state(9)} if "input ft" in rules else {}
    return statex.compile(rules).apply(checkpoint, root=root, inputs=given)


def same(one: Mapping[str, Any], other: Mapping[str, Any]) -> None:
    assert one.keys() == other.keys()
    for key, value in one.items():
        assert value.dtype == other[key].dtype, key
        assert torch.equal(value, other[key]), key


@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod."])
@pytest.mark.parametrize("rules", RULES.values(), ids=list(RULES))
def test_a_second_state(rules: str, prefix: str) -> None:
    ema = {f"{prefix}{key}": tensor for key, tensor in state(1).items()}
    found = applied(f"{rules}\nfollow 'ema'", {"model": state(0), "ema": ema}, "model")["ema"]
    wanted = applied(rules, {"model": state(1)}, "model")["model"]
    same(found, {f"{prefix}{key}": tensor for key, tensor in wanted.items()})


@pytest.mark.parametrize("rules", [RULES[name] for name in RULES if name != "from another"])
def test_in_files(tmp_path: Path, rules: str) -> None:
    averages = {"decay": 0.99, "shadow": state(1)}
    torch.save({"model": state(0), "ema": averages}, tmp_path / "in.pt")
    program = f"root 'model'\n{rules}\nfollow 'ema'"
    done = statex.convert(tmp_path / "in.pt", tmp_path / "out.pt", statex.compile(program), verify_written=True)
    assert not [one for one in done.warnings if one.code.id == "SX916"]
    found = torch.load(tmp_path / "out.pt")["ema"]
    assert found["decay"] == 0.99
    same(found["shadow"], applied(rules, {"model": state(1)}, "model")["model"])


def test_an_averaged_model_of_torch() -> None:
    torch.manual_seed(0)
    model = Net()
    swa = AveragedModel(model)
    model[0].weight.data.mul_(3)
    swa.update_parameters(model)
    checkpoint = {"model": model.state_dict(), "swa": swa.state_dict()}
    rules = "rename 2.{p} -> 5.{p}\nfollow 'swa'"
    found = applied(rules, checkpoint, "model")["swa"]
    new = nn.Sequential(OrderedDict([("0", model[0]), ("1", model[1]), ("5", model[2])]))
    AveragedModel(new).load_state_dict(found)
    assert found["n_averaged"] == 1
    assert next(iter(found)) == "n_averaged"
    assert torch.equal(found["module.5.weight"], swa.state_dict()["module.2.weight"])


@pytest.mark.parametrize("rules", [RULES[name] for name in RULES if name != "from another"])
def test_the_model_and_its_average_in_one_dict(tmp_path: Path, rules: str) -> None:
    """Both are modules of one wrapper there, as in `ema_pytorch`, and the tensors of neither are those of the other."""
    wrapper = nn.ModuleDict({"online_model": Net(), "ema_model": Net()})
    wrapper.register_buffer("step", torch.tensor(3))
    ema = wrapper.state_dict()
    torch.save({"model": state(0), "ema": ema}, tmp_path / "in.pt")
    program = f"root 'model'\n{rules}\nfollow 'ema'"
    done = statex.convert(tmp_path / "in.pt", tmp_path / "out.pt", statex.compile(program), verify_written=True)
    assert not [one for one in done.warnings if one.code.id == "SX916"]
    found = dict(torch.load(tmp_path / "out.pt")["ema"])
    assert found.pop("step") == 3
    for name in ("online_model", "ema_model"):
        wanted = applied(rules, {"model": wrapper[name].state_dict()}, "model")["model"]
        of_it = {key.removeprefix(f"{name}."): found.pop(key) for key in [*found] if key.startswith(f"{name}.")}
        same(of_it, wanted)
    assert not found


def test_the_account_of_a_second_state() -> None:
    """What is merged or renamed is not dropped."""
    checkpoint = {"model": state(0), "ema": state(1)}
    rules = f"{RULES['merged']}\nrename 1.{{p}} -> norm.{{p}}\ndrop norm.bias\nfollow 'ema'"
    (one,) = statex.compile(rules).plan(checkpoint, root="model").followed
    assert (one.account.followed, one.account.dropped) == (6, ("1.bias",))


def test_parameters_alone() -> None:
    """What has no averages of buffers gets none."""
    model = Net()
    ema = {key: torch.randn_like(p.detach()) for key, p in model.named_parameters()}
    rules = "add 3.weight = zeros([2])\nset 2.weight = it * 2\nfollow 'ema'"
    found = applied(rules, {"model": model.state_dict(), "ema": ema}, "model")["ema"]
    assert list(found) == [*ema, "3.weight"]
    assert torch.equal(found["2.weight"], ema["2.weight"] * 2)
    assert found["0.weight"] is not ema["0.weight"]


def test_a_list_in_the_order_of_the_parameters(tmp_path: Path) -> None:
    model = Net()
    shadow = [torch.randn_like(p.detach()) for p in model.parameters()]
    checkpoint = {"model": model.state_dict(), "ema": {"decay": 0.9, "shadow_params": shadow, "collected_params": None}}
    torch.save(checkpoint, tmp_path / "in.pt")
    rules = "root 'model'\ndrop 0.bias\nset 2.weight = it * 2\nadd 3.bias = ones([3])\nfollow 'ema'"
    done = statex.convert(tmp_path / "in.pt", tmp_path / "out.pt", statex.compile(rules))
    assert not done.warnings
    found = torch.load(tmp_path / "out.pt")["ema"]
    wanted = [shadow[0], shadow[2], shadow[3], shadow[4] * 2, shadow[5], torch.ones(3)]
    assert all(torch.equal(a, b) for a, b in zip(found["shadow_params"], wanted, strict=True))
    assert done.plan is not None
    assert "ema: 6 averaged tensors, 1 dropped; numbered in the order of the keys" in str(done.plan)


def test_it_follows_only_where_rules_say_so() -> None:
    checkpoint = {"model": state(0), "ema": state(1)}
    (warning,) = statex.compile("drop 0.bias").plan(checkpoint, root="model").warnings
    assert warning.code.id == "SX916"
    assert [note.text for note in warning.notes if note.kind == "help"] == [
        "to take it through the same rules: follow 'ema'",
        "to leave it out: drop value('ema')",
    ]
    assert not statex.compile("drop 0.bias\nfollow 'ema'").plan(checkpoint, root="model").warnings


@pytest.mark.parametrize(
    ("ema", "rules", "code"),
    [
        ({key: t for key, t in state(1).items() if "0." not in key}, "set 2.weight = it + 0.weight", "SX344"),
        ({key: t.double() for key, t in state(1).items()}, FROM_ANOTHER, "SX343"),
    ],
)  # fmt: skip
def test_what_cannot_follow(ema: State, rules: str, code: str) -> None:
    with pytest.raises(statex.StatexError) as caught:
        applied(f"{rules}\nfollow 'ema'", {"model": state(0), "ema": ema}, "model")
    assert [one.code.id for one in caught.value.diagnostics] == [code]
