"""Which room may import which: the direction of the architecture, checked on the source of every module."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "statex"

FOUNDATIONS = "foundations"
ROOMS = {
    "statex.source": FOUNDATIONS,
    "statex.dtypes": FOUNDATIONS,
    "statex.header": FOUNDATIONS,
    "statex.foreign": FOUNDATIONS,
    "statex.garbage": FOUNDATIONS,
    "statex.record": FOUNDATIONS,
    "statex.strides": FOUNDATIONS,
    "statex.progress": FOUNDATIONS,
    "statex.torch_dtypes": FOUNDATIONS,
    "statex.nesting": FOUNDATIONS,
    "statex.paths": FOUNDATIONS,
    "statex.pickled_modules": FOUNDATIONS,
    "statex.rebuilding": FOUNDATIONS,
    "statex.roots": FOUNDATIONS,
    "statex.rulefiles": FOUNDATIONS,
    "statex.sizes": FOUNDATIONS,
    "statex.surroundings": FOUNDATIONS,
    "statex.version": FOUNDATIONS,
    "statex.text_file": FOUNDATIONS,
    "statex.yaml_places": FOUNDATIONS,
    "statex.yaml_text": FOUNDATIONS,
    "statex.diagnostics": FOUNDATIONS,
    "statex.grammar": "grammar",
    "statex.dsl": "dsl",
    "statex.checkpoint": "checkpoint",
    "statex.execute": "execute",
    "statex.paramfiles": "session",
    "statex.session": "session",
    "statex.recipe": "recipe",
    "statex.migrating": "migrating",
    "statex.api": "api",
    "statex.embedding": "api",
    "statex": "api",
    "statex.cli": "cli",
    "statex.__main__": "main",
}
"""The room of a module, by itself or by the package it is in; of `statex` itself only `__init__`."""


@dataclass(frozen=True)
class Room:
    """What the modules of a room may import beside the standard library and their own room."""

    rooms: frozenset[str] = frozenset()
    libraries: frozenset[str] = frozenset()


def room(rooms: str = "", libraries: str = "") -> Room:
    """Return a room from names separated by blanks."""
    return Room(frozenset(rooms.split()), frozenset(libraries.split()))


ALLOWED = {
    FOUNDATIONS: room(libraries="yaml"),
    "grammar": room(FOUNDATIONS, "lark"),
    "dsl": room(f"{FOUNDATIONS} grammar", "regex einops"),
    "checkpoint": room(FOUNDATIONS, "torch numpy isal"),
    "execute": room(f"{FOUNDATIONS} grammar dsl checkpoint", "torch numpy"),
    "session": room(f"{FOUNDATIONS} grammar dsl checkpoint execute", "torch yaml msgspec"),
    "recipe": room(f"{FOUNDATIONS} grammar dsl session", "msgspec yaml"),
    "migrating": room(f"{FOUNDATIONS} grammar dsl checkpoint execute session", "torch"),
    "api": room(f"{FOUNDATIONS} grammar dsl checkpoint execute session migrating", "torch"),
    "cli": room(f"{FOUNDATIONS} grammar dsl checkpoint execute session recipe migrating api", "typer yaml torch"),
    "main": room("cli"),
}
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
    if name in ROOMS:
        return ROOMS[name]
    parent = name.rpartition(".")[0]
    return room_of(parent) if parent and parent != "statex" else None


def violations(name: str, source: str) -> list[str]:
    """Return what is wrong with the imports of a module."""
    own = room_of(name)
    if own is None:
        return [f"{name} is in no room: give it one in ROOMS"]
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
    assert set(ROOMS.values()) == set(order)


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("statex.source", "import statex"),
        ("statex.source", "import lark"),
        ("statex.diagnostics.render", "from statex.grammar import tree"),
        ("statex.diagnostics.render", "from statex import api"),
        ("statex.grammar.parser", "from statex.dsl.plan import Plan"),
        ("statex.grammar.parser", "import regex"),
        ("statex.dsl.plan", "def f():\n    import torch"),
        ("statex.dsl.plan", "def f():\n    from statex.checkpoint import Reader"),
        ("statex.dsl.plan", "import lark"),
        ("statex.dsl.plan", "import yaml"),
        ("statex.dsl.plan", "from . import graph"),
        ("statex.dsl.ops.cat", "from ..graph import Graph"),
        ("statex.checkpoint.pth", "from statex.dsl.plan import Plan"),
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
        ("statex.source", "import os.path\nfrom collections.abc import Mapping"),
        ("statex.header", "from statex.dtypes import DType"),
        ("statex.dsl.plan", "from statex.grammar import tree\nfrom statex.source import Span\nimport regex"),
        ("statex.checkpoint.pth", "def f():\n    import torch"),
        ("statex.execute.live", "if TYPE_CHECKING:\n    import torch"),
        ("statex.checkpoint.crc", "from isal import isal_zlib"),
        ("statex.cli.app", "import statex\nfrom statex.api import Rules\nimport typer"),
        ("statex.__main__", "from statex.cli import main"),
    ],
)
def test_a_right_import_is_let_pass(name: str, source: str) -> None:
    assert violations(name, source) == []


@pytest.mark.parametrize("module", ["statex", "statex.cli"])
def test_importing_is_light(module: str) -> None:
    loaded = "import sys; print(*sorted(m for m in sys.modules if '.' not in m))"
    done = subprocess.run([sys.executable, "-c", f"import {module}; {loaded}"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert not set(done.stdout.split()) & {"torch", "numpy", "transformers", "yaml", "msgspec"}
