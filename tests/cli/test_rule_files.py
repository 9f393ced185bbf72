"""Rule files that commands write: whole or not at all, and with an error for what no text can hold."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
import torch

from statex.checkpoint.atomic import staging
from tests.cli.conftest import Run

ODD = "q\ud800.w"
"""A key as only a pickle can have it."""


@pytest.fixture(autouse=True)
def checkpoints(run: Run) -> None:
    torch.save({ODD: torch.ones(2), "w": torch.zeros(3)}, "old.pth")
    torch.save({"z\ud800.w": torch.ones(2), "w": torch.zeros(3)}, "new.pth")


@pytest.mark.parametrize("exists", [False, True])
def test_a_key_that_is_not_text_is_an_error_and_leaves_no_file(exists: bool, run: Run) -> None:
    if exists:
        Path("rules.sx").write_text("mine")
    before = sorted(os.listdir())
    ended = run("infer", "old.pth", "new.pth", "-o", "rules.sx", "--force")
    assert (ended.exit_code, "error[SX612]: `rules.sx` cannot be written" in ended.err) == (3, True)
    assert sorted(os.listdir()) == before
    assert not exists or Path("rules.sx").read_text() == "mine"


def test_it_is_an_error_for_an_inverse_as_well(run: Run) -> None:
    before = sorted(os.listdir())
    ended = run("apply", "-e", f"rename '{ODD}' -> v", "old.pth", "out.pth", "--reversible")
    assert (ended.exit_code, "error[SX612]: `out.back.sx` cannot be written" in ended.err) == (3, True)
    assert sorted(os.listdir()) == before


def test_a_full_disk_leaves_nothing(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(fd: int, data: bytes) -> None:
        os.write(fd, data[:3])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(staging, "write_all", full)
    before = sorted(os.listdir())
    ended = run("invert", "-e", "rename w -> v", "old.pth", "-o", "rules.sx")
    assert (ended.exit_code, "SX612" in ended.err) == (3, True)
    assert sorted(os.listdir()) == before
