"""Journals: files beside outputs that describe their run, so that a later one can finish or undo it.

Who works on a journal holds a lock on it, which ends with the process: one without a lock was left by a run that was
interrupted.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from statex.checkpoint.atomic.entries import LARGEST, JournalEntry, decode, encode_head, encode_moves, refuse
from statex.checkpoint.atomic.moves import Move
from statex.checkpoint.atomic.names import journal_of
from statex.checkpoint.atomic.renames import write_all
from statex.diagnostics import fail
from statex.diagnostics.codes import files as codes

_PATIENCE = 5.0
"""Seconds to wait for a run that is giving its outputs their names; one that still writes them may take hours."""
_AGAIN = 0.02


class Busy(Exception):
    """A process that is alive works on a journal."""


class Journal:
    """A journal that this process holds the lock of."""

    def __init__(self, path: Path, fd: int, entry: JournalEntry | None) -> None:
        self.path = path
        self.entry = entry
        """`None` if nothing has been noted yet."""
        self._fd = fd

    def note(self, moves: Sequence[Move]) -> None:
        """List all outputs of the run, and wait until that is on the disk."""
        assert self.entry is not None
        write_all(self._fd, encode_moves(moves))
        self.entry = replace(self.entry, moves=tuple(moves))

    def remove(self) -> None:
        """Take it away, and give the lock back."""
        try:
            if self._fd >= 0 and _names(self.path, self._fd):
                self.path.unlink()
        finally:
            self.close()

    def close(self) -> None:
        """Give the lock back; a second call does nothing."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


def claim(final: Path, temporary: Path, run: str) -> Journal:
    """Make the journal of an output, before that is written.

    Raises:
        StatexError: SX624 if another run has one there.
        OSError: what the system says.
    """
    path = journal_of(final)
    while True:
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o666)
        except FileExistsError:
            _refuse_taken(path, final)
            continue
        entry = JournalEntry(run, final, temporary)
        journal = Journal(path, fd, entry)
        try:
            _lock_new(fd)
            # Another process may have taken it for one that was left, before it was locked.
            if _names(path, fd):
                write_all(fd, encode_head(entry))
                return journal
        except BaseException:
            journal.remove()
            raise
        journal.close()


def _refuse_taken(path: Path, final: Path) -> None:
    try:
        found = take(path, wait=False)
    except Busy:
        fail(codes.BUSY, f"`{final}` is being written by another run of statex", help="wait until that has ended")
    if found is not None:
        found.close()
        fail(
            codes.BUSY,
            f"a run that was interrupted has left a journal for `{final}`",
            notes=[f"it is `{path}`"],
            help=f"run any statex command on it, which settles that: statex show '{final}'",
        )


def peek(path: Path) -> JournalEntry | None:
    """Return what a journal says, without taking its lock; `None` if it is gone, or says nothing yet.

    Raises:
        StatexError: SX622 for one that cannot be followed.
    """
    fd = _open(path)
    if fd is None:
        return None
    try:
        return _read(path, fd)
    finally:
        os.close(fd)


def take(path: Path, *, wait: bool = True) -> Journal | None:
    """Return a journal that an interrupted run has left, locked; `None` if it is gone.

    Raises:
        Busy: if its run is alive, or another process is settling it.
        StatexError: SX622 for one that cannot be followed.
    """
    end = time.monotonic() + (_PATIENCE if wait else 0)
    while (fd := _open(path)) is not None:
        journal = Journal(path, fd, None)
        try:
            locked = _lock(path, fd)
            if locked and _names(path, fd):
                _check_owner(path, fd)
                journal.entry = _read(path, fd)
                return journal
            entry = _read(path, fd)
        except BaseException:
            journal.close()
            raise
        journal.close()
        if not locked and (entry is None or not entry.moves or time.monotonic() >= end):
            raise Busy(path)
        time.sleep(0 if locked else _AGAIN)
    return None


def _open(path: Path) -> int | None:
    flags = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        try:
            fd = os.open(path, os.O_RDWR | flags)
        except PermissionError:
            fd = os.open(path, os.O_RDONLY | flags)
    except FileNotFoundError:
        return None
    except OSError as error:
        refuse(path, f"it cannot be opened: {error.strerror}")
    about = os.fstat(fd)
    if stat.S_ISREG(about.st_mode) and about.st_size <= LARGEST:
        return fd
    os.close(fd)
    refuse(path, f"it has {about.st_size} bytes" if stat.S_ISREG(about.st_mode) else "it is not a regular file")


def _read(path: Path, fd: int) -> JournalEntry | None:
    return decode(path, os.pread(fd, LARGEST + 1, 0))


def _check_owner(path: Path, fd: int) -> None:
    owner = os.fstat(fd).st_uid
    if owner != os.geteuid():
        refuse(path, f"it belongs to another user (number {owner}), who can finish or undo that run")


def _lock_new(fd: int) -> None:
    import fcntl

    # A file system without locks keeps nobody off; later ones do not touch then what they cannot lock either.
    with suppress(OSError):
        fcntl.flock(fd, fcntl.LOCK_EX)


def _lock(path: Path, fd: int) -> bool:
    import fcntl

    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        refuse(path, f"it cannot be locked: {error.strerror}")
    return True


def _names(path: Path, fd: int) -> bool:
    try:
        return os.path.samestat(os.lstat(path), os.fstat(fd))
    except FileNotFoundError:
        return False
