"""Runs of recipes that are killed, or asked to end, at any moment: the next command finishes or undoes them."""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import sys
import time
import warnings
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch

from statex.cli import main
from tests.checkpoint.atomic.steps import System, kill_at
from tests.recipe.conftest import Bench

RECIPE = """statex: 1
inputs: {main: in.pth}
params: {to: new}
rules:
  - |
    rename prefix '' -> "{$to}."
outputs:
  all: {path: out/all/, format: safetensors, shard_size: 100B}
  body: {path: out/body.pth, keep: '**.weight'}
policy: {unchanged: skip, warnings: error}
report: out/report.json
"""
NAMES = ("all", "body.pth", "report.json")


@pytest.fixture
def pending(bench: Bench) -> Bench:
    """A recipe with an output that is a folder, one that is a file, and a report; nothing is computed."""
    bench.save("in.pth", {f"{i}.{name}": torch.full((4,), float(i)) for i in range(8) for name in ("weight", "bias")})
    bench.write("recipe.yaml", RECIPE)
    return bench


def child(work: Callable[[], object]) -> int:
    """Start a process that runs something, as a program of its own would; return its number."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # other threads of this process hold no locks of ours
        number = os.fork()
    if number == 0:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)
        try:
            work()
            os._exit(0)
        except SystemExit as ended:
            os._exit(ended.code if isinstance(ended.code, int) else 0)
        except BaseException:
            os._exit(99)
    return number


def running(system: System | None = None, *arguments: str) -> Callable[[], None]:
    def work() -> None:
        sys.argv = ["statex", "run", "recipe.yaml", *arguments]
        with system.installed() if system is not None else nullcontext():
            main()

    return work


def read(bench: Bench, path: Path) -> dict[str, torch.Tensor]:
    """Read an output; the files of a folder are those of the one that was there at first, if it is still there."""
    while True:
        place = os.open(path, os.O_RDONLY)
        try:
            return bench.load(f"/proc/self/fd/{place}" if path.is_dir() else str(path))
        except (FileNotFoundError, RuntimeError) as error:
            # safetensors has looked whether the file is there, and opens it after.
            if isinstance(error, RuntimeError) and "No such file" not in str(error):
                raise
        finally:
            os.close(place)


def age(bench: Bench) -> set[str]:
    """Return of which runs the outputs are, each whole: `old`, `new`, or `none` for one that is not there."""
    found = set()
    folder = bench.folder / "out"
    for name in NAMES:
        if not (folder / name).exists():
            found.add("none")
        elif name == "report.json":
            content = bench.report
            found.add(content["parameters"]["to"])
        else:
            state = read(bench, folder / name)
            count = 16 if name == "all" else 8
            (prefix,) = {key.partition(".")[0] for key in state}
            assert len(state) == count
            assert all(torch.equal(t, torch.full((4,), float(key.split(".")[1]))) for key, t in state.items())
            found.add(prefix)
    return found


def is_of_the_report(bench: Bench) -> None:
    """Compare the outputs with what the report says of them."""
    for one in bench.report["outputs"].values():
        for name, said in one["files"].items():
            assert hashlib.sha256((bench.folder / name).read_bytes()).hexdigest() == said["sha256"]


def steps_of(bench: Bench, *arguments: str) -> int:
    """Return how many calls that change files a run makes."""
    count = bench.folder / "count"

    def work() -> None:
        system = System()
        try:
            with system.installed():
                main(["run", "recipe.yaml", *arguments])
        finally:
            count.write_text(str(system.count))

    assert os.waitpid(child(work), 0)[1] == 0
    found = int(count.read_text())
    count.unlink()
    return found


def cleared(bench: Bench) -> None:
    """Remove the outputs, and what is left of runs."""
    folder = bench.folder / "out"
    for path in sorted(folder.rglob("*"), reverse=True) if folder.exists() else ():
        path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
    if folder.exists():
        folder.rmdir()


def next_command(bench: Bench, which: str) -> str:
    """Run a command after one was killed; return what it said."""
    arguments = {"show": ["show", "out/body.pth"], "plan": ["plan", "recipe.yaml"], "run": ["run", "recipe.yaml"]}
    ended = bench.call(*arguments[which])
    assert ended.exit_code == 0 or (which == "show" and ended.exit_code == 3), ended.err
    return ended.out + ended.err


@pytest.mark.parametrize("replaces", [False, True])
def test_a_kill_at_any_step_is_finished_or_undone_by_the_next_command(pending: Bench, replaces: bool) -> None:
    if replaces:
        pending("-D", "to=old")
    count = steps_of(pending)
    ended_as = set()
    for step in range(0, count, 4 if replaces else 2):
        cleared(pending)
        if replaces:
            pending("-D", "to=old")
        status = os.waitpid(child(running(System(kill_at(step)))), 0)[1]
        assert status == signal.SIGKILL or step > count * 0.9  # the first run may need some more calls
        allowed = {"old", "new"} if replaces else {"none", "new"}
        assert age(pending) <= allowed, step
        which = ("run", "plan", "show")[step % 3]
        written = [name for name in pending.leftovers if name.endswith("journal")]
        met = [name for name in written if which != "show" or "body.pth" in name]
        begun = any((pending.folder / name).stat().st_size for name in met)
        said = next_command(pending, which)
        assert ("SX907" in said) == begun, (step, said)
        assert which == "show" or pending.leftovers == [], step
        if which == "plan":
            (now,) = age(pending)
            ended_as.add(now)
        pending()
        assert age(pending) == {"new"}
        assert pending.leftovers == []
        is_of_the_report(pending)
    assert ended_as == ({"old", "new"} if replaces else {"none", "new"})


def test_a_kill_at_any_time(pending: Bench) -> None:
    rng = random.Random(5)
    pending.save("in.pth", {f"{i}.{n}": torch.full((4,), float(i)) for i in range(8) for n in ("weight", "bias")})
    pending("-D", "to=old")
    for _ in range(12):
        number = child(running())
        until = time.monotonic() + 20
        while not pending.leftovers and time.monotonic() < until and os.waitpid(number, os.WNOHANG) == (0, 0):
            time.sleep(0)
        time.sleep(rng.random() * 0.02)
        try:
            os.kill(number, signal.SIGKILL)
            os.waitpid(number, 0)
        except (ChildProcessError, ProcessLookupError):
            pass  # it was quicker
        assert age(pending) <= {"old", "new"}
        pending(command="plan")
        assert len(age(pending)) == 1
        assert pending.leftovers == []
        is_of_the_report(pending)
        pending("-D", "to=old")
        assert age(pending) == {"old"}


def test_outputs_are_whole_at_all_times(pending: Bench) -> None:
    """Somebody who reads the outputs again and again while they are replaced sees old ones or new ones."""
    pending("-D", "to=old")
    seen: set[str] = set()
    for to in ("new", "old", "new", "old"):
        number = child(running(None, "-D", f"to={to}"))
        while os.waitpid(number, os.WNOHANG) == (0, 0):
            now = age(pending)
            assert now <= {"old", "new"}
            seen |= now
        assert age(pending) == {to}
    assert seen == {"old", "new"}


def terminate_at(step: int) -> Callable[[int], None]:
    def before(number: int) -> None:
        if number == step:
            os.kill(os.getpid(), signal.SIGTERM)

    return before


def test_a_run_that_is_asked_to_end_leaves_all_or_nothing(pending: Bench) -> None:
    count = steps_of(pending)
    ended: dict[str, int] = {}
    for step in range(count):
        cleared(pending)
        status = os.waitpid(child(running(System(terminate_at(step)))), 0)[1]
        assert os.waitstatus_to_exitcode(status) in (143, 0), step
        (now,) = age(pending)
        assert pending.leftovers == []
        assert now == "new" or not (pending.folder / "out").exists()
        ended[now] = ended.get(now, 0) + 1
        if now == "new":
            is_of_the_report(pending)
    assert ended["new"] > 10, "the signal waits from the journals to the end"
    assert ended["none"] > 10


# --- journals that cannot be settled -----------------------------------------------------------------------------


def begun(bench: Bench) -> list[Path]:
    """Kill a run in the midst of its renames; return the journals."""
    bench("-D", "to=old")
    count = steps_of(bench)
    for step in reversed(range(count)):
        cleared(bench)
        bench("-D", "to=old")
        os.waitpid(child(running(System(kill_at(step)))), 0)
        if age(bench) == {"old", "new"}:
            return sorted((bench.folder / "out").glob(".*journal"))
    raise AssertionError("no step is in the midst")


def test_a_damaged_journal(pending: Bench) -> None:
    for journal in begun(pending):
        journal.write_bytes(b'{"statex":1}\n')
    for command in ("run", "plan"):
        assert set(pending.codes(command=command, code=3)) == {"SX622"}
    assert age(pending) == {"old", "new"}


def test_an_output_that_is_away(pending: Bench, tmp_path: Path) -> None:
    pending.write("recipe.yaml", RECIPE.replace("out/body.pth", "away/body.pth"))
    pending("-D", "to=old")
    count = steps_of(pending)
    for step in reversed(range(count)):
        cleared(pending)
        for path in (pending.folder / "away").iterdir():
            path.unlink()
        pending("-D", "to=old")
        os.waitpid(child(running(System(kill_at(step)))), 0)
        journals = list(pending.folder.glob("*/.*journal"))
        if (
            len(journals) == 3
            and "new." in str(pending.load("out/all"))
            and pending.report["parameters"]["to"] == "old"
        ):
            break
    else:
        raise AssertionError("no step is in the midst")
    os.rename(pending.folder / "away", tmp_path / "elsewhere")
    ended = pending.call("show", "out/report.json", "--json")
    codes = {one["code"] for one in ended.json["diagnostics"]}
    assert codes == {"SX623"}
    os.rename(tmp_path / "elsewhere", pending.folder / "away")
    said = pending(command="plan").err
    assert "SX907" in said
    assert pending.leftovers == []


def test_two_runs_at_a_time(pending: Bench) -> None:
    """While one run writes, another of the same outputs is refused, and spoils nothing."""
    gate = pending.folder / "gate"
    os.mkfifo(gate)
    system = System()
    state: dict[str, Any] = {}

    def before(number: int) -> None:
        if list((pending.folder / "out").glob(".*journal")) and "met" not in state:
            state["met"] = True
            gate.read_bytes()

    system.before = before
    number = child(running(system))
    until = time.monotonic() + 30
    while not list((pending.folder / "out").glob(".*journal")) and time.monotonic() < until:
        time.sleep(0.01)
    (found, *_) = pending.refused(code=3)
    assert found["code"] == "SX624"
    gate.write_bytes(b"")
    assert os.waitpid(number, 0)[1] == 0
    assert age(pending) == {"new"}
    assert pending.leftovers == []
    assert json.loads(pending("--json").out)["skipped"]
