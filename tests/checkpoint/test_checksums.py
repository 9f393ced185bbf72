"""A byte that is not what the input's checksum says is noticed wherever it goes, and a right file always passes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch

import statex
from statex import StatexError

N = 400_000
"""Elements: some chunks of computed values, and a thread that runs ahead."""

RULES = {
    "a part": "set a = it[:100]",
    "the other part": "set a = it[100:]",
    "parts in their order": "split a -> x.w, y.w = chunk(2)",
    "parts out of order": "split a -> y.w, x.w = chunk(2)\norder natural",
    "a part twice": "add c = ::a[:100]\nset a = it[:200]",
    "cast": "set a = cast(bf16)",
    "cast of a join": "merge a, b -> c = cat | cast(f16)",
    "cast of a part": "set a = it[100:300] | cast(bf16)",
    "elementwise": "set a = it * 2 + ::b",
    "used twice": "set a = it * it",
    "turned": "set a = transpose",
    "whole": "set a = exp(it)",
}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    path = tmp_path / "in.pth"
    torch.save({"a": torch.randn(400, N // 400), "b": torch.randn(400, N // 400)}, path)
    return path


def damage(path: Path, place: float) -> None:
    """Change a bit of the tensor `a`, so far into it."""
    data = bytearray(path.read_bytes())
    start = data.index(torch.load(path)["a"].numpy().tobytes()[:64])
    data[start + int(place * N * 4)] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("ending", ["pth", "safetensors"])
@pytest.mark.parametrize("rules", RULES.values(), ids=RULES)
@pytest.mark.parametrize("place", [0.0, 0.3, 0.999])
def test_a_wrong_byte_is_noticed(source: Path, rules: str, ending: str, place: float) -> None:
    output = source.with_name(f"out.{ending}")
    statex.convert(source, output, statex.compile(rules))
    output.unlink()
    damage(source, place)
    with pytest.raises(StatexError) as caught:
        statex.convert(source, output, statex.compile(rules))
    assert [found.code.id for found in caught.value.diagnostics] == ["SX604"]
    assert list(source.parent.iterdir()) == [source]


@pytest.mark.parametrize("rules", ["", "merge a, b -> c = cat"])
def test_checksums_that_move_along_tell_it_later(source: Path, rules: str) -> None:
    damage(source, 0.5)
    output = source.with_name("out.pth")
    statex.convert(source, output, statex.compile(rules))
    with pytest.raises(StatexError) as caught:
        statex.convert(output, source.with_name("again.pth"), statex.compile("set ** = it * 2"))
    assert [found.code.id for found in caught.value.diagnostics] == ["SX604"]
    with pytest.raises(StatexError):
        statex.convert(source, output, statex.compile(rules), force=True, check_input=True)


@pytest.mark.parametrize("ending", ["pth", "safetensors"])
@pytest.mark.parametrize("rules", ["", "set ** = exp(it)", *RULES.values()], ids=["moved", "all computed", *RULES])
def test_the_plan_says_what_is_read(source: Path, rules: str, ending: str, monkeypatch: pytest.MonkeyPatch) -> None:
    output = source.with_name(f"out.{ending}")
    compiled = statex.compile(rules)
    plan = statex.convert(source, output, compiled, dry_run=True).plan
    count = 0

    def counted(name: str) -> None:
        real = getattr(os, name)

        def call(*arguments: Any, **named: Any) -> Any:
            nonlocal count
            found = real(*arguments, **named)
            count += found if isinstance(found, int) else len(found)
            return found

        monkeypatch.setattr(os, name, call)

    for name in ("pread", "preadv", "copy_file_range", "sendfile"):
        counted(name)
    statex.convert(source, output, compiled)
    assert plan.cost is not None
    headers = 150_000
    assert plan.cost.read <= count <= plan.cost.read + headers
