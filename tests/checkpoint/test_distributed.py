"""Folders of torch.distributed.checkpoint, against torch's own saving and loading."""

from __future__ import annotations

import errno
import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed.checkpoint as dcp

import statex
from statex import StatexError
from statex.checkpoint.distributed import DistributedReader

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


def test_what_is_written_is_compared_when_asked(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = torch.nn.Linear(3, 4).state_dict() | {"turned": torch.randn(3, 4).t(), "none": torch.zeros(0, 2)}
    source, target = folder.with_name("in.pth"), folder.with_name("out")
    torch.save(state, source)
    rules = statex.compile("set bias = it * 2")
    statex.convert(source, target, rules, format="dcp", verify_written=True)
    statex.convert(target, folder.with_name("again.pth"), rules, verify_written=True)
    load = DistributedReader.load
    monkeypatch.setattr(DistributedReader, "load", lambda reader, info: load(reader, info) + 1)
    with pytest.raises(StatexError, match="not those that were written"):
        statex.convert(source, target, rules, format="dcp", verify_written=True, force=True)


def test_what_stands_around_the_state_is_kept(folder: Path) -> None:
    folder = folder.with_name("nested")
    state = {"model": {"w": torch.ones(2)}, "optim": {"m": torch.full((3,), 2.0)}}
    dcp.save(state, checkpoint_id=folder, no_dist=True)
    target = folder.with_name("out.pth")
    statex.convert(folder, target, statex.compile("rename w -> v"), root="model", verify_written=True)
    found = torch.load(target)
    assert torch.equal(found["model"]["v"], torch.ones(2))
    assert torch.equal(found["optim"]["m"], torch.full((3,), 2.0))


def test_damage_is_one_line(folder: Path) -> None:
    for data in folder.glob("*.distcp"):
        data.unlink()
    with pytest.raises(StatexError) as caught:
        statex.convert(folder, folder.with_name("out.pth"), statex.compile("root 'model' -> ''"))
    (only,) = caught.value.diagnostics
    assert only.code.id == "SX604"
    assert "\n" not in only.headline


def test_what_stops_torch_at_its_writing_is_said(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """torch wraps whatever happens inside; nothing is left behind, and the old folder stays."""
    source, target = folder.with_name("in.pth"), folder.with_name("out")
    torch.save({"w": torch.randn(300, 300)}, source)
    data = bytearray(source.read_bytes())
    data[len(data) // 2] ^= 1
    folder.with_name("bad.pth").write_bytes(data)
    statex.convert(source, target, statex.compile(""), format="dcp")
    with pytest.raises(StatexError) as caught:
        statex.convert(folder.with_name("bad.pth"), target, statex.compile(""), format="dcp", force=True)
    assert [d.code.id for d in caught.value.diagnostics] == ["SX604"]

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StatexError, match="No space left") as caught:
        statex.convert(source, target, statex.compile(""), format="dcp", force=True)
    assert [d.code.id for d in caught.value.diagnostics] == ["SX612"]
    monkeypatch.undo()
    assert sorted(p.name for p in folder.parent.iterdir()) == ["bad.pth", "in", "in.pth", "out"]
    assert list(statex.read_header(target).entries) == ["w"]
