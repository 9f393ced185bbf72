"""Outputs under their temporary names: written, synced and verified, but not yet in place."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from statex.checkpoint.atomic.journal import Journal
from statex.checkpoint.atomic.moves import Identity, identify
from statex.checkpoint.atomic.renames import beside, create, remove, sync, write_all
from statex.diagnostics import fail
from statex.diagnostics.codes import files as codes

Write = Callable[[Path], None]
"""Writes an output under the name it is given, and syncs the files that it writes."""


@dataclass
class Staged:
    """An output that waits for its name.

    `path` is how it was asked for, `final` where it will be, `temporary` where it is. Its `journal`, if it has one, is
    beside it. `own` are the names of files that may go with a folder that it replaces, beside those of sets.
    """

    path: Path
    final: Path
    temporary: Path
    is_folder: bool
    force: bool
    journal: Journal | None = None
    own: frozenset[str] = frozenset()
    is_handed_over: bool = False
    """The renames of its run have begun: it is theirs to be finished or undone."""

    @property
    def identity(self) -> Identity:
        """Inode, size and time of change, which the output keeps when it gets its name.

        Raises:
            FileNotFoundError: if it is not there any more.
        """
        found = identify(self.temporary)
        if found is None:
            raise FileNotFoundError(str(self.temporary))
        return found

    def write(self, write: Write) -> None:
        """Write it, and wait until it is on the disk."""
        if self.is_folder:
            self.temporary.mkdir(0o777)
            write(self.temporary)
            sync(self.temporary)
        else:
            create(self.temporary)
            write(self.temporary)

    def discard(self) -> None:
        """Remove it, and its journal; a second call does nothing, nor one when its name is being given."""
        if self.is_handed_over:
            return
        try:
            # What cannot be removed stays, and its journal, which a later command goes by.
            with suppress(OSError):
                remove(self.temporary)
                if self.journal is not None:
                    self.journal.remove()
        finally:
            if self.journal is not None:
                self.journal.close()


def staged(path: Path, *, is_folder: bool, force: bool) -> Staged:
    """Return an output that is to be written, under a temporary name that nothing has yet."""
    # A link that is written through stays a link.
    through = not is_folder and force and os.path.islink(path)
    final = Path(os.path.realpath(path)) if through else Path(os.path.realpath(path.parent), path.name)
    return Staged(path, final, beside(final), is_folder, force)


def write_bytes(path: Path, data: bytes) -> None:
    """Write a small file, which is there and empty, and wait until it is on the disk."""
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        write_all(fd, data)
    finally:
        os.close(fd)


@contextmanager
def refusals(path: Path) -> Iterator[None]:
    """Say of an output what the system refuses.

    Raises:
        StatexError: SX610 if something has its name, SX612 for all the rest.
    """
    try:
        yield
    except FileExistsError:
        fail(codes.EXISTS, f"`{path}` exists", help="add --force to replace it")
    except OSError as error:
        fail(codes.UNWRITABLE, f"`{path}` cannot be written: {error.strerror or error}")
