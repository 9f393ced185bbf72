"""`statex run`."""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from typing import Annotated

import typer

from statex.cli import options, progress
from statex.cli.arguments import CommandArgument
from statex.cli.groups import grouped


@grouped
def run(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="The recipe, a YAML file.")],
    *,
    definitions: options.Definitions = None,
    params: options.ParamFiles = None,
    inputs: options.Inputs = None,
    include_path: options.IncludePath = None,
    running: options.Running,
    force: Annotated[
        bool, typer.Option("--force", help="Run even if nothing has changed, and replace existing outputs.")
    ] = False,
    if_changed: Annotated[
        bool, typer.Option("--if-changed", help="Do nothing if nothing has changed since the last report.")
    ] = False,
    rehash: Annotated[
        bool, typer.Option("--rehash", help="Read all files again to tell whether they have changed.")
    ] = False,
    dry_run: options.DryRun = False,
    events: options.ProgressEvents = None,
    saying: options.Saying,
) -> None:
    """Carry out a recipe. All its outputs and its report appear together, whole and verified, or not at all.

    \b
    statex run recipe.yaml
    statex run recipe.yaml -D classes=10 --in main=other.pth --out full=elsewhere/
    """
    if CommandArgument(recipe).names_rules:
        raise typer.BadParameter(f"`{recipe}` is a rule file: it is applied by `statex apply {recipe} IN OUT`")
    from statex.cli.recipes import recipe_request
    from statex.cli.results import say_done
    from statex.session.conversion import carry_out

    program = options.ProgramOptions(None, definitions, params, inputs, include_path=include_path)
    wanted = recipe_request(
        recipe, program, running, saying, force=force, skip=if_changed or None, rehash=rehash, dry_run=dry_run
    )
    with progress.shown(saying, events) as shown, redirect_stdout(sys.stderr):
        done = carry_out(wanted, shown)
    say_done(wanted, done, saying)
