"""Old states in modules that FSDP has sharded over two processes; `two_ranks` has what is checked."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.migrating import nets, two_ranks

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, str]]:
    """Return what each process says of each check."""
    folder = tmp_path_factory.mktemp("ranks")
    (folder / "chain").mkdir()
    for name, text in nets.STEPS.items():
        (folder / "chain" / f"{name}.sx").write_text(text)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "tests.migrating.two_ranks", str(folder)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(2)]


@pytest.mark.parametrize("name", two_ranks.CHECKS)
def test_two_ranks(name: str, said: list[dict[str, str]]) -> None:
    assert [rank[name] for rank in said] == ["holds", "holds"], "\n".join(rank[name] for rank in said)
