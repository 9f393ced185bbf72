"""The memory a plan states is not exceeded, and `--max-memory` refuses beforehand."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import statex
from statex import StatexError

PEAK = """
import os, sys
pid = os.posix_spawn(sys.executable, [sys.executable, "-m", "statex", *sys.argv[1:]], os.environ)
_, status, usage = os.wait4(pid, 0)
assert status == 0, status
print(usage.ru_maxrss * 1024)
"""
"""A small process in between: a child begins with the resident set of the one that starts it."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of 170 MB with one large tensor, in both formats."""
    folder = tmp_path_factory.mktemp("cost")
    state = {f"layers.{i}.w": torch.randn(1024, 1024) for i in range(16)}
    state["big"] = torch.randn(4096, 6144)
    save_file(state, folder / "in.safetensors")
    torch.save(state, folder / "in.pth")
    return folder


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
@pytest.mark.parametrize(
    "rules",
    [
        "rename prefix '' -> 'x.'",
        "set ** = cast(bf16)",
        "set ** = it * 2",
        "set ** = transpose",
        "set ** = exp(it)",
        "set ** = flip(0) | it[:, 1:]",
        "merge layers.{i:int}.w over i -> layers = stack(dim=1)",
        "split big -> a, b = chunk(2, dim=1)",
        "set ** = rearrange('(h d) c -> (d h) c', h=4)",
    ],
)
def test_the_memory_that_is_stated_is_enough(folder: Path, suffix: str, rules: str) -> None:
    program = rules.replace("flip(0) | it[:, 1:]", "flip(0)")
    source, target = folder / f"in{suffix}", folder / f"out{suffix}"
    plan = statex.compile(program).plan(source)
    assert plan.cost is not None
    done = subprocess.run(
        [sys.executable, "-c", PEAK, "apply", "-q", "-e", program, source, target, "--force"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    peak = int(done.stdout)
    assert peak <= plan.cost.memory
    # A statement that is far too high would hold as well, and help nobody.
    assert plan.cost.memory <= 3 * peak
    assert plan.cost.written == sum(o.type.nbytes for o in plan.outputs.values() if o.type is not None)


def test_more_memory_than_allowed_is_refused_before_work_starts(folder: Path) -> None:
    target = folder / "never.pth"
    with pytest.raises(StatexError) as caught:
        statex.convert(folder / "in.pth", target, statex.compile("set ** = exp(it)"), max_memory=100 << 20)
    assert [d.code.id for d in caught.value.diagnostics] == ["SX616"]
    assert not target.exists()
    statex.convert(folder / "in.pth", target, statex.compile("rename big -> large"), max_memory=100 << 20)
    assert target.exists()
