"""Old states from every kind of file, loaded by a module with a chain, once and again."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed.checkpoint as dcp
from huggingface_hub import load_torch_model, save_torch_state_dict
from safetensors.torch import load_file, load_model, save_file, save_model
from torch import nn
from torch.distributed.checkpoint.format_utils import dcp_to_torch_save

import statex
from tests.migrating.nets import Net, Outer, Unchanged, same_forward, trained

pytestmark = pytest.mark.filterwarnings("ignore:torch.distributed is disabled:UserWarning")

LAYOUTS = range(4)
Save = Callable[[Any, Path], Any]


def opened(path: Path) -> dict[str, Any]:
    with statex.open(path) as checkpoint:
        return dict(checkpoint)


def pth(state: Any, path: Path) -> Any:
    torch.save(state, path / "state.pth")
    return torch.load(path / "state.pth", weights_only=True)


def pth_mapped(state: Any, path: Path) -> Any:
    torch.save(state, path / "state.pth")
    return torch.load(path / "state.pth", weights_only=True, mmap=True)


def pth_before_zip(state: Any, path: Path) -> Any:
    torch.save(state, path / "state.pth", _use_new_zipfile_serialization=False)
    return torch.load(path / "state.pth", weights_only=True)


def pth_of_statex(state: Any, path: Path) -> Any:
    statex.convert(state, path / "state.pth", "")
    return torch.load(path / "state.pth", weights_only=True)


def safetensors(state: Any, path: Path) -> Any:
    save_file(dict(state), path / "state.safetensors")
    return load_file(path / "state.safetensors")


def shards(state: Any, path: Path) -> Any:
    save_torch_state_dict(dict(state), path, max_shard_size=200)
    assert len(list(path.glob("*.safetensors"))) > 1
    return opened(path)


def shards_of_pth(state: Any, path: Path) -> Any:
    save_torch_state_dict(dict(state), path, max_shard_size=200, safe_serialization=False)
    assert len(list(path.glob("*.bin"))) > 1
    return opened(path)


def distributed(state: Any, path: Path) -> Any:
    dcp.save(dict(state), checkpoint_id=path, no_dist=True)
    return opened(path)


def distributed_made_one_file(state: Any, path: Path) -> Any:
    dcp.save(dict(state), checkpoint_id=path / "folder", no_dist=True)
    dcp_to_torch_save(path / "folder", path / "state.pth")
    return torch.load(path / "state.pth", weights_only=True)


NOTED = (pth, pth_mapped, pth_before_zip, pth_of_statex)
"""What keeps `_metadata`, and so the version."""
PLAIN = (safetensors, shards, shards_of_pth, distributed, distributed_made_one_file)

every = pytest.mark.parametrize("through", [*NOTED, *PLAIN])


def place(folder: Path, name: str) -> Path:
    (folder / name).mkdir()
    return folder / name


@every
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("inside", [False, True])
def test_every_layout_from_every_file(
    through: Save, layout: int, inside: bool, chain: statex.Chain, tmp_path: Path
) -> None:
    def new() -> nn.Module:
        net = statex.attach(Net(), chain)
        return Outer(net) if inside else net

    old = trained(Outer(Net(layout)) if inside else Net(layout))
    state = through(old.state_dict(), place(tmp_path, "old"))
    before = Unchanged(state)
    one, other = new(), new()
    for module in (one, one, other):  # the second time, too, it is the caller's state that is old
        module.load_state_dict(state)
        before.check()
        assert same_forward(old, module)
    renewed = through(one.state_dict(), place(tmp_path, "new"))
    path = "parts.net" if inside else ""
    assert ("statex" in getattr(renewed, "_metadata", {}).get(path, {})) is (through in NOTED)
    before = Unchanged(renewed)
    other.load_state_dict(renewed)
    before.check()
    assert same_forward(old, other)


@every
@pytest.mark.parametrize("strict", [True, False])
def test_tensors_of_files_are_taken_over(through: Save, strict: bool, chain: statex.Chain, tmp_path: Path) -> None:
    """With `assign`, what no step computes is the tensor of the file."""
    old, new = trained(Net(1)), statex.attach(Net(), chain)
    state = through(old.state_dict(), tmp_path)
    values = Unchanged(dict(state))
    assert new.load_state_dict(state, strict=strict, assign=True) == Net().load_state_dict(Net().state_dict())
    values.check()  # torch notes its `assign` in the `_metadata` that it is given
    assert new.norm.running_mean.data_ptr() == state["norm.running_mean"].data_ptr()
    assert same_forward(old, new)


@every
def test_a_state_is_migrated_in_two_goes(through: Save, chain: statex.Chain, tmp_path: Path) -> None:
    """A module of layout 2, whose chain ended there, has loaded layout 0, and saved it."""
    earlier = place(tmp_path, "earlier")
    for step in chain.steps[:2]:
        (earlier / step.name).write_text(step.parts[0].program.source.text)
    old, between, new = trained(Net(0)), statex.attach(Net(2), statex.migrations(earlier)), statex.attach(Net(), chain)
    between.load_state_dict(through(old.state_dict(), place(tmp_path, "old")))
    state = through(between.state_dict(), place(tmp_path, "new"))
    assert state.keys() == Net(2).state_dict().keys()
    before = Unchanged(state)
    new.load_state_dict(state)
    before.check()
    assert same_forward(old, new)
    at_once = statex.attach(Net(), chain)
    at_once.load_state_dict(old.state_dict())
    assert all(torch.equal(value, at_once.state_dict()[key]) for key, value in new.state_dict().items())


@every
def test_what_is_not_of_a_layout_is_not_dropped_silently(through: Save, chain: statex.Chain, tmp_path: Path) -> None:
    old, new = trained(Net(0)), statex.attach(Net(), chain)
    state = through({**old.state_dict(), "ema.weight": torch.ones(2)}, tmp_path)
    before, own = Unchanged(state), copy.deepcopy(new.state_dict())
    with pytest.warns(statex.StatexWarning, match="SX920"):
        found = new.load_state_dict(state, strict=False)
    before.check()
    assert set(found.unexpected_keys) == {*Net(0).state_dict(), "ema.weight"} - {*Net().state_dict()}
    assert all(torch.equal(value, own[key]) for key, value in new.state_dict().items())
    statex.detach(new)
    statex.attach(new, chain, assume=0)
    assert new.load_state_dict(state, strict=False).unexpected_keys == ["ema.weight"]
    assert same_forward(old, new)


# --- open checkpoints -------------------------------------------------------------------------------------------------


def test_an_open_checkpoint_is_a_state(chain: statex.Chain, tmp_path: Path) -> None:
    """It has the `_metadata` of the file, so that the version counts and BatchNorm knows its own."""
    turned = "set weight = transpose"
    saved = statex.attach(nn.Linear(2, 2), turned)
    torch.save(saved.state_dict(), tmp_path / "state.pth")
    for load in (lambda state: state, lambda state: statex.migrate_state(saved, state)):
        new = statex.attach(nn.Linear(2, 2), turned)
        with statex.open(tmp_path / "state.pth") as checkpoint:
            new.load_state_dict(load(checkpoint), assign=True)
            assert checkpoint._metadata == saved.state_dict()._metadata
        assert torch.equal(new.weight, saved.weight)
    old, new = trained(Net(0)), statex.attach(Net(), chain)
    save_file(old.state_dict(), tmp_path / "state.safetensors")
    with statex.open(tmp_path / "state.safetensors") as checkpoint:
        new.load_state_dict(checkpoint)
    assert same_forward(old, new)


# --- ties -------------------------------------------------------------------------------------------------------------


class Tied(nn.Module):
    """An embedding and a head with one weight, the head by the name that it had at a layout."""

    def __init__(self, layout: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(3, 2)
        self.name = "head" if layout == 0 else "out"
        self.add_module(self.name, nn.Linear(2, 3))
        getattr(self, self.name).weight = self.embed.weight

    def assert_same(self, old: Tied) -> None:
        assert self.out.weight is self.embed.weight
        assert torch.equal(self.embed.weight, old.embed.weight)
        assert torch.equal(self.out.bias, old.head.bias)


def tied_pth(state: Any, path: Path) -> Any:
    loaded = pth(state, path)
    assert loaded["embed.weight"].data_ptr() == loaded["head.weight"].data_ptr()
    return loaded


def one_of_a_tie(state: Any, path: Path) -> Any:
    """Return what Hugging Face's libraries keep: one key of those that hold one tensor."""
    save_torch_state_dict(dict(state), path)
    loaded = load_file(path / "model.safetensors")
    assert loaded.keys() == {"embed.weight", "head.bias"}
    return loaded


@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize("assume", [None, 0])
@pytest.mark.parametrize("through", [tied_pth, pth_before_zip, pth_of_statex, distributed, one_of_a_tie])
def test_tied_weights_from_files(through: Save, inside: bool, assume: int | None, tmp_path: Path) -> None:
    old = trained(Tied(0))
    new = statex.attach(Tied(1), "rename part head -> out", assume=assume)
    whole = nn.ModuleDict({"net": new}) if inside else new
    state = through(old.state_dict(), tmp_path)
    if inside:
        state = {f"net.{key}": value for key, value in state.items()}
    before = Unchanged(state)
    found = whole.load_state_dict(state, strict=through is not one_of_a_tie)
    before.check()
    lacking = [f"{'net.' if inside else ''}out.weight"] if through is one_of_a_tie else []
    assert found.missing_keys == lacking
    assert found.unexpected_keys == []
    new.assert_same(old)


def test_a_key_that_is_not_tied_is_missed(tmp_path: Path) -> None:
    """What the module holds once has to be there: part of an old state is not of a layout."""
    old, new = Tied(0), Tied(1)
    new.out.weight = nn.Parameter(torch.zeros(3, 2))
    statex.attach(new, "rename part head -> out")
    with pytest.warns(statex.StatexWarning, match="SX920"):
        new.load_state_dict(one_of_a_tie(old.state_dict(), tmp_path), strict=False)


# --- loaders of other libraries ---------------------------------------------------------------------------------------


def test_load_model_of_safetensors(chain: statex.Chain, tmp_path: Path) -> None:
    for old, new in (
        (trained(Net(0)), statex.attach(Net(), chain)),
        (trained(Outer(Net(1))), Outer(statex.attach(Net(), chain))),
    ):
        save_model(old, str(tmp_path / "state.safetensors"))
        load_model(new, tmp_path / "state.safetensors")
        assert same_forward(old, new)
    tied, renamed = trained(Tied(0)), statex.attach(Tied(1), "rename part head -> out")
    save_model(tied, str(tmp_path / "tied.safetensors"))
    load_model(renamed, tmp_path / "tied.safetensors")
    renamed.assert_same(tied)


def test_load_torch_model_of_huggingface_hub(chain: statex.Chain, tmp_path: Path) -> None:
    """It hands a single file to `load_state_dict`, and shards one after the other, which are of no layout."""
    old = trained(Net(0))
    new = statex.attach(Net(), chain)
    save_torch_state_dict(dict(old.state_dict()), place(tmp_path, "one"))
    load_torch_model(new, tmp_path / "one" / "model.safetensors")
    assert same_forward(old, new)
    new = statex.attach(Net(), chain)
    save_torch_state_dict(dict(old.state_dict()), place(tmp_path, "shards"), max_shard_size=200)
    with pytest.warns(statex.StatexWarning, match="SX920"):
        load_torch_model(new, tmp_path / "shards")
    assert not same_forward(old, new)
    with statex.open(tmp_path / "shards") as checkpoint:
        new.load_state_dict(checkpoint)
    assert same_forward(old, new)
