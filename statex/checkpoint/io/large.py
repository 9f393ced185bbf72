"""Decides which outputs are large compared with memory, and are written past the page cache."""

from __future__ import annotations

import os
from pathlib import Path

_SHARE = 5
"""An output is large from this part of the available memory on: so much, and no more, Linux lets stand unwritten before
it makes writers wait for the disk (vm.dirty_ratio)."""
_FILE_SYSTEMS = ("ext4",)
"""Where this is known to pay. Others may share the blocks of two files, which is faster than any copy."""


def is_large(folder: Path, nbytes: int) -> bool:
    """Say whether an output of so many bytes in a folder is to be written past the page cache."""
    memory = _available()
    return memory is not None and nbytes > memory // _SHARE and _file_system(folder) in _FILE_SYSTEMS


def memory_there_is() -> int | None:
    """Return the bytes of memory and swap that the machine has; `None` where the system does not tell."""
    found = _meminfo("MemTotal", "SwapTotal")
    return sum(found) if found else None


def _available() -> int | None:
    """Return the bytes of memory that are free or can be freed; `None` where the system does not tell."""
    return next(iter(_meminfo("MemAvailable")), None)


def _meminfo(*names: str) -> list[int]:
    """Return what Linux says of its memory under these names, in bytes."""
    try:
        lines = Path("/proc/meminfo").read_text("ascii").splitlines()
    except OSError:
        return []
    said = dict(line.split(":", 1) for line in lines if ":" in line)
    return [int(said[name].split()[0]) * 1024 for name in names if name in said]


def _file_system(folder: Path) -> str | None:
    """Return the type of the file system of a folder; `None` where the system does not tell.

    Format: proc_pid_mountinfo(5): number, parent, major:minor, …, `-`, type, ….
    """
    try:
        device = os.stat(folder).st_dev
        mounts = Path("/proc/self/mountinfo").read_text("utf-8", "surrogateescape").splitlines()
    except OSError:
        return None
    wanted = f"{os.major(device)}:{os.minor(device)}"
    fields = (line.split() for line in mounts)
    return next((one[one.index("-") + 1] for one in fields if one[2] == wanted), None)
