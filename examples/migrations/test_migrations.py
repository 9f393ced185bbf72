"""Checkpoints of all releases, alone, inside a larger model, and wrapped by DDP."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from migrations import released
from migrations.encoder import Encoder
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn.parallel import DistributedDataParallel

import statex

TOKENS = torch.arange(24).reshape(4, 6) % 32


def release(layout: int) -> nn.Module:
    """Return a trained encoder of an earlier release, or of this one."""
    torch.manual_seed(layout)
    module = Encoder() if layout == 3 else released.Encoder(layout)
    module.train()
    for _ in range(3):
        module(TOKENS).sum().backward()  # the norm gathers its statistics
    return module.eval()


class Pair(nn.Module):
    """Two encoders and a layer on top."""

    def __init__(self, one: nn.Module, other: nn.Module) -> None:
        super().__init__()
        self.encoders = nn.ModuleDict({"one": one, "other": other})
        self.top = nn.Linear(6, 2)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.top(torch.cat([encoder(tokens) for encoder in self.encoders.values()], dim=1))


def assert_same(old: nn.Module, new: nn.Module) -> None:
    with torch.no_grad():
        torch.testing.assert_close(new.eval()(TOKENS), old.eval()(TOKENS), rtol=1e-5, atol=1e-6)


def through_file(state: Any, path: Path) -> Any:
    torch.save(state, path)
    return torch.load(path, weights_only=True)


@pytest.mark.parametrize("layout", range(4))
def test_every_release_is_loaded(layout: int, tmp_path: Path) -> None:
    old, new = release(layout), Encoder()
    new.load_state_dict(through_file(old.state_dict(), tmp_path / "old.pth"))
    assert_same(old, new)
    again = Encoder()
    state = through_file(new.state_dict(), tmp_path / "new.pth")
    assert state._metadata[""]["statex"]["version"] == 3
    again.load_state_dict(state)
    assert_same(old, again)


def test_two_encoders_of_different_releases_in_a_larger_model(tmp_path: Path) -> None:
    for layouts in ((0, 3), (2, 1)):
        old, new = Pair(*map(release, layouts)), Pair(Encoder(), Encoder())
        new.load_state_dict(through_file(old.state_dict(), tmp_path / "old.pth"))
        assert_same(old, new)


@pytest.mark.parametrize("layout", range(4))
def test_files_without_versions_are_recognised(layout: int, tmp_path: Path) -> None:
    old, new = release(layout), Encoder()
    save_file(old.state_dict(), tmp_path / "old.safetensors")
    new.load_state_dict(load_file(tmp_path / "old.safetensors"))
    assert_same(old, new)


@pytest.mark.parametrize("layout", range(4))
def test_ddp_loads_every_release(layout: int, tmp_path: Path) -> None:
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/meeting", rank=0, world_size=1)
    try:
        old, new = DistributedDataParallel(release(layout)), DistributedDataParallel(Encoder())
        new.load_state_dict(through_file(old.state_dict(), tmp_path / "old.pth"))
        assert_same(old, new)
    finally:
        dist.destroy_process_group()


def test_a_state_is_migrated_for_other_loaders(tmp_path: Path) -> None:
    old = Pair(release(0), release(2))
    state = statex.migrate_state(Pair(Encoder(), Encoder()), old.state_dict())
    torch.save(state, tmp_path / "new.pth")
    new = Pair(Encoder(), Encoder())
    for encoder in new.encoders.values():
        statex.detach(encoder)
    new.load_state_dict(torch.load(tmp_path / "new.pth", weights_only=True))
    assert_same(old, new)
