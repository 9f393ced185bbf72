"""Whole pickled modules: their state, read without their classes, is what their `state_dict()` gives."""

from __future__ import annotations

import importlib
import pkgutil
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import statex
from statex import StatexError
from statex.trees.pickled_modules import version_of
from tests.checkpoint.states import same, ties

MODULES: dict[str, Any] = {
    "linear": lambda: nn.Linear(2, 3, bias=False),
    "norms": lambda: nn.Sequential(nn.BatchNorm2d(3), nn.GroupNorm(1, 3), nn.InstanceNorm1d(2), nn.SyncBatchNorm(4)),
    "untracked": lambda: nn.BatchNorm1d(3, track_running_stats=False),
    "attention": lambda: nn.TransformerEncoderLayer(8, 2, 16),
    "recurrent": lambda: nn.LSTM(3, 4, num_layers=2),
    "lists": lambda: nn.ModuleDict({"a": nn.ModuleList([nn.Linear(1, 1)]), "b": nn.ParameterList([torch.ones(2)])}),
    "nothing": lambda: nn.Sequential(nn.ReLU()),
    "weight norm": lambda: nn.utils.parametrizations.weight_norm(nn.Linear(2, 2)).parametrizations,
    "half": lambda: nn.Sequential(nn.Linear(2, 2), nn.Embedding(3, 2)).to(torch.bfloat16),
    "frozen": lambda: nn.Linear(2, 2).requires_grad_(False),
    "parallel": lambda: nn.DataParallel(nn.Linear(2, 2)),
}


def read(path: Path, root: str = "") -> Any:
    statex.convert(path, path.with_name("out.pth"), f"root '{root}' -> ''", force=True, verify_written=True)
    return torch.load(path.with_name("out.pth"))


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("name", MODULES)
def test_modules_of_torch(tmp_path: Path, name: str, old: bool) -> None:
    model = MODULES[name]()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.save(model, tmp_path / "in.pth", _use_new_zipfile_serialization=not old)
        wanted = model.state_dict()
    found = read(tmp_path / "in.pth")
    assert same(found, wanted)
    assert found._metadata == wanted._metadata
    assert list(found._metadata) == list(wanted._metadata)


def test_shared_modules_and_tied_parameters(tmp_path: Path) -> None:
    one = nn.Linear(3, 3)
    model = nn.Sequential(one, nn.ReLU(), one, nn.Linear(3, 3))
    model[3].weight = one.weight
    torch.save({"model": model, "ema": None, "epoch": 3}, tmp_path / "in.pth")
    found = read(tmp_path / "in.pth", "model")
    assert same(found, model.state_dict())
    assert ties(found) == ties(model.state_dict())


LOCAL = """
import torch
from torch import nn

class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.fc = nn.Linear(width, width)
        self.norm = nn.BatchNorm1d(width)
        self.scale = nn.Parameter(torch.randn(width))
        self.register_buffer("steps", torch.tensor(3))
        self.register_buffer("mask", torch.ones(width), persistent=False)
        self.register_buffer("nothing", None)
        self.register_parameter("absent", None)

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList(Block(n) for n in (2, 3))
        self.head = None
        self.config = {"width": 3}
"""


def test_a_class_that_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "nets").mkdir()
    (tmp_path / "nets" / "their_net.py").write_text(LOCAL)
    make = "import torch, their_net; m = their_net.Net(); torch.save({'model': m}, 'in.pth')"
    make += "; s = m.state_dict(); torch.save((s, s._metadata), 'wanted.pth')"
    env = {"PYTHONPATH": str(tmp_path / "nets")}
    subprocess.run([sys.executable, "-c", make], cwd=tmp_path, env=env, check=True)
    command = ["-m", "statex", "apply", "-e", "root 'model' -> ''", "in.pth", "out.pth"]
    here = {"PYTHONPATH": str(Path(statex.__file__).parent.parent)}
    done = subprocess.run([sys.executable, *command], cwd=tmp_path, env=here, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "SX913" in done.stderr
    assert "`their_net.Net` and `their_net.Block` (at `blocks.0`) may have a `state_dict`" in done.stderr
    wanted, metadata = torch.load(tmp_path / "wanted.pth")
    found = torch.load(tmp_path / "out.pth")
    assert same(dict(found), dict(wanted))
    theirs = {"", "blocks.0", "blocks.1"}
    assert found._metadata == {path: noted for path, noted in metadata.items() if path not in theirs}


# --- versions ---------------------------------------------------------------------------------------------------


def classes(cls: type) -> Iterator[type]:
    for one in cls.__subclasses__():
        yield one
        yield from classes(one)


def test_versions_are_torchs_own() -> None:
    for module in pkgutil.walk_packages(nn.__path__, "torch.nn."):
        if "backends" not in module.name:
            importlib.import_module(module.name)
    own = {f"{c.__module__}.{c.__qualname__}": c for c in classes(nn.Module) if c.__module__.startswith("torch.nn.")}
    assert len(own) > 100
    assert {name: version_of(name) for name in own} == {name: c._version for name, c in own.items()}
    assert version_of("my.nets.BatchNorm2d") is None


def test_classes_of_torch_nn_do_not_change_what_a_state_is() -> None:
    """What they override of it gives the same, but for lazy modules whose shapes are not known yet."""
    changed = ("state_dict", "_save_to_state_dict", "get_extra_state")
    own = [c for c in classes(nn.Module) if c.__module__.startswith("torch.nn.")]
    found = {c.__name__ for c in own for name in changed if getattr(c, name, None) is not getattr(nn.Module, name)}
    assert all("Lazy" in name for name in found)


# --- where it goes ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("content", "root"), [("{model}", "model"), ("{a: {model}}", "a.model"), ("model", "")])
def test_a_state_is_not_put_back(tmp_path: Path, content: str, root: str) -> None:
    model = nn.Linear(2, 2)
    shapes = {"{model}": {"model": model}, "{a: {model}}": {"a": {"model": model}}, "model": model}
    torch.save(shapes[content], tmp_path / "in.pth")
    for rules in ("set ** = it * 2", f"root '{root}'"):
        compiled = statex.compile(rules)
        for way in (compiled.apply, compiled.plan, lambda path, r=rules: statex.convert(path, tmp_path / "out.pth", r)):
            with pytest.raises(StatexError) as caught:
                way(tmp_path / "in.pth")
            assert [one.code.id for one in caught.value.diagnostics] == ["SX641"]
            assert f"root '{root}' -> ''" in str(caught.value)
    rules = f"root '{root}' -> ''; set ** = it * 2"
    statex.convert(tmp_path / "in.pth", tmp_path / "out.safetensors", rules)
    assert torch.equal(statex.compile(rules).apply(tmp_path / "in.pth")["weight"], model.weight.detach() * 2)


def test_it_can_be_read_wherever_states_are(tmp_path: Path) -> None:
    model = nn.Linear(2, 2)
    torch.save(model, tmp_path / "in.pth")
    torch.save(model.state_dict(), tmp_path / "state.pth")
    assert statex.verify(tmp_path / "in.pth", nn.Linear(2, 2)).fits
    assert not statex.diff(tmp_path / "in.pth", tmp_path / "state.pth").values
    with statex.open(tmp_path / "in.pth") as checkpoint:
        assert torch.equal(checkpoint["weight"], model.weight)
    rules = "input other\nset ** = it + other::{key}"
    made = statex.compile(rules).apply(model.state_dict(), inputs={"other": tmp_path / "in.pth"})
    assert torch.equal(made["bias"], model.bias * 2)


def test_a_state_beside_a_module_is_the_state(tmp_path: Path) -> None:
    model = nn.Linear(2, 2)
    torch.save({"net": model, "state_dict": model.state_dict()}, tmp_path / "in.pth")
    assert statex.read_header(tmp_path / "in.pth").around == ("net",)
    torch.save({"model": model, "ema": nn.Linear(2, 2)}, tmp_path / "in.pth")
    with pytest.raises(StatexError, match=r"ema +the module torch\.nn\.modules\.linear\.Linear") as caught:
        statex.read_header(tmp_path / "in.pth")
    assert [one.code.id for one in caught.value.diagnostics] == ["SX606"]
    assert list(statex.read_header(tmp_path / "in.pth", root="ema").entries) == ["weight", "bias"]


# --- what may be amiss ------------------------------------------------------------------------------------------


class Hooked(nn.Linear):
    """With a hook on its state."""


def hook(*_: Any) -> None:
    """Do nothing."""


def remarks(tmp_path: Path, model: Any) -> str:
    torch.save(model, tmp_path / "in.pth")
    return " ".join(statex.read_header(tmp_path / "in.pth").remarks)


def test_plain_modules_of_torch_need_no_remark(tmp_path: Path) -> None:
    assert remarks(tmp_path, nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2))) == ""


def test_what_may_be_amiss_is_said(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(2, 2), Hooked(2, 2), nn.Linear(1, 1))
    model[1].register_state_dict_post_hook(hook)
    model[1]._modules["self"] = model[1]
    model[2]._modules["odd"] = [1]  # type: ignore[assignment]
    model[2]._parameters["sub"] = nn.UninitializedParameter()
    model[0].parametrizations = nn.ModuleDict()
    found = remarks(tmp_path, model)
    assert f"`{Hooked.__module__}.Hooked` (at `1`) may have a `state_dict`" in found
    assert "1: has hooks" in found
    assert "0: has parametrizations" in found
    assert "`1.self` (which holds it) and `2.odd` (list)" in found
    assert "`2.sub` (<torch.nn.parameter.UninitializedParameter>): is not a plain tensor" in found


def test_many_times_the_same_module(tmp_path: Path) -> None:
    """A file of a few kilobytes that would be 2^40 entries."""
    model: Any = nn.Linear(1, 1)
    for _ in range(40):
        model = nn.Sequential(model, model)
    torch.save(model, tmp_path / "in.pth")
    with pytest.raises(StatexError, match="too many"):
        statex.read_header(tmp_path / "in.pth")


def test_a_long_chain_of_modules(tmp_path: Path) -> None:
    model: Any = nn.Linear(1, 1)
    for _ in range(230):
        model = nn.Sequential(model)
    sys.setrecursionlimit(max(sys.getrecursionlimit(), 10_000))
    torch.save(model, tmp_path / "in.pth")
    with pytest.raises(StatexError, match="nested too deep"):
        statex.read_header(tmp_path / "in.pth")
