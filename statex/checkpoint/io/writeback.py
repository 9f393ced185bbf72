"""Starts writing a file's bytes to the disk while more are added, so that little remains to wait for at the end."""

from __future__ import annotations

import os
import threading

from statex.checkpoint.io.syncing import sync_file
from statex.core.progress import Add, unheard

_STEP = 1 << 26
"""Bytes that are added before the disk is told to begin."""


class Writeback:
    """A thread that syncs a file whenever enough was added; it begins with the first large amount.

    The system reports an error of the disk once: it is kept here, and raised by `finish`.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._added = 0
        self._wanted = threading.Event()
        self._ended = False
        self._thread: threading.Thread | None = None
        self._error: OSError | None = None

    def add(self, count: int) -> None:
        """Note that bytes were added."""
        self._added += count
        if self._added < _STEP:
            return
        self._added = 0
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="statex-writeback", daemon=True)
            self._thread.start()
        self._wanted.set()

    def _run(self) -> None:
        while self._wanted.wait() and not self._ended:
            self._wanted.clear()
            try:
                os.fdatasync(self._fd)
            except OSError as error:
                self._error = error
                return

    def finish(self, synced: Add = unheard) -> None:
        """End the thread, and wait until all bytes are on the disk; `synced` is told of them.

        Raises:
            OSError: whatever the disk says, now or before.
        """
        self._end()
        # The thread may be at work yet: who waits for the disk knows how far that is.
        sync_file(self._fd, synced)
        self.stop()
        if self._error is not None:
            raise self._error

    def _end(self) -> None:
        self._ended = True
        self._wanted.set()

    def stop(self) -> None:
        """End the thread; the file can be closed then."""
        self._end()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
