"""`statex apply`."""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from typing import Annotated

import typer

from statex.cli import options, progress, requests
from statex.cli.groups import grouped
from statex.cli.results import say_done
from statex.session.conversion import carry_out
from statex.session.request import OutputSpec, Policy


@grouped
def apply(
    ctx: typer.Context,
    paths: Annotated[
        list[str] | None, typer.Argument(metavar="[RULES…] IN OUT", help="Rule files, checkpoint, output.")
    ] = None,
    *,
    program: options.Program,
    aim: options.Aim,
    format: options.Format = None,
    force: options.Force = False,
    dry_run: options.DryRun = False,
    shard_size: options.ShardSize = None,
    copy_files: Annotated[
        bool, typer.Option("--copy-files", help="Also copy non-weight files (config, tokenizer) of the input's folder.")
    ] = False,
    max_memory: options.MaxMemory = None,
    check_input: Annotated[
        bool, typer.Option("--check-input", help="Compare every byte with the checksums of the input.")
    ] = False,
    verify_written: Annotated[
        bool, typer.Option("--verify-written", help="Read the output again and compare it before it appears.")
    ] = False,
    keep_foreign: Annotated[
        bool,
        typer.Option(
            "--keep-foreign",
            help="Write objects that statex does not load as they were read. They stay as dangerous as in the input.",
        ),
    ] = False,
    events: options.ProgressEvents = None,
    saying: options.Saying,
) -> None:
    """Convert a checkpoint. The output appears whole and verified, or not at all.

    Rule files (their names end in .sx) and rules given by -e make one program, in the order of the command line. Each
    file has parameters of its own; all -e together are one more text, in which names go on. Paths that begin with a
    dash stand after `--`.

    \b
    statex apply rules.sx in.pth out.pth --target mypkg.models:MyModel
    statex apply rules.sx in.pth out.safetensors -D heads=32 --like reference.safetensors
    statex apply -e "rename prefix 'module.' -> ''" in.pth out.pth
    statex apply names.sx layout.sx llama-folder/ converted/ --shard-size 5GB --copy-files
    """
    found = requests.arguments(ctx, ["IN", "OUT"])
    source, destination = found.paths
    output = OutputSpec(
        destination,
        format=format,
        shard_size=requests.size(shard_size, "--shard-size"),
        copy_files=copy_files,
    )
    policy = Policy(
        replace="always" if force else "never",
        max_memory=requests.size(max_memory, "--max-memory"),
        check_input=check_input,
        verify_written=verify_written,
        keep_foreign=keep_foreign,
        warnings=requests.warnings(saying.warnings),
        dry_run=dry_run,
    )
    wanted = requests.request(found.rules, source, program, aim, [output], policy)
    with progress.shown(saying, events) as shown, redirect_stdout(sys.stderr):
        done = carry_out(wanted, shown)
    say_done(wanted, done, saying)
