"""Changes the code at random places, one at a time, and prints the changes that no test notices.

    make mutants MUTANTS="--count 200 --seed 1"

cosmic-ray knows the changes. Each is made in a copy of the repository, never in the repository itself. The tests that
belong to the changed module run first, all others only if these notice nothing.
"""

from __future__ import annotations

import argparse
import ast
import difflib
import inspect
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator, operator_names

ROOT = Path(__file__).parent.parent
ROOMS = ("statex/dsl", "statex/execute", "statex/checkpoint")

BELONGING = {
    "statex/dsl/ops": ["tests/dsl/ops", "tests/dsl"],
    "statex/dsl": ["tests/dsl"],
    "statex/execute": ["tests/execute", "tests/dsl"],
    "statex/checkpoint": ["tests/checkpoint"],
}
"""The tests of a room, the cheapest first."""

Place = tuple[int, int]


@dataclass(frozen=True)
class Mutant:
    """A change: the operator that makes it, at which of its occurrences in which file."""

    path: Path
    operator: str
    occurrence: int
    line: int

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
    return list(islice((one for one in found if _means_something(one)), count))


def _means_something(mutant: Mutant) -> bool:
    """Say whether a change is Python, and more than the loss of a cache."""
    text = (ROOT / mutant.path).read_text()
    changed = mutant.code(text)
    if changed is None or (
        mutant.operator.endswith("RemoveDecorator") and "cache" in text.splitlines()[mutant.line - 1]
    ):
        return False
    try:
        compile(changed, mutant.path.name, "exec")
    except SyntaxError:
        return False
    return True


def noticed(folder: Path, mutant: Mutant, timeout: float, *, own: bool) -> str | None:
    """Make a change in a copy of the repository, and return what noticed it."""
    path = folder / mutant.path
    text = path.read_text()
    changed = mutant.code(text)
    if changed is None:
        return "nothing changed"
    path.write_text(changed)
    try:
        first = next(tests for room, tests in BELONGING.items() if str(mutant.path).startswith(room))
        for tests in [[one] for one in first] + ([] if own else [["tests"], ["examples"]]):
            if not _pass(folder, tests, timeout):
                return tests[0]
        return None
    finally:
        path.write_text(text)


def _pass(folder: Path, tests: Sequence[str], timeout: float) -> bool:
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-n", "2", "-p", "no:cacheprovider", *tests]
    try:
        return subprocess.run(command, cwd=folder, capture_output=True, timeout=timeout, check=False).returncode == 0
    except subprocess.TimeoutExpired:
        return False


def diff(folder: Path, mutant: Mutant) -> str:
    """Return a change as a diff."""
    text = (folder / mutant.path).read_text()
    changed = mutant.code(text) or text
    lines = difflib.unified_diff(text.splitlines(), changed.splitlines(), str(mutant.path), n=1, lineterm="")
    return "\n".join(list(lines)[2:])


def copied(folder: Path) -> None:
    """Copy what the repository keeps."""
    names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True, text=True).stdout
    for name in names.split("\0"):
        if name:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)


def main() -> int:
    """Run the sample and print what survived."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=200, help="how many changes (200)")
    parser.add_argument("--seed", type=int, default=0, help="which sample (0)")
    parser.add_argument("--room", action="append", help=f"where ({', '.join(ROOMS)})")
    parser.add_argument("--timeout", type=float, default=900, help="seconds for one run of tests (900)")
    parser.add_argument("--own", action="store_true", help="run the tests that belong to the module alone")
    given = parser.parse_args()
    chosen = sample(given.room or ROOMS, given.count, given.seed)
    survivors: list[str] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        copied(folder)
        if not _pass(folder, ["tests/dsl/test_statements.py"], given.timeout):
            print("the tests fail without any change", file=sys.stderr)
            return 2
        for number, mutant in enumerate(chosen, 1):
            began = time.monotonic()
            by = noticed(folder, mutant, given.timeout, own=given.own)
            spent = f"{time.monotonic() - began:.0f} s"
            print(f"{number}/{len(chosen)} {mutant.path}:{mutant.line} {by or 'SURVIVED'} ({spent})", flush=True)
            if by is None:
                survivors.append(f"{mutant.path}:{mutant.line} {mutant.operator}\n{diff(folder, mutant)}")
    print(*["", *survivors], sep="\n\n")
    share = 100 * (len(chosen) - len(survivors)) / max(len(chosen), 1)
    print(f"\n{len(chosen) - len(survivors)} of {len(chosen)} changes were noticed ({share:.0f} %)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
