"""The names of journals, which a command must look for before it knows anything else about the outputs."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from statex.checkpoint.atomic.renames import LONGEST, shortened

_ENDING = ".statex-journal"


def journal_of(final: Path) -> Path:
    """Return where the journal of an output is."""
    name = final.name
    if len(os.fsencode(name)) + len(_ENDING) + 1 > LONGEST:
        from hashlib import sha256

        ending = "~" + sha256(os.fsencode(name)).hexdigest()[:16]
        name = shortened(name, LONGEST - len(_ENDING) - 1 - len(ending)) + ending
    return final.with_name(f".{name}{_ENDING}")


def journals_beside(paths: Iterable[str | os.PathLike[str]]) -> Iterator[Path]:
    """Yield where journals of these outputs would be, and of the folders that they are in."""
    for path in paths:
        if b"\0" in os.fsencode(path):
            continue  # no file can have this name, and who opens it says so
        real = Path(os.path.realpath(path))
        yield from (journal_of(final) for final in (real, real.parent) if final.name)
