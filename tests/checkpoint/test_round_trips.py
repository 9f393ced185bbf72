"""What torch can save comes back through each format that holds it: bits, order, `_metadata`, ties, Parameters."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import statex
from statex import StatexError
from tests.checkpoint.states import (
    IN_SAFETENSORS,
    NOT_IN_SAFETENSORS,
    NOTHING,
    UNTYPED,
    bits,
    plain,
    same,
    states,
    ties,
)
from tests.effort import examples

pytestmark = pytest.mark.filterwarnings("ignore:ComplexHalf support is experimental")

quick = settings(max_examples=examples(80), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@quick
@given(states(), plain, st.booleans())
def test_torch_files_come_back_as_they_were(tmp_path: Path, state: Any, around: Any, old: bool) -> None:
    source, target = tmp_path / "in.pth", tmp_path / "out.pth"
    content = {"epoch": around, "model": state}
    # torch itself cannot load a legacy file with these.
    old = old and not any("float8" in str(t.dtype) or str(t.dtype) in UNTYPED for t in state.values())
    torch.save(content, source, _use_new_zipfile_serialization=not old)
    statex.convert(source, target, NOTHING, root="model", force=True, verify_written=True)
    wanted = torch.load(source, weights_only=True)
    for mmap in (False, True):
        for weights_only in (False, True):
            found = torch.load(target, weights_only=weights_only, mmap=mmap)
            assert same(found, wanted)
            assert ties(found["model"]) == ties(wanted["model"])
    assert zipfile.ZipFile(target).testzip() is None


@quick
@given(states(IN_SAFETENSORS))
def test_states_come_back_through_safetensors(tmp_path: Path, state: Any) -> None:
    source, middle, target = tmp_path / "in.pth", tmp_path / "mid.safetensors", tmp_path / "out.pth"
    torch.save(state, source)
    statex.convert(source, middle, NOTHING, root="", force=True, verify_written=True)
    found = load_file(middle)
    assert found.keys() == state.keys()
    assert all(bits(found[key]) == bits(tensor) for key, tensor in state.items())
    statex.convert(middle, target, NOTHING, root="", force=True, verify_written=True)
    again = torch.load(target)
    assert list(again) == list(state)
    assert all(same(again[key], found[key]) for key in state)


OUTPUTS = {
    "torch": ("out.pth", {}),
    "safetensors": ("out.safetensors", {}),
    "torch shards": ("torch/", {"format": "torch", "shard_size": 40}),
    "safetensors shards": ("safetensors/", {"format": "safetensors", "shard_size": 40}),
    "dcp": ("dcp/", {"format": "dcp"}),
}


@pytest.mark.filterwarnings("ignore:torch.distributed is", "ignore:TypedStorage is deprecated")
@settings(quick, max_examples=examples(60))
@given(states(IN_SAFETENSORS), st.sampled_from(sorted(OUTPUTS)), st.sampled_from(sorted(OUTPUTS)))
def test_states_come_back_through_two_formats(tmp_path: Path, state: Any, one: str, other: str) -> None:
    torch.save(state, tmp_path / "in.pth")
    (first, how), (second, then) = OUTPUTS[one], OUTPUTS[other]
    paths = [tmp_path / "in.pth", f"{tmp_path}/1{first}", f"{tmp_path}/2{second}", tmp_path / "back.pth"]
    for source, target, options in zip(paths, paths[1:], [how, then, {}], strict=False):
        statex.convert(source, target, NOTHING, root="", force=True, **options)
    found = torch.load(paths[-1])
    assert found.keys() == state.keys()
    assert all(found[key].dtype == tensor.dtype for key, tensor in state.items())
    assert all(bits(found[key]) == bits(tensor) for key, tensor in state.items())
    if "dcp" not in (one, other):
        assert list(found) == list(state)
    if {one, other} <= {"torch", "torch shards"}:
        assert [type(t) for t in found.values()] == [type(t) for t in state.values()]


@quick
@given(states(IN_SAFETENSORS), st.sampled_from(["torch", "safetensors"]), st.integers(1, 60))
def test_states_come_back_through_shards(tmp_path: Path, state: Any, format: str, size: int) -> None:
    source, folder, target = tmp_path / "in.pth", tmp_path / "set", tmp_path / "out.pth"
    torch.save(state, source)
    statex.convert(
        source, f"{folder}/", NOTHING, root="", format=format, shard_size=size, force=True, verify_written=True
    )
    files = sorted(folder.iterdir())
    assert len(files) == 1 or any(f.name.endswith(".index.json") for f in files)
    statex.convert(folder, target, NOTHING, root="", force=True)
    found = torch.load(target)
    assert list(found) == list(state)
    assert all(bits(found[key]) == bits(tensor) for key, tensor in state.items())


@pytest.mark.parametrize("dtype", NOT_IN_SAFETENSORS, ids=str)
def test_what_safetensors_cannot_hold_is_named(tmp_path: Path, dtype: torch.dtype) -> None:
    torch.save({"fine": torch.ones(1), "odd.one": torch.zeros(2, dtype=dtype)}, tmp_path / "in.pth")
    with pytest.raises(StatexError) as caught:
        statex.convert(tmp_path / "in.pth", tmp_path / "out.safetensors", NOTHING)
    assert "odd.one" in str(caught.value)
    assert not (tmp_path / "out.safetensors").exists()


@pytest.mark.filterwarnings(
    "ignore:Sparse CSR tensor support",
    "ignore:torch.quantize_per_tensor",
    "ignore:TypedStorage is deprecated",
    "ignore:Validating sparse tensor invariants",
)
@pytest.mark.parametrize("make", ["sparse", "csr", "quantized", "conjugate", "extra", "size", "set"])
def test_what_is_no_plain_tensor_comes_through(tmp_path: Path, make: str) -> None:
    value: Any = {
        "sparse": lambda: torch.eye(3).to_sparse(),
        "csr": lambda: torch.eye(3).to_sparse_csr(),
        "quantized": lambda: torch.quantize_per_tensor(torch.arange(4.0), 0.5, 1, torch.quint8),
        "conjugate": lambda: torch.ones(3, dtype=torch.complex64).conj(),
        "extra": lambda: {"step": torch.tensor(3), "names": ["a", ("b", 2)]},
        "size": lambda: torch.Size([2, 3]),
        "set": lambda: {1, "a"},
    }[make]()
    torch.save({"w": torch.ones(2), "m._extra_state": value}, tmp_path / "in.pth")
    statex.convert(tmp_path / "in.pth", tmp_path / "out.pth", statex.compile("rename w -> v"))
    wanted = torch.load(tmp_path / "in.pth", weights_only=make != "set")["m._extra_state"]
    found = torch.load(tmp_path / "out.pth", weights_only=make != "set")["m._extra_state"]
    applied = NOTHING.apply(tmp_path / "in.pth")["m._extra_state"]
    assert type(found) is type(wanted) is type(applied)
    for one in (found, applied):
        if make in ("sparse", "csr"):
            assert torch.equal(one.to_dense(), wanted.to_dense())
        elif make == "quantized":
            assert torch.equal(one.int_repr(), wanted.int_repr())
            assert (one.q_scale(), one.q_zero_point()) == (0.5, 1)
        elif make == "conjugate":
            assert one.is_conj()
            assert torch.equal(one, wanted)
        else:
            assert same(one, wanted)


def test_notes_of_safetensors_stay(tmp_path: Path) -> None:
    save_file({"a": torch.ones(1)}, tmp_path / "in.safetensors", metadata={"format": "pt", "made by": "somebody"})
    statex.convert(tmp_path / "in.safetensors", tmp_path / "out.safetensors", statex.compile("rename a -> b"))
    with safe_open(tmp_path / "out.safetensors", "pt") as found:
        assert found.metadata() == {"format": "pt", "made by": "somebody"}
    done = statex.convert(tmp_path / "in.safetensors", tmp_path / "out.pth", NOTHING)
    (warning,) = done.plan.warnings
    assert warning.code.id == "SX905"
    assert "`made by`" in warning.headline


as_torch_writes_now = pytest.mark.skipif(
    find_spec("torch.utils.serialization") is None, reason="this torch is older than the records of today's archives"
)


@as_torch_writes_now
def test_torch_finds_the_offsets_of_storages(tmp_path: Path) -> None:
    torch.save({f"k{i}": torch.arange(float(i * 37)) for i in range(20)}, tmp_path / "in.pth")
    statex.convert(tmp_path / "in.pth", tmp_path / "out.pth", statex.compile("drop k3, k7\nrename k9 -> z"))
    script = (
        "import sys, torch; from torch.utils.serialization import config;"
        "config.load.calculate_storage_offsets = True;"
        "print(sum(t.sum().item() for t in torch.load(sys.argv[1], mmap=True).values()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, tmp_path / "out.pth"], capture_output=True, text=True, check=True,
        env={"TORCH_SERIALIZATION_DEBUG": "1", "PATH": ""},
    )  # fmt: skip
    wanted = sum(sum(range(i * 37)) for i in range(20) if i not in (3, 7))
    assert float(done.stdout) == wanted


@as_torch_writes_now
def test_archives_are_laid_out_as_torch_lays_them_out(tmp_path: Path) -> None:
    state = {f"k{i}": torch.arange(float(i * 11)) for i in range(6)} | {"p": torch.nn.Parameter(torch.ones(3))}
    torch.save(state, tmp_path / "in.pth")
    statex.convert(tmp_path / "in.pth", tmp_path / "out.pth", NOTHING)
    torch.save(torch.load(tmp_path / "out.pth"), tmp_path / "ref.pth")
    ours, theirs = (zipfile.ZipFile(tmp_path / name).infolist() for name in ("out.pth", "ref.pth"))
    assert [i.filename.partition("/")[2] for i in ours] == [i.filename.partition("/")[2] for i in theirs]
    assert [(i.flag_bits, i.CRC, i.file_size) for i in ours[1:-1]] == [
        (i.flag_bits, i.CRC, i.file_size) for i in theirs[1:-1]
    ]
    # Where the pickle ends differs; from the first aligned record on, every distance is the same.
    gaps = [[b.header_offset - a.header_offset for a, b in pairwise(z[2:])] for z in (ours, theirs)]
    assert gaps[0] == gaps[1]


def test_what_is_around_a_state(tmp_path: Path) -> None:
    model = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.BatchNorm1d(3))
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(2, 3)).sum().backward()
    optimizer.step()
    whole = {
        "epoch": 3,
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "args": {"lr": 1e-3, "betas": (0.9, 0.99), "names": ["a", None, True]},
    }
    torch.save(whole, tmp_path / "in.pth")
    statex.convert(tmp_path / "in.pth", tmp_path / "out.pth", statex.compile("root 'model'"))
    assert same(torch.load(tmp_path / "out.pth", weights_only=True), whole)


@pytest.mark.parametrize("count", [250, 300, 70_000])
def test_many_names_in_one_pickle(tmp_path: Path, count: int) -> None:
    """The places of pickles have a byte, and beyond 255 four."""
    shared = [f"name {number}" for number in range(count)]
    torch.save({"state": {"w": torch.ones(2)}, "names": shared, "again": shared[::-1]}, tmp_path / "in.pth")
    statex.convert(tmp_path / "in.pth", tmp_path / "out.pth", statex.compile("root 'state'"))
    found = torch.load(tmp_path / "out.pth", weights_only=True)
    assert found["again"] == found["names"][::-1] == shared[::-1]
    state = {f"k{number}": torch.nn.Parameter(torch.full((1,), float(number))) for number in range(min(count, 600))}
    torch.save(state, tmp_path / "in.pth")
    statex.convert(tmp_path / "in.pth", tmp_path / "out.pth", NOTHING, force=True)
    assert same(torch.load(tmp_path / "out.pth"), state)


def test_a_view_is_saved_compactly(tmp_path: Path) -> None:
    big = torch.randn(1000, 1000)
    torch.save({"a": big[:2], "b": torch.ones(1)}, tmp_path / "in.pth")
    assert (tmp_path / "in.pth").stat().st_size > 4_000_000
    statex.convert(tmp_path / "in.pth", tmp_path / "out.pth", NOTHING)
    assert (tmp_path / "out.pth").stat().st_size < 20_000
    assert torch.equal(torch.load(tmp_path / "out.pth", weights_only=True)["a"], big[:2])
