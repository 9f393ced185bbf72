"""`statex fmt`."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from statex.cli import options
from statex.cli.output import escape, print_json, print_text, write_rules
from statex.core.source import ENDING
from statex.diagnostics import Diagnostic, StatexError, fail
from statex.diagnostics.amounts import counted
from statex.diagnostics.codes import names
from statex.grammar.rulefiles import LARGEST, read_rules, rules_of

if TYPE_CHECKING:
    from statex.core.source import Source

STDIN = "-"


def fmt(
    paths: Annotated[
        list[str],
        typer.Argument(metavar="PATHS…", help=f"Rule files, folders of {ENDING} files, or - for standard input."),
    ],
    check: Annotated[bool, typer.Option("--check", help="Write nothing; exit 1 if a file would change.")] = False,
    diff: Annotated[bool, typer.Option("--diff", help="Like --check, and print the changes as a patch.")] = False,
    json: options.Json = False,
    concise: options.Concise = False,
    quiet: options.Quiet = False,
) -> None:
    """Format rule files.

    This makes spacing, line breaks and the alignment of tables uniform. Comments and blank lines are kept, and the
    program stays the same: the result is parsed again and compared. A file with syntax errors is left as it is.

    \b
    statex fmt rules.sx
    statex fmt --check .
    statex fmt - < rules.sx
    """
    if STDIN in paths and len(paths) > 1:
        raise typer.BadParameter("- stands alone: standard input is formatted to standard output")
    done = _Done()
    for path in paths if paths == [STDIN] else [*_files(paths)]:
        done.add(path, write=not (check or diff))
    if STDIN in paths and not (check or diff or json):
        for one in done.files:
            print_text(one.after)
    else:
        _report(done, write=not (check or diff), diff=diff, json=json, quiet=quiet or STDIN in paths)
    if done.errors:
        raise StatexError(done.errors)
    if (check or diff) and done.changed:
        raise typer.Exit(1)


@dataclass(frozen=True)
class _File:
    """A rule text before and after."""

    name: str
    before: str
    after: str


class _Done:
    """The files that were formatted, and the errors in those that could not be."""

    def __init__(self) -> None:
        self.files: list[_File] = []
        self.errors: list[Diagnostic] = []

    @property
    def changed(self) -> list[_File]:
        return [one for one in self.files if one.before != one.after]

    def add(self, path: str, *, write: bool) -> None:
        """Format a file, and replace it if it changes and that is wanted."""
        from statex.grammar.formatter import format_text

        try:
            source = _read(path)
            one = _File(source.name, source.text, format_text(source))
            if write and path != STDIN and one.before != one.after:
                write_rules(Path(path), one.after, force=True)
        except StatexError as error:
            self.errors += error.diagnostics
            return
        self.files.append(one)


def _files(paths: Sequence[str]) -> Iterator[str]:
    """Yield the rule files that paths name, once each; folders whose names begin with a dot are passed over."""
    seen: set[str] = set()
    for path in paths:
        for one in _below(path) if os.path.isdir(path) else [path]:
            if os.path.realpath(one) not in seen:
                seen.add(os.path.realpath(one))
                yield one


def _below(folder: str) -> Iterator[str]:
    for where, folders, files in os.walk(folder, onerror=_refuse):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (os.path.join(where, name) for name in sorted(files) if name.endswith(ENDING))


def _refuse(error: OSError) -> None:
    fail(names.RULES_UNREADABLE, f"the folder `{error.filename}` cannot be read: {error.strerror}")


def _read(path: str) -> Source:
    if path == STDIN:
        return rules_of("<stdin>", sys.stdin.buffer.read(LARGEST + 1))
    return read_rules(path, special=False)


def _report(done: _Done, *, write: bool, diff: bool, json: bool, quiet: bool) -> None:
    changed, same = done.changed, len(done.files) - len(done.changed)
    if json:
        if not done.errors:
            print_json({"ok": write or not changed, "changed": [one.name for one in changed], "unchanged": same})
        return
    if diff:
        for one in changed:
            print_text("".join(_difference(one)))
    if quiet:
        return
    if not diff:
        for one in changed:
            typer.echo(f"{'formatted' if write else 'would format'} {escape(one.name)}")
    if done.files or not done.errors:
        said = f"{counted(len(changed), 'file')} {'formatted' if write else 'would be formatted'}, " if changed else ""
        typer.echo(f"{said}{counted(same, 'file')} left as {'it is' if same == 1 else 'they are'}", err=diff)


def _difference(one: _File) -> Iterator[str]:
    from difflib import unified_diff

    # Not `splitlines`: a comment may hold what Unicode calls a line end, and `patch` does not.
    before, after = (re.findall(r"[^\n]*\n|[^\n]+", text) for text in (one.before, one.after))
    # `patch` takes a name for ended at its first blank, but for a tab.
    name = escape(one.name) + ("\t" if " " in one.name else "")
    for line in unified_diff(before, after, name, name):
        yield line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n"
