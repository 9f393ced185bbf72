"""Reads and checks a recipe: from a file or a text to values with their places."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from msgspec import ValidationError, convert

from statex.core.source import Source, Span
from statex.core.text_file import Unreadable, read_text_file
from statex.core.yaml_text import BadYaml, Fields, Limits, Node, parse_yaml, plain
from statex.diagnostics import StatexError, diagnostic, fail
from statex.diagnostics.codes import recipes as codes
from statex.recipe import declaration
from statex.recipe.build import ONLY, RecipeBuilder
from statex.recipe.check import check
from statex.recipe.model import Recipe

LARGEST = 1 << 20
"""Bytes; larger recipes are not read."""
_LIMITS = Limits(LARGEST, 20_000)


def read_recipe(path: str | os.PathLike[str]) -> Recipe:
    """Return the recipe of a file. Nothing that it names is opened.

    Raises:
        StatexError: SX706 if the file cannot be read, is not a regular one or has more than 1 MiB; else those of
            `parse_recipe`.
    """
    name = Path(path).as_posix()
    try:
        text = read_text_file(Path(path), LARGEST)
    except Unreadable as error:
        fail(codes.RECIPE_UNREADABLE, f"the recipe `{name}` {error}")
    return parse_recipe(Source(name, text))


def parse_recipe(source: Source) -> Recipe:
    """Return the recipe that a text is.

    Raises:
        StatexError: SX701 or SX703 for the first thing that is not plain YAML; SX702, SX704, SX705 and SX707, every
            error of the values, up to twenty.
    """
    node = _parsed(source)
    if problems := check(source, node):
        raise StatexError(problems)
    assert isinstance(node, Fields), "a recipe that is right is a mapping"
    value = _converted(node, source)
    return RecipeBuilder(source).recipe(value, node)


def _parsed(source: Source) -> Node:
    try:
        return parse_yaml(source.text, _LIMITS)
    except BadYaml as error:
        at = Span(source, error.start, error.end)
        code, also = codes.BAD_YAML, []
        if error.duplicate is not None:
            code, also = codes.DUPLICATE_KEY, [(Span(source, *error.duplicate), "given here first")]
        raise StatexError([diagnostic(code, error.what, at, also=also, help=error.help or ())]) from None


def _converted(node: Fields, source: Source) -> declaration.Recipe:
    """Return the declared value; what msgspec refuses beyond what was told of is an error all the same."""
    value: dict[str, Any] = plain(node)
    outputs = value["outputs"]
    if isinstance(outputs, dict) and declaration.is_one_output(outputs):
        value["outputs"] = {ONLY: outputs}
    try:
        return convert(value, declaration.Recipe)
    except ValidationError as error:
        fail(codes.WRONG_VALUE, str(error), Span(source, node.start, node.start + 1))
