"""The notebook and the script are run as a user runs them: in their folder, by a Python of their own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import assert_same_state
from migrations import released
from migrations.encoder import Encoder
from safetensors.torch import load_file, save_file

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
NOTEBOOK: dict[str, Any] = json.loads((HERE / "releases.ipynb").read_text())
CODE = ["".join(cell["source"]) for cell in NOTEBOOK["cells"] if cell["cell_type"] == "code"]

RUN = """
import ast, json, sys
from pathlib import Path

names, shown = {"__name__": "__main__"}, []
for cell in json.loads(Path("releases.ipynb").read_text())["cells"]:
    if cell["cell_type"] != "code":
        continue
    tree = ast.parse("".join(cell["source"]))
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, cell["id"], "exec"), names)
    value = eval(compile(ast.Expression(last.value), cell["id"], "eval"), names) if last else None
    html = getattr(value, "_repr_html_", None)
    shown.append(html() if html else repr(value))
Path("shown.json").write_text(json.dumps(shown))
"""
"""What a notebook does, in plain Python: the cells in their order, each showing the value of its last expression."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a copy of the example, so that nothing else is on the path."""
    return Path(shutil.copytree(HERE, tmp_path / "migrations", ignore=shutil.ignore_patterns("__pycache__", "test_*")))


def python(folder: Path, *arguments: str, exit_code: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-W", "error", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(folder.parent)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == exit_code, done.stdout + done.stderr
    return done


def test_the_notebook_has_the_form_of_one() -> None:
    assert (NOTEBOOK["nbformat"], NOTEBOOK["nbformat_minor"]) == (4, 5)
    assert len({cell["id"] for cell in NOTEBOOK["cells"]}) == len(NOTEBOOK["cells"])
    for cell in NOTEBOOK["cells"]:
        assert cell.keys() >= {"cell_type", "id", "metadata", "source"}
        if cell["cell_type"] == "code":
            assert cell["outputs"] == []
            assert cell["execution_count"] is None
    assert not any(line.startswith(("%", "!")) for code in CODE for line in code.splitlines())


def test_the_notebook_runs(folder: Path) -> None:
    # `-c` puts the folder on the path, as a notebook does; a script would put its own.
    printed = python(folder, "-c", RUN).stdout
    shown = json.loads((folder / "shown.json").read_text())
    assert len(shown) == len(CODE)
    plan = shown[2]
    assert plan.startswith("<table>")
    assert "encoder/migrations/0002_fuse_qkv.sx:3" in plan
    assert "28 renamed" in plan
    assert "38 keys before, 29 after" in printed
    assert "'embed.weight'" in shown[-1]


@pytest.mark.parametrize("layout", range(4))
@pytest.mark.parametrize("new", ["new.pth", "new.safetensors"])
def test_the_script_converts_every_release(layout: int, new: str, folder: Path) -> None:
    torch.manual_seed(layout)
    module = Encoder() if layout == 3 else released.Encoder(layout)
    state = module.state_dict()
    torch.save(state, folder / "old.pth")
    said = python(folder, "convert_release.py", "old.pth", new).stdout
    was = "old.pth had the current layout already" if layout == 3 else f"29 tensors made from {len(state)}"
    assert said == f"wrote {new}: {was}\n"
    expected = Encoder()
    expected.load_state_dict(state)
    written = torch.load(folder / new, weights_only=True) if new.endswith("pth") else load_file(folder / new)
    assert_same_state(written, expected.state_dict())
    if new.endswith("pth"):
        assert written._metadata[""]["statex"]["version"] == 3


def test_the_script_says_what_it_cannot_convert(folder: Path) -> None:
    save_file({"some.weight": torch.ones(2)}, folder / "other.safetensors")
    done = python(
        folder, "-W", "ignore::UserWarning", "convert_release.py", "other.safetensors", "new.pth", exit_code=1
    )
    assert "error[SX501]: the result does not fit Encoder" in done.stderr
    assert not (folder / "new.pth").exists()
    save_file(Encoder().state_dict(), folder / "now.safetensors")
    for extra, code in (((), 0), ((), 3), (("--force",), 0)):
        done = python(folder, "convert_release.py", "now.safetensors", "new.pth", *extra, exit_code=code)
    assert torch.load(folder / "new.pth", weights_only=True).keys() == Encoder().state_dict().keys()
