"""Which room may import which: the direction of the architecture, checked on the source of every module."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Callable, Container, Iterable, Iterator
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "statex"


@dataclass(frozen=True)
class Room:
    """What the modules of a room may import beside the standard library and their own room."""

    rooms: frozenset[str] = frozenset()
    libraries: frozenset[str] = frozenset()


def room(rooms: str = "", libraries: str = "") -> Room:
    """Return a room from names separated by blanks."""
    return Room(frozenset(rooms.split()), frozenset(libraries.split()))


ALLOWED = {
    "core": room(libraries="yaml"),
    "diagnostics": room("core"),
    "trees": room("core diagnostics"),
    "grammar": room("core diagnostics", "lark"),
    "dsl": room("core diagnostics trees grammar", "regex einops"),
    "inverse": room("core diagnostics trees grammar dsl"),
    "following": room("core diagnostics trees dsl"),
    "relating": room("core diagnostics grammar dsl", "numpy einops"),
    "checkpoint": room("core diagnostics", "torch numpy isal"),
    "execute": room("core diagnostics trees grammar dsl relating checkpoint", "torch numpy"),
    "session": room("core diagnostics trees grammar dsl inverse following checkpoint execute", "torch yaml msgspec"),
    "inferring": room("core diagnostics trees grammar dsl relating checkpoint execute session", "torch numpy"),
    "recipe": room("core diagnostics grammar dsl session", "msgspec yaml"),
    "migrating": room("core diagnostics trees grammar dsl inverse checkpoint execute session", "torch"),
    "api": room("core diagnostics grammar dsl inverse checkpoint execute session migrating inferring", "torch"),
    "cli": room(
        "core diagnostics trees grammar dsl inverse checkpoint execute session recipe migrating inferring api",
        "typer yaml torch",
    ),
    "main": room("cli"),
}
"""What the modules of each room may import; the rooms are in order, each knows some of those before it."""
OUTSIDE = {"": "api", "api": "api", "rules": "api", "embedding": "api", "version": "core", "__main__": "main"}
"""The rooms of the modules that are in none of the packages."""
LATE = ("torch", "numpy", "transformers")
"""Imported only inside the functions that need it: each costs more than all the rest of a command's start."""


@dataclass(frozen=True)
class Import:
    """A module that is imported: `late` where that happens inside a function or for type checkers alone."""

    name: str
    line: int
    late: bool


def module_name(path: Path) -> str:
    """Return the dotted name of a file of the package."""
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def imports(tree: ast.AST, late: bool = False) -> Iterator[Import]:
    """Yield every import of a module, however deep it stands."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            yield from (Import(alias.name, node.lineno, late) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            origin = "." * node.level + (node.module or "")
            inner = [f"{origin}.{alias.name}" for alias in node.names]
            # `from statex import dtypes` imports a module, `from statex import Rules` a name of one.
            yield from (Import(n if n in FILES or n in LATE else origin, node.lineno, late) for n in inner)
        else:
            yield from imports(node, late or isinstance(node, ast.FunctionDef | ast.Lambda) or for_types(node))


def for_types(node: ast.AST) -> bool:
    """Say whether a node is `if TYPE_CHECKING:`, which never runs."""
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def room_of(name: str) -> str | None:
    """Return the room of a module of the package."""
    inner = name.partition(".")[2]
    first = inner.partition(".")[0]
    return OUTSIDE.get(inner, first if first in ALLOWED else None)


def violations(name: str, source: str) -> list[str]:
    """Return what is wrong with the imports of a module."""
    own = room_of(name)
    if own is None:
        return [f"{name} is in no room: give it one in ALLOWED or OUTSIDE"]
    found = []
    for one in imports(ast.parse(source)):
        if (said := wrong(own, one)) is not None:
            found.append(f"{name}:{one.line} imports {one.name}: {said}")
    return found


def wrong(own: str, one: Import) -> str | None:
    """Return what is wrong with an import in a room."""
    top = one.name.partition(".")[0]
    if not top:
        return "imports are absolute"
    if not one.late and any(one.name == name or one.name.startswith(f"{name}.") for name in LATE):
        return "only inside the function that needs it"
    if top in sys.stdlib_module_names:
        return None
    if top != "statex":
        return None if top in ALLOWED[own].libraries else f"`{own}` does not use this library"
    other = room_of(one.name)
    if other == own or other in ALLOWED[own].rooms:
        return None
    return f"`{own}` does not know `{other}`"


@pytest.mark.parametrize("name", FILES)
def test_imports_point_one_way(name: str) -> None:
    assert violations(name, FILES[name].read_text(encoding="utf-8")) == []


def test_the_rooms_are_in_order() -> None:
    order = list(ALLOWED)
    for number, name in enumerate(order):
        assert ALLOWED[name].rooms <= set(order[:number])
    assert {room_of(name) for name in FILES} == set(order)


def node_of(name: str, parted: Container[str]) -> str:
    """Return the part of a room that a module is in: its package or, in one that holds packages, the module itself."""
    package = name.rpartition(".")[0]
    return name if package in parted or not package else package


def graph_of(parts: Callable[[str], str]) -> dict[str, set[str]]:
    """Return which parts import which as they are loaded: not inside a function, and not for types alone."""
    found: dict[str, set[str]] = {parts(name): set() for name in FILES}
    for name, path in FILES.items():
        for one in imports(ast.parse(path.read_text(encoding="utf-8"))):
            if not one.late and one.name in FILES and parts(one.name) != parts(name):
                found[parts(name)].add(parts(one.name))
    return found


def circle_in(graph: dict[str, set[str]]) -> list[str]:
    """Return a circle of parts that import one another, or an empty list."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def test_no_modules_import_one_another_in_a_circle() -> None:
    assert circle_in(graph_of(lambda name: name)) == []


def test_no_parts_of_rooms_import_one_another_in_a_circle() -> None:
    packages = {name for name, path in FILES.items() if path.name == "__init__.py"}
    parted = {package.rpartition(".")[0] for package in packages}
    assert circle_in(graph_of(lambda name: name if name in packages else node_of(name, parted))) == []


def test_a_circle_is_found() -> None:
    assert set(circle_in({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}})) == {"a", "b", "c"}


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("statex.core.source", "import statex"),
        ("statex.core.source", "import lark"),
        ("statex.diagnostics.render", "from statex.grammar import tree"),
        ("statex.diagnostics.render", "from statex import api"),
        ("statex.grammar.parser", "from statex.dsl.plan.plan import Plan"),
        ("statex.grammar.parser", "import regex"),
        ("statex.dsl.plan.plan", "def f():\n    import torch"),
        ("statex.dsl.plan.plan", "def f():\n    from statex.checkpoint import Reader"),
        ("statex.dsl.plan.plan", "import lark"),
        ("statex.dsl.plan.plan", "import yaml"),
        ("statex.dsl.plan.plan", "from . import graph"),
        ("statex.dsl.ops.cat", "from ..graph import Graph"),
        ("statex.checkpoint.pth", "from statex.dsl.plan.plan import Plan"),
        ("statex.checkpoint.pth", "if TYPE_CHECKING:\n    from statex.grammar import tree"),
        ("statex.checkpoint.pth", "import torch"),
        ("statex.checkpoint.pth", "class C:\n    from torch import nn"),
        ("statex.checkpoint.pth", "try:\n    import torch.nn\nexcept ImportError:\n    raise"),
        ("statex.checkpoint.safe", "from safetensors import safe_open"),
        ("statex.execute.live", "import torch"),
        ("statex.execute.live", "from statex.api import Rules"),
        ("statex.api", "from statex.cli.output import escape"),
        ("statex.cli.app", "import torch"),
        ("statex.extra", "import os"),
    ],
)
def test_a_wrong_import_is_found(name: str, source: str) -> None:
    assert len(violations(name, source)) == 1


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("statex.core.source", "import os.path\nfrom collections.abc import Mapping"),
        ("statex.core.header", "from statex.core.dtypes import DType"),
        ("statex.dsl.plan.plan", "from statex.grammar import tree\nfrom statex.core.source import Span\nimport regex"),
        ("statex.checkpoint.pth", "def f():\n    import torch"),
        ("statex.execute.live", "if TYPE_CHECKING:\n    import torch"),
        ("statex.checkpoint.io.crc", "from isal import isal_zlib"),
        ("statex.cli.app", "import statex\nfrom statex.api import Rules\nimport typer"),
        ("statex.__main__", "from statex.cli import main"),
    ],
)
def test_a_right_import_is_let_pass(name: str, source: str) -> None:
    assert violations(name, source) == []


AS_DECLARED = ("statex.recipe.model", "statex.recipe.declaration")
"""A recipe's parts are named by its JSON Schema, in the words of those who write recipes: what is declared and what is
read of it share these names with one another and with what they come to; they are written `declared.` and `model.`."""


def homonyms(modules: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    """Return the names that public classes of several modules have, each with these modules."""
    found: dict[str, list[str]] = {}
    for name, source in modules:
        for node in ast.parse(source).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_") and name not in AS_DECLARED:
                found.setdefault(node.name, []).append(name)
    return {name: places for name, places in found.items() if len(places) > 1}


def test_a_name_is_of_one_class() -> None:
    assert homonyms((name, path.read_text()) for name, path in FILES.items()) == {}


def test_two_classes_of_one_name_are_found() -> None:
    assert homonyms([("a", "class C: ..."), ("b", "class C: ...\nclass _D: ..."), ("c", "class _D: ...")]) == {
        "C": ["a", "b"]
    }


@pytest.mark.parametrize("module", ["statex", "statex.cli"])
def test_importing_is_light(module: str) -> None:
    loaded = "import sys; print(*sorted(m for m in sys.modules if '.' not in m))"
    done = subprocess.run([sys.executable, "-c", f"import {module}; {loaded}"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert not set(done.stdout.split()) & {"torch", "numpy", "transformers", "yaml", "msgspec"}
