"""Bytes that go into several outputs are read from their input once."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from statex.checkpoint.io.cached_file import CachedFile
from statex.checkpoint.io.input_file import Extent
from statex.dsl.parts import ProgramPart
from statex.grammar import parse_text
from statex.session.conversion import carry_out
from statex.session.request import InputSpec, OutputSpec, Request

STATE = {"a": torch.arange(300_000.0), "b": torch.arange(100_000.0).view(100, 1000), "c": torch.ones(50_000)}


@pytest.fixture
def copied(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Count the bytes that are copied from each file."""
    counts: Counter[str] = Counter()
    copy, copy_read = CachedFile.copy, CachedFile.copy_read

    def noted_copy(self: CachedFile, extent: Extent) -> None:
        counts[extent.file.path.name] += extent.nbytes
        copy(self, extent)

    def noted_copy_read(self: CachedFile, extent: Extent, crc: int) -> int:
        counts[extent.file.path.name] += extent.nbytes
        return copy_read(self, extent, crc)

    monkeypatch.setattr(CachedFile, "copy", noted_copy)
    monkeypatch.setattr(CachedFile, "copy_read", noted_copy_read)
    return counts


@pytest.mark.parametrize("names", [("one.pth", "two.safetensors"), ("one.safetensors", "two.pth", "three.pth")])
def test_an_input_is_read_once(tmp_path: Path, copied: Counter[str], names: tuple[str, ...]) -> None:
    torch.save(STATE, tmp_path / "in.pth")
    rules = ProgramPart(parse_text("set b = transpose; rename a -> x; rename c -> y"))
    outputs = tuple(OutputSpec(tmp_path / name, name.partition(".")[0]) for name in names)
    carry_out(Request(InputSpec(tmp_path / "in.pth"), (rules,), outputs=outputs))
    moved = sum(STATE[key].nbytes for key in "ac")
    assert copied.pop("in.pth") == moved
    assert sum(copied.values()) == (len(names) - 1) * moved
    wanted = {"x": STATE["a"], "b": STATE["b"].T, "y": STATE["c"]}
    for name in names:
        read: Any = load_file if name.endswith("safetensors") else lambda path: torch.load(path, weights_only=True)
        found = read(tmp_path / name)
        assert sorted(found) == sorted(wanted)
        assert all(torch.equal(found[key], wanted[key]) for key in wanted)
