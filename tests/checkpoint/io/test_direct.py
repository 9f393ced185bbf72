"""Outputs that are large beside the memory are written past the page cache: the same bytes, the same care."""

from __future__ import annotations

import os
import subprocess
import tempfile
import threading
import zlib
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

import statex
from statex import StatexError
from statex.checkpoint.io import direct_file, large
from statex.checkpoint.io.direct_file import DirectFile, open_direct
from statex.checkpoint.io.input_file import Extent, InputFile
from statex.core.progress import Watch

RENAME = "rename prefix '' -> 'x.'"
MIXED = "set k0 = exp(it); set k1 = cast(bf16); set k2 = transpose; " + RENAME


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A checkpoint of 20 MB whose tensors do not begin where blocks do."""
    path = tmp_path / "in.pth"
    torch.save({f"k{number}": torch.randn(500 + number, 1001) for number in range(10)}, path)
    return path


@pytest.fixture
def directly(monkeypatch: pytest.MonkeyPatch) -> list[DirectFile]:
    """Have every output written past the page cache; what writes them is noted."""
    opened: list[DirectFile] = []

    def noted(*arguments: Any) -> DirectFile | None:
        found = open_direct(*arguments)
        opened.extend([found] if found is not None else [])
        return found

    monkeypatch.setattr("statex.session.conversion.is_large", lambda *arguments: True)
    monkeypatch.setattr(direct_file, "open_direct", noted)
    return opened


def writes_directly() -> bool:
    with tempfile.NamedTemporaryFile() as probe:
        found = open_direct(Path(probe.name), probe.fileno(), Watch())
        if found is not None:
            found.close()
        return found is not None


needs_direct = pytest.mark.skipif(not writes_directly(), reason="this file system has no direct writes")

PIECES = st.lists(
    st.tuples(st.sampled_from(["append", "copy", "copy_read"]), st.integers(0, 30_000), st.integers(0, 30_000)),
    max_size=12,
)


@needs_direct
@given(PIECES)
def test_appended_and_copied_bytes_follow_one_another(pieces: list[tuple[str, int, int]]) -> None:
    data = bytes(range(256)) * 256
    written, expected, told = [], b"", []
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(direct_file, "_BLOCK", 8192)
        patch.setattr(direct_file, "_BLOCKS", 3)
        path, origin = Path(folder, "out"), Path(folder, "in")
        origin.write_bytes(data)
        file = InputFile(origin)
        fd = os.open(path, os.O_WRONLY | os.O_CREAT)
        sink = open_direct(path, fd, Watch(told.append))
        assert sink is not None
        for how, start, count in pieces:
            part = data[start : start + count]
            if how == "append":
                sink.append(part)
            elif how == "copy":
                sink.copy(Extent(file, start, len(part)))
            else:
                crc = sink.copy_read(Extent(file, start, len(part)), zlib.crc32(b"before"))
                assert crc == zlib.crc32(part, zlib.crc32(b"before"))
            expected += part
        sink.finish()
        sink.close()
        os.close(fd)
        file.close()
        written = path.read_bytes()
    assert written == expected
    assert sum(told) == len(expected)


@needs_direct
@pytest.mark.parametrize("rules", [RENAME, MIXED])
@pytest.mark.parametrize("ending", [".pth", ".safetensors"])
def test_the_output_is_the_same(
    source: Path, directly: list[DirectFile], monkeypatch: pytest.MonkeyPatch, rules: str, ending: str
) -> None:
    compiled = statex.compile(rules)
    direct, usual = source.with_name(f"a{ending}"), source.with_name(f"b{ending}")
    seen: list[tuple[int, int]] = []
    statex.convert(source, direct, compiled, verify_written=True, progress=lambda *done: seen.append(done))
    assert len(directly) == 1
    assert seen == sorted(seen)
    assert seen[-1][0] >= seen[-1][1]
    monkeypatch.setattr("statex.session.conversion.is_large", lambda *arguments: False)
    statex.convert(source, usual, compiled)
    assert len(directly) == 1
    load = torch.load if ending == ".pth" else load_file
    one, other = load(direct), load(usual)
    assert list(one) == list(other)
    assert all(torch.equal(one[key], other[key]) for key in one)
    # Names in an archive have the length of the file's name, which is the same.
    assert direct.stat().st_size == usual.stat().st_size


@needs_direct
def test_the_shards_of_a_set(source: Path, directly: list[DirectFile]) -> None:
    statex.convert(source, source.with_name("set"), statex.compile(RENAME), shard_size=5_000_000)
    assert len(directly) == 5
    parts = [load_file(path) for path in source.with_name("set").glob("*.safetensors")] or [
        torch.load(path) for path in source.with_name("set").glob("*.bin")
    ]
    state = torch.load(source)
    assert {key: t.shape for part in parts for key, t in part.items()} == {f"x.{k}": t.shape for k, t in state.items()}
    assert all(torch.equal(t, state[key[2:]]) for part in parts for key, t in part.items())


@needs_direct
def test_an_error_in_a_thread_leaves_the_old_file(
    source: Path, directly: list[DirectFile], monkeypatch: pytest.MonkeyPatch
) -> None:
    target = source.with_name("out.safetensors")
    save_file({"old": torch.ones(2)}, target)
    before = target.read_bytes()
    threads = threading.active_count()
    really = os.pwrite

    def fails(fd: int, data: bytes, offset: int) -> int:
        if offset >= 5 << 20:
            raise OSError(5, "Input/output error")
        return really(fd, data, offset)

    monkeypatch.setattr(os, "pwrite", fails)
    with pytest.raises(StatexError) as caught:
        statex.convert(source, target, statex.compile(RENAME), force=True)
    assert [d.code.id for d in caught.value.diagnostics] == ["SX612"]
    assert "Input/output error" in str(caught.value)
    assert target.read_bytes() == before
    assert sorted(p.name for p in source.parent.iterdir()) == ["in.pth", "out.safetensors"]
    assert threading.active_count() == threads


@needs_direct
def test_short_writes_go_on(source: Path, directly: list[DirectFile], monkeypatch: pytest.MonkeyPatch) -> None:
    really = os.pwrite
    half = lambda data: data[: max(4096, len(data) // 8192 * 4096)]  # noqa: E731 - of blocks, whole sectors
    monkeypatch.setattr(os, "pwrite", lambda fd, data, offset: really(fd, half(data), offset))
    statex.convert(source, source.with_name("out.pth"), statex.compile(RENAME), verify_written=True)
    assert len(directly) == 1


def test_file_systems_that_refuse_it_take_the_usual_way(
    source: Path, directly: list[DirectFile], monkeypatch: pytest.MonkeyPatch
) -> None:
    really = os.open

    def refused(path: Any, flags: int, *rest: Any, **named: Any) -> int:
        if flags & os.O_DIRECT:
            raise OSError(22, "Invalid argument")
        return really(path, flags, *rest, **named)

    monkeypatch.setattr(os, "open", refused)
    statex.convert(source, source.with_name("out.pth"), statex.compile(RENAME), verify_written=True)
    assert directly == []


def test_what_is_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    memory = large._available()
    assert memory is not None
    assert 0 < memory <= pages
    said = subprocess.run(["df", "--output=fstype", tmp_path], capture_output=True, text=True, check=True).stdout
    assert large._file_system(tmp_path) in (said.split()[1], None)
    monkeypatch.setattr(large, "_available", lambda: 10 << 30)
    monkeypatch.setattr(large, "_file_system", lambda folder: "ext4")
    assert large.is_large(tmp_path, (2 << 30) + 1)
    assert not large.is_large(tmp_path, 2 << 30)
    monkeypatch.setattr(large, "_file_system", lambda folder: "btrfs")
    assert not large.is_large(tmp_path, 1 << 40)
    monkeypatch.setattr(large, "_available", lambda: None)
    assert not large.is_large(tmp_path, 1 << 40)
