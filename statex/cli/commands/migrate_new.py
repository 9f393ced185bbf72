"""`statex migrate new`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from statex.checkpoint import format_of_name
from statex.cli import options, progress, requests
from statex.cli.commands.diff import difference_lines
from statex.cli.groups import grouped
from statex.cli.migrations import FOLDER
from statex.cli.output import escape, print_diagnostics, print_json
from statex.core.progress import Tell
from statex.diagnostics import Diagnostic, fail
from statex.diagnostics.amounts import counted
from statex.diagnostics.codes import files as file_codes
from statex.diagnostics.render import to_json
from statex.migrating.folder import down_of, name_of, next_step
from statex.session.compared import compared
from statex.session.request import InputSpec, Request, TargetSpec
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
    events: options.ProgressEvents = None,
    saying: options.Saying,
) -> None:
    """Start the next step of a chain of migrations.

    This creates a rule file with the next number, named after its title, that contains only comments. The folder of the
    chain is created if it is missing, and no file is ever replaced.

    If two checkpoints are named, the comments list the keys that only one of them has, and those whose types differ.
    Rules are inferred from both, as by `statex infer`: they stand in the file if they make NEW of OLD in every bit.
    Otherwise those that names and shapes suggest stand in its comments.

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
    step = _Step()
    if pair:
        differing, warnings = _differing(pair[0], pair[1], root)
        with progress.shown(saying, events) as shown, redirect_stdout(sys.stderr):
            step = _inferred(pair[0], pair[1], root, shown)
        comments += ["", *differing, *step.comments]
    judged_warnings = judged(warnings, policy)
    _write(path, "".join(f"# {line}".rstrip() + "\n" for line in comments) + step.rules)
    if saying.json:
        rules = {"proved": step.proved, "rules": step.rules} if pair else {}
        said = [to_json(one) for one in judged_warnings]
        print_json({"ok": True, "path": path.as_posix(), **rules, "warnings": said})
        return
    print_diagnostics(judged_warnings, concise=saying.concise)
    if not saying.quiet:
        typer.echo(f"wrote {escape(str(path))}")
        if step.said:
            typer.echo(f"  {step.said}")


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
    yield f"Makes layout {number} of layout {number - 1}. Rules that undo it go into {down_of(path.name)}."


def _differing(old: Path, new: Path, root: str | None) -> tuple[list[str], list[Diagnostic]]:
    """Return the lines that say how the keys and types of two checkpoints differ."""
    names = (old.name, new.name) if old.name != new.name else (str(old), str(new))
    one, other = Request(InputSpec(old, root)), Request(InputSpec(new, root))
    with Session(one) as a, Session(other) as b:
        found = compared(a, b, values=False)
        return list(difference_lines(found, names, fold=True)), [*a.before, *b.before]


@dataclass(frozen=True)
class _Step:
    """What was found out about a step: its rules, if they are proved, comments, and what is said of them."""

    rules: str = ""
    comments: tuple[str, ...] = ()
    said: str = ""
    proved: bool = False


def _inferred(old: Path, new: Path, root: str | None, tell: Tell) -> _Step:
    """Return the rules that make one checkpoint of another, or as comments those that names and shapes suggest."""
    from statex.inferring.infer import guess, infer

    place = requests.root(root)
    found = infer(old, new, root=place, new_root=place, tell=tell)
    if found.proved and not found.rules:
        return _Step(said="the two checkpoints are equal: there are no rules in it", proved=True)
    if found.proved and found.proof is not None:
        said = f"its rules are inferred, and proved: {counted(len(found.proof.equal), 'tensor')} equal in bits"
        doubt = [f"told apart by names alone, as their contents are equal: {counted(len(found.ambiguous), 'key')}"]
        comments = ("", f"Inferred from {old.name} and {new.name}.", *(doubt if found.ambiguous else []))
        return _Step(f"\n{found.rules}", tuple(map(escape, comments)), said, True)
    guessed = guess(old, TargetSpec(like=new), root=place)
    if not guessed.fits or not guessed.rules:
        return _Step(said="no rules were found that make the second checkpoint of the first")
    lines = guessed.rules.splitlines()
    comments = ("", "Guessed from names and shapes; nothing proves these rules:", "", *lines)
    return _Step(
        "", comments, "rules that are guessed from names and shapes stand in its comments: nothing proves them"
    )


def _write(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        fail(file_codes.UNWRITABLE, f"`{path}` cannot be written: {error.strerror or error}")
