"""Formats say of themselves what others ask: nobody compares their names, or looks something up by them."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest

from statex.checkpoint.formats.base import Format
from statex.checkpoint.formats.registry import FORMATS, written_formats
from statex.recipe import declaration, model

PACKAGE = Path(__file__).parents[3] / "statex"
NAMES = {one.name for one in FORMATS}
OWN = PACKAGE / "checkpoint" / "formats"
FILES = [path for path in sorted(PACKAGE.rglob("*.py")) if OWN not in path.parents]


def compared(source: str) -> Iterator[int]:
    """Yield the lines in which something that is called a format is compared with a name, or looked up by one."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
            if any(map(_has_name, sides)) and any("format" in ast.unparse(side) for side in sides):
                yield node.lineno
        if isinstance(node, ast.Dict) and sum(map(_is_name, node.keys)) > 1:
            yield node.lineno


def _has_name(node: ast.expr) -> bool:
    return any(_is_name(inner) for inner in ast.walk(node))


def _is_name(node: ast.AST | None) -> bool:
    return isinstance(node, ast.Constant) and type(node.value) is str and node.value in NAMES


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_format_is_told_by_its_name(path: Path) -> None:
    assert list(compared(path.read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize(
    "source",
    [
        'if format == "torch": pass',
        'x = options.format in ("torch", "dcp")',
        'x = "dcp" in (format, *others)',
        'NAMES = {"safetensors": 1, "dcp": 2}',
        'x = {format, written} != {"torch"}',
    ],
)
def test_a_comparison_is_found(source: str) -> None:
    assert list(compared(source)) == [1]


def test_recipes_know_the_formats() -> None:
    written = {one.name for one in written_formats()}
    assert set(get_args(model.Format)) == written
    assert set(get_args(get_args(declaration.Format)[0])) == written


def test_names_are_unique_and_so_are_endings() -> None:
    assert len(NAMES) == len(FORMATS)
    suffixes = [suffix for one in FORMATS for suffix in one.suffixes]
    assert len(set(suffixes)) == len(suffixes)


@pytest.mark.parametrize("format", FORMATS, ids=lambda one: one.name)
def test_a_format_has_the_methods_that_its_flags_promise(format: Format) -> None:
    def own(name: str) -> bool:
        return getattr(type(format), name) is not getattr(Format, name)

    assert own("sniff") is own("open")
    assert own("sniff_folder") is own("open_folder") is format.is_folder
    assert own("open") or own("open_folder")
    assert own("arrange") is format.is_written
    assert (own("file") or own("layout")) is format.is_written
    assert not format.has_sets or own("file")
