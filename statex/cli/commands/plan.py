"""`statex plan`."""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from statex.cli import options
from statex.cli.groups import grouped
from statex.cli.output import print_diagnostics, print_json, room

if TYPE_CHECKING:
    from statex.checkpoint.blobs.write_plan import WritePlan
    from statex.dsl.plan.plan import Plan


@grouped
def plan(
    ctx: typer.Context,
    paths: Annotated[
        list[str] | None, typer.Argument(metavar="[RULES…] IN | RECIPE", help="Rule files and checkpoint, or a recipe.")
    ] = None,
    *,
    program: options.ProgramOptions,
    aim: options.Aim,
    format: options.Format = None,
    keys: Annotated[
        bool, typer.Option("--keys", help="List keys, and the fate of every tensor; numbered keys are one line.")
    ] = False,
    every: Annotated[bool, typer.Option("--all", help="The same, with each key on a line of its own.")] = False,
    layout: Annotated[
        bool, typer.Option("--layout", help="Show which bytes would go where in the output files.")
    ] = False,
    lossless: Annotated[
        bool,
        typer.Option(
            "--lossless", help="Say which tensors could be had back from the result, and what loses the others."
        ),
    ] = False,
    running: options.Running,
    saying: options.Saying,
) -> None:
    """Show what rules or a recipe would do. No tensor is read.

    For a recipe, this also lists all files that it reads and writes. --layout shows its outputs; for rules, it shows a
    single file named after IN. With --lossless the exit code is 1 if a
    tensor cannot be recovered.

    \b
    statex plan rules.sx in.safetensors
    statex plan rules.sx in.pth --keys --target mypkg.models:MyModel
    statex plan recipe.yaml
    """
    from statex.checkpoint import known_format
    from statex.cli import requests
    from statex.session.session import Session
    from statex.session.warnings import judged

    found = requests.arguments(ctx, ["IN"], recipes=True)
    if found.recipe is not None:
        if lossless:
            raise typer.BadParameter(
                "`--lossless` takes rules and a checkpoint, and no recipe", param_hint="--lossless"
            )
        from statex.cli.recipes import plan_recipe

        plan_recipe(
            found.recipe,
            program,
            aim,
            running,
            saying,
            format=format,
            keys=keys or every,
            fold=not every,
            layout=layout,
        )
        return
    requests.refuse_running(running)
    policy = requests.warnings(saying.warnings)
    (source,) = found.paths
    wanted = requests.request(found.rules, source, program, aim)
    with redirect_stdout(sys.stderr), Session(wanted) as session:
        session.whole.check_target()
        wanted_format = known_format(format) if format is not None else None
        planned = session.priced(wanted_format)
        laid_out = session.layout(wanted_format) if layout else None
    planned = replace(planned, warnings=judged(planned.warnings, policy))
    if lossless:
        say_lossless(planned, saying)
        return
    say_plan(planned, saying, keys=keys or every, fold=not every, layout=laid_out)


def say_lossless(planned: Plan, saying: options.Saying) -> None:
    """Print what comes back of a plan; the exit code says whether all of it does."""
    from statex.inverse.losses import lossless, lossless_lines

    found = lossless(planned)
    if saying.json:
        print_json({"ok": found.is_lossless, **found.to_dict()})
    else:
        print_diagnostics(planned.warnings, concise=saying.concise)
        for line in lossless_lines(found) if not saying.quiet else ():
            typer.echo(line)
    if not found.is_lossless:
        raise typer.Exit(1)


def say_plan(planned: Plan, saying: options.Saying, *, keys: bool, fold: bool, layout: WritePlan | None = None) -> None:
    """Print a plan, and what its output will be."""
    from statex.dsl.plan.data import plan_data
    from statex.dsl.plan.text import plan_lines

    if saying.json:
        print_json(plan_data(planned) | ({"layout": layout.to_data()} if layout is not None else {}))
        return
    print_diagnostics(planned.warnings, concise=saying.concise)
    if not saying.quiet:
        for line in plan_lines(planned, keys=keys, fold=fold, room=room()):
            typer.echo(line)
    if layout is not None and not saying.quiet:
        from statex.cli.layouts import layout_lines

        for line in layout_lines(planned.header.label, layout, room()):
            typer.echo(line)
