"""`statex migrate new`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from statex.checkpoint import format_of_name
from statex.cli import options, requests
from statex.cli.commands.diff import difference_lines
from statex.cli.groups import grouped
from statex.cli.migrations import FOLDER
from statex.cli.output import escape, print_diagnostics, print_json
from statex.diagnostics import Diagnostic, fail
from statex.diagnostics.codes import files as file_codes
from statex.diagnostics.render import to_json
from statex.migrating.folder import down_of, name_of, next_step
from statex.session.compared import compared
from statex.session.request import InputSpec, Request
from statex.session.session import Session
from statex.session.warnings import judged


@grouped
def migrate_new(
    title: Annotated[str, typer.Argument(metavar="TITLE", help="What the step does, in a few words.")],
    checkpoints: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[OLD NEW]", help="Checkpoints of the layouts before and after it, to be compared."),
    ] = None,
    *,
    chain: options.ChainFolder = None,
    root: options.Root = None,
    saying: options.Saying,
) -> None:
    """Start the next step of a chain of migrations.

    This creates a rule file with the next number, named after its title, that contains only comments. The folder of the
    chain is created if it is missing, and no file is ever replaced. If two checkpoints are named, the comments list the
    keys that only one of them has, and those whose types differ; no values are read.

    \b
    statex migrate new "fuse qkv"
    statex migrate new "fuse qkv" 0.2.pth 0.3.pth --chain mypkg/migrations
    """
    _check_title(title)
    pair = checkpoints or []
    if len(pair) not in (0, 2):
        raise typer.BadParameter(f"two checkpoints are compared, and {len(pair)} given: this takes TITLE [OLD NEW]")
    policy = requests.warnings(saying.warnings)
    path = next_step(chain if chain is not None else Path(FOLDER), title)
    comments, warnings = [*_head(path, title)], list[Diagnostic]()
    if pair:
        differing, warnings = _differing(pair[0], pair[1], root)
        comments += ["", *differing]
    judged_warnings = judged(warnings, policy)
    _write(path, "".join(f"# {line}".rstrip() + "\n" for line in comments))
    if saying.json:
        print_json({"ok": True, "path": path.as_posix(), "warnings": [to_json(one) for one in judged_warnings]})
        return
    print_diagnostics(judged_warnings, concise=saying.concise)
    if not saying.quiet:
        typer.echo(f"wrote {escape(str(path))}")


def _check_title(title: str) -> None:
    if format_of_name(title) is not None:
        raise typer.BadParameter(
            f"`{title}` is named like a checkpoint, and a step is called by what it does; a checkpoint called `new` is "
            f"migrated by `statex migrate ./new {title}`"
        )
    if not name_of(title):
        raise typer.BadParameter(f"`{title}` has no letters or digits that a file could be named after")


def _head(path: Path, title: str) -> Iterator[str]:
    number = int(path.name[:4])
    yield " ".join(escape(title).split())
    yield ""
    yield f"Makes layout {number} of layout {number - 1}; what undoes it is {down_of(path.name)}."


def _differing(old: Path, new: Path, root: str | None) -> tuple[list[str], list[Diagnostic]]:
    """Return the lines that say how the keys and types of two checkpoints differ."""
    names = (old.name, new.name) if old.name != new.name else (str(old), str(new))
    one, other = Request(InputSpec(old, root)), Request(InputSpec(new, root))
    with Session(one) as a, Session(other) as b:
        found = compared(a, b, values=False)
        return list(difference_lines(found, names, fold=True)), [*a.before, *b.before]


def _write(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        fail(file_codes.UNWRITABLE, f"`{path}` cannot be written: {error.strerror or error}")
