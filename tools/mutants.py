"""Changes the code at random places, one at a time, and prints the changes that no test notices.

    make mutants MUTANTS="--count 200 --seed 1"

cosmic-ray knows the changes. Each is made in a copy of the repository, never in the repository itself. All tests run
once without a change, and it is recorded which of them execute which lines (`line_tests`); that takes some minutes, and
`--record` keeps it. A change meets only tests that execute its line, up to the first that fails: the cheapest case of
each test function, the cheapest first, then another case of each, and so on.

The share that is noticed is a lower bound: at most `--most` tests run, for about `--seconds`, and what a test executes
in a process of its own (the command line, mostly) is not recorded. At the end the tests that noticed something run
without any change, so that one that fails now and then counts for nothing.
"""

from __future__ import annotations

import argparse
import ast
import difflib
import hashlib
import inspect
import math
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import NoReturn
from warnings import catch_warnings, simplefilter

import pytest
from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator, operator_names
from hypothesis import Phase, settings
from line_tests import ROOMS, Chosen, Record, Recorder

ROOT = Path(__file__).parent.parent

PRELOADED = ("torch", "numpy", "lark", "regex", "msgspec", "yaml", "safetensors.torch", "peft")
"""What tests import, loaded once: each run is a fork of this process, and imports only the copy's own modules."""

Place = tuple[int, int]


@dataclass(frozen=True)
class Mutant:
    """A change: the operator that makes it, at which of its occurrences in which file."""

    path: Path
    operator: str
    occurrence: int
    line: int
    number: int = 0

    def __str__(self) -> str:
        return f"{self.path}:{self.line}"

    def code(self, text: str) -> str | None:
        """Return the changed text; `None` where the operator changes nothing."""
        changed: str | None = mutate_code(text, get_operator(self.operator)(), self.occurrence)
        return changed


def mutants(path: Path) -> Iterator[list[Mutant]]:
    """Yield the changes of a module by places; what is never carried out (annotations, types) is left alone."""
    text = path.read_text()
    nodes = list(ast_nodes(get_ast(text)))
    skipped = list(_not_carried_out(ast.parse(text)))
    found: dict[Place, list[Mutant]] = {}
    for name in sorted(operator_names()):
        if inspect.signature(get_operator(name)).parameters:
            continue  # it takes the names of variables
        operator = get_operator(name)()
        places = [place for node in nodes for place in operator.mutation_positions(node)]
        for occurrence, (start, _) in enumerate(places):
            if not any(first <= start < last for first, last in skipped):
                found.setdefault(start, []).append(Mutant(path.relative_to(ROOT), name, occurrence, start[0]))
    yield from found.values()


def _not_carried_out(tree: ast.AST) -> Iterator[tuple[Place, Place]]:
    for node in ast.walk(tree):
        parts: list[ast.AST | None] = []
        if isinstance(node, ast.AnnAssign | ast.arg):
            parts = [node.annotation]
        elif isinstance(node, ast.FunctionDef):
            parts = [node.returns]
        elif isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            parts = [node]
        for part in parts:
            if part is not None:
                yield (part.lineno, part.col_offset), (part.end_lineno or 0, part.end_col_offset or 0)  # type: ignore[attr-defined]


def sample(rooms: Sequence[str], count: int, seed: int) -> list[Mutant]:
    """Return changes at random places: each place is as likely as any other, however many changes it has."""
    paths = sorted(path for room in rooms for path in (ROOT / room).rglob("*.py"))
    places = [place for path in paths for place in mutants(path)]
    chosen = random.Random(seed)
    chosen.shuffle(places)
    found = (chosen.choice(place) for place in places)
    kept = islice((one for one in found if _means_something(one)), count)
    return [replace(one, number=number) for number, one in enumerate(kept)]


def _means_something(mutant: Mutant) -> bool:
    """Say whether a change is Python, and more than the loss of a cache.

    Nor does it mean anything that a function is not static, where only its class is asked for it, as with operations.
    """
    text = (ROOT / mutant.path).read_text()
    changed = mutant.code(text)
    line = text.splitlines()[mutant.line - 1]
    if changed is None or (
        mutant.operator.endswith("RemoveDecorator") and ("cache" in line or line.strip() == "@staticmethod")
    ):
        return False
    try:
        with catch_warnings():
            simplefilter("error")  # as the tests do: `is` with a literal is a warning
            compile(changed, mutant.path.name, "exec")
    except SyntaxError:
        return False
    return True


class Copy:
    """A copy of what the repository keeps, in which tests run; this process never imports from it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "copy"
        self._scratch = folder / "scratch"
        names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True, text=True).stdout
        digest = hashlib.sha256()
        for name in filter(None, names.split("\0")):
            (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, self.folder / name)
            digest.update(name.encode() + b"\0" + (ROOT / name).read_bytes())
        self.digest = digest.hexdigest()[:16]
        for name in PRELOADED:
            import_module(name)
        # A change is noticed by any example; a small one takes minutes to find.
        settings.register_profile("any", phases=[Phase.explicit, Phase.generate], database=None)
        settings.load_profile("any")

    def record(self, folder: Path) -> Record:
        """Return what is recorded of this code in a folder, after recording it if nothing is."""
        folder = folder.absolute() / self.digest
        if not (folder / "failed.json").exists():
            folder.mkdir(parents=True, exist_ok=True)
            self._forked(lambda: pytest.main(["-q", *self._options()], plugins=[Recorder(folder)]), math.inf, loud=True)
        return Record(folder, self.folder)

    def noticed(self, mutant: Mutant, tests: Mapping[str, float]) -> str | None:
        """Make a change, run tests, and return the one that noticed it; with them are the seconds that each takes."""
        path = self.folder / mutant.path
        text, stat = path.read_text(), path.stat()
        changed = mutant.code(text)
        assert changed is not None
        path.write_text(changed)
        # What Python has compiled goes by whole seconds and the size: another time tells each change from all others.
        os.utime(path, (stat.st_atime, stat.st_mtime + 10 + mutant.number))
        try:
            return self.failing(tests)
        finally:
            path.write_text(text)
            os.utime(path, (stat.st_atime, stat.st_mtime))

    def failing(self, tests: Mapping[str, float]) -> str | None:
        """Run tests, and return the first that fails."""
        if not tests:
            return None
        last = self._scratch.with_name("last")
        last.write_text("the import")
        options = ["-x", "-q", *self._options(), *sorted({name.partition("::")[0] for name in tests})]
        seconds = 600 + 20 * sum(tests.values())
        code = self._forked(lambda: pytest.main(options, plugins=[Chosen(tests, last)]), seconds)
        if code == 0:
            return None
        if code in (pytest.ExitCode.USAGE_ERROR, pytest.ExitCode.NO_TESTS_COLLECTED):
            raise RuntimeError(f"pytest ended with {code}")
        return last.read_text()

    def _options(self) -> list[str]:
        imported = "-Wignore:Module already imported:pytest.PytestAssertRewriteWarning"
        return ["-p", "no:cacheprovider", imported, f"--rootdir={self.folder}", f"--basetemp={self._scratch}"]

    def _forked(self, run: Callable[[], int], seconds: float, *, loud: bool = False) -> int | None:
        """Run something in a fork of this process, and return how it ended; `None` if it did not."""
        pid = os.fork()
        if not pid:
            self._become(run, [0] if loud else [0, 1, 2])
        end = time.monotonic() + seconds
        try:
            while time.monotonic() < end:
                done, status = os.waitpid(pid, os.WNOHANG)
                if done:
                    return os.waitstatus_to_exitcode(status)
                time.sleep(0.02)
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            return None
        finally:
            with suppress(ProcessLookupError):  # and what it has started
                os.killpg(pid, signal.SIGKILL)
            shutil.rmtree(self.folder / ".hypothesis", ignore_errors=True)

    def _become(self, run: Callable[[], int], silent: Sequence[int]) -> NoReturn:
        code = 70
        try:
            os.setsid()
            null = os.open(os.devnull, os.O_RDWR)
            signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in the background of a shell
            for stream in silent:
                os.dup2(null, stream)
            # A change may ask for any amount of memory.
            most = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
            resource.setrlimit(resource.RLIMIT_AS, (most, most))
            os.chdir(self.folder)
            sys.path.insert(0, str(self.folder))
            os.environ["PYTHONPATH"] = str(self.folder)
            code = int(run())
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)


def diff(mutant: Mutant) -> str:
    """Return a change as a diff."""
    text = (ROOT / mutant.path).read_text()
    lines = difflib.unified_diff(text.splitlines(), (mutant.code(text) or text).splitlines(), n=1, lineterm="")
    return "\n".join(list(lines)[2:])


def main() -> int:
    """Run the sample and print what survived."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=200, help="how many changes (200)")
    parser.add_argument("--seed", type=int, default=0, help="which sample (0)")
    parser.add_argument("--room", action="append", help=f"where ({', '.join(ROOMS)})")
    parser.add_argument("--most", type=int, default=400, help="how many tests a change meets at most (400)")
    parser.add_argument("--seconds", type=float, default=30, help="and how long these take without a change (30)")
    parser.add_argument("--record", type=Path, help="a folder to keep in which tests execute which lines")
    given = parser.parse_args()
    chosen = sample(given.room or ROOMS, given.count, given.seed)
    survivors: list[Mutant] = []
    noticing: dict[str, list[Mutant]] = {}
    with tempfile.TemporaryDirectory() as name:
        copy = Copy(Path(name))
        record = copy.record(given.record or Path(name))
        print(f"{len(record.failed)} tests fail or are skipped without any change", *record.failed, sep="\n  ")
        for number, mutant in enumerate(chosen, 1):
            began = time.monotonic()
            tests = record.chosen(mutant.path, mutant.line, given.most, given.seconds)
            by = copy.noticed(mutant, tests)
            outcome = by or f"SURVIVED {len(tests)} tests"
            print(f"{number}/{len(chosen)} {mutant} {outcome} ({time.monotonic() - began:.0f} s)", flush=True)
            if by is None:
                survivors.append(mutant)
                print(diff(mutant), flush=True)
            else:
                noticing.setdefault(by, []).append(mutant)
        while by := copy.failing({one: 600.0 for one in noticing if "::" in one}):
            print(f"fails without any change too: {by}")
            survivors += noticing.pop(by)
    for mutant in survivors:
        print(f"\n{mutant} {mutant.operator}\n{diff(mutant)}")
    share = 100 * (len(chosen) - len(survivors)) / max(len(chosen), 1)
    print(f"\n{len(chosen) - len(survivors)} of {len(chosen)} changes were noticed ({share:.0f} %)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
