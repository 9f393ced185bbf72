"""Outputs that appear whole or not at all."""

from __future__ import annotations

import ctypes
import os
import secrets
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

from statex.checkpoint.sharded import is_weights
from statex.diagnostics import fail
from statex.diagnostics.amounts import show_bytes
from statex.diagnostics.codes import files as codes

_SUFFIX = ".statex-tmp"
_HERE, _EXCHANGE = -100, 2
"""AT_FDCWD and RENAME_EXCHANGE of Linux."""


def check_output(
    path: str | os.PathLike[str], force: bool, inputs: Iterable[str] = (), *, folder: bool = False
) -> None:
    """Refuse an output that could not be written, before any work is done.

    Raises:
        StatexError: SX610 for an existing file (or a folder with files) without `force`, SX611 for one of the inputs
            without `force`, SX612 for a missing folder or one that cannot be written to, and for what is there and
            cannot be replaced.
    """
    path = Path(path)
    parent = path.parent
    if not parent.is_dir():
        fail(codes.UNWRITABLE, f"there is no folder `{parent}`", help=f"mkdir -p '{parent}'")
    for source in inputs:
        if path.exists() and os.path.exists(source) and os.path.samefile(path, source) and not force:
            fail(codes.SAME_FILE, f"`{path}` is the input itself", help="choose another name, or add --force")
    if folder:
        _check_folder(path, force)
    elif path.is_dir():
        fail(codes.UNWRITABLE, f"`{path}` is a folder", help="name a file")
    elif path.exists() and not path.is_file():
        fail(codes.UNWRITABLE, f"`{path}` is no regular file")
    elif os.path.lexists(path) and not force:
        fail(codes.EXISTS, f"`{path}` exists", help="add --force to replace it")
    if not os.access(parent, os.W_OK):
        fail(codes.UNWRITABLE, f"the folder `{parent}` cannot be written to")


def _check_folder(path: Path, force: bool) -> None:
    if not os.path.lexists(path):
        return
    if not path.is_dir() or path.is_symlink():
        fail(codes.UNWRITABLE, f"`{path}` is no folder, and a folder is to be written")
    if path.samefile(os.curdir):
        fail(
            codes.UNWRITABLE,
            f"`{path}` is the current folder, and a folder is written as a whole: it would be replaced",
            help="name a new folder, or run this from outside",
        )
    if any(path.iterdir()) and not force:
        fail(codes.EXISTS, f"the folder `{path}` has files in it", help="add --force to replace it, or name a new one")


def check_space(path: Path, nbytes: int) -> None:
    """Refuse an output that its disk has no room for now; there may be none later all the same.

    Raises:
        StatexError: SX615.
    """
    free = shutil.disk_usage(path.parent).free
    if nbytes > free:
        fail(
            codes.NO_SPACE,
            f"`{path}` would take {show_bytes(nbytes)}, and its disk has {show_bytes(free)} left",
        )


def write_atomically(path: Path, write: Callable[[Path], None], *, force: bool) -> None:
    """Write beside the final name, and rename; nothing is left behind on failure. `write` syncs what it writes.

    Raises:
        StatexError: SX610 where the output exists and `force` is false, SX612 for what the system refuses.
    """
    # A link that is written through stays a link.
    final = Path(os.path.realpath(path)) if path.is_symlink() and force else path
    temporary = final.with_name(f".{final.name}.{secrets.token_hex(4)}{_SUFFIX}")
    try:
        _create(temporary)
        try:
            write(temporary)
            _copy_mode(final, temporary)
            if force:
                os.replace(temporary, final)
            else:
                # A link fails where the name is taken; a rename would replace what has appeared meanwhile.
                os.link(temporary, final)
                os.unlink(temporary)
            _sync(final.parent)
        finally:
            temporary.unlink(missing_ok=True)
    except FileExistsError:
        fail(codes.EXISTS, f"`{path}` exists", help="add --force to replace it")
    except OSError as error:
        fail(codes.UNWRITABLE, f"`{path}` cannot be written: {error.strerror or error}")


def folder_atomically(final: Path, write: Callable[[Path], None], *, force: bool) -> None:
    """Write a folder beside its final name, and rename; nothing is left behind on failure.

    An existing folder is replaced as a whole, and only if it holds no files that the new one does not have.

    Raises:
        StatexError: SX610 where the output exists and `force` is false or other files would be lost, SX612 for what
            the system refuses.
    """
    temporary = final.with_name(f".{final.name}.{secrets.token_hex(4)}{_SUFFIX}")
    try:
        temporary.mkdir(0o777)
        try:
            write(temporary)
            _sync(temporary)
            _put_folder(temporary, final, force)
            _sync(final.parent)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    except OSError as error:
        fail(codes.UNWRITABLE, f"`{final}` cannot be written: {error.strerror or error}")


def _put_folder(temporary: Path, final: Path, force: bool) -> None:
    """Give the folder its name; what had the name before gets that of the temporary one, and goes with it."""
    if not final.is_dir() or not any(final.iterdir()):
        os.rename(temporary, final)  # an empty folder is replaced
        return
    if not force:
        fail(codes.EXISTS, f"the folder `{final}` has files in it", help="add --force to replace it")
    fresh = {entry.name for entry in temporary.iterdir()}
    lost = sorted(e.name for e in final.iterdir() if e.name not in fresh and not is_weights(e.name))
    if lost:
        fail(
            codes.EXISTS,
            f"the folder `{final}` holds files that would be lost: {', '.join(lost[:4])}",
            help="name a new folder, or remove them",
        )
    exchange(temporary, final)


def exchange(one: Path, other: Path) -> None:
    """Swap two names at once where the system can (renameat2 of Linux), else one after the other."""
    libc = ctypes.CDLL(None, use_errno=True)
    renameat2 = getattr(libc, "renameat2", None)
    if renameat2 is not None and not renameat2(_HERE, os.fsencode(one), _HERE, os.fsencode(other), _EXCHANGE):
        return
    aside = one.with_name(one.name + "-old")
    os.rename(other, aside)
    os.rename(one, other)
    os.rename(aside, one)


def _create(path: Path) -> None:
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))


def _copy_mode(final: Path, temporary: Path) -> None:
    """Give the new file the mode of the one it replaces, or what the umask allows."""
    if final.exists():
        mode = final.stat().st_mode & 0o7777
    else:
        umask = os.umask(0)
        os.umask(umask)
        mode = 0o666 & ~umask
    os.chmod(temporary, mode)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
