"""The script is the reference: what is inferred does as it does, for other checkpoints too."""

import runpy
from pathlib import Path

import pytest
import torch
from conftest import Run, assert_same_state
from infer.models import VOCAB, Encoder, bert
from torch import nn

HERE = Path(__file__).parent


def converted(state: dict[str, torch.Tensor], folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, torch.Tensor]:
    """Return what the script makes of a state."""
    source, target = folder / "script-in.pth", folder / "script-out.pth"
    torch.save(state, source)
    monkeypatch.setattr("sys.argv", ["convert.py", str(source), str(target)])
    runpy.run_path(str(HERE / "convert.py"))
    return torch.load(target, weights_only=True)


def test_the_rules_are_found_and_proved(statex: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    old = bert().state_dict()
    torch.save(old, tmp_path / "bert.pth")
    torch.save(converted(old, tmp_path, monkeypatch), tmp_path / "encoder.pth")
    done = statex("infer", "bert.pth", "encoder.pth", "-o", "rules.sx")
    assert "proved: 41 of 41 tensors equal in bits" in done.stdout
    assert (tmp_path / "rules.sx").read_text() == (HERE / "rules.sx").read_text()


def test_the_front_page_shows_them() -> None:
    assert (HERE / "rules.sx").read_text() in (HERE.parent.parent / "README.md").read_text()


def test_they_hold_for_a_larger_model(statex: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(1)
    source = bert(layers=5).eval()
    for parameter in source.parameters():
        nn.init.normal_(parameter, std=0.3)  # biases and norms as training leaves them: no two are alike
    torch.save(source.state_dict(), tmp_path / "in.pth")
    statex("apply", HERE / "rules.sx", "in.pth", "out.pth")
    state = torch.load(tmp_path / "out.pth", weights_only=True)
    assert_same_state(state, converted(source.state_dict(), tmp_path, monkeypatch))
    target = Encoder(layers=5).eval()
    assert str(target.load_state_dict(state)) == "<All keys matched successfully>"
    tokens = torch.randint(0, VOCAB, (2, 11))
    with torch.no_grad():
        torch.testing.assert_close(target(tokens), source(tokens).last_hidden_state)
