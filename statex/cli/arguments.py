"""The arguments of a command in the order they were given: rule files, single rules, paths."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import typer

from statex.core.source import ENDING, LIBRARY

RULE_OPTION = "-e"
RECIPES = (".yaml", ".yml")
ORDER = "statex.order"
"""The name under which a command finds its arguments in the context of the program that reads them."""


@dataclass(frozen=True)
class CommandArgument:
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


@dataclass(frozen=True)
class _Token:
    """A text of a command line: the option that it ends with (empty: none), and that one's value if it takes any.

    `texts` are the one or two texts that it is written as; `after_dashes` is true for those after `--`.
    """

    texts: tuple[str, ...]
    option: str = ""
    value: str | None = None
    after_dashes: bool = False


def in_order(arguments: Sequence[str], parameters: Sequence[Any]) -> list[CommandArgument]:
    """Return the paths and the rules of a command line, in their order; `parameters` are those of the command."""
    found = []
    for token in _tokens(arguments, _takes(parameters)):
        if not token.option:
            found.append(CommandArgument(token.texts[0], after_dashes=token.after_dashes))
        elif token.option == RULE_OPTION and token.value is not None:
            found.append(CommandArgument(token.value, is_rule=True))
    return found


def check_filled(found: Sequence[CommandArgument]) -> None:
    """Refuse empty arguments, which as paths would be the current folder.

    Raises:
        BadParameter: for the first of them.
    """
    for place, one in enumerate([one for one in found if not one.is_rule], 1):
        if not one.text:
            raise typer.BadParameter(f"argument {place} is empty, as of a variable that is not set")


def separated(arguments: Sequence[str], parameters: Sequence[Any]) -> list[str]:
    """Return a command line in which no value of a short option begins with `=`: `-e=RULE` means `-eRULE`.

    No rule and no value that a short option takes begins with `=`, and who writes one there means what follows it.
    """
    found: list[str] = []
    dashes = False
    for token in _tokens(arguments, _takes(parameters)):
        if token.after_dashes and not dashes:
            dashes = True
            found.append("--")
        (text, *further) = token.texts
        glued = token.value is not None and not further and not text.startswith("--")
        if glued and token.value is not None and token.value.startswith("="):
            found += [text.removesuffix(token.value), token.value[1:]]
        else:
            found += [text, *further]
    return found


def _takes(parameters: Sequence[Any]) -> dict[str, bool]:
    """Return the options of a command, each true if it takes a value."""
    return {
        name: not getattr(parameter, "is_flag", False)
        for parameter in parameters
        for name in (*parameter.opts, *parameter.secondary_opts)
        if name.startswith("-")
    }


def _tokens(arguments: Sequence[str], takes: Mapping[str, bool]) -> Iterator[_Token]:
    texts = iter(arguments)
    for text in texts:
        if text == "--":
            yield from (_Token((one,), after_dashes=True) for one in texts)
        elif not text.startswith("-") or text == "-":
            yield _Token((text,))
        else:
            name, value = _option(text, takes)
            follows = next(texts, None) if value is None and takes.get(name, False) else None
            yield _Token((text,) if follows is None else (text, follows), name, value if follows is None else follows)


def _option(text: str, takes: Mapping[str, bool]) -> tuple[str, str | None]:
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

    rules: tuple[CommandArgument, ...]
    recipe: str | None
    paths: tuple[str, ...]


def divided(
    found: Sequence[CommandArgument], names: Sequence[str], *, recipes: bool = False, optional: int = 0
) -> Divided:
    """Return the arguments by what they are; `names` are what paths are called in usage errors.

    The last `optional` of these may be missing. If there are neither rule files nor single rules, the first path is
    the rule file, whatever its name.
    """
    paths = [one for one in found if not one.is_rule]
    single = len(paths) < len(found)
    leading = next((place for place, one in enumerate(paths) if not one.names_rules), len(paths))
    files, rest = paths[:leading], paths[leading:]
    if rest and rest[0].names_recipe:
        return _with_recipe(found, files, rest, recipes)
    sure = bool(files)
    if not files and not single:
        files, rest = rest[:1], rest[1:]
    if (not files and not single) or not len(names) - optional <= len(rest) <= len(names):
        shown = [f"[{name}]" if place >= len(names) - optional else name for place, name in enumerate(names)]
        _wrong_number(rest if sure else paths, " ".join(shown), files=sure, single=single)
    rules = tuple(one for one in found if one.is_rule or any(one is file for file in files))
    return Divided(rules, None, tuple(one.text for one in rest))


def _with_recipe(
    found: Sequence[CommandArgument], files: Sequence[CommandArgument], rest: Sequence[CommandArgument], recipes: bool
) -> Divided:
    name = rest[0].text
    if not recipes:
        raise typer.BadParameter(f"`{name}` is a recipe: it is carried out by `statex run {name}`")
    if files or len(rest) > 1 or any(one.is_rule for one in found):
        raise typer.BadParameter(f"the recipe `{name}` says all there is to do, and stands alone")
    return Divided((), name, ())


def _wrong_number(paths: Sequence[CommandArgument], takes: str, *, files: bool, single: bool) -> None:
    were = "1 path was" if len(paths) == 1 else f"{len(paths)} paths were"
    if files:
        said = f"{were} given; after the rule files this takes {takes}"
    elif single:
        said = f"{were} given; beside -e this takes {takes}"
    else:
        said = f"{were} given; this takes RULES {takes}, or beside -e: {takes}"
    late = next((one.text for one in paths[1:] if one.names_rules), None)
    if late is not None:
        said += f". Rule files come first, and their names end in {ENDING}: `{late}` stands after `{paths[0].text}`"
    raise typer.BadParameter(said)
