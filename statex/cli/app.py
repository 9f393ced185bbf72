"""The program `statex`: its commands, and how errors end it."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable
from contextlib import redirect_stderr
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from statex.cli import completes
from statex.cli.command import CommandGroup, Commands, Load
from statex.cli.output import report_error, report_usage
from statex.cli.signals import heard
from statex.diagnostics import StatexError, fail
from statex.diagnostics.codes import files as codes

app = typer.Typer(
    name="statex",
    cls=CommandGroup,
    help="Change PyTorch checkpoints by rules that are checked before any data is read and verified afterwards.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


class _ReaderGoneError(Exception):
    """The reader of our output has gone."""


def _printing(command: Callable[..., None]) -> Callable[..., None]:
    """Return a command that raises exceptions of its own if its output cannot be printed."""

    @functools.wraps(command)
    def run(*arguments: Any, **named: Any) -> None:
        try:
            command(*arguments, **named)
            sys.stdout.flush()
        except BrokenPipeError:
            raise _ReaderGoneError from None
        except OSError as error:
            # What commands do with files raises StatexError.
            _drop_output()
            fail(codes.UNWRITABLE, f"the report cannot be printed: {error.strerror or error}")

    return run


def _from_module(name: str) -> Load:
    """Return what gives a command's function, which has the name of its module."""
    return lambda: _printing(getattr(import_module(f"statex.cli.commands.{name}"), name))


CommandGroup.summaries = {
    "apply": "Convert a checkpoint.",
    "run": "Carry out a recipe.",
    "plan": "Show what rules or a recipe would do.",
    "invert": "Write the rules that undo rules.",
    "check": "Check rules or a recipe, and write nothing.",
    "fmt": "Format rule files.",
    "migrate": "Take a checkpoint through a chain of migrations.",
    "migrate new": "Start the next step of a chain of migrations.",
    "verify": "Compare a checkpoint with a model or another checkpoint.",
    "diff": "Compare the keys, types and values of two checkpoints.",
    "infer": "Find the rules that make one checkpoint of another.",
    "show": "Show the keys, dtypes, shapes and sizes of a checkpoint.",
    "schema": "Print the JSON Schema of recipes, for editors that read YAML.",
    "ops": "List the operations of the language, or explain one.",
    "explain": "Explain the code of a message, or list all codes.",
}
Commands.names = {name: _from_module(name.replace(" ", "_")) for name in CommandGroup.summaries}


def _version(wanted: bool) -> None:
    if wanted:
        from statex import __version__

        typer.echo(f"statex {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    pass


def run(arguments: list[str]) -> None:
    """Run a command and end the process with its exit code."""
    if completes():
        _complete(arguments)
    as_json, concise = "--json" in arguments, "--concise" in arguments
    try:
        with heard():
            result = app(arguments, standalone_mode=False)
        sys.exit(result)
    except StatexError as error:
        report_error(error, as_json=as_json, concise=concise)
        sys.exit(error.exit_code)
    except _ReaderGoneError:
        _drop_output()
        sys.exit(141)
    except Exception as error:
        # Usage errors are of click's own classes, which typer gives no names to.
        if not hasattr(error, "format_message"):
            raise
        report_usage(error, as_json=as_json)
        sys.exit(2)


def _complete(arguments: list[str]) -> NoReturn:
    """Answer a shell; what goes wrong says nothing, as it would stand in the midst of what somebody types."""
    with Path(os.devnull).open("w") as nowhere, redirect_stderr(nowhere):
        try:
            app(arguments, standalone_mode=False)
        except Exception:
            sys.exit(1)
    sys.exit(0)


def _drop_output() -> None:
    """Let what is left in the buffer go nowhere: it cannot be written when the process ends either."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
