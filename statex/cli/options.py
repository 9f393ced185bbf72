"""Options that several commands share, and what they mean."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Annotated, Any

import typer

import statex
from statex.api import Rules
from statex.dsl.parameters import Given, from_text
from statex.paramfiles import read_params
from statex.sizes import parse_size
from statex.subject import resolve_target

Expressions = Annotated[
    list[str] | None,
    typer.Option("-e", metavar="RULE", help="A statement, instead of a rule file; may be given several times."),
]
Definitions = Annotated[
    list[str] | None,
    typer.Option("-D", metavar="NAME=VALUE", help="The value of a parameter; may be given several times."),
]
ParamFiles = Annotated[
    list[Path] | None,
    typer.Option("--params", metavar="FILE", help="Values of parameters: JSON or YAML, such as a config.json."),
]
Inputs = Annotated[
    list[str] | None,
    typer.Option("--in", metavar="NAME=PATH", help="A further input; a family is given several times."),
]
TargetSpec = Annotated[
    str | None,
    typer.Option("--target", metavar="MODULE:CALLABLE", help="The model the result has to fit. Its code is run."),
]
TargetArguments = Annotated[
    list[str] | None,
    typer.Option("--target-arg", metavar="NAME=VALUE", help="An argument of the target's callable."),
]
Like = Annotated[
    Path | None,
    typer.Option("--like", metavar="FILE", help="A checkpoint whose keys, shapes and dtypes the result has to have."),
]
Format = Annotated[str | None, typer.Option("--format", metavar="torch|safetensors|dcp", help="The output's format.")]
Root = Annotated[
    str | None,
    typer.Option("--root", metavar="PATH", help="The dotted path of the state in a nested checkpoint ('' the whole)."),
]
Json = Annotated[bool, typer.Option("--json", help="Print the report, and errors, as JSON.")]
Concise = Annotated[bool, typer.Option("--concise", help="Print each error and warning as one line.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but warnings and errors.")]

MaxMemory = Annotated[
    str | None, typer.Option("--max-memory", metavar="SIZE", help="Refuse to start where more may be used: 2GB, 500MB.")
]
ShardSize = Annotated[
    str | None, typer.Option("--shard-size", metavar="SIZE", help="Write a folder of files of at most this size.")
]


def size(text: str | None, option: str) -> int | None:
    """Return a number of bytes written as 5GB, 500 MB or 2GiB."""
    if text is None:
        return None
    found = parse_size(text)
    if found is None:
        raise typer.BadParameter(f"`{option}` takes a size such as 5GB, 500MB or 2GiB, and got `{text}`")
    return found


def rules_and_paths(
    paths: Sequence[str], expressions: Sequence[str] | None, names: Sequence[str]
) -> tuple[Rules, list[str]]:
    """Return the program and the paths after it; `names` are what the paths are called in usage errors."""
    wanted = [*names] if expressions else ["RULES", *names]
    if len(paths) != len(wanted):
        form, without = " ".join(wanted), " ".join(names) or "none"
        takes = f"beside -e this takes {without}" if expressions else f"this takes {form}, or beside -e: {without}"
        were = "1 path was" if len(paths) == 1 else f"{len(paths)} paths were"
        raise typer.BadParameter(f"{were} given; {takes}")
    if expressions:
        return statex.compile("\n".join(expressions), name="<-e>"), list(paths)
    return statex.load(paths[0]), list(paths[1:])


def pairs(given: Sequence[str] | None, option: str, form: str = "NAME=VALUE") -> list[tuple[str, str]]:
    """Split `NAME=VALUE` texts."""
    found = []
    for text in given or ():
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise typer.BadParameter(f"`{text}` is not of the form {form}", param_hint=option)
        found.append((name, value))
    return found


def parameters(definitions: Sequence[str] | None, files: Sequence[Path] | None) -> dict[str, Given]:
    """Return the values of parameters: of files, in order, and of `-D`, which wins."""
    given: dict[str, Given] = {}
    for path in files or ():
        given.update((n, Given(v, typed=True, lenient=True)) for n, v in read_params(path).items() if v is not None)
    given.update((name, Given(text)) for name, text in pairs(definitions, "-D"))
    return given


def inputs(given: Sequence[str] | None) -> dict[str, list[str]]:
    """Return the paths of further inputs by name."""
    found: dict[str, list[str]] = {}
    for name, path in pairs(given, "--in", "NAME=PATH"):
        found.setdefault(name, []).append(path)
    return found


def target(spec: str | None, arguments: Sequence[str] | None, like: Path | None) -> Any:
    """Return the target the options name, or `None`; what its code prints goes to standard error."""
    if spec is None and arguments:
        raise typer.BadParameter("there is no --target these would be arguments of", param_hint="--target-arg")
    given = {name: _python(from_text(text, None)) for name, text in pairs(arguments, "--target-arg")}
    with redirect_stdout(sys.stderr):
        return resolve_target(spec, like, given)


def _python(value: Any) -> Any:
    return [_python(item) for item in value] if isinstance(value, tuple) else value
