"""Measures how far conversions drive up the memory of a process: each in a fork of a server that has imported torch.

A fork takes milliseconds where a new process takes seconds to import torch. The kernel keeps the highest resident set
of a process and can be told to forget it, so each fork first does the same work on a small input: what the code and
its caches take is there beforehand, and what is added is what the tensors take.
"""

from __future__ import annotations

import importlib
import json
import os
import pkgutil
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

_ROOMS = tuple(f"statex.{room}" for room in ("checkpoint", "dsl", "execute", "session", "relating", "inferring"))
CAN_MEASURE = Path("/proc/self/clear_refs").exists()


class Peaks:
    """The server; a context manager."""

    def __enter__(self) -> Peaks:
        self._process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._process.communicate()

    def measure(self, rules: str, small: Path, large: Path, target: Path, **options: Any) -> dict[str, int]:
        """Return what a conversion of the large input adds to a process that has converted the small one.

        `added` is measured; `stated` is how much more the plan states for the large input than for the small one.
        """
        work = {"rules": rules, "small": str(small), "large": str(large), "target": str(target), "options": options}
        return self._done(work)

    def measure_inferring(self, small: Sequence[Path], large: Sequence[Path]) -> dict[str, int]:
        """Return what it adds to infer the rules of a large pair, in a process that has done so for a small one."""
        return self._done({"pairs": [[str(path) for path in pair] for pair in (small, large)]})

    def _done(self, work: Mapping[str, Any]) -> dict[str, int]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps(work), file=self._process.stdin, flush=True)
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        assert "error" not in answer, f"{work}\n{answer['error']}"
        return answer


def _serve() -> None:
    import einops  # noqa: F401  (so that no fork imports it)
    import numpy  # noqa: F401
    import torch

    import statex

    for module in pkgutil.walk_packages(statex.__path__, "statex."):
        if module.name.startswith(_ROOMS):
            importlib.import_module(module.name)
    statex.compile("set ** = rearrange('a b -> b a') | exp").plan({"x": torch.ones(2, 2)})

    torch.set_num_threads(1)  # a pool of threads would not be there after a fork
    for line in sys.stdin:
        work = json.loads(line)
        measured = _inferring if "pairs" in work else _measured
        with _forked(lambda work=work, measured=measured: measured(statex, work)) as answer:  # type: ignore[misc]
            print(answer, flush=True)


@contextmanager
def _forked(function: Callable[[], Mapping[str, Any]]) -> Iterator[str]:
    """Give what a function returns in a fork of this process, as JSON."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        try:
            answer = json.dumps(function())
        except BaseException:
            answer = json.dumps({"error": traceback.format_exc()})
        os.write(writing, answer.encode())
        os._exit(0)
    os.close(writing)
    with open(reading) as file:
        answer = file.read()
    os.waitpid(child, 0)
    yield answer


def _measured(statex: Any, work: Mapping[str, Any]) -> dict[str, int]:
    rules = statex.compile(work["rules"])
    costs = []
    for size in ("small", "large"):
        before = _forget_the_highest()
        done = statex.convert(work[size], work["target"], rules, force=True, **work["options"])
        added = _status("VmHWM") - before
        costs.append(done.plan.cost.memory)
    return {"added": added, "stated": costs[1] - costs[0], "memory": costs[1]}


def _inferring(statex: Any, work: Mapping[str, Any]) -> dict[str, int]:
    for pair in work["pairs"]:
        before = _forget_the_highest()
        found = statex.infer(*pair)
        added = _status("VmHWM") - before
        assert found.proved, found.rules
    return {"added": added}


def _forget_the_highest() -> int:
    """Let the highest resident set be the one of now, and return it."""
    Path("/proc/self/clear_refs").write_text("5")
    return _status("VmRSS")


def _status(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith(f"{name}:"))


if __name__ == "__main__":
    _serve()
