"""torch's own wrappers make the names; the plain model's state is the reference."""

from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Run, assert_same_state
from lightning.models import Net
from torch import nn

HERE = Path(__file__).parent
# torch's own, on the way to torch.compile.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")


@pytest.fixture
def checkpoint(tmp_path: Path) -> tuple[nn.Module, dict[str, Any]]:
    torch.manual_seed(0)
    net = Net()
    net.bn.running_mean.normal_()
    wrapped = nn.Module()
    wrapped.model = nn.DataParallel(torch.compile(net))
    optimizer = torch.optim.AdamW(net.parameters())
    net(torch.randn(2, 3, 8, 8)).sum().backward()
    optimizer.step()
    saved = {
        "epoch": 7,
        "global_step": 1234,
        "state_dict": wrapped.state_dict(),
        "optimizer_states": [optimizer.state_dict()],
        "hyper_parameters": {"lr": 1e-3},
    }
    torch.save(saved, tmp_path / "in.ckpt")
    return net, saved


def test_bare_state_equals_the_plain_model(
    checkpoint: tuple[nn.Module, dict[str, Any]], statex: Run, tmp_path: Path
) -> None:
    net, _ = checkpoint
    done = statex("apply", HERE / "rules.sx", "in.ckpt", "out.pth", "--target", "models:Net")
    assert "optimizer_states" in done.stdout
    state = torch.load(tmp_path / "out.pth", weights_only=True)
    assert_same_state(state, net.state_dict())
    assert list(state) == list(net.state_dict())
    assert dict(state._metadata) == dict(net.state_dict()._metadata)
    other = Net()
    assert str(other.load_state_dict(state)) == "<All keys matched successfully>"
    x = torch.randn(2, 3, 8, 8)
    assert torch.equal(other.eval()(x), net.eval()(x))


def test_everything_around_the_state_is_kept(
    checkpoint: tuple[nn.Module, dict[str, Any]], statex: Run, tmp_path: Path
) -> None:
    net, saved = checkpoint
    statex("apply", HERE / "keep_everything.sx", "in.ckpt", "out.ckpt")
    found = torch.load(tmp_path / "out.ckpt", weights_only=True)
    assert list(found) == list(saved)
    assert (found["epoch"], found["global_step"], found["hyper_parameters"]) == (7, 1234, {"lr": 1e-3})
    assert_same_state(found["state_dict"], {f"model.{k}": v for k, v in net.state_dict().items()})
    before, after = saved["optimizer_states"][0], found["optimizer_states"][0]
    assert before["param_groups"] == after["param_groups"]
    for index, state in before["state"].items():
        assert_same_state(after["state"][index], state)
