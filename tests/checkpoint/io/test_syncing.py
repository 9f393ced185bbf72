"""Waiting for the disk in parts: what is told, and what becomes of errors and of systems that cannot do it."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from statex.checkpoint.io import syncing
from statex.checkpoint.io.syncing import sync_file, sync_path

SIZE = 1 << 20


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file of several parts and a rest."""
    monkeypatch.setattr(syncing, "_PART", SIZE)
    path = tmp_path / "file"
    path.write_bytes(bytes(3 * SIZE + 5))
    return path


def answering(monkeypatch: pytest.MonkeyPatch, code: Callable[[int], int]) -> list[tuple[int, int, int]]:
    """Have the system answer a call for a part that begins there with the number of an error, or 0."""
    calls: list[tuple[int, int, int]] = []
    last = 0

    def call(fd: int, start: int, count: int, flags: int) -> int:
        nonlocal last
        calls.append((start, count, flags))
        last = code(start) if flags != syncing._WRITE else 0
        return -1 if last else 0

    monkeypatch.setattr(syncing, "_function", lambda: call)
    monkeypatch.setattr(syncing, "_error", lambda: last)
    return calls


def syncs(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    seen: list[int] = []
    fsync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: (seen.append(fd), fsync(fd))[1])
    return seen


def test_each_part_is_told_by_this_system(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[int] = []
    seen = syncs(monkeypatch)
    sync_path(file, told.append)
    assert told in ([0, SIZE, SIZE, SIZE, 5, 0], [0, 3 * SIZE + 5])  # where it has the call, and where not
    assert len(seen) == 1


def test_the_next_part_is_begun_before_one_is_waited_for(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = answering(monkeypatch, lambda start: 0)
    sync_path(file, lambda count: None)
    waits = [start for start, _, flags in calls if flags == 7]
    assert waits == [0, SIZE, 2 * SIZE, 3 * SIZE]
    assert calls[:2] == [(SIZE, SIZE, 2), (0, SIZE, 7)]


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP])
def test_a_system_that_cannot_syncs_the_whole(file: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    answering(monkeypatch, lambda start: code if start else 0)
    seen = syncs(monkeypatch)
    told: list[int] = []
    sync_path(file, told.append)
    assert told == [0, SIZE, 2 * SIZE + 5]
    assert len(seen) == 1


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC])
def test_an_error_of_the_disk_is_raised(file: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    """The system tells it once: the fsync after it might say that all is well."""
    answering(monkeypatch, lambda start: code if start == SIZE else 0)
    with pytest.raises(OSError, match=os.strerror(code)) as caught:
        sync_path(file, lambda count: None)
    assert caught.value.errno == code


def test_nobody_listens(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = answering(monkeypatch, lambda start: errno.EIO)
    seen = syncs(monkeypatch)
    sync_path(file)
    assert (calls, len(seen)) == ([], 1)


def test_what_hears_of_it_may_end_it(file: Path) -> None:
    def stop(count: int) -> None:
        if count:
            raise KeyboardInterrupt

    fd: Any = os.open(file, os.O_RDONLY)
    try:
        with pytest.raises(KeyboardInterrupt):
            sync_file(fd, stop)
    finally:
        os.close(fd)
