"""Folders of torch.distributed.checkpoint, against torch's own saving and loading."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed.checkpoint as dcp

import statex
from statex import StatexError

pytestmark = [
    pytest.mark.filterwarnings("ignore:torch.distributed is"),
    pytest.mark.filterwarnings("ignore:TypedStorage is deprecated"),
]


def content() -> dict[str, Any]:
    return {
        "model": {
            "layer.weight": torch.randn(4, 6),
            "layer.bias": torch.randn(6).bfloat16(),
            "steps": torch.tensor(7),
            "none": torch.zeros(0, 3),
        }
    }


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder saved by torch."""
    dcp.save(content() | {"epoch": 3}, checkpoint_id=tmp_path / "in", no_dist=True)
    return tmp_path / "in"


def test_tensors_come_out_as_torch_loads_them(folder: Path) -> None:
    target = folder.with_name("out.pth")
    statex.convert(folder, target, statex.compile("root 'model' -> ''\nset layer.weight = transpose"))
    wanted = {"model": {k: torch.empty_like(v) for k, v in content()["model"].items()}}
    dcp.load(wanted, checkpoint_id=folder, no_dist=True)
    found = torch.load(target)
    assert set(found) == set(wanted["model"])
    for key, tensor in wanted["model"].items():
        assert torch.equal(found[key], tensor.T if key == "layer.weight" else tensor)


def test_torch_loads_what_is_written(folder: Path) -> None:
    state = content()
    torch.save(state, folder.with_name("in.pth"))
    target = folder.with_name("out")
    rules = statex.compile("rename layer.weight -> w\nset layer.bias = it * 2")
    statex.convert(folder.with_name("in.pth"), target, rules, format="dcp")
    wanted = {"model": {"w": torch.empty(4, 6), "layer.bias": torch.empty(6).bfloat16(), "steps": torch.tensor(0)}}
    dcp.load(wanted, checkpoint_id=target, no_dist=True)
    assert torch.equal(wanted["model"]["w"], state["model"]["layer.weight"])
    assert torch.equal(wanted["model"]["layer.bias"], state["model"]["layer.bias"] * 2)
    assert wanted["model"]["steps"].item() == 7
    assert sorted(p.name for p in target.parent.iterdir()) == ["in", "in.pth", "out"]


def test_pickled_values_are_named_and_not_read(folder: Path) -> None:
    with pytest.raises(StatexError) as caught:
        statex.convert(folder, folder.with_name("out.pth"), statex.compile("rename layer.bias -> b"), root="model")
    assert [d.code.id for d in caught.value.diagnostics] == ["SX614"]
    assert "`epoch`" in str(caught.value)


def test_a_header_that_names_code_is_refused(folder: Path) -> None:
    marker = folder / "marker"

    class Evil:
        def __reduce__(self) -> Any:
            return os.system, (f"touch {marker}",)

    (folder / ".metadata").write_bytes(pickle.dumps({"a": Evil()}))
    with pytest.raises(StatexError) as caught:
        statex.read_header(folder)
    assert [d.code.id for d in caught.value.diagnostics] == ["SX603"]
    assert not marker.exists()
    for broken in (b"", b"\x80\x04N.", b"\x80\x04}."):
        (folder / ".metadata").write_bytes(broken)
        with pytest.raises(StatexError) as caught:
            statex.read_header(folder)
        assert [d.code.id for d in caught.value.diagnostics] == ["SX604"]
