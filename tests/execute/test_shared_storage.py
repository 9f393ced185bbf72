"""Ties are one tensor (memory, shape and stride), never merely one storage: in memory, in files, in what plans say."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

import statex
from statex.core.dtypes import BY_NAME
from statex.core.header import TensorInfo, TensorType
from statex.session.overlaps import overlap

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


# --- formats without sharing ------------------------------------------------------------------------------------


def test_disjoint_slices_are_no_ties_for_a_format_without_sharing(tmp_path: Path) -> None:
    qkv = torch.arange(24.0).reshape(12, 2)
    state = {"q": qkv[:4], "k": qkv[4:8], "v": qkv[8:]}
    read, warnings = _converted(tmp_path, state, "", "out.safetensors")
    assert not warnings
    assert all(torch.equal(read[key], tensor) for key, tensor in state.items())


def test_slices_of_columns_are_no_ties_either(tmp_path: Path) -> None:
    qkv = torch.arange(24.0).reshape(2, 12)
    state = {"q": qkv[:, :4], "k": qkv[:, 4:8], "v": qkv[:, 8:]}
    read, warnings = _converted(tmp_path, state, "", "out.safetensors")
    assert not warnings
    assert all(torch.equal(read[key], tensor) for key, tensor in state.items())


def test_overlap_is_said_and_nothing_is_advised_that_loses_data(tmp_path: Path) -> None:
    flat = torch.arange(8.0)
    state = {"all": flat, "head": flat[:5], "tail": flat[5:]}
    read, (found,) = _converted(tmp_path, state, "", "out.safetensors")
    assert found.code.id == "SX904"
    assert "overlap" in found.headline
    assert all(f"`{key}`" in found.headline for key in state)
    assert not found.notes
    assert all(torch.equal(read[key], tensor) for key, tensor in state.items())


def test_the_advice_for_a_tie_loses_nothing(tmp_path: Path) -> None:
    qkv = torch.arange(8.0)
    state = {"q": qkv[:4], "v": qkv[4:]}
    read, (found,) = _converted(tmp_path, state, "copy q -> q2", "out.safetensors")
    assert found.code.id == "SX904"
    assert "`v`" not in found.headline
    assert found.notes[-1].text == "if the model ties them itself: drop q2; allow missing q2"
    assert torch.equal(read["q2"], read["q"])


def test_a_copy_that_is_changed_is_no_tie(tmp_path: Path) -> None:
    _, warnings = _converted(tmp_path, {"a": torch.ones(2)}, "copy a -> b\nset b = it * 2", "out.safetensors")
    assert not [found for found in warnings if found.code.id == "SX904"]


def test_the_bytes_of_ties_are_counted(tmp_path: Path) -> None:
    weight = torch.ones(256)
    flat = torch.ones(512)
    state = {"a": weight, "b": weight, "c": weight, "d": flat[:256], "e": flat[256:]}
    _, (found,) = _converted(tmp_path, state, "", "out.safetensors")
    assert found.notes[0].text == "2.0 KiB are written again"


_sizes = st.lists(st.integers(1, 4), min_size=0, max_size=3)


@st.composite
def _views(draw: st.DrawFn) -> torch.Tensor:
    """A view of the bytes of one storage, in some dtype."""
    dtype = draw(st.sampled_from([torch.uint8, torch.int16]))
    sizes = draw(_sizes)
    strides = [draw(st.integers(0, 7)) for _ in sizes]
    reach = 1 + sum((n - 1) * s for n, s in zip(sizes, strides, strict=True))
    storage = torch.zeros(96, dtype=torch.uint8).view(dtype)
    offset = draw(st.integers(0, max(storage.numel() - reach, 0)))
    return storage.as_strided(sizes, strides, offset) if offset + reach <= storage.numel() else storage[:1]


def _bytes(tensor: torch.Tensor) -> set[int]:
    found = set()
    for index in product(*map(range, tensor.shape)):
        at = tensor.storage_offset() + sum(i * s for i, s in zip(index, tensor.stride(), strict=True))
        found.update(range(at * tensor.element_size(), (at + 1) * tensor.element_size()))
    return found


def _info(tensor: torch.Tensor) -> TensorInfo:
    kind = TensorType(BY_NAME[str(tensor.dtype).removeprefix("torch.")], tuple(tensor.shape))
    return TensorInfo(kind, "one", tensor.storage_offset(), tuple(tensor.stride()))


@given(_views(), _views())
def test_overlap_is_that_of_the_bytes(first: torch.Tensor, second: torch.Tensor) -> None:
    assert overlap(_info(first), _info(second)) == bool(_bytes(first) & _bytes(second))
