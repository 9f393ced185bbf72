"""`statex apply`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import statex
from statex.cli import options, progress
from statex.cli.output import escape, print_diagnostics, print_json
from statex.cli.report import left_around, plan_json, plan_lines, totals
from statex.diagnostics.suggest import join_words


def apply(
    paths: Annotated[list[str], typer.Argument(metavar="[RULES] IN OUT", help="Rule file, checkpoint, output.")],
    expressions: options.Expressions = None,
    definitions: options.Definitions = None,
    params: options.ParamFiles = None,
    inputs: options.Inputs = None,
    target: options.TargetSpec = None,
    target_arg: options.TargetArguments = None,
    like: options.Like = None,
    root: options.Root = None,
    format: options.Format = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing output.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check everything, compute and write nothing.")] = False,
    shard_size: options.ShardSize = None,
    copy_files: Annotated[
        bool, typer.Option("--copy-files", help="Take along what is not weights in the folder of the input.")
    ] = False,
    max_memory: options.MaxMemory = None,
    check_input: Annotated[
        bool, typer.Option("--check-input", help="Compare every byte with the checksums of the input.")
    ] = False,
    verify_written: Annotated[
        bool, typer.Option("--verify-written", help="Read the output again and compare it before it appears.")
    ] = False,
    json: options.Json = False,
    concise: options.Concise = False,
    quiet: options.Quiet = False,
) -> None:
    """Convert a checkpoint. The output appears whole and verified, or not at all.

    \b
    statex apply rules.sx in.pth out.pth --target mypkg.models:MyModel
    statex apply rules.sx in.pth out.safetensors -D heads=32 --like reference.safetensors
    statex apply -e "rename prefix 'module.' -> ''" in.pth out.pth
    statex apply rules.sx llama-folder/ converted/ --shard-size 5GB --copy-files
    """
    rules, (source, destination) = options.rules_and_paths(paths, expressions, ["IN", "OUT"])
    with progress.shown(not quiet and not json) as shown:
        done = statex.convert(
            source,
            destination,
            rules,
            inputs=options.inputs(inputs),
            target=options.target(target, target_arg, like),
            root=root,
            params=options.parameters(definitions, params),
            format=format,
            force=force,
            dry_run=dry_run,
            shard_size=options.size(shard_size, "--shard-size"),
            copy_files=copy_files,
            max_memory=options.size(max_memory, "--max-memory"),
            check_input=check_input,
            verify_written=verify_written,
            progress=shown,
        )
    if json:
        verified = done.comparison and {"target": done.comparison.target, "keys": done.comparison.agreeing}
        output = {"output": str(done.path) if done.path else None, "verified": verified, "left": list(done.left_files)}
        print_json(plan_json(done.plan) | output)
        return
    print_diagnostics(done.plan.warnings, concise=concise)
    if not quiet:
        for line in plan_lines(done.plan, keys=False) if dry_run else [totals(done.plan), *left_around(done.plan)]:
            typer.echo(line)
        typer.echo(_outcome(done, Path(destination)))


def _outcome(done: statex.Conversion, destination: Path) -> str:
    lines = []
    if done.left_files:
        names = join_words([escape(name) for name in done.left_files], limit=3)
        folders = [name.endswith("/") for name in done.left_files]
        takes = "" if all(folders) else " (--copy-files takes the files)" if any(folders) else " (--copy-files)"
        lines.append(f"not taken along: {names}{takes}")
    if done.comparison is not None:
        verb = "fits" if done.path is None else "verified against"
        lines.append(f"{verb} {escape(done.comparison.target)}: {done.comparison.agreement}")
    lines.append(
        f"dry run: {escape(str(destination))} was not written"
        if done.path is None
        else f"wrote {escape(str(done.path))}"
    )
    return "\n".join(lines)
