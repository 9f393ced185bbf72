"""Names of files and folders: found, given, exchanged and removed, each in one step if the system can."""

from __future__ import annotations

import errno
import os
import re
import shutil
import stat
from collections.abc import Iterable
from pathlib import Path

LONGEST = 255
"""Bytes that the name of a file may have."""
_TEMPORARY, _ASIDE = ".statex-tmp", ".statex-old"
_RANDOM = re.compile(r"\.[0-9a-f]{8}" + re.escape(_TEMPORARY))
_HERE, _NO_REPLACE, _EXCHANGE = -100, 1, 2
"""AT_FDCWD, RENAME_NOREPLACE and RENAME_EXCHANGE of Linux."""
_NO_LINKS = frozenset([errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EMLINK])
"""What a file system says that has no hard links, such as that of a USB stick; and any, of a folder."""


def beside(final: Path) -> Path:
    """Return a name that nothing has yet, in the same folder; it says what it is for, as far as names may be long."""
    return final.with_name(_start(final.name) + f".{os.urandom(4).hex()}{_TEMPORARY}")


def is_beside(final: Path, name: str) -> bool:
    """Say whether a name is one that `beside` gives for an output."""
    start = _start(final.name)
    return name.startswith(start) and _RANDOM.fullmatch(name, len(start)) is not None


def aside(temporary: Path) -> Path:
    """Return the name for what has to step aside where two names cannot be exchanged at once."""
    return temporary.with_name(temporary.name.removesuffix(_TEMPORARY) + _ASIDE)


def _start(name: str) -> str:
    return "." + shortened(name, LONGEST - len(f"..00000000{_TEMPORARY}"))


def shortened(name: str, limit: int) -> str:
    """Return as much of a name as fits into a number of bytes."""
    data = os.fsencode(name)
    return name if len(data) <= limit else data[:limit].decode(errors="ignore")


def swap(one: Path, final: Path, spare: Path) -> None:
    """Give what is at `one` the name `final`; what has that gets the name `one`.

    Where names cannot be exchanged, it gets the name `spare` instead, and a folder (and a file where there are no hard
    links) has no name for a moment.
    """
    if renameat2(one, final, _EXCHANGE) == 0:
        return
    try:
        os.link(final, spare)
    except FileExistsError:
        if not os.path.samestat(os.lstat(final), os.lstat(spare)):
            raise
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        os.rename(final, spare)
    os.replace(one, final)


def rename_new(one: Path, other: Path) -> None:
    """Rename a file or folder to a name that has to be free.

    Raises:
        FileExistsError: if it is not.
    """
    try:
        # A link fails where the name is taken; a rename would replace what has appeared meanwhile.
        os.link(one, other)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        said = renameat2(one, other, _NO_REPLACE)
        if said == errno.EEXIST or (said != 0 and os.path.lexists(other)):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(other)) from None
        if said != 0:
            os.rename(one, other)
        return
    os.unlink(one)


def renameat2(one: Path, other: Path, flags: int) -> int:
    """Rename as Linux can do it with flags; return the number of the error, or 0."""
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    call = getattr(libc, "renameat2", None)
    if call is None:
        return errno.ENOSYS
    return ctypes.get_errno() if call(_HERE, os.fsencode(one), _HERE, os.fsencode(other), flags) else 0


def remove(path: Path) -> None:
    """Remove a file or a folder with all that is in it, if it is there.

    Raises:
        OSError: what the system says.
    """
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def copy_mode(final: Path, temporary: Path) -> None:
    """Give what is new the mode of what it replaces, if there is something; else it has what the umask allows."""
    if final.exists():
        mode = stat.S_IMODE(final.stat().st_mode)
        if stat.S_IMODE(temporary.stat().st_mode) != mode:
            os.chmod(temporary, mode)


def create(path: Path) -> None:
    """Make an empty file; the name has to be free."""
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))


def write_all(fd: int, data: bytes) -> None:
    """Write bytes to an open file, and wait until they are on the disk."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
    os.fsync(fd)


def sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_folders_of(paths: Iterable[Path]) -> None:
    """Wait until the names that were given to these, or taken from them, are on the disk."""
    for folder in dict.fromkeys(path.parent for path in paths):
        sync(folder)
