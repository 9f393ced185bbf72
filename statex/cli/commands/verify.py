"""`statex verify`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import statex
from statex.cli import options
from statex.cli.output import escape, print_json


def verify(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="The checkpoint.")],
    target: options.TargetSpec = None,
    target_arg: options.TargetArguments = None,
    like: options.Like = None,
    root: options.Root = None,
    json: options.Json = False,
    concise: options.Concise = False,
    quiet: options.Quiet = False,
) -> None:
    """Compare a checkpoint with a model or another checkpoint: keys, shapes, dtypes, and load_state_dict itself.

    \b
    statex verify out.pth --target mypkg.models:MyModel
    statex verify out.safetensors --like reference.safetensors
    """
    if target is None and like is None:
        raise typer.BadParameter("name what to verify against: --target MODULE:CALLABLE or --like FILE")
    found = statex.verify(path, options.target(target, target_arg, like), root=root)
    if json:
        print_json({"ok": True, "target": found.target, "keys": found.agreeing})
    elif not quiet:
        typer.echo(f"{escape(path.name)} fits {escape(found.target)}: {found.agreement}")
