"""The way to the disk: bytes in their order, however few the system takes at a time, and errors that leave no trace."""

from __future__ import annotations

import os
import tempfile
import threading
import zlib
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

import statex
from statex import StatexError
from statex.checkpoint.io.cached_file import CachedFile
from statex.checkpoint.io.input_file import Extent, InputFile
from statex.core.progress import Watch

RENAME = "rename prefix '' -> 'x.'"
MIXED = "set k0 = exp(it); set k1 = cast(bf16); set k2 = transpose; " + RENAME


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A checkpoint of 20 MB whose tensors do not begin where pages do."""
    path = tmp_path / "in.pth"
    torch.save({f"k{number}": torch.randn(500 + number, 1001) for number in range(10)}, path)
    return path


PIECES = st.lists(
    st.tuples(st.sampled_from(["append", "copy", "copy_read"]), st.integers(0, 30_000), st.integers(0, 30_000)),
    max_size=12,
)


@given(PIECES)
def test_appended_and_copied_bytes_follow_one_another(pieces: list[tuple[str, int, int]]) -> None:
    data = bytes(range(256)) * 256
    expected, told = b"", []
    with tempfile.TemporaryDirectory() as folder:
        path, origin = Path(folder, "out"), Path(folder, "in")
        origin.write_bytes(data)
        file = InputFile(origin)
        fd = os.open(path, os.O_WRONLY | os.O_CREAT)
        out = CachedFile(fd, Watch(told.append))
        for how, start, count in pieces:
            part = data[start : start + count]
            if how == "append":
                out.append(part)
            elif how == "copy":
                out.copy(Extent(file, start, len(part)))
            else:
                crc = out.copy_read(Extent(file, start, len(part)), zlib.crc32(b"before"))
                assert crc == zlib.crc32(part, zlib.crc32(b"before"))
            expected += part
        out.finish()
        out.close()
        os.close(fd)
        file.close()
        assert path.read_bytes() == expected
    assert sum(told) == len(expected)


def test_an_error_of_the_disk_leaves_the_old_file(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = source.with_name("out.safetensors")
    save_file({"old": torch.ones(2)}, target)
    before = target.read_bytes()
    threads = threading.active_count()
    really, written = os.write, [0]

    def fails(fd: int, data: bytes) -> int:
        written[0] += len(data)
        if written[0] >= 5 << 20:
            raise OSError(5, "Input/output error")
        return really(fd, data)

    monkeypatch.setattr(os, "write", fails)
    with pytest.raises(StatexError) as caught:
        statex.convert(source, target, statex.compile("set ** = it * 2; " + RENAME), force=True)
    assert [d.code.id for d in caught.value.diagnostics] == ["SX612"]
    assert "Input/output error" in str(caught.value)
    assert target.read_bytes() == before
    assert sorted(p.name for p in source.parent.iterdir()) == ["in.pth", "out.safetensors"]
    assert threading.active_count() == threads


@pytest.mark.parametrize("ending", [".pth", ".safetensors"])
def test_short_writes_go_on(source: Path, monkeypatch: pytest.MonkeyPatch, ending: str) -> None:
    really = os.write
    shortened = []

    def half(fd: int, data: bytes) -> int:
        shortened.append(len(data))
        return really(fd, data[: -(-len(data) // 2)])

    monkeypatch.setattr(os, "write", half)
    statex.convert(source, source.with_name(f"out{ending}"), statex.compile(MIXED), verify_written=True)
    assert shortened
