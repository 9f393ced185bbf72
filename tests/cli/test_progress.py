"""`--progress`: phases and bytes on standard error, as JSON for whoever watches a run, as lines, or on a terminal."""

from __future__ import annotations

import io
import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from statex.cli import progress
from statex.cli.options import Saying
from statex.core.progress import Progress
from statex.session import digests
from tests.cli.conftest import Run

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


def phases(found: Sequence[dict[str, Any]]) -> list[str]:
    return [one["name"] for one in found if one["event"] == "phase"]


def assert_phase(found: Sequence[dict[str, Any]], name: str, total: int) -> None:
    """Check the events of a phase: rising numbers, up to all of its bytes."""
    own = [one for one in found if one["event"] == "progress" and one["phase"] == name]
    done = [one["done"] for one in own]
    assert done == sorted(done)
    assert done[-1] == total
    assert {one["total"] for one in own} == {total}


def assert_whole(found: Sequence[dict[str, Any]], total: int, outputs: int = 1) -> None:
    """Check the events of a run that has written: its phases, rising numbers, and an end."""
    assert phases(found) == ["planning", *["writing", "syncing"] * outputs]
    assert found[0]["event"] == "phase"
    assert_phase(found, "writing", total)
    assert_phase(found, "syncing", total)
    assert found[-1] == {"event": "end", "ok": True, "done": total, "total": total}


@pytest.mark.parametrize(
    ("output", "files"),
    [
        (["out.pth"], 1),
        (["out.safetensors"], 1),
        (["out/", "--shard-size", "300KB"], 2),
        (["out", "--format", "dcp"], 1),
    ],
)
def test_apply(run: Run, output: Sequence[str], files: int) -> None:
    ended = run("apply", "-e", "set a.w = it * 2", "net.pth", *output, "--progress=json")
    assert ended.exit_code == 0
    assert ended.out.endswith(f"wrote {output[0].rstrip('/')}\n")
    assert_whole(events(ended.err), 4 * 300 * 500, files)


def test_reading_back_and_checking_have_phases_of_their_own(run: Run) -> None:
    ended = run("apply", "-e", "drop a.w", "net.pth", "out.pth", "--verify-written", "--check-input", "--progress=json")
    found = events(ended.err)
    assert phases(found) == ["planning", "writing", "syncing", "reading", "reading back"]
    assert_phase(found, "reading", 4 * 300 * 300)
    assert_phase(found, "reading back", 2 * 4 * 200 * 300)  # the bytes of either side
    assert found[-1] == {"event": "end", "ok": True, "done": 4 * 200 * 300, "total": 4 * 200 * 300}


@pytest.mark.parametrize("output", [["out.pth"], ["out", "--format", "dcp"], ["out.safetensors"]])
def test_reading_back_reaches_its_end(run: Run, output: Sequence[str]) -> None:
    ended = run("apply", "-e", "set a.w = it * 2", "net.pth", *output, "--verify-written", "--progress=json")
    assert_phase(events(ended.err), "reading back", 4 * 300 * 300 + 2 * 4 * 200 * 300)


@pytest.mark.parametrize("command", [["diff"], ["verify", "--values", "--like"]])
def test_comparing_reads(run: Run, command: Sequence[str]) -> None:
    found = events(run(*command, "net.pth", "net.pth", "--progress=json").err)
    assert phases(found) == ["planning", "reading"]
    assert_phase(found, "reading", 2 * 4 * 300 * 500)
    assert found[-1] == {"event": "end", "ok": True, "done": 2 * 4 * 300 * 500, "total": 2 * 4 * 300 * 500}


def test_statistics_read(run: Run) -> None:
    found = events(run("show", "net.pth", "--stats", "--progress=json").err)
    assert phases(found) == ["planning", "reading"]
    assert_phase(found, "reading", 4 * 300 * 500)


def test_one_document_on_standard_output(run: Run) -> None:
    ended = run("apply", "-e", "drop a.w", "net.pth", "out.pth", "--json", "--progress", "json")
    assert ended.json["output"] == "out.pth"
    assert_whole(events(ended.err), 4 * 200 * 300)


def test_a_run_with_several_outputs_and_one_that_is_skipped(run: Run) -> None:
    ended = run("run", "r.yaml", "--progress=json", "--json")
    assert ended.json["skipped"] is False
    found = events(ended.err)
    assert [name for name in phases(found) if name != "reading"] == ["planning", *["writing", "syncing"] * 2]
    assert found[-1] == {"event": "end", "ok": True, "done": 4 * 300 * 700, "total": 4 * 300 * 700}
    again = run("run", "r.yaml", "--progress=json", "--json")
    assert again.json["skipped"] is True
    assert phases(events(again.err))[:1] == ["planning"]
    assert "writing" not in phases(events(again.err))
    assert events(again.err)[-1] == NOTHING


def test_reading_all_again_is_a_phase(run: Run) -> None:
    run("run", "r.yaml")
    found = events(run("run", "r.yaml", "--rehash", "--progress=json").err)
    assert phases(found) == ["planning", "reading"]
    names = ("net.pth", "one.pth", "two.safetensors")
    read = sum(Path(name).stat().st_size for name in names)
    assert found[-2:] == [{"event": "progress", "phase": "reading", "done": read, "total": 0}, NOTHING]


def test_digests_that_are_waited_for_are_a_phase(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    take = digests.file_print

    def late(*arguments: Any, **named: Any) -> Any:
        time.sleep(0.01)  # so that they are not there yet
        return take(*arguments, **named)

    monkeypatch.setattr(digests, "file_print", late)
    found = events(run("run", "r.yaml", "--progress=json").err)
    assert phases(found) == ["planning", *["writing", "syncing"] * 2, "reading"]


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
            update(Progress("writing", 10, 100))
            raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        fail()
    assert events(capsys.readouterr().err)[-1] == {"event": "end", "ok": False, "done": 10, "total": 100}


def test_many_steps_are_few_events(capsys: pytest.CaptureFixture[str]) -> None:
    with progress.shown(Saying(), "json") as update:
        for done in range(1, 20_001):
            update(Progress("writing", min(done, 10_000), 10_000))
    found = events(capsys.readouterr().err)
    assert_phase(found, "writing", 10_000)
    assert len(found) < 100


@pytest.mark.parametrize("command", [["apply", "-e", "", "net.pth", "out.pth"], ["run", "r.yaml"]])
@pytest.mark.parametrize("value", ["jsn", "", "JSON", "bar"])
def test_other_values(run: Run, command: Sequence[str], value: str) -> None:
    ended = run(*command, "--progress", value)
    assert (ended.exit_code, ended.out) == (2, "")
    assert f"`--progress` takes json, plain or none, and got `{value}`" in ended.err
    assert not {"out.pth", "one.pth"} & {path.name for path in Path().iterdir()}


def test_only_what_writes_or_reads_values_has_progress(run: Run) -> None:
    for command in ("plan", "check"):
        assert run(command, "net.pth", "--progress=json").exit_code == 2


@pytest.mark.parametrize("way", ["json", "plain"])
def test_who_watched_has_gone(run: Run, way: str) -> None:
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "statex", "apply", "-e", "", "net.pth", "out.pth", "--progress", way]
    try:
        done = subprocess.run(command, stderr=write, stdout=subprocess.PIPE, text=True)
    finally:
        os.close(write)
    assert done.stdout.endswith("wrote out.pth\n")
    assert torch.load("out.pth").keys() == {"a.w", "b.w"}


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def on_terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """Have standard error be a terminal, on which all work is long; pytest sets it anew after fixtures."""
    terminal = Terminal()
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setattr(progress, "_MOMENT", 0.0)
    monkeypatch.setattr(progress, "_PAUSE", 0.0)
    monkeypatch.setattr(sys, "stderr", terminal)
    return terminal


APPLY = ("apply", "-e", "", "net.pth", "out.pth", "--force")


def test_quiet_without_a_terminal(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "_MOMENT", 0.0)
    assert run(*APPLY).err == ""


@pytest.mark.parametrize("option", ["-q", "--json", "--progress=none"])
def test_quiet_on_a_terminal(run: Run, monkeypatch: pytest.MonkeyPatch, option: str) -> None:
    terminal = on_terminal(monkeypatch)
    assert run(*APPLY, option).exit_code == 0
    assert terminal.getvalue() == ""


def test_a_line_on_a_terminal(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = on_terminal(monkeypatch)
    assert run(*APPLY, "--verify-written").exit_code == 0
    said = [text.strip() for text in terminal.getvalue().split("\r")]
    assert "\n" not in terminal.getvalue()
    assert [name for name, _ in itertools.groupby(text.partition(" ")[0].strip(",") for text in said if text)] == [
        "planning", "writing", "syncing", "reading",
    ]  # fmt: skip
    assert "writing 100 %, 585.9 KiB of 585.9 KiB" in said
    assert "reading back 100 %, 1.1 MiB of 1.1 MiB" in said
    assert terminal.getvalue().endswith(" \r")


@pytest.mark.parametrize("name", ["CI", "TERM"])
def test_lines_on_a_terminal_of_ci(run: Run, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    terminal = on_terminal(monkeypatch)
    monkeypatch.setenv(name, {"CI": "true", "TERM": "dumb"}[name])
    assert run(*APPLY).exit_code == 0
    lines = terminal.getvalue().splitlines()
    assert lines[0] == "planning, 0:00"
    assert [line.split()[0].strip(",") for line in lines] == ["planning", "writing", "syncing"]


def test_lines_where_they_are_asked_for(run: Run) -> None:
    ended = run("run", "r.yaml", "--progress", "plain")
    assert ended.exit_code == 0
    lines = ended.err.splitlines()
    assert [line.split()[0].strip(",") for line in lines][:3] == ["planning", "writing", "syncing"]


def test_no_more_lines_after_a_run_has_failed(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = on_terminal(monkeypatch)
    assert run("apply", "-e", "drop zz.w", "net.pth", "out.pth").exit_code == 1
    assert terminal.getvalue().rpartition("\r")[2].startswith("error[SX301]")
