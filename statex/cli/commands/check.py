"""`statex check`."""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from typing import TYPE_CHECKING, Annotated

import typer

from statex.cli import options
from statex.cli.groups import grouped
from statex.cli.output import escape, print_diagnostics, print_json
from statex.diagnostics import Diagnostic
from statex.diagnostics.amounts import counted
from statex.diagnostics.render import to_json

if TYPE_CHECKING:
    from statex.session.request import Request


@grouped
def check(
    ctx: typer.Context,
    paths: Annotated[
        list[str] | None,
        typer.Argument(metavar="[RULES…] [IN] | RECIPE", help="Rule files and checkpoint, or a recipe."),
    ] = None,
    *,
    program: options.ProgramOptions,
    aim: options.Aim,
    running: options.Running,
    saying: options.Saying,
) -> None:
    """Check rules or a recipe, and write nothing.

    For rules, this checks syntax and names (unused names are warnings). If IN is given, it also checks keys and shapes,
    and the result against a target.

    \b
    statex check rules.sx
    statex check rules.sx in.safetensors --target mypkg.models:MyModel
    statex check recipe.yaml
    """
    from statex.cli import requests
    from statex.session.session import check as check_rules
    from statex.session.warnings import judged

    found = requests.arguments(ctx, ["IN"], recipes=True, optional=1)
    if found.recipe is not None:
        from statex.cli.recipes import check_recipe

        check_recipe(found.recipe, program, aim, running, saying)
        return
    requests.refuse_running(running)
    source = found.paths[0] if found.paths else None
    given = (program.definitions, program.params, program.inputs, aim.target, aim.like)
    if source is None and (any(given) or program.root is not None):
        raise typer.BadParameter(
            "parameters, inputs, targets and roots are checked against a checkpoint: name IN as well"
        )
    policy = requests.warnings(saying.warnings)
    wanted = requests.request(found.rules, source, program, aim)
    if source is None:
        found_in = check_rules(wanted).warnings
    else:
        with redirect_stdout(sys.stderr):
            found_in = _warnings(wanted)
    warnings = judged(found_in, policy)
    if saying.json:
        print_json({"ok": True, "warnings": [to_json(w) for w in warnings]})
        return
    print_diagnostics(warnings, concise=saying.concise)
    if not saying.quiet:
        against = f" for {escape(source)}" if source is not None else ""
        count = sum(len(part.program.statements) for part in wanted.parts)
        typer.echo(f"{counted(count, 'statement')}: no errors{against}")


def _warnings(wanted: Request) -> tuple[Diagnostic, ...]:
    from statex.session.session import Session

    with Session(wanted) as session:
        session.whole.check_target()
        return session.priced().warnings
