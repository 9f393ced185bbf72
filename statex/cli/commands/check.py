"""`statex check`."""

from __future__ import annotations

from typing import Annotated

import typer

from statex.cli import options
from statex.cli.output import escape, print_diagnostics, print_json
from statex.diagnostics import Diagnostic
from statex.diagnostics.amounts import counted
from statex.diagnostics.render import to_json


def check(
    paths: Annotated[list[str] | None, typer.Argument(metavar="[RULES] [IN]", help="Rule file, checkpoint.")] = None,
    expressions: options.Expressions = None,
    definitions: options.Definitions = None,
    params: options.ParamFiles = None,
    inputs: options.Inputs = None,
    target: options.TargetSpec = None,
    target_arg: options.TargetArguments = None,
    like: options.Like = None,
    root: options.Root = None,
    json: options.Json = False,
    concise: options.Concise = False,
    quiet: options.Quiet = False,
) -> None:
    """Check rules: syntax and names, and against a checkpoint and a target where they are given.

    \b
    statex check rules.sx
    statex check rules.sx in.safetensors --target mypkg.models:MyModel
    """
    given = list(paths or ())
    with_checkpoint = len(given) > (0 if expressions else 1)
    rules, rest = options.rules_and_paths(given, expressions, ["IN"] if with_checkpoint else [])
    if not with_checkpoint and (definitions or params or inputs or target or like or root is not None):
        raise typer.BadParameter(
            "parameters, inputs, targets and roots are checked against a checkpoint: name IN as well"
        )
    rules.check()
    warnings: tuple[Diagnostic, ...] = ()
    if with_checkpoint:
        warnings = rules.plan(
            rest[0],
            inputs=options.inputs(inputs),
            target=options.target(target, target_arg, like),
            root=root,
            params=options.parameters(definitions, params),
        ).warnings
    if json:
        print_json({"ok": True, "warnings": [to_json(w) for w in warnings]})
        return
    print_diagnostics(warnings, concise=concise)
    if not quiet:
        against = f" for {escape(rest[0])}" if with_checkpoint else ""
        typer.echo(f"{counted(len(rules.program.statements), 'statement')}: no errors{against}")
