"""What the path of a checkpoint says before it is opened: what it is read through, and how its files are called."""

from __future__ import annotations

import os
from pathlib import Path

from statex.checkpoint import KNOWN, Names, entry_of, is_index, names_of
from statex.diagnostics import StatexError
from statex.session.request import PathLike


def is_set(source: PathLike | None) -> bool:
    """Say whether a path is that of a folder or of the index of a set."""
    return source is not None and (os.path.isdir(source) or is_index(os.path.basename(source)))


def folder_of(source: Path) -> Path:
    """Return the folder that a checkpoint is, or is in."""
    return source if os.path.isdir(source) else source.parent


def read_through(path: str) -> str:
    """Return the file that a checkpoint in a folder is read through, and that may be a link; else the path."""
    try:
        return os.fspath(entry_of(path))
    except StatexError:
        return path  # what is wrong with it is said when it is opened, and that an output is not there yet is right


def names_read(source: Path | None) -> Names | None:
    """Return how the files of a checkpoint are called, which those of the output follow.

    A file by itself says nothing of a folder, unless it has a name that libraries look for.
    """
    if source is None:
        return None
    found = names_of(os.path.basename(read_through(os.fspath(source))))
    return found if found is not None and (is_set(source) or found.stem in KNOWN) else None
