"""Outputs that appear whole or not at all."""

from __future__ import annotations

import errno
import os
import shutil
import stat
from collections.abc import Callable, Iterable, Iterator, Set
from contextlib import contextmanager
from pathlib import Path

from statex.checkpoint.sharded import is_of_set
from statex.diagnostics import fail
from statex.diagnostics.amounts import show_bytes
from statex.diagnostics.codes import files as codes
from statex.diagnostics.suggest import join_words

_SUFFIX = ".statex-tmp"
_HERE, _NO_REPLACE, _EXCHANGE = -100, 1, 2
"""AT_FDCWD, RENAME_NOREPLACE and RENAME_EXCHANGE of Linux."""
_NO_LINKS = frozenset([errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EMLINK])
"""What a file system says that has no hard links, such as that of a USB stick."""
_LONGEST = 255
"""Bytes that the name of a file may have."""


def check_output(
    path: str | os.PathLike[str],
    force: bool,
    inputs: Iterable[str] = (),
    *,
    folder: bool = False,
    taken: Iterable[str] = (),
) -> None:
    """Refuse an output that could not be written, before any work is done.

    `taken` are the names of files that are taken along into a folder.

    Raises:
        StatexError: SX610 for an existing file (or a folder with files) without `force`, SX611 for one of the inputs
            without `force`, SX612 for a missing folder or one that cannot be written to, and for what is there and
            cannot be replaced.
    """
    try:
        _check_output(Path(path), force, inputs, folder, set(taken))
    except OSError as error:
        fail(codes.UNWRITABLE, f"`{path}` cannot be written: {error.strerror or error}")


def _check_output(path: Path, force: bool, inputs: Iterable[str], folder: bool, taken: Set[str]) -> None:
    parent = path.parent
    if not os.path.isdir(parent):
        fail(codes.UNWRITABLE, f"there is no folder `{parent}`", help=f"mkdir -p '{parent}'")
    for source in inputs:
        if os.path.exists(path) and os.path.exists(source) and os.path.samefile(path, source) and not force:
            fail(codes.SAME_FILE, f"`{path}` is the input itself", help="choose another name, or add --force")
    if folder:
        _check_folder(path, force, taken)
    elif os.path.isdir(path):
        fail(codes.UNWRITABLE, f"`{path}` is a folder", help="name a file")
    elif os.path.exists(path) and not os.path.isfile(path):
        fail(codes.UNWRITABLE, f"`{path}` is no regular file")
    elif os.path.lexists(path) and not force:
        fail(codes.EXISTS, f"`{path}` exists", help="add --force to replace it")
    # What a link names is written where that is.
    where = os.path.dirname(os.path.realpath(path)) if os.path.islink(path) else parent
    if not os.path.isdir(where):
        fail(codes.UNWRITABLE, f"`{path}` is a link into `{where}`, and there is no such folder")
    if not os.access(where, os.W_OK):
        fail(codes.UNWRITABLE, f"the folder `{where}` cannot be written to")


def _check_folder(path: Path, force: bool, taken: Set[str]) -> None:
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
    if os.path.ismount(path):
        fail(
            codes.UNWRITABLE,
            f"`{path}` is where a disk begins, and a folder is written as a whole: it would be replaced",
            help="name a folder inside",
        )
    if any(path.iterdir()):
        _check_replaced(path, force, taken)
        if not os.access(path, os.W_OK):
            fail(codes.UNWRITABLE, f"the folder `{path}` cannot be written to")


def _check_replaced(folder: Path, force: bool, fresh: Set[str]) -> None:
    """Refuse to replace a folder without `force`, and where it holds more than a set and what is `fresh` in the new."""
    if not force:
        fail(
            codes.EXISTS, f"the folder `{folder}` has files in it", help="add --force to replace it, or name a new one"
        )
    lost = sorted(e.name for e in folder.iterdir() if e.name not in fresh and not (e.is_file() and is_of_set(e.name)))
    if lost:
        fail(
            codes.EXISTS,
            f"the folder `{folder}` holds files that would be lost: {join_words(lost, limit=4)}",
            help="name a new folder, or remove them",
        )


def check_space(path: Path, nbytes: int) -> None:
    """Refuse an output that its disk has no room for now; there may be none later all the same.

    Raises:
        StatexError: SX615.
    """
    try:
        free = shutil.disk_usage(os.path.dirname(os.path.realpath(path))).free
    except OSError as error:
        fail(codes.UNWRITABLE, f"`{path}` cannot be written: {error.strerror or error}")
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
    final = Path(os.path.realpath(path)) if os.path.islink(path) and force else path
    temporary = _beside(final)
    try:
        with _gone_after(temporary):
            _create(temporary)
            write(temporary)
            if force:
                _copy_mode(final, temporary)
                os.replace(temporary, final)
            else:
                _rename_new(temporary, final)
            _sync(final.parent)
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
    temporary = _beside(final)
    try:
        with _gone_after(temporary):
            temporary.mkdir(0o777)
            write(temporary)
            _sync(temporary)
            _put_folder(temporary, final, force)
            _sync(final.parent)
    except OSError as error:
        fail(codes.UNWRITABLE, f"`{final}` cannot be written: {error.strerror or error}")


def _beside(final: Path) -> Path:
    """Return a name that nothing has yet, in the same folder; it says what it is for, as far as names may be long."""
    ending = f".{os.urandom(4).hex()}{_SUFFIX}"
    start = os.fsencode(final.name)[: _LONGEST - len(ending) - 1].decode(errors="ignore")
    return final.with_name(f".{start}{ending}")


@contextmanager
def _gone_after(temporary: Path) -> Iterator[None]:
    """Remove a file or folder at the end, if it is there."""
    try:
        yield
    finally:
        try:
            _remove(temporary)
        except BaseException:
            # A signal came meanwhile; those after it are ignored.
            _remove(temporary)
            raise


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _put_folder(temporary: Path, final: Path, force: bool) -> None:
    """Give the folder its name; what had the name before gets that of the temporary one, and goes with it."""
    if final.is_dir():
        _copy_mode(final, temporary)
    if not final.is_dir() or not any(final.iterdir()):
        os.rename(temporary, final)  # an empty folder is replaced
        return
    _check_replaced(final, force, {entry.name for entry in temporary.iterdir()})
    exchange(temporary, final)


def exchange(one: Path, other: Path) -> None:
    """Swap two names at once where the system can (renameat2 of Linux), else one after the other."""
    if _renameat2(one, other, _EXCHANGE) == 0:
        return
    aside = one.with_name(one.name + "-old")
    os.rename(other, aside)
    os.rename(one, other)
    os.rename(aside, one)


def _rename_new(one: Path, other: Path) -> None:
    """Rename a file to a name that has to be free.

    Raises:
        FileExistsError: where it is not.
    """
    try:
        # A link fails where the name is taken; a rename would replace what has appeared meanwhile.
        os.link(one, other)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        said = _renameat2(one, other, _NO_REPLACE)
        if said == errno.EEXIST or (said != 0 and os.path.lexists(other)):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST)) from None
        if said != 0:
            os.rename(one, other)
        return
    os.unlink(one)


def _renameat2(one: Path, other: Path, flags: int) -> int:
    """Rename as Linux can do it with flags; return the number of the error, or 0."""
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    call = getattr(libc, "renameat2", None)
    if call is None:
        return errno.ENOSYS
    return ctypes.get_errno() if call(_HERE, os.fsencode(one), _HERE, os.fsencode(other), flags) else 0


def _create(path: Path) -> None:
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))


def _copy_mode(final: Path, temporary: Path) -> None:
    """Give what is new the mode of what it replaces, if there is something; else it has what the umask allows."""
    if final.exists():
        mode = stat.S_IMODE(final.stat().st_mode)
        if stat.S_IMODE(temporary.stat().st_mode) != mode:
            os.chmod(temporary, mode)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
