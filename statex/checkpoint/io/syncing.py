"""Waits until a file is on the disk, in parts if the system can, so that progress can be shown."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from statex.core.progress import Add, unheard

_PART = 1 << 26
_BEFORE, _WRITE, _AFTER = 1, 2, 4
"""SYNC_FILE_RANGE_WAIT_BEFORE, _WRITE and _WAIT_AFTER of Linux."""
_UNABLE = frozenset([errno.ENOSYS, errno.EINVAL, errno.ESPIPE, errno.EOPNOTSUPP, errno.EPERM])
"""What a system says that cannot do this for a file."""


def sync_file(fd: int, synced: Add = unheard) -> None:
    """Wait until all of an open file is on the disk; `synced` is told of the bytes that are.

    Raises:
        OSError: whatever the disk says.
    """
    size = os.fstat(fd).st_size
    synced(0)
    done = _in_parts(fd, size, synced) if synced is not unheard and size > _PART else 0
    os.fsync(fd)
    synced(size - done)


def sync_path(path: Path, synced: Add = unheard) -> None:
    """Wait until all of a file is on the disk; as `sync_file`."""
    fd = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
    try:
        sync_file(fd, synced)
    finally:
        os.close(fd)


def _in_parts(fd: int, size: int, synced: Add) -> int:
    """Wait for the bytes part by part; return how many were waited for, as far as the system can do that.

    It says nothing of what else a file needs to be found again, and so does not stand for an fsync.
    """
    call = _function()
    if call is None:
        return 0
    for start in range(0, size, _PART):
        # The disk has the next part to do while this one is waited for.
        call(fd, start + _PART, _PART, _WRITE)
        if call(fd, start, _PART, _BEFORE | _WRITE | _AFTER):
            if (number := _error()) in _UNABLE:
                return start
            # Told once, the error would not come again from fsync.
            raise OSError(number, os.strerror(number))
        synced(min(_PART, size - start))
    return size


def _function() -> Callable[[int, int, int, int], int] | None:
    import ctypes

    call: Any = getattr(ctypes.CDLL(None, use_errno=True), "sync_file_range", None)
    if call is not None:
        call.argtypes = [ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint]
    return call  # type: ignore[no-any-return]


def _error() -> int:
    import ctypes

    return ctypes.get_errno()
