"""Options that several commands share, in the groups that commands take them in."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from statex.cli import completion

Expressions = Annotated[
    list[str] | None,
    typer.Option(
        "-e",
        metavar="RULE",
        help="A rule, in addition to rule files or instead of them; repeatable.",
        autocompletion=completion.in_rule,
    ),
]
Definitions = Annotated[
    list[str] | None,
    typer.Option(
        "-D",
        metavar="NAME=VALUE",
        help="The value of a parameter; FILE.NAME sets it in FILE.sx alone; repeatable.",
    ),
]
ParamFiles = Annotated[
    list[Path] | None,
    typer.Option(
        "--params", metavar="FILE", help="Parameter values: a JSON or YAML file, such as a config.json; repeatable."
    ),
]
Inputs = Annotated[
    list[str] | None,
    typer.Option(
        "--in",
        metavar="NAME=PATH",
        help="A further input, or another path for an input of a recipe (`main` too); repeatable, also for a family.",
    ),
]
TargetSpec = Annotated[
    str | None,
    typer.Option(
        "--target",
        metavar="MODULE:CALLABLE",
        help="The model that the result must fit; FILE.py:CALLABLE for one in a file. Its code is run.",
    ),
]
TargetArguments = Annotated[
    list[str] | None,
    typer.Option("--target-arg", metavar="NAME=VALUE", help="An argument of the target's callable; repeatable."),
]
Like = Annotated[
    Path | None,
    typer.Option("--like", metavar="FILE", help="A checkpoint whose keys, shapes and dtypes the result must match."),
]
Format = Annotated[
    str | None, typer.Option("--format", metavar="torch|safetensors|dcp|npz", help="The output's format.")
]
Root = Annotated[
    str | None,
    typer.Option(
        "--root",
        metavar="PATH",
        help="The path of the state in a nested checkpoint, dotted or as a list ('' for the whole).",
    ),
]
ChainFolder = Annotated[
    Path | None,
    typer.Option("--chain", metavar="DIR", help="The folder of the chain; by default ./migrations."),
]
IncludePath = Annotated[
    list[Path] | None,
    typer.Option("--include-path", metavar="DIR", help="Another folder that rule files may include from; repeatable."),
]
Every = Annotated[
    bool,
    typer.Option("--all", "--keys", help="List every key; without it, keys that differ only in numbers are one line."),
]
Json = Annotated[bool, typer.Option("--json", help="Print the report and any errors as JSON.")]
Concise = Annotated[bool, typer.Option("--concise", help="Print each error and warning as one line.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but warnings and errors.")]
Warnings = Annotated[
    list[str] | None,
    typer.Option(
        "-W",
        metavar="[CODE=]error|warn|ignore",
        help="How to treat all warnings, or those of one code, which takes precedence; repeatable.",
    ),
]
MaxMemory = Annotated[
    str | None,
    typer.Option("--max-memory", metavar="SIZE", help="Refuse to start if more memory may be used: 2GiB, 500MiB."),
]
ShardSize = Annotated[
    str | None, typer.Option("--shard-size", metavar="SIZE", help="Write a folder of files, each of at most this size.")
]
Stem = Annotated[
    str | None,
    typer.Option(
        "--stem",
        metavar="NAME",
        help="Name the files of a folder NAME.safetensors (or .bin) instead of after those of the input.",
    ),
]
Force = Annotated[bool, typer.Option("--force", help="Replace existing outputs.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Check everything, but compute and write nothing.")]
ProgressEvents = Annotated[
    str | None,
    typer.Option(
        "--progress",
        metavar="json|plain|none",
        help="Show progress on standard error. json: one event per line: phase (planning, reading, writing, "
        "syncing, reading back), progress (done and total, in bytes), end (ok). plain: a line every 10 seconds. By "
        "default a terminal shows a line that is rewritten (with CI set: plain lines), and other outputs show nothing.",
    ),
]


@dataclass(frozen=True)
class ProgramOptions:
    """The rules of a program, and the values and inputs it is given."""

    expressions: Expressions = None
    definitions: Definitions = None
    params: ParamFiles = None
    inputs: Inputs = None
    root: Root = None
    include_path: IncludePath = None


@dataclass(frozen=True)
class Aim:
    """The target that a result must fit."""

    target: TargetSpec = None
    target_arg: TargetArguments = None
    like: Like = None


@dataclass(frozen=True)
class Writing:
    """How an output is written."""

    format: Format = None
    force: Force = False
    dry_run: DryRun = False
    shard_size: ShardSize = None
    copy_files: Annotated[
        bool,
        typer.Option(
            "--copy-files",
            help="Also copy other files of the input folder (config, tokenizer), but not weights or hidden files.",
        ),
    ] = False
    no_update_config: Annotated[
        bool,
        typer.Option(
            "--no-update-config", help="Copy config.json as it is; otherwise its dtype follows that of the tensors."
        ),
    ] = False
    stem: Stem = None
    max_memory: MaxMemory = None
    check_input: Annotated[
        bool, typer.Option("--check-input", help="Compare every byte with the checksums of the input.")
    ] = False
    verify_written: Annotated[
        bool, typer.Option("--verify-written", help="Read the output again and compare it before it appears.")
    ] = False
    keep_foreign: Annotated[
        bool,
        typer.Option(
            "--keep-foreign",
            help="Write objects that statex does not load as they were read. They remain as dangerous as in the input.",
        ),
    ] = False


Reversible = Annotated[
    bool,
    typer.Option(
        "--reversible",
        help="Also write the rules that undo it (OUT.back.sx), and the tensors that are lost (OUT.lost.safetensors).",
    ),
]


@dataclass(frozen=True)
class Tolerance:
    """By how much numbers may differ."""

    rtol: Annotated[
        str | None,
        typer.Option("--rtol", metavar="X", help="Accept differences of X times the second number."),
    ] = None
    atol: Annotated[str | None, typer.Option("--atol", metavar="X", help="Accept differences of X.")] = None


@dataclass(frozen=True)
class Saying:
    """How a command prints its results."""

    json: Json = False
    concise: Concise = False
    quiet: Quiet = False
    warnings: Warnings = None


@dataclass(frozen=True)
class Running:
    """Settings of a recipe that come from the command line, other than values and inputs."""

    out: Annotated[
        list[str] | None,
        typer.Option("--out", metavar="NAME=PATH", help="Where an output of a recipe goes; repeatable."),
    ] = None
    allow_import: Annotated[
        bool, typer.Option("--allow-import", help="Import the models that a recipe names. Their code is run.")
    ] = False
    within: Annotated[
        Path | None,
        typer.Option("--within", metavar="DIR", help="Refuse a recipe that reads or writes anything outside DIR."),
    ] = None
    max_memory: MaxMemory = None
