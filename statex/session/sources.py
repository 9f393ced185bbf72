"""The path of a checkpoint before it is opened: how to read it, and the names of its files."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from statex.checkpoint import KNOWN, FileNames, entries, entry_of, is_index, names_of, other_files, shards_in
from statex.diagnostics import StatexError

if TYPE_CHECKING:
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


def all_read(path: str) -> list[str]:
    """Return all files that a checkpoint may be read from, by their names; each may be a link to elsewhere.

    Raises:
        StatexError: SX601 for a folder that cannot be listed.
    """
    entry = Path(read_through(path))
    if os.path.isdir(entry):  # of torch.distributed.checkpoint, whose header names files in it
        return [path, *map(os.fspath, entries(entry))]
    try:
        shards = shards_in(entry) if is_index(entry.name) else []
    except StatexError:
        shards = []  # it is said when the index is opened
    return [path, os.fspath(entry), *map(os.fspath, shards)]


def names_read(source: Path | None) -> FileNames | None:
    """Return how the files of a checkpoint are called, which those of the output follow.

    A file by itself says nothing of a folder, unless it has a name that libraries look for.
    """
    if source is None:
        return None
    found = names_of(os.path.basename(read_through(os.fspath(source))))
    return found if found is not None and (is_set(source) or found.stem in KNOWN) else None


def links_of(given: PathLike | None, files: Iterable[Path]) -> Mapping[str, str]:
    """Return which files that a folder is read from are links to outside of it, and where these lead.

    A file that is named by hand may be a link: whoever named it knows.
    """
    if not is_set(given):
        return {}
    linked = [path for path in files if os.path.islink(path)]
    ends = {os.fspath(path): os.path.realpath(path) for path in linked}
    return {path: end for path, end in ends.items() if os.path.dirname(end) != os.path.realpath(os.path.dirname(path))}


def copied_along(source: Path | None) -> list[Path]:
    """Return the files that are copied along with a checkpoint, if that is asked for.

    Raises:
        StatexError: SX601.
    """
    return [file.path for file in other_files(folder_of(source))[0]] if source is not None else []
