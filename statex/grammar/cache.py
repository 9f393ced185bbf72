"""Where the tables of the parser are kept between runs: building them takes most of a short command's time.

lark keeps them as a pickle, so the folder has to be the user's own, as the compiled modules of Python are.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path


def cache_file(name: str) -> str | bool:
    """Return the file for the tables of a parser, or `False` where there is no place for it that is the user's alone.

    The folder is `statex` in `XDG_CACHE_HOME` or in `~/.cache`. lark compares a hash of grammar, options and versions
    before it takes the tables from it, and goes on without where the file cannot be read or written.
    """
    if not hasattr(os, "getuid"):
        return False
    try:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        folder = base / "statex"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.lstat()
    except (OSError, RuntimeError):
        return False
    own = stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o022
    return str(folder / f"{name}.lark") if own else False
