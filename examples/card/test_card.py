"""torch names the keys (`state_dict(prefix='ds')`) and loads the result; statex has to agree with it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from card.models import Card, DsCard
from conftest import Run, assert_same_state

HERE = Path(__file__).parent


@pytest.fixture
def card(tmp_path: Path) -> Card:
    torch.manual_seed(0)
    model = Card()
    model(torch.randn(4, 10))  # moves the running statistics away from their first values
    torch.save(model.state_dict(), tmp_path / "in.pth")
    return model


def test_the_two_lines(card: Card, statex: Run, tmp_path: Path) -> None:
    statex("apply", HERE / "rules.sx", "in.pth", "out.pth", "--target", "models:DsCard")
    state = torch.load(tmp_path / "out.pth", weights_only=True)
    expected = card.state_dict(prefix="ds")
    expected["dslinear.weight"] = torch.ones(5, 10)
    assert list(state) == list(expected)
    assert_same_state(state, expected)
    after = DsCard()
    assert dict(state._metadata) == dict(after.state_dict()._metadata)
    assert str(after.load_state_dict(state)) == "<All keys matched successfully>"


def test_without_the_rename_the_plain_model_loads_it(card: Card, statex: Run, tmp_path: Path) -> None:
    statex("apply", "-e", "set linear.weight = ones_like", "in.pth", "out.pth", "--target", "models:Card")
    state = torch.load(tmp_path / "out.pth", weights_only=True)
    assert_same_state(state, {**card.state_dict(), "linear.weight": torch.ones(5, 10)})
    assert str(card.load_state_dict(state)) == "<All keys matched successfully>"
    assert dict(state._metadata) == dict(card.state_dict()._metadata)


@pytest.mark.usefixtures("card")
def test_the_renamed_state_does_not_fit_the_plain_model(statex: Run, tmp_path: Path) -> None:
    done = statex("apply", HERE / "rules.sx", "in.pth", "out.pth", "--target", "models:Card", exit_code=1)
    assert "7 missing, 7 unexpected" in done.stderr
    for key in Card().state_dict():
        assert f"  missing     {key} " in done.stderr
        assert f"  unexpected  ds{key} " in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["in.pth"]


def test_the_demo(tmp_path: Path) -> None:
    for file in HERE.iterdir():
        if file.is_file():
            (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "demo.sh").chmod(0o755)
    path = os.pathsep.join([os.path.dirname(sys.executable), os.environ["PATH"]])
    done = subprocess.run(
        [tmp_path / "demo.sh"], env={**os.environ, "PATH": path}, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "out.pth fits DsCard: all 7 keys, shapes and dtypes agree" in done.stdout
    assert "error[SX501]" in done.stderr
