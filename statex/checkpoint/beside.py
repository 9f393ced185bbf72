"""The files of a folder beside its weights (configuration, tokenizer, texts): which may be copied along, and how.

A folder may come from a stranger, and a link in it may lead to whatever the user can read. Links are followed inside
the folder, and from a snapshot of the Hugging Face cache to the blobs of that model; what is copied is the file that
was looked at, or nothing.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
from pathlib import Path

from statex.checkpoint.atomic.renames import sync
from statex.checkpoint.filenames import is_weights
from statex.checkpoint.formats.sharded import entries
from statex.core.record import node
from statex.diagnostics import fail
from statex.diagnostics.codes import files as codes

_OPEN = os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOFOLLOW", 0)
_DIGEST = re.compile(r"[0-9a-f]{64}")


@node
class OtherFile:
    """A file that can be copied along: `path` in its folder, `real` where links lead, and what it was like then.

    `content` is what is written instead of what it `held`; both are `None` for a file that is copied as it is.
    """

    path: Path
    real: str
    identity: tuple[int, int, int, int]
    held: bytes | None = None
    content: bytes | None = None

    @property
    def size(self) -> int:
        """The bytes that are written."""
        return self.identity[2] if self.content is None else len(self.content)


def other_files(folder: Path) -> tuple[list[OtherFile], list[str]]:
    """Return what a folder has beside weights and their index: files that can be copied along, and names of the rest.

    The rest are folders (`name/`) and links that are not followed (`name@`). Hidden files and weights are in neither.
    """
    files: list[OtherFile] = []
    rest: list[str] = []
    for entry in entries(folder):
        if entry.name.startswith(".") or is_weights(entry.name):
            continue
        real = os.path.realpath(entry)
        found = _looked_at(real) if not entry.is_symlink() or _is_followed(entry, real) else None
        if found is not None and stat.S_ISREG(found.st_mode):
            files.append(OtherFile(entry, real, _identity(found)))
        elif found is not None and stat.S_ISDIR(found.st_mode):
            rest.append(f"{entry.name}/")
        elif entry.is_symlink():
            rest.append(f"{entry.name}@")
    return files, rest


def is_never_copied(name: str) -> bool:
    """Say whether a file stays behind because of its name: it is hidden, or ends as weights do."""
    return name.startswith(".") or is_weights(name)


def never_copied(folder: Path) -> list[str]:
    """Return the names of the files of a folder that stay behind: hidden ones, and weights that are read or are not.

    Those of `torch.distributed.checkpoint`, which are always read, and those of interrupted runs are left out.
    """
    return [
        entry.name
        for entry in entries(folder)
        if is_never_copied(entry.name)
        and not entry.name.endswith((".distcp", ".metadata", ".statex-journal"))
        and (entry.is_file() or entry.is_symlink())
    ]


def _looked_at(real: str) -> os.stat_result | None:
    try:
        return os.lstat(real)
    except OSError:
        return None


def _identity(found: os.stat_result) -> tuple[int, int, int, int]:
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def _is_followed(link: Path, real: str) -> bool:
    end, folder = os.path.dirname(real), os.path.realpath(link.parent)
    if end == folder:
        return True
    blobs = _blobs_of(folder)
    return blobs is not None and (end == blobs or _is_shared(link, real, blobs))


def _blobs_of(folder: str) -> str | None:
    """Return the folder of blobs of a snapshot in the Hugging Face cache, or of a folder in one.

    That is `models--ORG--NAME/snapshots/REVISION`, beside `models--ORG--NAME/blobs`.
    """
    parts = Path(folder).parts
    for place in range(2, len(parts) - 1):
        if parts[place] == "snapshots" and parts[place - 1].startswith("models--"):
            return os.path.join(*parts[:place], "blobs")
    return None


def _is_shared(link: Path, real: str, blobs: str) -> bool:
    """Say whether a link leads through the blobs of a model to the store that the models of a cache share.

    Blobs of the hub's Xet storage are links there: `blobs/PREFIX/DIGEST`, beside the folders of the models.
    """
    through = os.path.realpath(link.parent / os.path.dirname(os.readlink(link)))
    digest = os.path.basename(real)
    store = os.path.join(os.path.dirname(os.path.dirname(blobs)), "blobs", digest[:2])
    return through == blobs and _DIGEST.fullmatch(digest) is not None and os.path.dirname(real) == store


def copied_into(folder: Path, file: OtherFile) -> None:
    """Copy a file into a folder, or write what comes in its place, and wait until it is on the disk.

    Raises:
        StatexError: SX609 if it is not the file any more that was looked at, SX601 if it cannot be read.
    """
    target = folder / file.path.name
    source = _opened(file)
    try:
        with open(target, "xb") as output:
            if file.content is not None:
                output.write(file.content)
            else:
                with open(source, "rb", closefd=False) as content:
                    shutil.copyfileobj(content, output)
        _check_same(file, os.fstat(source))
    finally:
        os.close(source)
    sync(target)


def read_whole(file: OtherFile, limit: int) -> bytes | None:
    """Return what a file holds, `None` if that is more than a number of bytes; errors as `copied_into`."""
    if file.identity[2] > limit:
        return None
    source = _opened(file)
    try:
        with open(source, "rb", closefd=False) as content:
            found = content.read(limit + 1)
        _check_same(file, os.fstat(source))
        return found
    finally:
        os.close(source)


def _opened(file: OtherFile) -> int:
    try:
        source = os.open(file.real, _OPEN)
    except PermissionError as error:
        fail(codes.UNREADABLE, f"`{file.path}` cannot be read: {error.strerror}")
    except OSError:  # it is gone, or a link by now
        _changed(file)
    try:
        _check_same(file, os.fstat(source))
    except BaseException:
        os.close(source)
        raise
    return source


def _check_same(file: OtherFile, now: os.stat_result) -> None:
    if not stat.S_ISREG(now.st_mode) or _identity(now) != file.identity:
        _changed(file)


def _changed(file: OtherFile) -> None:
    fail(codes.CHANGED, f"`{file.path}` was changed while it was copied", help="run again when it is complete")
