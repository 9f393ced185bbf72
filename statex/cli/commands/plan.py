"""`statex plan`."""

from __future__ import annotations

from typing import Annotated

import typer

from statex.cli import options
from statex.cli.output import print_diagnostics, print_json
from statex.cli.report import plan_json, plan_lines


def plan(
    paths: Annotated[list[str], typer.Argument(metavar="[RULES] IN", help="Rule file and checkpoint.")],
    expressions: options.Expressions = None,
    definitions: options.Definitions = None,
    params: options.ParamFiles = None,
    inputs: options.Inputs = None,
    target: options.TargetSpec = None,
    target_arg: options.TargetArguments = None,
    like: options.Like = None,
    root: options.Root = None,
    format: options.Format = None,
    keys: Annotated[bool, typer.Option("--keys", help="List every key, and what becomes of every tensor.")] = False,
    json: options.Json = False,
    concise: options.Concise = False,
    quiet: options.Quiet = False,
) -> None:
    """Say what rules do to a checkpoint, from its header alone.

    \b
    statex plan rules.sx in.safetensors
    statex plan rules.sx in.pth --keys --target mypkg.models:MyModel
    """
    rules, (source,) = options.rules_and_paths(paths, expressions, ["IN"])
    found = rules.plan(
        source,
        inputs=options.inputs(inputs),
        target=options.target(target, target_arg, like),
        root=root,
        params=options.parameters(definitions, params),
        format=format,
    )
    if json:
        print_json(plan_json(found))
        return
    print_diagnostics(found.warnings, concise=concise)
    if not quiet:
        for line in plan_lines(found, keys=keys):
            typer.echo(line)
