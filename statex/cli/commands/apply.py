"""`statex apply`."""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from dataclasses import replace
from typing import Annotated

import typer

from statex.cli import options, progress
from statex.cli.groups import grouped


@grouped
def apply(
    ctx: typer.Context,
    paths: Annotated[
        list[str] | None, typer.Argument(metavar="[RULES…] IN OUT", help="Rule files, checkpoint, output.")
    ] = None,
    *,
    program: options.ProgramOptions,
    aim: options.Aim,
    writing: options.Writing,
    reversible: options.Reversible = False,
    events: options.ProgressEvents = None,
    saying: options.Saying,
) -> None:
    """Convert a checkpoint. The output appears whole and verified, or not at all.

    Rule files (their names end in .sx) and rules given by -e make one program, in the order of the command line. Each
    file has its own parameters; all -e rules together form one more text, which shares its names. Put paths that begin
    with a dash after `--`.

    \b
    statex apply rules.sx in.pth out.pth --target mypkg.models:MyModel
    statex apply rules.sx in.pth out.safetensors -D heads=32 --like reference.safetensors
    statex apply -e "rename prefix 'module.' -> ''" in.pth out.pth
    statex apply names.sx layout.sx llama-folder/ converted/ --shard-size 5GB --copy-files
    """
    from statex.cli import requests
    from statex.cli.results import say_done
    from statex.session.conversion import carry_out

    found = requests.arguments(ctx, ["IN", "OUT"])
    source, destination = found.paths
    output, policy = requests.written(destination, writing, saying)
    wanted = requests.request(found.rules, source, program, aim, [output], replace(policy, reversible=reversible))
    with progress.shown(saying, events) as shown, redirect_stdout(sys.stderr):
        done = carry_out(wanted, shown)
    say_done(wanted, done, saying)
