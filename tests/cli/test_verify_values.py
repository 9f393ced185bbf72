"""`statex verify --like FILE --values`: the numbers too."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from tests.cli.conftest import Run


@pytest.fixture
def pair(tmp_path: Path) -> None:
    state = {f"l.{i}.w": torch.arange(6.0) + i for i in range(12)}
    torch.save(state, tmp_path / "a.pth")
    save_file(state, tmp_path / "same.safetensors")
    for i in range(10):
        state[f"l.{i}.w"] = state[f"l.{i}.w"] + 1e-3 * (i + 1)
    torch.save(state, tmp_path / "b.pth")


def test_equal_values(run: Run, pair: None) -> None:
    ended = run("verify", "a.pth", "--like", "same.safetensors", "--values")
    assert (ended.exit_code, ended.out) == (
        0,
        "a.pth fits same.safetensors: all 12 keys agree, and their values in bits\n",
    )
    assert run("verify", "a.pth", "--like", "b.pth").out == "a.pth fits b.pth: all 12 keys, shapes and dtypes agree\n"
    assert run("verify", "a.pth", "--like", "same.safetensors", "--values", "--json").json["values"] is True


def test_values_that_differ(run: Run, pair: None) -> None:
    ended = run("verify", "a.pth", "--like", "b.pth", "--values")
    assert (ended.exit_code, ended.out) == (1, "")
    first, worst, *rest = ended.err.splitlines()
    assert first == "error[SX508]: `a.pth` and `b.pth` differ in the values of 10 of 12 keys"
    assert worst.split()[:4] == ["l.9.w", "max", "abs", "0.01,"]
    assert rest[7].strip() == "and 2 more"


def test_tolerances(run: Run, pair: None) -> None:
    assert run("verify", "a.pth", "--like", "b.pth", "--values", "--atol", "1e-3").exit_code == 1
    ended = run("verify", "a.pth", "--like", "b.pth", "--values", "--atol", "0.02")
    assert ended.out == "a.pth fits b.pth: all 12 keys agree, and their values within the tolerance\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--target", "models:Net", "--values"], "--values takes --like FILE"),
        (["--like", "b.pth", "--atol", "1"], "which --values compares"),
        (["--like", "b.pth", "--values", "--rtol", "x"], "takes a number from 0 on"),
    ],
)
def test_wrong_usage(run: Run, pair: None, arguments: list[str], said: str) -> None:
    ended = run("verify", "a.pth", *arguments)
    assert (ended.exit_code, said in ended.err) == (2, True)


def test_what_is_not_compared_is_said(run: Run) -> None:
    sparse = torch.eye(3).to_sparse()
    torch.save({"w": torch.ones(2), "s": sparse}, "s.pth")
    ended = run("verify", "s.pth", "--like", "s.pth", "--values")
    assert ended.out.endswith("and their values in bits; 1 entry not compared (not dense tensors)\n")
