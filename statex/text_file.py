"""Small text files that others name: regular ones, of a size that is looked at first."""

from __future__ import annotations

import os
import stat
from pathlib import Path


class Unreadable(Exception):
    """Why a file cannot be read, to be said after its name."""


def read_text_file(path: Path, limit: int, *, special: bool = False) -> str:
    """Return the text of a file of at most `limit` bytes; `special` lets pipes and devices pass too.

    Raises:
        Unreadable: with the rest of a sentence that begins with the file's name.
    """
    try:
        data = _read(path, limit, special)
    except OSError as error:
        raise Unreadable(f"cannot be read: {error.strerror or error}") from None
    except ValueError:
        raise Unreadable("cannot be read: a file name holds no null character") from None
    if len(data) > limit:
        raise Unreadable(f"is too large: more than {limit:,} bytes")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Unreadable(f"is not UTF-8 text (byte {error.start})") from None


def _read(path: Path, limit: int, special: bool) -> bytes:
    # To open a pipe waits for its writer, and to open a device may do something: so it is looked at before that.
    if not special:
        _check_regular(os.stat(path).st_mode)
    flags = 0 if special else getattr(os, "O_NONBLOCK", 0)
    with open(path, "rb", opener=lambda name, wanted: os.open(name, wanted | flags)) as file:
        if not special:
            _check_regular(os.fstat(file.fileno()).st_mode)
        return file.read(limit + 1)


def _check_regular(mode: int) -> None:
    if stat.S_ISDIR(mode):
        raise Unreadable("is a folder")
    if not stat.S_ISREG(mode):
        raise Unreadable("is not a regular file")
