"""Rule files as they are read from disk."""

from __future__ import annotations

import os
from pathlib import Path

from statex.diagnostics import fail
from statex.diagnostics.codes import Code
from statex.diagnostics.codes import names as codes
from statex.source import Source

_LIMIT = 64 * 2**20
"""Bytes; a larger file is no rule file, and is not read to find out."""


def read_rules(path: str | os.PathLike[str]) -> Source:
    """Read a rule file.

    Raises:
        StatexError: SX222 where it cannot be read or is no text.
    """
    return _read(Path(path), codes.RULES_UNREADABLE)


def read_include(folder: str, path: str) -> Source:
    """Read the rule file a path names, relative to a folder.

    Raises:
        StatexError: SX215 where it cannot be read or is no text.
    """
    found = Path(os.path.normpath(os.path.join(folder, path)))
    if found.exists() and not found.is_file():
        # Whoever runs a program may name a pipe; a stranger's rule file may not, which would wait for it.
        fail(codes.INCLUDE_UNREADABLE, f"`{found.as_posix()}` is no file")
    return _read(found, codes.INCLUDE_UNREADABLE)


def _read(path: Path, code: Code) -> Source:
    name = path.as_posix()
    try:
        if path.is_file() and path.stat().st_size > _LIMIT:
            fail(code, f"`{name}` is too large to be a rule file")
        data = path.read_bytes()
    except OSError as error:
        fail(code, f"`{name}` cannot be read: {error.strerror or error}")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        fail(code, f"`{name}` is no UTF-8 text (byte {error.start})", help="name the rule file before the checkpoint")
    if "\0" in text:
        fail(code, f"`{name}` is a binary file, not rules", help="name the rule file before the checkpoint")
    return Source(name, text)
