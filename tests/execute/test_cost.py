"""The memory a plan states is not exceeded, and `--max-memory` refuses beforehand."""

from __future__ import annotations

import json
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


@pytest.mark.parametrize("suffix", [".safetensors", pytest.param(".pth", marks=pytest.mark.nightly)])
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
        "set ** = transpose\nset ** = exp(it)",
        "set ** = exp(it)\nset ** = exp(it)\nset ** = exp(it)",
        "split big -> a, b = chunk(2, dim=1)\nset a, b = exp(it)",
        "set ** = it[:, ::2]\nset ** = flip(0)\ncopy big -> again\nset big = transpose",
        "set big = reshape(64, 384, 1024) | transpose(0, 2)\nset big = sum(dim=0)",
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


@pytest.fixture(scope="module")
def views(folder: Path) -> Path:
    """Views of storages of 100 MB: a transpose, and few columns."""
    big = torch.randn(4096, 6144)
    torch.save({"turned": big.t()}, folder / "turned.pth")
    torch.save({"columns": big[:, :10]}, folder / "columns.pth")
    state = {f"l.{i}.w": torch.randn(2000, 2000) for i in range(10)}
    torch.save(state, folder / "base.pth")
    lora = {f"l.{i}.{name}": torch.randn(*size) for i in range(10) for name, size in _LORA.items()}
    torch.save(lora, folder / "lora.pth")
    torch.save({"short": torch.randn(8192, 6144).bfloat16()}, folder / "half.pth")
    (folder / "model_of_cost.py").write_text(_MODEL)
    return folder


_LORA = {"A": (8, 2000), "B": (2000, 8)}
_MODEL = """
import torch
class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.register_parameter("short", torch.nn.Parameter(torch.empty(8192, 6144, dtype=torch.bfloat16)))
"""


@pytest.mark.parametrize(
    ("rules", "source", "target", "more"),
    [
        ("", "turned.pth", "v.safetensors", []),
        ("", "columns.pth", "v.safetensors", []),
        ("set columns = it @ transpose(it)", "columns.pth", "v.pth", []),
        ("merge l.{e:int}.w over e -> y = stack(exp(it) | narrow(0, 0, 1))", "base.pth", "v.pth", []),
        ("input lora; set {m}.w = it + 0.5 * (lora::{m}.B @ lora::{m}.A) for lora::{m:**}.A", "base.pth", "v.pth",
         ["--in", "lora={folder}/lora.pth"]),
        ("set short = mean(it)", "half.pth", "v.pth", []),
        ("", "base.pth", "v/", ["--format", "dcp"]),
        ("", "v", "v.pth", []),
        ("", "half.pth", "v.pth", ["--target", "model_of_cost:Model"]),
    ],
)  # fmt: skip
def test_the_memory_that_is_stated_is_enough_for_views_and_libraries(
    views: Path, rules: str, source: str, target: str, more: list[str]
) -> None:
    options = [text.format(folder=views) for text in more]
    command = ["apply", "-e", rules, f"{views}/{source}", f"{views}/{target}", "--force", *options]
    dry = subprocess.run(
        [sys.executable, "-m", "statex", *command, "--dry-run", "--json"],
        capture_output=True, text=True, check=True, cwd=views,
    )  # fmt: skip
    stated = json.loads(dry.stdout)["cost"]["memory"]
    done = subprocess.run(
        [sys.executable, "-c", PEAK, *command, "-q"], capture_output=True, text=True, check=True, cwd=views
    )
    assert int(done.stdout) <= stated <= 3 * int(done.stdout)


def test_more_memory_than_allowed_is_refused_before_work_starts(folder: Path) -> None:
    target = folder / "never.pth"
    with pytest.raises(StatexError) as caught:
        statex.convert(folder / "in.pth", target, statex.compile("set ** = exp(it)"), max_memory=100 << 20)
    assert [d.code.id for d in caught.value.diagnostics] == ["SX616"]
    assert not target.exists()
    statex.convert(folder / "in.pth", target, statex.compile("rename big -> large"), max_memory=100 << 20)
    assert target.exists()


def test_more_memory_than_there_is_is_refused_before_work_starts(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("statex.session.shipping.memory_there_is", lambda: 100 << 20)
    target, rules = folder / "much.pth", statex.compile("set ** = exp(it)")
    with pytest.raises(StatexError, match=r"SX616.* and the machine has 100\.0 MiB"):
        statex.convert(folder / "in.pth", target, rules)
    assert not target.exists()
    statex.convert(folder / "in.pth", target, rules, max_memory=10 << 30)
    assert target.exists()


@pytest.mark.parametrize(
    "value", ["zeros([SIZE, 2])", "it[:1, :1] | expand([SIZE, 2])", "it @ zeros([2, SIZE])", "full([SIZE, 2], 1) * 2"]
)
def test_a_tensor_that_no_memory_holds_is_said(value: str) -> None:
    rules = statex.compile(f"set a = {value.replace('SIZE', str(2**50))}")
    with pytest.raises(StatexError, match=r"SX616.*there is not enough memory for"):
        rules.apply({"a": torch.ones(2, 2)})


def test_the_keys_of_further_inputs_count(folder: Path) -> None:
    many = {f"k{number}": torch.ones(1) for number in range(20_000)}
    save_file(many, folder / "many.safetensors")
    rules = statex.compile("input many\ndrop many::**")
    plan = rules.plan(folder / "in.pth", inputs={"many": folder / "many.safetensors"})
    alone = statex.compile("").plan(folder / "in.pth")
    assert plan.cost is not None
    assert alone.cost is not None
    assert plan.cost.memory - alone.cost.memory >= 20_000 * 2048
