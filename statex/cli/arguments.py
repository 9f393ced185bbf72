"""The arguments of a command in the order they were given: rule files, single rules, paths."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import typer

from statex.rulefiles import ENDING, LIBRARY

RULE_OPTION = "-e"
RECIPES = (".yaml", ".yml")
ORDER = "statex.order"
"""The name under which a command finds its arguments in the context of the program that reads them."""


@dataclass(frozen=True)
class Argument:
    """An argument: a rule given by `-e`, or a path; `after_dashes` is true for those after `--`."""

    text: str
    is_rule: bool = False
    after_dashes: bool = False

    @property
    def names_rules(self) -> bool:
        """True for what can only be a rule file."""
        return not self.after_dashes and (self.text.endswith(ENDING) or self.text.startswith(LIBRARY))

    @property
    def names_recipe(self) -> bool:
        """True for what can only be a recipe."""
        return not self.is_rule and not self.after_dashes and self.text.lower().endswith(RECIPES)


def in_order(arguments: Sequence[str], parameters: Sequence[Any]) -> list[Argument]:
    """Return the paths and the rules of a command line, in their order; `parameters` are those of the command."""
    takes = {
        name: not getattr(parameter, "is_flag", False)
        for parameter in parameters
        for name in (*parameter.opts, *parameter.secondary_opts)
        if name.startswith("-")
    }
    return list(_read(list(arguments), takes))


def _read(rest: list[str], takes: dict[str, bool]) -> Iterator[Argument]:
    while rest:
        text = rest.pop(0)
        if text == "--":
            yield from (Argument(one, after_dashes=True) for one in rest)
            return
        if not text.startswith("-") or text == "-":
            yield Argument(text)
            continue
        name, value = _option(text, takes)
        if value is None and takes.get(name, False):
            value = rest.pop(0) if rest else None
        if name == RULE_OPTION and value is not None:
            yield Argument(value, is_rule=True)


def _option(text: str, takes: dict[str, bool]) -> tuple[str, str | None]:
    """Return the option that a text ends with, and its value if that stands in the same text."""
    if text.startswith("--"):
        name, equals, value = text.partition("=")
        return name, value if equals else None
    for place, letter in enumerate(text[1:], 1):
        if takes.get(f"-{letter}", False):
            return f"-{letter}", text[place + 1 :] or None
    return text, None


@dataclass(frozen=True)
class Divided:
    """The arguments of a command by what they are: rules in their order, a recipe, and the paths after them."""

    rules: tuple[Argument, ...]
    recipe: str | None
    paths: tuple[str, ...]


def divided(found: Sequence[Argument], names: Sequence[str], *, recipes: bool = False, optional: int = 0) -> Divided:
    """Return the arguments by what they are; `names` are what paths are called in usage errors.

    The last `optional` of these may be missing. Where there are neither rule files nor single rules, the first path is
    the rule file, whatever its name.
    """
    paths = [one for one in found if not one.is_rule]
    leading = 0
    while leading < len(paths) and paths[leading].names_rules:
        leading += 1
    files, rest = paths[:leading], paths[leading:]
    if rest and rest[0].names_recipe:
        return _with_recipe(found, files, rest, recipes)
    if not files and not any(one.is_rule for one in found) and rest:
        files, rest = rest[:1], rest[1:]
    if not len(names) - optional <= len(rest) <= len(names) or not (files or any(one.is_rule for one in found)):
        shown = [f"[{name}]" if place >= len(names) - optional else name for place, name in enumerate(names)]
        _wrong_number(len(paths), shown, any(one.is_rule for one in found))
    rules = tuple(one for one in found if one.is_rule or any(one is file for file in files))
    return Divided(rules, None, tuple(one.text for one in rest))


def _with_recipe(
    found: Sequence[Argument], files: Sequence[Argument], rest: Sequence[Argument], recipes: bool
) -> Divided:
    name = rest[0].text
    if not recipes:
        raise typer.BadParameter(f"`{name}` is a recipe: it is carried out by `statex run {name}`")
    if files or len(rest) > 1 or any(one.is_rule for one in found):
        raise typer.BadParameter(f"the recipe `{name}` says all there is to do, and stands alone")
    return Divided((), name, ())


def _wrong_number(count: int, names: Sequence[str], with_rules: bool) -> None:
    beside = " ".join(names)
    takes = f"beside -e this takes {beside}" if with_rules else f"this takes RULES {beside}, or beside -e: {beside}"
    were = "1 path was" if count == 1 else f"{count} paths were"
    raise typer.BadParameter(f"{were} given; {takes}")
