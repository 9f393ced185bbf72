"""Tensors that only move keep their place within pages: file systems that can share pages need not copy them."""

from __future__ import annotations

import fcntl
import os
import shutil
import struct
import subprocess
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.utils.serialization import config

import statex

PAGE = 4096
RULES = "rename layers.{i}.{n} -> blocks.of.the.encoder.{i}.{n}"
STATE = {
    "layers.0.w": torch.arange(3 << 18, dtype=torch.float32),
    "layers.0.b": torch.arange(33, dtype=torch.float64),
    "layers.1.w": torch.arange(5 << 18, dtype=torch.float32).flip(0).contiguous(),
    "layers.1.b": torch.arange(7, dtype=torch.int16),
    "layers.2.w": torch.arange(1 << 21, dtype=torch.int32).view(2, -1),
}


def data_of(path: Path) -> dict[str, int]:
    """Return where the storages of a torch file stand, by their names."""
    reader = torch._C.PyTorchFileReader(str(path))
    names = [name for name in reader.get_all_records() if name.startswith("data/")]
    return {name: reader.get_record_offset(name) for name in names}


@pytest.fixture(params=["xfs", "btrfs"])
def sharing(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A folder on a file system that shares pages between files."""
    make, image, folder = shutil.which(f"mkfs.{request.param}"), tmp_path / "image", tmp_path / "mounted"
    if make is None:
        pytest.skip(f"mkfs.{request.param} is not installed")
    if os.geteuid() != 0:
        pytest.skip("only root may mount a file system")
    with image.open("wb") as file:
        file.truncate(400 << 20)
    folder.mkdir()
    subprocess.run([make, "-q", str(image)], check=True, capture_output=True)
    mounted = subprocess.run(["mount", "-o", "loop", str(image), str(folder)], capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"{request.param} cannot be mounted here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def shared_bytes(path: Path) -> int:
    """Return how many bytes of a file are on blocks that are another file's too, as the file system says (FIEMAP)."""
    head, extent, most = struct.Struct("<QQLLLL"), struct.Struct("<QQQQQLLLL"), 100
    asked = bytearray(head.pack(0, 2**64 - 1, 1, 0, most, 0) + bytes(extent.size * most))
    with path.open("rb") as file:
        fcntl.ioctl(file, 0xC020660B, asked)
    count = head.unpack_from(asked)[3]
    found = [extent.unpack_from(asked, head.size + number * extent.size) for number in range(count)]
    return sum(length for _, _, length, _, _, flags, *_ in found if flags & 0x2000)


@pytest.mark.parametrize("ending", [".pth", ".safetensors"])
def test_a_renamed_file_takes_no_room_where_pages_can_be_shared(sharing: Path, ending: str) -> None:
    source, target = sharing / f"in{ending}", sharing / f"out{ending}"
    state = {**STATE, "layers.3.w": torch.randn(8 << 20)}
    if ending == ".pth":
        torch.save(state, source)
    else:
        save_file(state, source)
    statex.convert(source, target, RULES)
    assert shared_bytes(target) > 0.95 * source.stat().st_size
    found = torch.load(target) if ending == ".pth" else load_file(target)
    for key, tensor in state.items():
        assert torch.equal(found[key.replace("layers", "blocks.of.the.encoder")], tensor)


@pytest.mark.parametrize("rules", [RULES, f"{RULES}\ndrop blocks.of.the.encoder.0.b", "add a.{x} = ones(3) for {x:**}"])
def test_torch_finds_what_starts_further_behind(tmp_path: Path, rules: str) -> None:
    source, target = tmp_path / "in.pth", tmp_path / "a_name_of_another_length.pth"
    torch.save(STATE, source)
    wanted = statex.compile(rules).apply(STATE)
    statex.convert(source, target, rules)
    for derived in (False, True):
        for mapped in (False, True):
            with config.patch({"load.calculate_storage_offsets": derived}):
                found = torch.load(target, mmap=mapped)
            assert list(found) == list(wanted)
            assert all(torch.equal(found[key], tensor) for key, tensor in wanted.items())
    assert zipfile.ZipFile(target).testzip() is None


def test_large_storages_keep_their_place_within_pages(tmp_path: Path) -> None:
    source, target = tmp_path / "in.pth", tmp_path / "out.pth"
    torch.save(STATE, source)
    statex.convert(source, target, RULES)
    before, after = data_of(source), data_of(target)
    assert before.keys() == after.keys()
    assert any(before[name] != after[name] for name in before)
    assert all((before[name] - after[name]) % PAGE == 0 for name in before)


def test_small_storages_take_no_further_room(tmp_path: Path) -> None:
    source, target = tmp_path / "in.pth", tmp_path / "out.pth"
    torch.save({key: tensor.flatten()[:100].clone() for key, tensor in STATE.items()}, source)
    statex.convert(source, target, RULES)
    assert 0 < target.stat().st_size - source.stat().st_size < PAGE / 4
