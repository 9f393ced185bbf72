"""What two processes with FSDP do with old states: `python -m tests.migrating.two_ranks FOLDER`.

The folder has the chain of `nets.STEPS` in `chain`; each process writes there what it says of each check.
"""

from __future__ import annotations

import json
import sys
import traceback
import warnings
from collections import OrderedDict
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict, set_model_state_dict
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

import statex
from tests.migrating.nets import Net, Outer, Unchanged, same_forward, trained

FROM_RANK_0 = StateDictOptions(full_state_dict=True, broadcast_from_rank0=True)
LAYOUTS = range(4)


class Ranks:
    """One of the two processes."""

    def __init__(self, rank: int, chain: statex.Chain, mesh: DeviceMesh, folder: Path) -> None:
        self.rank = rank
        self.chain = chain
        self.mesh = mesh
        self.folder = folder

    def says(self, holds: Callable[[Ranks], None]) -> str:
        try:
            holds(self)
        except (Exception, pytest.fail.Exception):
            return traceback.format_exc()
        return "holds"

    def sharded(self, module: nn.Module) -> Any:
        for inner in module.modules():
            if isinstance(inner, nn.Linear) and inner is not module:
                fully_shard(inner, mesh=self.mesh)
        return fully_shard(module, mesh=self.mesh)

    def attached(self) -> Any:
        return self.sharded(statex.attach(Net(), self.chain))

    def on_rank_0(self, state: Any) -> Any:
        """Return the state as each rank has it: all of it, or nothing."""
        return state if self.rank == 0 else {}

    def full(self, module: nn.Module) -> dict[str, Any]:
        return get_model_state_dict(module, options=StateDictOptions(full_state_dict=True, cpu_offload=True))

    def assert_same(self, old: nn.Module, new: nn.Module, plain: nn.Module) -> None:
        """Compare what a sharded module computes with what it was loaded from, on the rank that has all of it."""
        state = self.full(new)
        assert bool(state) is (self.rank == 0)
        if state:
            plain.load_state_dict(state)
            assert same_forward(old, plain)


def local(tensor: Any) -> torch.Tensor:
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


CHECKS: dict[str, Callable[[Ranks], None]] = {}


def check(holds: Callable[[Ranks], None]) -> Callable[[Ranks], None]:
    CHECKS[holds.__name__] = holds
    return holds


# --- full states, by set_model_state_dict ------------------------------------------------------------------------


@check
def a_migrated_state_is_broadcast(ranks: Ranks) -> None:
    for layout in LAYOUTS:
        old, new = trained(Net(layout)), ranks.attached()
        state = ranks.on_rank_0(old.state_dict())
        before = Unchanged(state)
        migrated = statex.migrate_state(new, state)
        before.check()
        assert bool(migrated) is (ranks.rank == 0)
        set_model_state_dict(new, migrated, options=FROM_RANK_0)
        ranks.assert_same(old, new, Net())


@check
def a_migrated_state_is_broadcast_into_a_larger_module(ranks: Ranks) -> None:
    for layout in LAYOUTS:
        old, new = trained(Outer(Net(layout))), ranks.sharded(Outer(statex.attach(Net(), ranks.chain)))
        migrated = statex.migrate_state(new, ranks.on_rank_0(old.state_dict()))
        set_model_state_dict(new, migrated, options=FROM_RANK_0)
        ranks.assert_same(old, new, Outer(Net()))


@check
def a_module_on_meta_is_filled(ranks: Ranks) -> None:
    with torch.device("meta"):
        new = statex.attach(Net(), ranks.chain)
    ranks.sharded(new).to_empty(device="cpu")
    old = trained(Net(0))
    set_model_state_dict(new, statex.migrate_state(new, ranks.on_rank_0(old.state_dict())), options=FROM_RANK_0)
    ranks.assert_same(old, new, Net())


@check
def every_rank_has_the_state(ranks: Ranks) -> None:
    old, new = trained(Net(1)), ranks.sharded(Net())
    statex.attach(new, ranks.chain)
    migrated = statex.migrate_state(new, old.state_dict())
    set_model_state_dict(new, migrated, options=StateDictOptions(full_state_dict=True))
    ranks.assert_same(old, new, Net())


@check
def an_old_state_is_refused_where_it_is_not_migrated(ranks: Ranks) -> None:
    for options in (FROM_RANK_0, StateDictOptions(full_state_dict=True)):
        state = trained(Net(0)).state_dict()
        given = ranks.on_rank_0(state) if options is FROM_RANK_0 else state
        with pytest.raises(RuntimeError, match=r"key\(s\) in state_dict|mixed torch.Tensor and DTensor"):
            set_model_state_dict(ranks.attached(), given, options=options)


@check
def an_old_state_that_is_not_migrated_loads_nothing_without_strict(ranks: Ranks) -> None:
    """With `strict=False` torch is silent, so there is a warning on the rank that has the state."""
    new = ranks.attached()
    before = ranks.full(new)
    options = StateDictOptions(full_state_dict=True, broadcast_from_rank0=True, strict=False)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        set_model_state_dict(new, ranks.on_rank_0(trained(Net(0)).state_dict()), options=options)
    said = [str(one.message) for one in caught if issubclass(one.category, statex.StatexWarning)]
    assert [one[:14] for one in said] == (["warning[SX920]"] if ranks.rank == 0 else []), said
    assert all(torch.equal(value, before[key]) for key, value in ranks.full(new).items())


@check
def a_full_state_has_no_version_unless_it_is_put_there(ranks: Ranks) -> None:
    """`get_model_state_dict` gives a plain dict; `_metadata` is that of the module."""
    new = ranks.attached()
    state = ranks.full(new)
    assert not hasattr(state, "_metadata")
    noted = OrderedDict(state)
    noted._metadata = new.state_dict()._metadata  # type: ignore[attr-defined]
    if ranks.rank == 0:
        torch.save(noted, ranks.folder / "full.pth")
        again = torch.load(ranks.folder / "full.pth", weights_only=True)
        assert again._metadata[""]["statex"]["version"] == 3
        statex.attach(Net(), ranks.chain, assume=0).load_state_dict(again)


# --- load_state_dict ---------------------------------------------------------------------------------------------


@check
def torch_refuses_full_states_in_load_state_dict(ranks: Ranks) -> None:
    """With a chain or without: tensors that are not DTensors cannot be copied into parameters that are."""
    for new, state in ((ranks.sharded(Net()), Net().state_dict()), (ranks.attached(), Net(0).state_dict())):
        with pytest.raises(RuntimeError, match=r"mixed torch\.Tensor and DTensor"):
            new.load_state_dict(state)


@check
def load_state_dict_takes_sharded_states(ranks: Ranks) -> None:
    for layout in LAYOUTS:
        old, new = trained(Net(layout)), ranks.attached()
        state = ranks.sharded(trained(Net(layout))).state_dict()
        items, own = list(state.items()), Unchanged({key: local(value) for key, value in state.items()})
        new.load_state_dict(state)
        own.check()
        assert [(key, id(value)) for key, value in state.items()] == [(key, id(value)) for key, value in items]
        ranks.assert_same(old, new, Net())


@check
def load_state_dict_takes_tensors_that_are_distributed(ranks: Ranks) -> None:
    """The way of torch's tutorials for full states that all ranks have: distributed by hand, and assigned."""
    old, new = trained(Net(0)), ranks.attached()
    places = new.state_dict()
    state = {
        key: distribute_tensor(value, places[key].device_mesh, places[key].placements)
        if isinstance(places[key], DTensor)
        else value
        for key, value in statex.migrate_state(new, old.state_dict()).items()
    }
    new.load_state_dict(state, assign=True)
    ranks.assert_same(old, new, Net())


@check
def sharded_states_carry_their_version(ranks: Ranks) -> None:
    new = statex.attach(nn.Linear(4, 4), "set weight = transpose")
    state = ranks.sharded(new).state_dict()
    weight = state["weight"].full_tensor()
    assert state._metadata[""]["statex"]["version"] == 1
    again = ranks.sharded(statex.attach(nn.Linear(4, 4), "set weight = transpose"))
    again.load_state_dict(state)
    assert torch.equal(again.weight.full_tensor(), weight)


@check
def a_module_is_loaded_before_it_is_sharded(ranks: Ranks) -> None:
    old, new = trained(Net(0)), statex.attach(Net(), ranks.chain)
    new.load_state_dict(old.state_dict())
    ranks.assert_same(old, ranks.sharded(new), Net())


@check
def empty_states_pass(ranks: Ranks) -> None:
    new = ranks.attached()
    assert statex.migrate_state(new, {}) == {}
    plain = Net().load_state_dict({}, strict=False)
    assert new.load_state_dict({}, strict=False) == plain


def work(rank: int, folder: str, chain: statex.Chain) -> None:
    meeting = f"file://{folder}/meeting"
    dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=2, timeout=timedelta(seconds=60))
    ranks = Ranks(rank, chain, init_device_mesh("cpu", (2,)), Path(folder))
    said = {name: ranks.says(holds) for name, holds in CHECKS.items()}
    (Path(folder) / f"{rank}.json").write_text(json.dumps(said))
    dist.destroy_process_group()


if __name__ == "__main__":
    arguments = (sys.argv[1], statex.migrations(f"{sys.argv[1]}/chain"))
    torch.multiprocessing.start_processes(work, arguments, nprocs=2, start_method="fork")
