"""Ties and Parameters there and back, as torch reads them from the files: they come back, or are named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import statex


def there_and_back(folder: Path, state: Any, rules: str, output: str = "out.pth") -> tuple[dict[str, Any], Any]:
    """Return the state after the rules and what undoes them, and the inverse."""
    torch.save(state, folder / "in.pth")
    done = statex.convert(folder / "in.pth", folder / output, rules, reversible=True)
    assert done.reversal is not None
    lost = {"lost": folder / "out.lost.safetensors"} if done.reversal.inverse.stored else {}
    statex.convert(folder / output, folder / "back.pth", folder / "out.back.sx", inputs=lost)
    back = torch.load(folder / "back.pth", weights_only=True)
    for key, value in state.items():
        assert back[key].dtype == value.dtype
        assert torch.equal(back[key], value)
    return back, done.reversal.inverse


def are_one(one: torch.Tensor, other: torch.Tensor) -> bool:
    return one.data_ptr() == other.data_ptr()


@pytest.mark.parametrize("output", ["out.pth", "out.safetensors"])
@pytest.mark.parametrize(
    "rules",
    [
        "rename wte.weight -> embed.weight",
        "set ** = cast(bf16)",
        "set head.weight, wte.weight = it[:2]",
        "set head.weight = cast(bf16)",
        "drop head.weight",
        "set ** = flip(0)",
        "drop **.weight\nadd new.weight = zeros([1])",
    ],
)
def test_ties_come_back(rules: str, output: str, tmp_path: Path) -> None:
    weight = torch.randn(4, 2)
    back, found = there_and_back(
        tmp_path, {"wte.weight": weight, "b": torch.ones(2), "head.weight": weight}, rules, output
    )
    assert are_one(back["wte.weight"], back["head.weight"])
    assert not are_one(back["wte.weight"], back["b"])
    assert (found.apart, found.lost) == ((), ())
    assert found.in_order == (list(back) == ["wte.weight", "b", "head.weight"])


def test_ties_of_many_layers_come_back_by_one_statement(tmp_path: Path) -> None:
    state = {}
    for layer in range(3):
        state[f"a.{layer}.w"] = state[f"b.{layer}.w"] = torch.randn(2)
    back, found = there_and_back(tmp_path, state, "rename b.{i}.w -> c.{i}.w", "out.safetensors")
    assert all(are_one(back[f"a.{layer}.w"], back[f"b.{layer}.w"]) for layer in range(3))
    assert found.text.endswith("drop b.{n:int}.w\ncopy a.{n:int}.w -> b.{n}.w\norder natural\n") or not found.in_order


def test_what_was_apart_stays_apart(tmp_path: Path) -> None:
    weight = torch.randn(2)
    back, found = there_and_back(tmp_path, {"a": weight, "b": weight.clone()}, "set ** = cast(bf16)")
    assert not are_one(back["a"], back["b"])
    assert found.apart == ()


@pytest.mark.parametrize(
    ("rules", "output", "named"),
    [
        ("set ** = cast(bf16)", "out.pth", ()),
        ("drop a", "out.pth", ("a",)),
        ("rename a -> c", "out.safetensors", ("a", "b")),
        ("set ** = cast(bf16)", "out.safetensors", ("a", "b")),
    ],
)
def test_parameters_come_back_or_are_named(rules: str, output: str, named: tuple[str, ...], tmp_path: Path) -> None:
    state = {
        "a": nn.Parameter(torch.randn(3)),
        "b": nn.Parameter(torch.randn(2), requires_grad=False),
        "c.d": torch.ones(1),
    }
    back, found = there_and_back(tmp_path, state, rules, output)
    assert found.parameters == named
    for key in ("a", "b"):
        assert isinstance(back[key], nn.Parameter) == (key not in named)


@pytest.mark.parametrize(
    ("rules", "output", "comes_back"),
    [
        ("rename prefix '' -> 'm.'", "out.pth", True),
        ("drop bn.**", "out.pth", False),
        ("rename prefix '' -> 'm.'", "out.safetensors", False),
    ],
)
def test_metadata_comes_back_or_is_named(rules: str, output: str, comes_back: bool, tmp_path: Path) -> None:
    net = nn.Sequential()
    net.add_module("fc", nn.Linear(2, 2))
    net.add_module("bn", nn.BatchNorm1d(2))
    back, found = there_and_back(tmp_path, net.state_dict(), rules, output)
    assert found.metadata == comes_back
    assert (dict(getattr(back, "_metadata", {})) == dict(net.state_dict()._metadata)) == comes_back
