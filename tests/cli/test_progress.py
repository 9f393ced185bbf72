"""`--progress=json`: events on standard error, one JSON object a line, for whoever watches a run."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from statex.cli import progress
from statex.cli.options import Saying
from tests.cli.conftest import Ended, Run

RECIPE = """\
statex: 1
inputs: {main: net.pth}
rules: ["set a.w = it * 2"]
outputs:
  one: one.pth
  two: {path: two.safetensors, keep: 'b.**'}
policy: {unchanged: skip, replace: own}
report: report.json
"""
NOTHING = {"event": "end", "ok": True, "done": 0, "total": 0}


@pytest.fixture(autouse=True)
def checkpoint(run: Run) -> None:
    torch.save({"a.w": torch.ones(300, 300), "b.w": torch.ones(200, 300)}, "net.pth")
    Path("r.yaml").write_text(RECIPE)


def events(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def assert_whole(found: Sequence[dict[str, Any]], total: int) -> None:
    """Check the events of a run that has written: its phases, rising numbers, and an end."""
    assert [one for one in found if one["event"] == "phase"] == [
        {"event": "phase", "name": "planning"},
        {"event": "phase", "name": "writing"},
    ]
    assert found[0]["event"] == "phase"
    done = [one["done"] for one in found if one["event"] == "progress"]
    assert done == sorted(done)
    assert {one["total"] for one in found if one["event"] == "progress"} == {total}
    assert found[-2:] == [
        {"event": "progress", "done": total, "total": total},
        {"event": "end", "ok": True, "done": total, "total": total},
    ]


@pytest.mark.parametrize(
    "output", [["out.pth"], ["out.safetensors"], ["out/", "--shard-size", "300KB"], ["out", "--format", "dcp"]]
)
def test_apply(run: Run, output: Sequence[str]) -> None:
    ended = run("apply", "-e", "set a.w = it * 2", "net.pth", *output, "--progress=json")
    assert ended.exit_code == 0
    assert ended.out.endswith(f"wrote {output[0].rstrip('/')}\n")
    assert_whole(events(ended.err), 4 * 300 * 500)


def test_one_document_on_standard_output(run: Run) -> None:
    ended = run("apply", "-e", "drop a.w", "net.pth", "out.pth", "--json", "--progress", "json")
    assert ended.json["output"] == "out.pth"
    assert_whole(events(ended.err), 4 * 200 * 300)


def test_a_run_with_several_outputs_and_one_that_is_skipped(run: Run) -> None:
    ended = run("run", "r.yaml", "--progress=json", "--json")
    assert ended.json["skipped"] is False
    assert_whole(events(ended.err), 4 * (300 * 500 + 200 * 300))
    again = run("run", "r.yaml", "--progress=json", "--json")
    assert again.json["skipped"] is True
    assert events(again.err) == [{"event": "phase", "name": "planning"}, NOTHING]


def test_a_dry_run(run: Run) -> None:
    ended = run("apply", "-e", "drop a.w", "net.pth", "out.pth", "--dry-run", "--progress=json")
    assert events(ended.err) == [{"event": "phase", "name": "planning"}, NOTHING]


def test_an_output_without_tensors(run: Run) -> None:
    ended = run("apply", "-e", "drop **", "net.pth", "out.pth", "--progress=json")
    assert ended.exit_code == 0
    assert events(ended.err)[-1] == NOTHING


@pytest.mark.parametrize(
    ("rules", "more", "exit_code"), [("drop zz.w", [], 1), ("", ["--like", "net.pth", "--format", "gguf"], 2)]
)
def test_a_run_that_fails(run: Run, rules: str, more: Sequence[str], exit_code: int) -> None:
    ended = run("apply", "-e", rules, "net.pth", "out.pth", "--progress=json", "--json", *more)
    assert (ended.exit_code, ended.json["ok"]) == (exit_code, False)
    assert events(ended.err) == [{"event": "phase", "name": "planning"}, NOTHING | {"ok": False}]


def test_errors_as_text_stand_after_the_events(run: Run) -> None:
    ended = run("apply", "-e", "drop zz.w", "net.pth", "out.pth", "--progress=json")
    lines = ended.err.splitlines()
    assert json.loads(lines[1])["event"] == "end"
    assert lines[2].startswith("error[SX301]")


def test_a_writing_that_fails(capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        with progress.shown(Saying(), "json") as update:
            update(10, 100)
            raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        fail()
    assert events(capsys.readouterr().err)[-1] == {"event": "end", "ok": False, "done": 10, "total": 100}


def test_many_steps_are_few_events(capsys: pytest.CaptureFixture[str]) -> None:
    with progress.shown(Saying(), "json") as update:
        for done in range(1, 20_001):
            update(done, 10_000)
    found = events(capsys.readouterr().err)
    assert_whole(found, 10_000)
    assert len(found) < 100


@pytest.mark.parametrize("command", [["apply", "-e", "", "net.pth", "out.pth"], ["run", "r.yaml"]])
@pytest.mark.parametrize("value", ["jsn", "", "JSON", "bar"])
def test_other_values(run: Run, command: Sequence[str], value: str) -> None:
    ended = run(*command, "--progress", value)
    assert (ended.exit_code, ended.out) == (2, "")
    assert f"`--progress` takes json, and got `{value}`" in ended.err
    assert not {"out.pth", "one.pth"} & {path.name for path in Path().iterdir()}


def test_only_what_writes_has_progress(run: Run) -> None:
    for command in ("plan", "check", "show"):
        assert run(command, "net.pth", "--progress=json").exit_code == 2


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_quiet_without_a_terminal(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def apply(*more: str) -> Ended:
        return run("apply", "-e", "", "net.pth", "out.pth", "--force", *more)

    monkeypatch.setattr(progress, "_WORTH", 0)
    assert apply().err == ""
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    assert apply("-q").exit_code == 0
    assert apply("--json").exit_code == 0
    assert terminal.getvalue() == ""
    assert apply().exit_code == 0
    assert "of 586 KiB" in terminal.getvalue().replace("585.9", "586")
    assert "KiB/s" in terminal.getvalue() or "MiB/s" in terminal.getvalue()
