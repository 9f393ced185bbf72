"""Bytes that no input holds in the needed form: compressed or in another order there, kept in an unnamed file."""

from __future__ import annotations

import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from statex.checkpoint.io.input_file import InputFile
from statex.diagnostics import fail
from statex.diagnostics.amounts import show_bytes
from statex.diagnostics.codes import files as codes

Make = Callable[[], Iterator[bytes]]
"""Yields bytes, part after part."""


class Workshop:
    """One file without a name, for all that is made of an input; `path` is how messages call that."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: IO[bytes] | None = None
        self._end = 0
        self._lock = threading.Lock()

    def file(self, size: int, make: Make) -> MadeFile:
        """Return a file of so many bytes, which are made when it is read for the first time."""
        return MadeFile(self, size, make)

    def put(self, size: int, make: Make) -> tuple[int, int]:
        """Make so many bytes; return the descriptor of the file that holds them, and where they are in it.

        Raises:
            StatexError: SX604 where they are not so many, SX612 and SX615 where they cannot be written.
        """
        folder = tempfile.gettempdir()
        with self._lock:
            try:
                free = shutil.disk_usage(folder).free
                if size > free:
                    self._no_room(folder, size, free)
                if self._file is None:
                    self._file = tempfile.TemporaryFile()  # noqa: SIM115 - it is open as long as the input
                start, self._end = self._end, self._end + self._write(size, make)
            except OSError as error:
                fail(codes.UNWRITABLE, f"`{folder}` cannot be written to: {error.strerror or error}")
            return self._file.fileno(), start

    def _write(self, size: int, make: Make) -> int:
        assert self._file is not None
        self._file.seek(self._end)
        done = 0
        for part in make():
            done += len(part)
            if done > size:
                break
            self._file.write(part)
        self._file.flush()
        if done != size:
            fail(codes.DAMAGED, f"`{self.path}` is damaged: what is packed in it does not have the size that it says")
        return done

    def _no_room(self, folder: str, size: int, free: int) -> None:
        fail(
            codes.NO_SPACE,
            f"`{self.path}` is unpacked in `{folder}`: that takes {show_bytes(size)}, and {show_bytes(free)} are free",
            help="name another folder: TMPDIR=/large/disk",
        )

    def close(self) -> None:
        """Let go of the file; a second call does nothing."""
        if self._file is not None:
            self._file.close()
            self._file = None


class MadeFile(InputFile):
    """A part of a workshop's file."""

    def __init__(self, workshop: Workshop, size: int, make: Make) -> None:
        self.path = workshop.path
        self.size = size
        self._workshop = workshop
        self._make = make
        self._place: tuple[int, int] | None = None
        self._window = b""
        self._window_start = 0

    def _placed(self) -> tuple[int, int]:
        if self._place is None:
            self._place = self._workshop.put(self.size, self._make)
        return self._place

    @property
    def fd(self) -> int:  # type: ignore[override]
        """The descriptor."""
        return self._placed()[0]

    @property
    def start(self) -> int:
        """Where it begins there."""
        return self._placed()[1]

    def check_unchanged(self) -> None:
        """Do nothing: nobody else has it."""

    def close(self) -> None:
        """Do nothing: the workshop closes its file."""
