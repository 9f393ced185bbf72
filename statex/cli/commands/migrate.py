"""`statex migrate`."""

from __future__ import annotations

import os
import sys
from contextlib import redirect_stdout
from dataclasses import replace
from typing import Annotated

import typer

from statex.cli import options, progress, requests
from statex.cli.arguments import CommandArgument
from statex.cli.groups import grouped
from statex.cli.migrations import chain_at, say_migrated, say_standing
from statex.migrating.chain import Chain
from statex.migrating.files import carry_out, migration
from statex.migrating.files import status as status_of
from statex.session.request import Request
from statex.session.session import settled
from statex.session.settling import telling
from statex.session.warnings import judged


@grouped
def migrate(
    paths: Annotated[
        list[str] | None, typer.Argument(metavar="IN OUT | IN --status", help="Checkpoint, output.")
    ] = None,
    *,
    chain: options.ChainFolder = None,
    to: Annotated[
        str | None,
        typer.Option("--to", metavar="N", help="The layout of OUT, 0 to that of the last step; by default the last."),
    ] = None,
    start: Annotated[
        str | None, typer.Option("--from", metavar="N", help="The layout of IN, if no version is noted in it.")
    ] = None,
    at: Annotated[
        str | None,
        typer.Option(
            "--at",
            metavar="PATH",
            help="The dotted path, in the state, of the module that the chain is for ('' for the whole); by default "
            "where its version is noted.",
        ),
    ] = None,
    status: Annotated[
        bool, typer.Option("--status", help="Show which layout IN has and which steps are pending; write nothing.")
    ] = False,
    definitions: options.Definitions = None,
    params: options.ParamFiles = None,
    root: options.Root = None,
    aim: options.Aim,
    writing: options.Writing,
    reversible: options.Reversible = False,
    events: options.ProgressEvents = None,
    saying: options.Saying,
) -> None:
    """Take a checkpoint through a chain of migrations.

    It goes from its present layout to the last one, or to that of --to. A chain is a folder of rule files, 0001_….sx,
    0002_….sx and so on. Step n turns layout n - 1 into layout n; files such as 0002_….down.sx undo a step. OUT appears
    whole and verified, or not at all, and carries its version.

    The layout of IN is the one noted in it, otherwise that of --from, otherwise the one recognised by its keys and
    shapes; if they do not decide it, an error says why. A target is what OUT must fit; it also helps to recognise the
    layout.

    With --status the exit code is 0 if IN has the last layout, and 1 if steps are pending or the layout is not known.

    `statex migrate new` starts the next step (see `statex migrate new --help`). To name a checkpoint called new, write
    ./new.

    \b
    statex migrate old.pth new.pth
    statex migrate old.safetensors new.safetensors --chain mypkg/migrations -D heads=32
    statex migrate new.pth old.pth --to 1
    statex migrate lightning.ckpt out.ckpt --at model.encoder --from 0
    statex migrate old.pth --status
    statex migrate new "fuse qkv" old.pth new.pth
    """
    program = options.ProgramOptions(None, definitions, params, None, root)
    if status:
        _refuse_writing(to, start, writing)
        (source,) = _paths(paths, ["IN"], "beside --status this takes IN")
        wanted = requests.request((), source, program, aim)
        _say_status(wanted, chain_at(chain), at, saying)
        return
    source, destination = _paths(paths, ["IN", "OUT"], "this takes IN OUT, or IN --status")
    output, policy = requests.written(destination, writing, saying)
    wanted = requests.request((), source, program, aim, [output], replace(policy, reversible=reversible))
    end, assumed = _layout(to, "--to"), _layout(start, "--from")
    steps = chain_at(chain)
    with progress.shown(saying, events) as shown, redirect_stdout(sys.stderr):
        found = migration(wanted, steps, to=end, assume=assumed, at=at)
        done = carry_out(found, shown)
    say_migrated(found, done, assumed, saying)


def _paths(given: list[str] | None, names: list[str], takes: str) -> list[str]:
    paths = given or []
    rules = next((path for path in paths if CommandArgument(path).names_rules), None)
    if rules is not None:
        raise typer.BadParameter(f"`{rules}` is a rule file: it is applied by `statex apply {rules} IN OUT`")
    if paths[:1] == ["new"] and not os.path.lexists("new"):
        raise typer.BadParameter("`new` stands right after `migrate`: statex migrate new TITLE")
    if len(paths) != len(names):
        were = "1 path was" if len(paths) == 1 else f"{len(paths)} paths were"
        raise typer.BadParameter(f"{were} given; {takes}")
    return paths


def _layout(text: str | None, option: str) -> int | None:
    if text is not None and not (text.isascii() and text.isdigit() and len(text) < 7):
        raise typer.BadParameter(f"`{option}` takes the number of a layout, and got `{text}`", param_hint=option)
    return int(text) if text is not None else None


def _refuse_writing(to: str | None, start: str | None, writing: options.Writing) -> None:
    """Refuse options that are for an output."""
    named = {"--to": to, "--from": start, "--format": writing.format, "--force": writing.force,
             "--dry-run": writing.dry_run, "--shard-size": writing.shard_size, "--copy-files": writing.copy_files,
             "--max-memory": writing.max_memory, "--check-input": writing.check_input,
             "--verify-written": writing.verify_written, "--keep-foreign": writing.keep_foreign}  # fmt: skip
    for name, value in named.items():
        if value not in (None, False):
            raise typer.BadParameter(f"`--status` writes nothing, and `{name}` is for an output", param_hint=name)


def _say_status(wanted: Request, chain: Chain, at: str | None, saying: options.Saying) -> None:
    before = settled(wanted)
    warnings = judged(before, requests.warnings(saying.warnings))
    with telling(before), redirect_stdout(sys.stderr):
        found, stands = status_of(wanted, chain, at=at)
    say_standing(wanted, found, stands, warnings, saying)
    if stands.layout != chain.version:
        raise typer.Exit(1)
