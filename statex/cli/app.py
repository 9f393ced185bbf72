"""The program `statex`: its commands, and how errors end it."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from statex.cli.commands.apply import apply
from statex.cli.commands.check import check
from statex.cli.commands.explain import explain
from statex.cli.commands.ops import ops
from statex.cli.commands.plan import plan
from statex.cli.commands.show import show
from statex.cli.commands.verify import verify
from statex.cli.output import report_error
from statex.diagnostics import StatexError

app = typer.Typer(
    name="statex",
    help="Change PyTorch checkpoints by rules that are checked before any data is read, and verified after.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
for command in (apply, plan, check, verify, show, ops, explain):
    app.command()(command)


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
    try:
        app(arguments, standalone_mode=True)
    except StatexError as error:
        report_error(error, as_json="--json" in arguments)
        sys.exit(error.exit_code)
    except BrokenPipeError:
        # The reader of our output has gone; what is left in the buffer cannot be written either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
