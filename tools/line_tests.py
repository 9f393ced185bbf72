"""Which tests execute which lines: recorded once with coverage, and asked for every change.

What a test does in a process that it starts is not seen, so the tests of a line are at least those given here.
"""

from __future__ import annotations

import ast
import json
import signal
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import _lru_cache_wrapper
from pathlib import Path

import pytest
from coverage import Coverage, CoverageData

ROOMS = ("statex/dsl", "statex/execute", "statex/checkpoint")

BELONGING = {
    "statex/dsl": ("tests/dsl/",),
    "statex/execute": ("tests/execute/", "tests/dsl/"),
    "statex/checkpoint": ("tests/checkpoint/",),
}
"""The tests of a room, for what no test executes by itself: the body of a module or class."""


class Recorder:
    """A plugin of pytest that records the lines, the seconds and the end of each test in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._coverage = Coverage(data_file=str(folder / "lines"), source=list(ROOMS), config_file=False)
        self._seconds: dict[str, float] = {}
        self._failed: set[str] = set()
        self._coverage.start()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        """Record what a test executes; what an earlier test left in a cache, it has to compute itself."""
        for cached in _caches():
            cached.cache_clear()
        self._coverage.switch_context(item.nodeid)
        try:
            return (yield)
        finally:
            self._coverage.switch_context("")

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: pytest.FixtureDef[object], request: pytest.FixtureRequest) -> object:
        """Record what a fixture executes for several tests as executed by all tests below its folder or module."""
        if fixturedef.scope == "function":
            return (yield)
        self._coverage.switch_context(f"{fixturedef.baseid}*")
        try:
            return (yield)
        finally:
            self._coverage.switch_context(request._pyfuncitem.nodeid)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Add up the seconds of a test; one that fails without any change, or is skipped, can notice nothing."""
        self._seconds[report.nodeid] = self._seconds.get(report.nodeid, 0) + report.duration
        if report.outcome != "passed":
            self._failed.add(report.nodeid)

    def pytest_sessionfinish(self) -> None:
        """Write the record."""
        self._coverage.stop()
        self._coverage.save()
        seconds = {name: spent for name, spent in self._seconds.items() if name not in self._failed}
        (self._folder / "seconds.json").write_text(json.dumps(seconds))
        (self._folder / "failed.json").write_text(json.dumps(sorted(self._failed)))


def _caches() -> Iterator[_lru_cache_wrapper[object]]:
    for name, module in list(sys.modules.items()):
        if name.startswith(tuple(room.replace("/", ".") for room in ROOMS)):
            yield from (one for one in vars(module).values() if isinstance(one, _lru_cache_wrapper))


class Chosen:
    """A plugin of pytest that runs certain tests, in their order, and writes down the one that fails or never ends.

    A test never ends if it takes ten seconds, and four times as long as without a change. They are the processor's:
    other work on the machine makes nothing fail.
    """

    def __init__(self, seconds: Mapping[str, float], last: Path) -> None:
        self._seconds = seconds
        self._rank = {name: rank for rank, name in enumerate(seconds)}
        self._last = last

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Leave out the other tests of the files, and put the cheapest first."""
        items[:] = sorted((i for i in items if i.nodeid in self._rank), key=lambda i: self._rank[i.nodeid])

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """Write down a test that begins; at the end of its time the system ends this process."""
        self._last.write_text(nodeid)
        signal.setitimer(signal.ITIMER_PROF, 10 + 4 * self._seconds[nodeid])

    def pytest_sessionfinish(self) -> None:
        """Let the rest take its time."""
        signal.setitimer(signal.ITIMER_PROF, 0)


class Record:
    """What was recorded of the repository in a folder."""

    def __init__(self, folder: Path, root: Path) -> None:
        self._root = root
        self._seconds: dict[str, float] = json.loads((folder / "seconds.json").read_text())
        self.failed: list[str] = json.loads((folder / "failed.json").read_text())
        self._data = CoverageData(str(folder / "lines"))
        self._data.read()
        self._lines: dict[Path, dict[int, list[str]]] = {}

    def chosen(self, path: Path, line: int, most: int, seconds: float) -> dict[str, float]:
        """Return tests that execute a line, with the seconds they take: so many at most, and about so long."""
        chosen: dict[str, float] = {}
        for name in self.tests(path, line)[:most]:
            chosen[name] = self._seconds[name]
            if sum(chosen.values()) > seconds:
                break
        return chosen

    def tests(self, path: Path, line: int) -> list[str]:
        """Return the tests that execute a line of a module: a case of each function, another of each, and so on.

        A part of a function's head stands for its body. For the body of a module or class these are the tests that
        execute anything in the module, and then those of its room.
        """
        lines = _executed_with(ast.parse((self._root / path).read_text()), line)
        if lines is not None:
            return self._cheapest(self._executing(path, lines))
        touching = self._executing(path, None)
        folders = BELONGING[next(room for room in BELONGING if path.is_relative_to(room))]
        room = {name for name in self._seconds if name.startswith(folders)}
        return [*self._cheapest(touching), *self._cheapest(room - touching)]

    def _executing(self, path: Path, lines: range | None) -> set[str]:
        if path not in self._lines:
            measured = next((name for name in self._data.measured_files() if Path(name).match(str(path))), None)
            self._lines[path] = self._data.contexts_by_lineno(measured) if measured else {}
        found = self._lines[path]
        contexts = {one for line in (found if lines is None else lines) for one in found.get(line, ())}
        below = tuple(one.removesuffix("*") for one in contexts if one.endswith("*"))
        return {name for name in self._seconds if name in contexts or (below and name.startswith(below))}

    def _cheapest(self, names: set[str]) -> list[str]:
        """Return a case of each test function, the cheapest first, then another of each, and so on."""
        seen: Counter[str] = Counter()
        ranked = []
        for name in sorted(names, key=lambda name: (self._seconds[name], name)):
            function = name.partition("[")[0]
            ranked.append((seen[function], self._seconds[name], name))
            seen[function] += 1
        return [name for _, _, name in sorted(ranked)]


def _executed_with(tree: ast.Module, line: int) -> range | None:
    """Return the lines of the statement in a function that a line belongs to; `None` for one that runs at import."""
    found: range | None = None
    inside: list[ast.stmt] = [*tree.body]
    while statement := next((one for one in inside if line in _lines(one)), None):
        inside = list(_children(statement))
        body = min((_lines(one).start for one in inside), default=_lines(statement).stop)
        if isinstance(statement, ast.FunctionDef):
            found = range(body, _lines(statement).stop)
        elif found is not None:
            found = range(line, line + 1) if line >= body else range(statement.lineno, body)
        if line < body:
            break
    return found


def _lines(statement: ast.stmt) -> range:
    decorators = getattr(statement, "decorator_list", [])
    return range(min(one.lineno for one in [statement, *decorators]), (statement.end_lineno or statement.lineno) + 1)


def _children(statement: ast.stmt) -> Iterator[ast.stmt]:
    for part in ast.iter_child_nodes(statement):
        if isinstance(part, ast.stmt):
            yield part
        elif isinstance(part, ast.ExceptHandler | ast.match_case):
            yield from part.body
