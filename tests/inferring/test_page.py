"""The page on `statex infer` shows what the tool prints, and its Python runs."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.inferring.models import State
from tests.test_documents import ROOT, blocks, repeat

PAGE = (ROOT / "docs" / "infer.md").read_text()
LAYERS, WIDTH = 3, 16


def before() -> State:
    """Return a small model as GPT-2 has it."""
    generator = torch.Generator().manual_seed(0)
    found = {"transformer.wte.weight": torch.randn(40, WIDTH, generator=generator)}
    for i in range(LAYERS):
        h = f"transformer.h.{i}."
        for name in ("ln_1", "ln_2"):
            found |= {f"{h}{name}.weight": torch.ones(WIDTH), f"{h}{name}.bias": torch.zeros(WIDTH)}
        for name, width in (("c_attn", 3 * WIDTH), ("c_proj", WIDTH)):
            found[f"{h}attn.{name}.weight"] = torch.randn(WIDTH, width, generator=generator)
            found[f"{h}attn.{name}.bias"] = torch.zeros(width)
        found[f"{h}attn.bias"] = torch.ones(8, 8)
    return found


def after(old: State) -> State:
    """Return what a script makes of it."""
    new = {"embed.weight": old["transformer.wte.weight"]}
    for i in range(LAYERS):
        h, b = f"transformer.h.{i}.", f"blocks.{i}."
        for n in (1, 2):
            new |= {f"{b}norm{n}.{t}": old[f"{h}ln_{n}.{t}"] for t in ("weight", "bias")}
        weights, biases = old[f"{h}attn.c_attn.weight"].T.chunk(3), old[f"{h}attn.c_attn.bias"].chunk(3)
        new |= {f"{b}attn.{p}.weight": w.contiguous() for p, w in zip("qkv", weights, strict=True)}
        new |= {f"{b}attn.{p}.bias": w.clone() for p, w in zip("qkv", biases, strict=True)}
        new |= {f"{b}attn.out.weight": old[f"{h}attn.c_proj.weight"].T.contiguous()}
        new |= {f"{b}attn.out.bias": old[f"{h}attn.c_proj.bias"]}
    return new


def test_the_console_is_what_the_tool_prints(tmp_path: Path) -> None:
    old = before()
    torch.save(old, tmp_path / "old.pth")
    torch.save(after(old), tmp_path / "new.pth")
    (console,) = blocks(PAGE, "console")
    repeat([console], tmp_path)


def test_the_python_runs(capsys: pytest.CaptureFixture[str]) -> None:
    (block,) = blocks(PAGE, "python")
    exec(compile(block, "docs/infer.md", "exec"), {})
    assert capsys.readouterr().out.startswith("rename ")
