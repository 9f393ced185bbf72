"""The forms that optimizers have in checkpoints: each follows in its own form, and everything else in it stays."""

from __future__ import annotations

from collections import OrderedDict
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed.checkpoint as dcp
from torch import nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_optimizer_state_dict, set_optimizer_state_dict

import statex

State = dict[str, Any]

RULES = """root 'model'
rename 0.{p} -> first.{p}
merge 2.{p} as a, 3.{p} as b -> both.{p} = cat(b, a)
drop 1.weight
"""


class Old(nn.Sequential):
    """Linear layers of one shape, with a batch norm and its buffers among them."""

    def __init__(self) -> None:
        super().__init__(nn.Linear(3, 3), nn.BatchNorm1d(3), nn.Linear(3, 3), nn.Linear(3, 3))


class New(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(3, 3)
        self.add_module("1", nn.BatchNorm1d(3))
        self.get_submodule("1").register_parameter("weight", None)
        self.both = nn.Linear(3, 6)


def trained(named: bool = False) -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(0)
    model = Old()
    optimizer = torch.optim.Adam(model.named_parameters() if named else model.parameters())
    model(torch.rand(4, 3)).sum().backward()
    for p in model.parameters():
        p.grad = torch.randn_like(p)
    optimizer.step()
    return model, optimizer


def moments(slot: str) -> State:
    """Return the moments of all parameters, under their names, as the rules make others of them."""
    model, optimizer = trained()
    names = {p: name for name, p in model.named_parameters()}
    of = {names[p]: optimizer.state[p][slot] for group in optimizer.param_groups for p in group["params"]}
    filled = OrderedDict((key, of.get(key, value)) for key, value in model.state_dict().items())
    found: State = statex.compile(RULES).apply({"model": filled})["model"]
    return found


def holds(optimizer: Any, names: dict[Any, str], entries: dict[Any, State]) -> None:
    """Hold that an optimizer's state has the moments that the rules make, for these names of its parameters."""
    assert {*entries} == {*names}
    for slot in ("exp_avg", "exp_avg_sq"):
        wanted = moments(slot)
        for id, name in names.items():
            assert torch.equal(entries[id][slot], wanted[name]), (name, slot)
    assert len({entry["step"].data_ptr() for entry in entries.values()}) == len(entries)


KEYS = ["first.weight", "first.bias", "1.bias", "both.weight", "both.bias"]


@pytest.mark.parametrize("named", [False, True], ids=["positions", "param_names"])
@pytest.mark.parametrize("written", [False, True], ids=["in memory", "in a file"])
def test_positions(tmp_path: Path, named: bool, written: bool) -> None:
    model, optimizer = trained(named)
    before = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "epoch": 1}
    kept = deepcopy(before)
    after = converted(before, tmp_path if written else None)
    assert after["epoch"] == 1
    found = after["optimizer"]
    (group,) = found["param_groups"]
    assert group["params"] == [0, 1, 2, 3, 4]
    assert group.get("param_names") == (KEYS if named else None)
    options = {"params", "param_names"}
    (old,) = before["optimizer"]["param_groups"]
    assert {k: v for k, v in group.items() if k not in options} == {k: v for k, v in old.items() if k not in options}
    assert list(group) == list(old)
    holds(found, dict(enumerate(KEYS)), found["state"])
    same(before, kept)
    torch.optim.Adam(New().named_parameters() if named else New().parameters()).load_state_dict(found)


def same(one: Any, other: Any) -> None:
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, other)
    elif isinstance(one, dict):
        assert list(one) == list(other)
        for key in one:
            same(one[key], other[key])
    elif isinstance(one, list):
        for a, b in zip(one, other, strict=True):
            same(a, b)
    else:
        assert one == other


def converted(checkpoint: State, folder: Path | None, rules: str = RULES) -> State:
    if folder is None:
        found: State = statex.compile(rules).apply(checkpoint)
        return found
    torch.save(checkpoint, folder / "in.pt")
    done = statex.convert(folder / "in.pt", folder / "out.pt", statex.compile(rules), verify_written=True)
    assert not done.warnings
    loaded: State = torch.load(folder / "out.pt")
    return loaded


@pytest.mark.parametrize("prefix", ["", "_orig_mod.", "module."])
@pytest.mark.parametrize("flat", [False, True])
def test_names(tmp_path: Path, flat: bool, prefix: str) -> None:
    """As FSDP and `torch.distributed.checkpoint.state_dict` have them, perhaps with the name of a wrapper."""
    options = StateDictOptions(flatten_optimizer_state_dict=flat)
    optimizer = with_prefix(get_optimizer_state_dict(*trained(), options=options), prefix)
    found = converted({"model": trained()[0].state_dict(), "optim": optimizer}, tmp_path)["optim"]
    names = {f"{prefix}{key}": key for key in KEYS}
    if flat:
        entries: dict[str, State] = {}
        for name in names:
            entries[name] = {slot: found[f"state.{name}.{slot}"] for slot in ("exp_avg", "exp_avg_sq", "step")}
            assert found[f"param_groups.{name}.betas"] == (0.9, 0.999)
        assert sum(key.startswith("state.") for key in found) == 15
        assert not any("2.weight" in key for key in found)
    else:
        entries = found["state"]
        assert found["param_groups"][0]["params"] == list(names)
    holds(found, names, entries)
    if not prefix:
        new = New()
        set_optimizer_state_dict(new, torch.optim.Adam(new.parameters()), found, options=options)


def with_prefix(optimizer: Any, prefix: str) -> Any:
    """Return an optimizer's state as a wrapper of the model would name it."""
    if "param_groups" in optimizer:
        groups = [{**one, "params": [prefix + name for name in one["params"]]} for one in optimizer["param_groups"]]
        return {"state": {prefix + name: one for name, one in optimizer["state"].items()}, "param_groups": groups}
    return {f"{part}.{prefix}{rest}": v for k, v in optimizer.items() for part, _, rest in [k.partition(".")]}


@pytest.mark.filterwarnings("ignore:torch.distributed is disabled")
@pytest.mark.parametrize("flat", [False, True])
def test_in_a_distributed_checkpoint(tmp_path: Path, flat: bool) -> None:
    options = StateDictOptions(flatten_optimizer_state_dict=flat)
    model, optimizer = trained()
    state = {"model": model.state_dict(), "optim": get_optimizer_state_dict(model, optimizer, options=options)}
    dcp.save(state, checkpoint_id=tmp_path / "in", no_dist=True)
    done = statex.convert(tmp_path / "in", tmp_path / "out.pt", statex.compile(RULES))
    assert [one.code.id for one in done.warnings if one.code.id == "SX916"] == []
    assert done.plan is not None
    (account,) = [one.account for one in done.plan.followed]
    assert (account.followed, account.dropped) == (5, ("1.weight",))
    found = torch.load(tmp_path / "out.pt")["optim"]
    entries = {
        name: {slot: found[f"state.{name}.{slot}"] for slot in ("exp_avg", "exp_avg_sq", "step")} if flat
        else found["state"][name]
        for name in KEYS
    }  # fmt: skip
    holds(found, {name: name for name in KEYS}, entries)
    statex.convert(tmp_path / "in", tmp_path / "out/", statex.compile(RULES), format="dcp")
    with statex.open(tmp_path / "out", root="") as written:
        for name in KEYS:
            assert torch.equal(written[f"optim.state.{name}.exp_avg"], entries[name]["exp_avg"])


@pytest.mark.filterwarnings("ignore:torch.distributed is disabled")
@pytest.mark.parametrize("apart", [False, True])
def test_positions_in_a_distributed_checkpoint(tmp_path: Path, apart: bool) -> None:
    """What is kept of the parameter 0 stands under "0" there, and torch loads it back into an optimizer."""
    model, optimizer = trained()
    beside = {"optim": optimizer.state_dict()}
    dcp.save(beside | {"model": model.state_dict()}, checkpoint_id=tmp_path / "both", no_dist=True)
    dcp.save(beside, checkpoint_id=tmp_path / "own", no_dist=True)
    torch.save({"model": model.state_dict()}, tmp_path / "in.pt")
    if apart:
        folders = (tmp_path / "own", f"{tmp_path}/new/")
        statex.convert(tmp_path / "in.pt", tmp_path / "out.pt", statex.compile(RULES), optimizer=folders)
    else:
        statex.convert(tmp_path / "both", f"{tmp_path}/new/", statex.compile(RULES), format="dcp")
    new = New()
    resumed = torch.optim.Adam(new.parameters())
    for p in new.parameters():
        p.grad = torch.randn_like(p)
    resumed.step()
    found = {"optim": resumed.state_dict()}
    dcp.load(found, checkpoint_id=tmp_path / "new", no_dist=True)
    resumed.load_state_dict(found["optim"])
    names = {id: name for id, (name, _) in enumerate(new.named_parameters())}
    holds(found, names, resumed.state_dict()["state"])


@pytest.mark.filterwarnings("ignore:torch.distributed is disabled")
@pytest.mark.parametrize("rules", [RULES, "root 'model'\nrename prefix '' -> 'm.'"])
def test_positions_of_a_distributed_checkpoint_are_numbers_in_a_torch_file(tmp_path: Path, rules: str) -> None:
    model, optimizer = trained()
    checkpoint = {"model": model.state_dict(), "optim": optimizer.state_dict(), "all": [optimizer.state_dict()]}
    torch.save(checkpoint, tmp_path / "in.pt")
    dcp.save(checkpoint, checkpoint_id=tmp_path / "in", no_dist=True)
    for name in ("in.pt", "in"):
        statex.convert(tmp_path / name, tmp_path / f"{name}.out.pt", statex.compile(rules))
    wanted, found = (torch.load(tmp_path / f"{name}.out.pt") for name in ("in.pt", "in"))
    for one, other in [(wanted["optim"], found["optim"]), (wanted["all"][0], found["all"][0])]:
        assert other["param_groups"] == one["param_groups"]
        assert list(map(type, other["state"])) == [int] * len(one["state"])
        torch.testing.assert_close(other["state"], one["state"], rtol=0, atol=0)


def test_several_as_lightning_has_them(tmp_path: Path) -> None:
    model, optimizer = trained()
    head = torch.optim.SGD([model[3].weight, model[3].bias], momentum=0.9)  # type: ignore[index]
    head.step()
    state = {f"net.{key}": value for key, value in model.state_dict().items()}
    checkpoint = {
        "epoch": 2, "state_dict": state, "optimizer_states": [optimizer.state_dict(), optimizer.state_dict()],
        "lr_schedulers": [{"last_epoch": 2}],
    }  # fmt: skip
    rules = "root 'state_dict'\nfollow 'optimizer_states'\ndrop net.1.weight\nset net.2.weight = transpose"
    found = converted(checkpoint, tmp_path, rules)["optimizer_states"]
    assert len(found) == 2
    for one in found:
        assert one["param_groups"][0]["params"] == [*range(7)]
        old = optimizer.state_dict()["state"]
        assert torch.equal(one["state"][3]["exp_avg"], old[4]["exp_avg"].t())


def test_what_torch_has_not_stepped_on_has_no_entry() -> None:
    """Frozen parameters that the optimizer was given have a position and nothing else."""
    model, _ = trained()
    optimizer = torch.optim.Adam(model.parameters())
    for name, p in model.named_parameters():
        p.grad = torch.randn_like(p) if name.startswith("3.") else None
    optimizer.step()
    after = statex.compile("drop 1.weight").apply(
        {"model": model.state_dict(), "optimizer": optimizer.state_dict()}, root="model"
    )["optimizer"]
    assert {*after["state"]} == {5, 6}
    assert after["param_groups"][0]["params"] == [*range(7)]


def test_frozen_parameters_that_it_was_not_given() -> None:
    """Two of four layers of one shape are trained: their order alone does not say which; their names do."""
    model, _ = trained()
    given = [(name, p) for name, p in model.named_parameters() if name.startswith(("2.", "3."))]
    for named in (False, True):
        optimizer = torch.optim.Adam(given if named else [p for _, p in given])
        optimizer.step()
        checkpoint = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
        rules = statex.compile("drop 0.weight")
        codes = [one.code.id for one in rules.plan(checkpoint, root="model").warnings]
        assert codes == ([] if named else ["SX916"])
    after = rules.apply(checkpoint, root="model", param_names=["2.weight", "2.bias", "3.weight", "3.bias"])
    assert after["optimizer"]["param_groups"][0]["param_names"] == [name for name, _ in given]
    assert [code_of(f"follow 'optimizer'\n{rule}", checkpoint) for rule in (
        "merge 0.weight as a, 2.weight as b -> c.weight = cat(a, b)", "drop 0.weight"
    )] == ["SX344", None]  # fmt: skip


def code_of(rules: str, checkpoint: State, **given: Any) -> str | None:
    try:
        statex.compile(rules).plan(checkpoint, root="model", **given)
    except statex.StatexError as error:
        (found,) = error.diagnostics
        return str(found.code.id)
    return None


def test_tied_parameters_are_one() -> None:
    torch.manual_seed(0)
    model = nn.ModuleDict({"embed": nn.Embedding(5, 3), "body": nn.Linear(3, 3), "head": nn.Linear(3, 5, bias=False)})
    model["head"].weight = model["embed"].weight  # type: ignore[assignment]
    optimizer = torch.optim.Adam(model.parameters())
    for p in model.parameters():
        p.grad = torch.randn_like(p)
    optimizer.step()
    old = optimizer.state_dict()["state"]
    checkpoint = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
    after = statex.compile("set embed.weight, head.weight = flip(0)\nset body.weight = transpose").apply(
        checkpoint, root="model"
    )
    assert after["model"]["embed.weight"] is after["model"]["head.weight"]
    assert after["optimizer"]["param_groups"][0]["params"] == [0, 1, 2]
    assert torch.equal(after["optimizer"]["state"][0]["exp_avg"], old[0]["exp_avg"].flip(0))
    apart = statex.compile("set head.weight = flip(0)").apply(checkpoint, root="model")["optimizer"]
    assert apart["param_groups"][0]["params"] == [0, 1, 2, 3]
    assert torch.equal(apart["state"][0]["exp_avg"], old[0]["exp_avg"])
    assert torch.equal(apart["state"][3]["exp_avg"], old[0]["exp_avg"].flip(0))
    assert apart["state"][0]["step"] is not apart["state"][3]["step"]


def test_what_it_keeps_may_have_another_dtype() -> None:
    model, optimizer = trained()
    after = statex.compile("set ** = cast(bf16) where is_floating_point(it)\nset 2.weight = transpose").apply(
        {"model": model.state_dict(), "optimizer": optimizer.state_dict()}, root="model"
    )
    entry = after["optimizer"]["state"][4]
    assert after["model"]["2.weight"].dtype is torch.bfloat16
    assert entry["exp_avg"].dtype is torch.float32
    assert torch.equal(entry["exp_avg"], optimizer.state_dict()["state"][4]["exp_avg"].t())


def test_other_entries_stay(tmp_path: Path) -> None:
    model, optimizer = trained()
    state = {**optimizer.state_dict(), "version": (1, torch.tensor([3.0]))}
    state["state"]["global"] = {"loss_scale": torch.tensor(2.0)}
    state["param_groups"][0]["lr"] = torch.tensor(0.5)
    found = converted({"model": model.state_dict(), "optimizer": state}, tmp_path)["optimizer"]
    assert found["version"][0] == 1
    assert torch.equal(found["version"][1], torch.tensor([3.0]))
    assert found["state"]["global"]["loss_scale"] == 2.0
    assert found["param_groups"][0]["lr"] == 0.5


def test_values_in_it_can_be_changed_by_the_same_rules(tmp_path: Path) -> None:
    model, optimizer = trained()
    rules = f"{RULES}set value(['optimizer', 'param_groups', 0, 'lr']) = 0.25"
    found = converted({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, tmp_path, rules)["optimizer"]
    assert found["param_groups"][0]["lr"] == 0.25
    assert found["param_groups"][0]["params"] == [*range(5)]


@pytest.mark.parametrize("rules", ["root 'model' -> 'net'", "root 'model' -> 'a.b'"])
def test_a_state_that_is_put_elsewhere(tmp_path: Path, rules: str) -> None:
    model, optimizer = trained()
    checkpoint = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
    found = converted(checkpoint, tmp_path, RULES.replace("root 'model'", rules))
    holds(found["optimizer"], dict(enumerate(KEYS)), found["optimizer"]["state"])


def test_a_parameter_that_the_target_has_and_the_result_has_not() -> None:
    """It has a position in the optimizer of the target, and nothing is kept of it."""
    model, optimizer = trained()
    rules = statex.compile("drop 1.weight\nset 3.weight = transpose\nallow missing 1.weight")
    after = rules.apply({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, root="model", target=Old())
    assert {*after["optimizer"]["state"]} == {0, 1, 3, 4, 5, 6, 7}
    assert after["optimizer"]["param_groups"][0]["params"] == [*range(8)]
    torch.optim.Adam(Old().parameters()).load_state_dict(after["optimizer"])


def test_a_migrated_file(tmp_path: Path) -> None:
    """The optimizer beside a state follows the steps of a chain."""
    model, optimizer = trained()
    (tmp_path / "migrations").mkdir()
    (tmp_path / "migrations" / "0001_turn.sx").write_text("set 2.weight = transpose\nrename 0.{p} -> first.{p}\n")
    torch.save({"state_dict": model.state_dict(), "optimizer_states": [optimizer.state_dict()]}, tmp_path / "in.ckpt")
    statex.migrate(tmp_path / "in.ckpt", tmp_path / "out.ckpt", tmp_path / "migrations")
    found = torch.load(tmp_path / "out.ckpt")["optimizer_states"][0]["state"]
    old = optimizer.state_dict()["state"]
    assert torch.equal(found[4]["exp_avg"], old[4]["exp_avg"].t())
    assert torch.equal(found[0]["exp_avg"], old[0]["exp_avg"])
