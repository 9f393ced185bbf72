"""Ties are one tensor (memory, shape and stride), never merely one storage: in memory, in files, in what plans say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import statex

State = dict[str, torch.Tensor]


def halves() -> State:
    flat = torch.arange(8.0)
    return {"a": flat[:4], "b": flat[4:]}


def _converted(tmp_path: Path, state: State, rules: str, name: str = "out.pth") -> tuple[Any, list[Any]]:
    torch.save(state, tmp_path / "in.pth")
    done = statex.convert(tmp_path / "in.pth", tmp_path / name, rules, force=True)
    found = load_file(tmp_path / name) if name.endswith("safetensors") else torch.load(tmp_path / name)
    return found, list(done.warnings)


def _are_one(first: torch.Tensor, second: torch.Tensor) -> bool:
    return first.untyped_storage()._cdata == second.untyped_storage()._cdata


@pytest.mark.parametrize("rules", ["set a, b = zeros([4])", "set ** = full([4], 3)", "set a, b = ones_like"])
def test_parts_of_one_storage_that_get_one_value_are_two_tensors(tmp_path: Path, rules: str) -> None:
    in_memory = statex.compile(rules).apply(halves())
    assert not _are_one(in_memory["a"], in_memory["b"])
    read, warnings = _converted(tmp_path, halves(), rules)
    assert not _are_one(read["a"], read["b"])
    assert not warnings
    read["a"][0] = 9
    assert read["b"][0] != 9


def test_views_of_other_shapes_are_not_tied() -> None:
    weight = torch.arange(4.0).reshape(2, 2)
    done = statex.compile("set a, b = zeros([2, 2])").apply({"a": weight, "b": weight.T})
    assert not _are_one(done["a"], done["b"])


@pytest.mark.parametrize("rules", ["set a, b = zeros([4])", "set a, b = it * 2", "set ** = cast(f64)"])
def test_one_tensor_under_two_keys_stays_one(tmp_path: Path, rules: str) -> None:
    weight = torch.arange(4.0)
    state = {"a": weight, "b": weight}
    done = statex.compile(rules).apply(state)
    assert _are_one(done["a"], done["b"])
    read, warnings = _converted(tmp_path, state, rules)
    assert _are_one(read["a"], read["b"])
    assert not warnings


def test_a_tie_that_ends_is_said_of_one_tensor_and_not_of_one_storage() -> None:
    plan = statex.compile("set a = it * 2").plan(halves())
    assert not plan.warnings
    flat = torch.arange(8.0)
    plan = statex.compile("set a = it * 2").plan({"a": flat[:4], "b": flat[:4], "c": flat[4:]})
    (found,) = plan.warnings
    assert found.code.id == "SX901"
    assert "`c`" not in found.headline
