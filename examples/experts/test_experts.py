"""transformers writes its own model in the old layout of one matrix an expert; its state is the reference."""

from pathlib import Path

import pytest
import torch
from conftest import Run, assert_same_state
from experts.models import EXPERTS, LAYERS, mixtral
from safetensors.torch import load_file, save_file

HERE = Path(__file__).parent


@pytest.fixture
def reference(tmp_path: Path) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    model = mixtral()
    model.save_pretrained(tmp_path / "saved")
    (tmp_path / "saved" / "model.safetensors").rename(tmp_path / "in.safetensors")
    return dict(model.state_dict())


def test_stacked_as_transformers_has_it(reference: dict[str, torch.Tensor], statex: Run, tmp_path: Path) -> None:
    keys = load_file(tmp_path / "in.safetensors")
    assert sum(".experts." in key for key in keys) == LAYERS * EXPERTS * 3
    statex("apply", HERE / "rules.sx", "in.safetensors", "out.safetensors", "--target", "models:mixtral")
    state = load_file(tmp_path / "out.safetensors")
    assert_same_state(state, reference)
    model = mixtral().eval()
    model.load_state_dict(state)
    same = mixtral().eval()
    same.load_state_dict(reference)
    tokens = torch.randint(0, 50, (2, 9))
    with torch.no_grad():
        assert torch.equal(model(tokens).logits, same(tokens).logits)


def test_a_missing_expert_is_an_error_before_anything_is_written(
    reference: dict[str, torch.Tensor], statex: Run, tmp_path: Path
) -> None:
    state = load_file(tmp_path / "in.safetensors")
    del state["model.layers.1.block_sparse_moe.experts.7.w2.weight"]
    save_file(state, tmp_path / "gap.safetensors")
    done = statex("apply", HERE / "rules.sx", "gap.safetensors", "out.safetensors", exit_code=1)
    assert "error[SX310]" in done.stderr
    assert "7" in done.stderr
    assert not (tmp_path / "out.safetensors").exists()
