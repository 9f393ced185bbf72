"""What every example's test uses: the command line in a scratch folder, and comparison to the bit."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch

Run = Callable[..., subprocess.CompletedProcess[str]]

PATH = os.pathsep.join([os.path.dirname(sys.executable), os.environ["PATH"]])


@pytest.fixture
def statex(request: pytest.FixtureRequest, tmp_path: Path) -> Run:
    """Run `statex …` in a scratch folder; the example's own folder is on the path for `--target`."""
    here = request.path.parent

    def run(*arguments: object, exit_code: int = 0) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-m", "statex", *map(str, arguments)],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(here), os.environ.get("PYTHONPATH", "")])},
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == exit_code, done.stdout + done.stderr
        return done

    return run


def shell(command: str, folder: Path, *, exit_code: int = 0, **environment: str) -> str:
    """Run a command by `bash -e` with this `statex` on the path, and return all that it printed."""
    done = subprocess.run(
        ["bash", "-e", "-c", command],
        cwd=folder,
        env={**os.environ, "PATH": PATH, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
    )
    assert done.returncode == exit_code, done.stdout
    return done.stdout


def assert_same_state(actual: Mapping[str, torch.Tensor], expected: Mapping[str, torch.Tensor]) -> None:
    """Check two states for equal keys and for equal bits, NaN payloads included."""
    assert sorted(actual) == sorted(expected)
    for key, tensor in expected.items():
        assert actual[key].dtype == tensor.dtype, key
        assert actual[key].shape == tensor.shape, key
        ours, theirs = (t.contiguous().reshape(-1).view(torch.uint8) for t in (actual[key], tensor))
        assert torch.equal(ours, theirs), key
