"""The run that was not interrupted is the reference: torch trains both models on the same data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Run, assert_same_state
from optimizer.models import after, before, optimizer_of, train
from torch import nn

HERE = Path(__file__).parent
BEGUN, MORE = range(5), range(5, 12)


@pytest.fixture
def run(tmp_path: Path) -> tuple[nn.Module, torch.optim.Optimizer]:
    """Return a model and its optimizer after some steps, and write their checkpoint."""
    torch.manual_seed(0)
    model = before()
    optimizer = optimizer_of(model)
    train(model, optimizer, BEGUN)
    saved = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": len(BEGUN)}
    torch.save(saved, tmp_path / "step500.pt")
    return model, optimizer


def resumed(found: dict[str, Any], *, with_optimizer: bool) -> tuple[nn.Module, torch.optim.Optimizer]:
    model = after()
    assert str(model.load_state_dict(found["model"])) == "<All keys matched successfully>"
    optimizer = optimizer_of(model)
    if with_optimizer:
        optimizer.load_state_dict(found["optimizer"])
    return model, optimizer


def test_the_next_steps_are_those_of_the_old_model(
    run: tuple[nn.Module, torch.optim.Optimizer], statex: Run, tmp_path: Path
) -> None:
    done = statex("apply", HERE / "rules.sx", "step500.pt", "fused.pt", "--target", "models:after")
    assert "optimizer: exp_avg, exp_avg_sq of 26 parameters followed" in done.stdout
    found = torch.load(tmp_path / "fused.pt", weights_only=True)
    assert found["step"] == len(BEGUN)
    head = run[1].state[run[0].head.weight]
    assert_same_state(found["optimizer"]["state"][found["optimizer"]["param_groups"][0]["params"][-1]], head)
    wanted = train(*run, MORE)
    model, optimizer = resumed(found, with_optimizer=True)
    assert train(model, optimizer, MORE) == pytest.approx(wanted, rel=1e-12)
    fresh = train(*resumed(found, with_optimizer=False), MORE)
    assert max(abs(a - b) for a, b in zip(fresh, wanted, strict=True)) > 1e-3


def test_converting_later_gives_the_same(
    run: tuple[nn.Module, torch.optim.Optimizer], statex: Run, tmp_path: Path
) -> None:
    """Moments are turned into those of the new model at any time of the run."""
    model, optimizer = run
    train(model, optimizer, MORE)
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, tmp_path / "later.pt")
    found = {}
    for name in ("step500", "later"):
        statex("apply", HERE / "rules.sx", f"{name}.pt", f"{name}-fused.pt", "--target", "models:after")
        found[name] = torch.load(tmp_path / f"{name}-fused.pt", weights_only=True)
    new, of_new = resumed(found["step500"], with_optimizer=True)
    train(new, of_new, MORE)
    torch.testing.assert_close(dict(new.state_dict()), dict(found["later"]["model"]), rtol=1e-9, atol=1e-12)
    entries = found["later"]["optimizer"]["state"]
    for id, entry in of_new.state_dict()["state"].items():
        torch.testing.assert_close(entry, entries[id], rtol=1e-9, atol=1e-12)
    assert of_new.state_dict()["param_groups"] == found["later"]["optimizer"]["param_groups"]
