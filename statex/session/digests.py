"""Files as a report records them: their digests, and the quick signs that they have not changed."""

from __future__ import annotations

import hashlib
import os
import stat
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from statex.core.progress import READING, Add, Phases, unheard
from statex.diagnostics import StatexError, fail
from statex.diagnostics.codes import files as codes

_SLICE = 1 << 20
_PAUSE = 0.1
"""Seconds after which it is said again how far digests are."""
_RACY = 2 * 10**9
"""Nanoseconds: a file that was changed so shortly before its digest was taken may have been changed again after it
without a difference in the times that its file system keeps."""


@dataclass(frozen=True)
class FilePrint:
    """What a file was like when its digest was taken; `hashed_at` is that time, in nanoseconds since 1970.

    `ctime` is 0 for an output: it gets its name later, which changes it.
    """

    size: int
    mtime: int
    ctime: int
    inode: int
    sha256: str
    hashed_at: int

    def is_still(self, path: Path, *, rehash: bool = False, since: int | None = None, added: Add = unheard) -> bool:
        """Say whether a file is what it was: at a glance if that can tell, else by its digest.

        `since` is the time after which an output got its name; one that was touched later is looked at closely.
        `added` is told of bytes that are read.
        """
        try:
            now = os.stat(path)
        except (OSError, ValueError):  # ValueError: a name that no file can have
            return False
        if not stat.S_ISREG(now.st_mode) or now.st_size != self.size:
            return False
        same = (now.st_mtime_ns, now.st_ino) == (self.mtime, self.inode)
        touched = now.st_ctime_ns != self.ctime if self.ctime else since is None or now.st_ctime_ns > since
        racy = max(self.mtime, self.ctime) > self.hashed_at - _RACY
        if same and not touched and not racy and not rehash:
            return True
        try:
            return file_print(path, added=added).sha256 == self.sha256
        except StatexError:
            return False


def file_print(
    path: Path,
    fd: int | None = None,
    *,
    named: bool = True,
    stopped: Callable[[], bool] = lambda: False,
    added: Add = unheard,
) -> FilePrint:
    """Return what a file is like, its digest included.

    `fd` is the descriptor under which it is open already, so that it is that file even if another has taken its
    name meanwhile; `named` is false for one that has yet to get its name. Once `stopped` is true the rest is not read:
    nobody wants to know any more. `added` is told of bytes that are read.

    Raises:
        StatexError: SX601 if it cannot be read, SX609 if it changes meanwhile.
    """
    try:
        if fd is not None:
            return _print(path, fd, named, stopped, added)
        opened = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
        try:
            return _print(path, opened, named, stopped, added)
        finally:
            os.close(opened)
    except OSError as error:
        fail(codes.UNREADABLE, f"`{path}` cannot be read: {error.strerror or error}")


def _print(path: Path, fd: int, named: bool, stopped: Callable[[], bool], added: Add) -> FilePrint:
    before = os.fstat(fd)
    digest = hashlib.sha256()
    buffer, at = memoryview(bytearray(_SLICE)), 0
    while not stopped() and (count := os.preadv(fd, [buffer], at)):
        digest.update(buffer[:count])
        at += count
        added(count)
    now = os.fstat(fd)
    if (before.st_size, before.st_mtime_ns) != (now.st_size, now.st_mtime_ns):
        fail(codes.CHANGED, f"`{path}` was changed while it was read", help="run again when it is complete")
    changed = now.st_ctime_ns if named else 0
    return FilePrint(now.st_size, now.st_mtime_ns, changed, now.st_ino, digest.hexdigest(), time.time_ns())


class Digests:
    """The digests of files, taken by a thread while other work goes on; a context manager."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(max_workers=1)
        self._stopped = threading.Event()
        self._prints: dict[Path, Future[FilePrint]] = {}
        self._done = self._total = 0

    def take(self, path: Path, fd: int | None = None, *, named: bool = True) -> None:
        """Begin with a file; the arguments are those of `file_print`."""
        if path in self._prints:
            return
        with suppress(OSError):  # the digest itself says why it cannot be taken
            self._total += os.stat(path if fd is None else fd).st_size
        self._prints[path] = self._pool.submit(
            file_print, path, fd, named=named, stopped=self._stopped.is_set, added=self._add
        )

    def _add(self, count: int) -> None:
        self._done += count

    def taken(self, phases: Phases) -> Mapping[Path, FilePrint]:
        """Return them all, when they are there.

        Raises:
            StatexError: SX601, SX609.
        """
        added, told = phases.phase(READING, self._total), 0
        prints = {}
        for path, found in self._prints.items():
            while not found.done():
                done = self._done
                added(done - told)
                told = done
                wait([found], _PAUSE)
            prints[path] = found.result()
        return prints

    def __enter__(self) -> Digests:
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._pool.shutdown(wait=True, cancel_futures=True)
