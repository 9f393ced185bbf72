"""ARCHITECTURE.md says what is: the drawing of the rooms, the way of a key, and the paths it names."""

from __future__ import annotations

import ast
import re
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from safetensors.torch import load_file, save_file

import statex
from tests.test_layering import ALLOWED, FILES, imports, room_of

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")


def block(kind: str) -> list[str]:
    """Return the lines of the one block of this kind in the document."""
    (found,) = re.findall(rf"```{kind}\n(.*?)```", TEXT, re.DOTALL)
    return str(found).splitlines()


def arrows() -> dict[str, set[str]]:
    """Return which rooms import which, in any way."""
    found: dict[str, set[str]] = {room: set() for room in ALLOWED}
    for name, path in FILES.items():
        own = room_of(name)
        assert own is not None
        for one in imports(ast.parse(path.read_text(encoding="utf-8"))):
            # What is no module is a name in one.
            other = room_of(one.name if one.name in FILES else one.name.rpartition(".")[0])
            if one.name.partition(".")[0] == "statex" and other is not None and other != own:
                found[own].add(other)
    return found


def reached(room: str, graph: dict[str, set[str]]) -> set[str]:
    return graph[room].union(*(reached(other, graph) for other in graph[room]))


def test_the_drawing_is_that_of_the_imports() -> None:
    graph = arrows()
    needed = {
        (room, other)
        for room, others in graph.items()
        for other in others
        if not any(other in reached(between, graph) for between in others - {other})
    }
    drawn = {tuple(line.strip().split(" --> ")) for line in block("mermaid") if "-->" in line}
    assert drawn == needed


def test_every_path_is_there() -> None:
    for path in re.findall(r"`([a-z_./]+(?:\.py|\.sx|\.lark|\.md|\.txt|/))`", TEXT):
        places = (ROOT / path, ROOT / "statex" / path, *(ROOT / "statex").rglob(path.rstrip("/")))
        assert any(place.exists() for place in places), path
    described = set(re.findall(r"(?m)^\| `([a-z]+)`", TEXT)) | {"api", "cli", "main"}
    assert described == set(ALLOWED)


def forms_of(value: Any) -> Iterator[str]:
    """Yield what a value, or an item of it, is called if it describes a tensor of a state: whether it has gradients."""
    inside = value.values() if type(value) is dict else value if type(value) in (list, tuple) else ()
    for one in (value, *inside):
        if type(one).__module__.startswith("statex.") and hasattr(one, "requires_grad"):
            yield type(one).__name__


def test_the_way_of_a_key(tmp_path: Path) -> None:
    source, target = tmp_path / "in.safetensors", tmp_path / "out.safetensors"
    save_file({"model.w": torch.ones(3), "b": torch.ones(2)}, source)
    statex.convert(source, target, "rename model.{m:**} -> transformer.{m}")
    met: dict[str, None] = {}
    forms: set[str] = set()

    def look(frame: FrameType, event: str, result: Any) -> None:
        file = Path(frame.f_code.co_filename)
        if event == "return" and ROOT / "statex" in file.parents:
            here = [*frame.f_locals.values(), result]
            if any(type(value) is str and value in ("model.w", "transformer.w") for value in here):
                met[file.relative_to(ROOT / "statex").as_posix()] = None
            forms.update(form for value in here for form in forms_of(value))

    threading.setprofile(look)
    sys.setprofile(look)
    try:
        statex.convert(source, target, "rename model.{m:**} -> transformer.{m}", force=True)
    finally:
        sys.setprofile(None)
        threading.setprofile(None)  # type: ignore[arg-type]
    assert set(load_file(target)) == {"transformer.w", "b"}
    assert set(met) == set(block("trace"))
    assert len(block("trace")) <= 30
    (said,) = re.findall(r"Its tensor has three forms: (.*?)\n\n", TEXT, re.DOTALL)
    assert len(forms) == 3
    assert forms <= set(re.findall(r"`(\w+)`", said))
