"""What functions that are given as `progress` hear of a run."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import pytest
import torch

import statex
from statex.core.progress import Phases, Progress, teller

BYTES = 4 * 100 * 100


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "in.pth"
    torch.save({"a": torch.ones(100, 100), "b": torch.ones(9)}, path)
    return path


class Heard:
    """Keeps all that it is told, in either way."""

    def __init__(self) -> None:
        self.said: list[Any] = []

    def one(self, now: Progress) -> None:
        self.said.append(now)

    def two(self, done: int, total: int) -> None:
        self.said.append((done, total))

    def any(self, *said: Any) -> None:
        self.said.append(said)


def test_a_function_of_one_argument_hears_of_all_phases(source: Path) -> None:
    heard = Heard()
    output = source.with_name("out.pth")
    statex.convert(source, output, "drop b", verify_written=True, check_input=True, progress=heard.one)
    names = list(dict.fromkeys(now.phase for now in heard.said))
    assert names == ["planning", "writing", "syncing", "reading", "reading back"]
    assert heard.said[0] == statex.Progress("planning", 0, 0)
    for name, total in (("writing", BYTES), ("syncing", BYTES), ("reading", 4 * 9), ("reading back", 2 * BYTES)):
        own = [now for now in heard.said if now.phase == name]
        assert [now.done for now in own] == sorted(now.done for now in own)
        assert own[-1] == Progress(name, total, total)


@pytest.mark.parametrize("how", ["two", "any"])
def test_a_function_of_two_hears_of_writing(source: Path, how: str) -> None:
    heard = Heard()
    statex.convert(source, source.with_name("out.pth"), "drop b", progress=getattr(heard, how))
    assert heard.said[-1] == (BYTES, BYTES)
    assert {total for _, total in heard.said} == {BYTES}


@pytest.mark.parametrize(
    "function",
    [lambda now: None, lambda *, now: None, functools.partial(lambda one, now: None, 1), [].append, print],
)
def test_which_hear_what(function: Any) -> None:
    tell = teller(function)
    assert (tell is function) == (function is not print)


def test_what_it_raises_ends_the_run(source: Path) -> None:
    def stop(now: Progress) -> None:
        if now.phase == "syncing":
            raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        statex.convert(source, source.with_name("out.pth"), "", progress=stop)
    assert [path.name for path in source.parent.iterdir()] == ["in.pth"]


def test_totals_and_bytes_beside_them() -> None:
    heard: list[Progress] = []
    phases = Phases(heard.append)
    known, unknown, nothing = phases.phase("writing", 10), phases.phase("reading"), phases.phase("writing", 0)
    assert heard == []
    for add in (known, unknown, nothing):
        add(7)
        add(7)
    assert heard == [
        Progress("writing", 7, 10), Progress("writing", 10, 10),
        Progress("reading", 7, 0), Progress("reading", 14, 0),
        Progress("writing", 0, 0), Progress("writing", 0, 0),
    ]  # fmt: skip


def test_nobody_hears() -> None:
    Phases(None).begin("writing", 10)(5)
