"""Outputs that appear whole or not at all."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterable
from pathlib import Path

from statex.diagnostics import fail
from statex.diagnostics.codes import files as codes

_SUFFIX = ".statex-tmp"


def check_output(path: str | os.PathLike[str], force: bool, inputs: Iterable[str] = ()) -> None:
    """Refuse an output that could not be written, before any work is done.

    Raises:
        StatexError: SX610 for an existing file without `force`, SX611 for one of the inputs without `force`, SX612
            for a folder, a missing folder or one that cannot be written to.
    """
    path = Path(path)
    if path.is_dir():
        fail(codes.UNWRITABLE, f"`{path}` is a folder", help="name a file")
    parent = path.parent
    if not parent.is_dir():
        fail(codes.UNWRITABLE, f"there is no folder `{parent}`", help=f"mkdir -p '{parent}'")
    if path.exists() and not path.is_file():
        fail(codes.UNWRITABLE, f"`{path}` is no regular file")
    for source in inputs:
        if path.exists() and os.path.exists(source) and os.path.samefile(path, source) and not force:
            fail(codes.SAME_FILE, f"`{path}` is the input itself", help="choose another name, or add --force")
    if os.path.lexists(path) and not force:
        fail(codes.EXISTS, f"`{path}` exists", help="add --force to replace it")
    if not os.access(parent, os.W_OK):
        fail(codes.UNWRITABLE, f"the folder `{parent}` cannot be written to")


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
