"""Missing folders for outputs: created when needed, and removed again if nothing is written to them."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from statex.diagnostics import fail
from statex.diagnostics.codes import files as codes


class MadeFolders:
    """Makes the folders that paths stand in; a context manager that removes them, still empty, after an error."""

    def __init__(self, paths: Iterable[Path]) -> None:
        self._wanted = [path.parent for path in paths]
        self._made: list[Path] = []

    def __enter__(self) -> MadeFolders:
        try:
            for folder in self._wanted:
                self._make(folder)
        except BaseException:
            self._remove()
            raise
        return self

    def _make(self, folder: Path) -> None:
        missing = []
        while not os.path.isdir(folder):
            missing.append(folder)
            folder = folder.parent
        for one in reversed(missing):
            if os.path.isdir(one):  # `new/..`, once there is `new`
                continue
            try:
                one.mkdir()
            except OSError as error:
                fail(codes.UNWRITABLE, f"the folder `{one}` cannot be made: {error.strerror or error}")
            self._made.append(one)

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is not None:
            self._remove()

    def _remove(self) -> None:
        for folder in reversed(self._made):
            try:
                folder.rmdir()
            except OSError:
                # Somebody else has put something there meanwhile.
                return
