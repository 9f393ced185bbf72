"""Weights that were changed in the server's layout come back as if they had been changed in the trained one."""

from pathlib import Path

import pytest
import torch
from conftest import Run, assert_same_state
from inverse.models import SERVED, VOCAB, llama

HERE = Path(__file__).parent


@pytest.fixture
def state(tmp_path: Path) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    found: dict[str, torch.Tensor] = llama().state_dict()
    torch.save(found, tmp_path / "in.pth")
    return found


def test_the_way_back_is_written_and_proved(state: dict[str, torch.Tensor], statex: Run, tmp_path: Path) -> None:
    done = statex("invert", HERE / "rules.sx", "in.pth", "-o", "back.sx", "--prove")
    assert "proved: 30 of 30 tensors come back equal in bits" in done.stdout
    assert (tmp_path / "back.sx").read_text() == (HERE / "back.sx").read_text()


def test_what_was_tuned_comes_back(state: dict[str, torch.Tensor], statex: Run, tmp_path: Path) -> None:
    statex("apply", HERE / "rules.sx", "in.pth", "served.pth")
    served = torch.load(tmp_path / "served.pth", weights_only=True)
    assert len(served) == 21
    torch.save({key: tensor * 2 + 1 for key, tensor in served.items()}, tmp_path / "tuned.pth")
    statex("apply", HERE / "back.sx", "tuned.pth", "again.pth")
    again = torch.load(tmp_path / "again.pth", weights_only=True)
    assert_same_state(again, {key: tensor * 2 + 1 for key, tensor in state.items()})
    assert str(llama().load_state_dict(again)) == "<All keys matched successfully>"


def test_what_is_cut_off_is_kept_beside(state: dict[str, torch.Tensor], statex: Run, tmp_path: Path) -> None:
    told = statex("plan", HERE / "cut.sx", "in.pth", "-D", f"served={SERVED}", "--lossless", exit_code=1).stdout
    assert f"it[:{SERVED}] drops rows {SERVED}.. of lm_head.weight" in told
    statex("apply", HERE / "cut.sx", "in.pth", "out.pth", "-D", f"served={SERVED}", "--reversible")
    assert torch.load(tmp_path / "out.pth", weights_only=True)["head.weight"].shape == (SERVED, 32)
    statex("apply", "out.back.sx", "out.pth", "again.pth", "--in", "lost=out.lost.safetensors")
    again = torch.load(tmp_path / "again.pth", weights_only=True)
    assert again["lm_head.weight"].shape == (VOCAB, 32)
    assert_same_state(again, state)
