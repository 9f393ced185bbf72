"""Output shared by all commands: diagnostics, byte counts, tables, JSON."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TextIO

import typer

from statex.core.text_file import as_utf8, replace_text_file
from statex.diagnostics import Diagnostic, Severity, StatexError, fail
from statex.diagnostics.codes import files as codes
from statex.diagnostics.escape import escape
from statex.diagnostics.render import json_text, render_concise, render_full, to_json
from statex.diagnostics.tables import columns


def has_colour(stream: TextIO) -> bool:
    """Say whether colour is wanted on a stream.

    NO_COLOR and FORCE_COLOR decide, in this order, if they are set and not empty (FORCE_COLOR=0 forces nothing); else
    a terminal has colour, unless TERM is `dumb`.
    """
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR", "0") not in ("", "0"):
        return True
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def room() -> int | None:
    """Return the columns of the terminal that is standard output; `None` where it is a file, a pipe, of any width."""
    return max(40, shutil.get_terminal_size().columns) if sys.stdout.isatty() else None


def report_error(error: StatexError, *, as_json: bool, concise: bool = False) -> None:
    """Print the diagnostics of an error: JSON to standard output, or text to standard error."""
    if as_json:
        print_json({"ok": False, "diagnostics": [to_json(d) for d in error.diagnostics]})
        return
    print_diagnostics(error.diagnostics, concise=concise)
    count = sum(one.severity is Severity.ERROR for one in error.diagnostics)
    if count > 1 and not concise:
        print(f"\n{count} errors", file=sys.stderr)


def report_usage(error: Any, *, as_json: bool) -> None:
    """Print an error of usage, one of click's: JSON to standard output, or text to standard error."""
    if as_json:
        print_json({"ok": False, "usage": error.format_message(), "diagnostics": []})
    else:
        error.show()


def print_diagnostics(found: Iterable[Diagnostic], *, concise: bool = False) -> None:
    """Print diagnostics to standard error: pages with a blank line between them, or one line each."""
    for number, one in enumerate(found):
        if number and not concise:
            print(file=sys.stderr)
        text = render_concise(one) if concise else render_full(one, colour=has_colour(sys.stderr))
        print(text, file=sys.stderr)


def print_json(value: Any) -> None:
    """Print a JSON document to standard output."""
    typer.echo(json_text(value))


def print_text(text: str) -> None:
    """Write a text to standard output as it is, in UTF-8 whatever the terminal has: as a file, it can be piped on."""
    sys.stdout.flush()
    try:
        data = text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # keys in a pickle may hold anything
        data = text.encode("utf-8", "surrogatepass")
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


def refuse_existing(path: Path | None, *, force: bool) -> None:
    """Fail before any work is done if a file to be written exists already.

    Raises:
        StatexError: SX610.
    """
    if path is not None and path.exists() and not force:
        fail(codes.EXISTS, f"`{path}` exists already", help="`--force` replaces it")


def write_rules(path: Path, text: str, *, force: bool) -> None:
    """Write a text to a rule file, at once or not at all; with `force`, in the place of one that exists.

    Raises:
        StatexError: SX610 for a file that exists, SX612 if it cannot be written.
    """
    refuse_existing(path, force=force)
    try:
        data = as_utf8(text)
        if path.is_file():
            replace_text_file(path, text)
        elif path.exists():  # a device, or a pipe
            path.write_bytes(data)
        else:
            _write_new(path, data)
    except OSError as error:
        fail(codes.UNWRITABLE, f"`{path}` cannot be written: {error.strerror or error}")


def _write_new(path: Path, data: bytes) -> None:
    from statex.checkpoint.atomic.transaction import Transaction

    with Transaction(alone=True) as outputs:
        outputs.stage_bytes(path, data, force=False)
        outputs.commit()


__all__ = [
    "columns",
    "escape",
    "has_colour",
    "print_diagnostics",
    "print_json",
    "print_text",
    "refuse_existing",
    "report_error",
    "report_usage",
    "room",
    "write_rules",
]
