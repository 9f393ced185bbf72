"""Checks of an output before any work is done: may it be written, and is there enough space?"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Mapping, Set
from pathlib import Path

from statex.checkpoint.filenames import of_sets
from statex.diagnostics import fail
from statex.diagnostics.amounts import show_bytes
from statex.diagnostics.codes import files as codes
from statex.diagnostics.suggest import join_words


def check_output(
    path: str | os.PathLike[str],
    force: bool,
    inputs: Iterable[str] = (),
    *,
    folder: bool = False,
    taken: Iterable[str] = (),
) -> None:
    """Refuse an output that could not be written, before any work is done.

    `taken` are the names of files that a folder will hold: one of the weights, and those that are copied along.

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
        fail(codes.UNWRITABLE, f"`{path}` is not a regular file")
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
        fail(codes.UNWRITABLE, f"`{path}` is not a folder, and the output is one")
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
        check_replaced(path, force, taken)
        if not os.access(path, os.W_OK):
            fail(codes.UNWRITABLE, f"the folder `{path}` cannot be written to")


def check_replaced(folder: Path, force: bool, fresh: Set[str]) -> None:
    """Refuse to replace a folder without `force`, and one that holds more than a set and what is `fresh` in the new.

    `fresh` are names of files; those of weights among them say which set may go.

    Raises:
        StatexError: SX610.
    """
    if not force:
        fail(
            codes.EXISTS, f"the folder `{folder}` has files in it", help="add --force to replace it, or name a new one"
        )
    there = list(folder.iterdir())
    replaced = of_sets([entry.name for entry in there if entry.is_file()], fresh)
    lost = sorted(entry.name for entry in there if entry.name not in fresh and entry.name not in replaced)
    if lost:
        fail(
            codes.EXISTS,
            f"the folder `{folder}` holds files that would be lost: {join_words(lost, limit=4)}",
            help="name a new folder, or remove them",
        )


def check_space(sizes: Mapping[Path, int]) -> None:
    """Refuse outputs that their disks have no room for now, given the bytes of each; room may still run out later.

    Raises:
        StatexError: SX615.
    """
    needed: dict[int, int] = {}
    for path, nbytes in sizes.items():
        folder = os.path.dirname(os.path.realpath(path))
        while not os.path.exists(folder):  # one that is made with the output
            folder = os.path.dirname(folder)
        try:
            disk, free = os.stat(folder).st_dev, shutil.disk_usage(folder).free
        except OSError as error:
            fail(codes.UNWRITABLE, f"`{path}` cannot be written: {error.strerror or error}")
        before = needed.get(disk, 0)
        needed[disk] = before + nbytes
        if needed[disk] > free:
            others = f", with {show_bytes(before)} of other outputs on the same disk" if before else ""
            fail(
                codes.NO_SPACE,
                f"`{path}` would take {show_bytes(nbytes)}{others}, and its disk has {show_bytes(free)} left",
            )
