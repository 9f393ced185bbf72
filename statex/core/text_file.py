"""Small text files that others name: regular ones, whose size is checked first."""

from __future__ import annotations

import errno
import os
import re
import stat
import tempfile
from contextlib import suppress
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
        raise Unreadable(not_utf8(data, error.start)[0]) from None


_BINARY = re.compile(rb"[\x00-\x08\x0b\x0e-\x1f\x7f]")
"""What no text has, in whatever encoding of 8 bits."""
_WINDOWS = re.compile(rb"[\x80-\x9f]")
"""Quotes and dashes there; control characters in Latin-1."""


def not_utf8(data: bytes, at: int) -> tuple[str, str | None]:
    """Return why bytes are not UTF-8 text, of which the first is at `at`, and what `iconv` calls them if it can help.

    What is said goes after the name of their file.
    """
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return "is UTF-16 text, not UTF-8", "UTF-16"
    if _BINARY.search(data) is not None:
        return "is a binary file, not text", None
    if not data[:at].isascii():
        return f"is not UTF-8 text (byte {at})", None
    name, encoding = ("Windows-1252", "CP1252") if _WINDOWS.search(data) is not None else ("Latin-1", "LATIN1")
    character = data[at : at + 1].decode(encoding.lower(), errors="replace")
    line = data.count(b"\n", 0, at) + 1
    return f"is {name} text, not UTF-8 (byte {at}, `{character}` in line {line})", encoding


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


def as_utf8(text: str) -> bytes:
    """Return a text as it stands in a file.

    Raises:
        OSError: for characters that UTF-8 does not have, such as those of a key that is not text.
    """
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise OSError(errno.EILSEQ, f"it would hold {text[error.start]!r}, which is not Unicode text") from None


def replace_text_file(path: Path, text: str) -> None:
    """Put a text in the place of a file's, at once or not at all; its permissions stay, and links to it.

    Raises:
        OSError: if that cannot be done; the file is then as it was.
    """
    whole = Path(os.path.realpath(path))
    if not os.access(whole, os.W_OK):
        # The folder alone decides whether a file may be replaced, but who made it read-only wants it as it is.
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    data = as_utf8(text)
    handle, name = tempfile.mkstemp(prefix=f".{whole.name}.", dir=whole.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            _take_over(file.fileno(), whole.stat())
            os.fsync(file.fileno())
        os.replace(name, whole)
    except BaseException:
        os.unlink(name)
        raise


def _take_over(handle: int, old: os.stat_result) -> None:
    """Give a file the owner, as far as that is allowed, and the permissions of another."""
    if (old.st_uid, old.st_gid) != (os.geteuid(), os.getegid()):
        # Root may give a file away, others only keep it.
        with suppress(PermissionError):
            os.fchown(handle, old.st_uid, old.st_gid)
    os.fchmod(handle, stat.S_IMODE(old.st_mode))
