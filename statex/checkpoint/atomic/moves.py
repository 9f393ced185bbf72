"""One output on its way from its temporary name to its final one: its progress, a step forward, a step back."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator, Mapping
from enum import Enum
from pathlib import Path

from statex.checkpoint.atomic.renames import aside, remove, rename_new, swap
from statex.core.record import record


@record
class Identity:
    """What tells a file or folder from any other that may have its name: inode, size and time of change.

    The number of the device is not part of it: it may change when the system is started again. `entries` is a digest of
    what a folder holds, and empty for a file.
    """

    inode: int
    size: int
    mtime: int
    """In nanoseconds."""
    entries: str = ""


def identify(path: Path) -> Identity | None:
    """Return the identity of what has a name, or `None` if nothing has it."""
    try:
        found = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    if not stat.S_ISDIR(found.st_mode):
        return Identity(found.st_ino, found.st_size, found.st_mtime_ns)
    # The size of a folder itself is the file system's business.
    return Identity(found.st_ino, 0, found.st_mtime_ns, _digest(path))


def _digest(folder: Path) -> str:
    from hashlib import sha256

    found = sha256()
    for line in _lines(os.fsencode(folder)):
        found.update(line)
    return found.hexdigest()


def _lines(folder: bytes) -> Iterator[bytes]:
    with os.scandir(folder) as entries:
        ordered = sorted(entries, key=lambda entry: entry.name)
    for entry in ordered:
        about = entry.stat(follow_symlinks=False)
        numbers = (stat.S_IFMT(about.st_mode), about.st_ino, about.st_mtime_ns)
        is_folder = stat.S_ISDIR(about.st_mode)
        yield b"%s\0%d %d %d %d\n" % (entry.name, *numbers, 0 if is_folder else about.st_size)
        if is_folder:
            yield from _lines(entry.path)
            yield b"\0\n"


class OpenWays(Enum):
    """Which ways are open to an output whose run was interrupted."""

    BOTH = "the new one is there, and what it replaces is as well, or it replaces nothing"
    FORWARD = "the new one is in place, and what it replaced is gone"
    BACK = "the new one is gone, and what it was to replace is there"
    CHANGED = "somebody else has changed it"


@record
class Move:
    """An output that gets its name: `final` and `temporary` are in one folder.

    `staged` is what is new, `previous` what has the name before, if there is something. The old one stays, as
    `temporary` or aside, until all outputs of a run have their names. Steps may be taken again, and from wherever an
    interrupted one has left things.
    """

    final: Path
    temporary: Path
    is_folder: bool
    staged: Identity
    previous: Identity | None

    @property
    def standing(self) -> OpenWays:
        """Which ways are open."""
        return self._standing(self._places())

    def _standing(self, places: Mapping[Path, Identity | None]) -> OpenWays:
        has_new, has_old = self.staged in places.values(), self.previous in (None, *places.values())
        if places[self.final] not in (None, self.staged, self.previous):
            return OpenWays.CHANGED
        if has_new and has_old:
            return OpenWays.BOTH
        if has_new and places[self.final] == self.staged:
            return OpenWays.FORWARD
        return OpenWays.BACK if has_old else OpenWays.CHANGED

    @property
    def is_in_place(self) -> bool:
        """Say whether the new one has its name."""
        return identify(self.final) == self.staged

    def finish(self) -> None:
        """Give the new one its name; what has it stays under another one.

        Raises:
            OSError: what the system says; `FileExistsError` if somebody else has changed the output.
        """
        self._bring(self.staged)

    def undo(self) -> None:
        """Give the name back to what had it before, if there was something.

        Raises:
            OSError: what the system says; `FileExistsError` if somebody else has changed the output.
        """
        if self.previous is not None:
            self._bring(self.previous)
        elif self.is_in_place:
            self._take_away()

    def clean(self) -> None:
        """Remove what is left under other names, of the new one and of what it replaces; nobody else's.

        Raises:
            OSError: what the system says.
        """
        ours = {one.inode for one in (self.staged, self.previous) if one is not None}
        for path in self._others:
            if os.path.lexists(path) and os.lstat(path).st_ino in ours:
                remove(path)

    @property
    def _others(self) -> tuple[Path, Path]:
        return self.temporary, aside(self.temporary)

    def _places(self) -> dict[Path, Identity | None]:
        return {path: identify(path) for path in (self.final, *self._others)}

    def _bring(self, wanted: Identity) -> None:
        places = self._places()
        if self._standing(places) is OpenWays.CHANGED or wanted not in places.values():
            raise FileExistsError(errno.EEXIST, "it has been changed meanwhile", str(self.final))
        there = places.pop(self.final)
        if there == wanted:
            return
        source = next(path for path, found in places.items() if found == wanted)
        if there is None:
            rename_new(source, self.final)
        else:
            (spare,) = places.keys() - {source}
            swap(source, self.final, spare)

    def _take_away(self) -> None:
        """Take its name from a new output that replaces nothing; a folder removed under it would be seen by halves."""
        if not self.is_folder and self.staged in map(identify, self._others):
            os.unlink(self.final)
        else:
            rename_new(self.final, self.temporary)
