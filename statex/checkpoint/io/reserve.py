"""Asks the file system for the room of a file before its bytes come: a full disk is known at once, and pages that have
their place on the disk already are written in two thirds of the time (ext4).
"""

from __future__ import annotations

import errno
import os

_WORTH = 1 << 24
"""Bytes below which it saves nothing."""
_REFUSED = frozenset([errno.ENOSPC, errno.EFBIG, errno.EDQUOT])


def reserve(fd: int, nbytes: int) -> None:
    """Give a file at least `nbytes` bytes of the disk, where its file system can do that.

    Raises:
        OSError: where there is no room for them.
    """
    if nbytes < _WORTH:
        return
    import ctypes

    # Not `os.posix_fallocate`: where the file system cannot do it, that writes into every block instead.
    fallocate = getattr(ctypes.CDLL(None, use_errno=True), "fallocate", None)
    if fallocate is None:
        return
    failed = fallocate(ctypes.c_int(fd), ctypes.c_int(0), ctypes.c_int64(0), ctypes.c_int64(nbytes))
    if failed and ctypes.get_errno() in _REFUSED:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
