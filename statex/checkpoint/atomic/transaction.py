"""Several outputs that appear together or not at all."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from statex.checkpoint.atomic.commit import commit
from statex.checkpoint.atomic.journal import claim
from statex.checkpoint.atomic.signals import held_signals
from statex.checkpoint.atomic.staging import Staged, Write, refusals, staged, write_bytes
from statex.diagnostics import fail
from statex.diagnostics.codes import files as codes


class Transaction:
    """Outputs of one run; a context manager that removes what was written, unless `commit` has given it its names.

    Each has a journal beside it from before it is written, so that `recover` removes what a killed run leaves. With
    `alone` the only output has none if one rename is all it takes.
    """

    def __init__(self, *, alone: bool = False) -> None:
        self._run = os.urandom(16).hex()
        self._alone = alone
        self._staged: list[Staged] = []

    def __enter__(self) -> Transaction:
        return self

    def __exit__(self, *_: object) -> None:
        self.discard()

    @property
    def staged(self) -> Sequence[Staged]:
        """The outputs so far."""
        return tuple(self._staged)

    def stage_file(self, path: Path, write: Write, *, force: bool) -> Staged:
        """Write a file under a temporary name; `write` gets that, of an empty file, and syncs what it writes.

        Raises:
            StatexError: SX612 for what the system refuses, SX624 if another run is writing this output.
        """
        return self._stage(staged(path, is_folder=False, force=force), write)

    def stage_folder(self, path: Path, write: Write, *, force: bool, own: frozenset[str] = frozenset()) -> Staged:
        """Write a folder under a temporary name; `write` gets that, of an empty folder, and syncs the files in it.

        `own` are the names of files that may go with what it replaces.

        Raises:
            StatexError: SX612 for what the system refuses, SX624 if another run is writing this output.
        """
        one = staged(path, is_folder=True, force=force)
        one.own = own
        return self._stage(one, write)

    def stage_bytes(self, path: str | os.PathLike[str], data: bytes, *, force: bool) -> Staged:
        """Write a small file, such as a report, under a temporary name.

        Raises:
            StatexError: SX612 for what the system refuses, SX624 if another run is writing this output.
        """
        return self.stage_file(Path(path), lambda temporary: write_bytes(temporary, data), force=force)

    def commit(self) -> None:
        """Give all outputs their names, or none; signals that would end the process wait for it.

        Raises:
            StatexError: SX610 if an output has appeared meanwhile that is not to be replaced, or files would be
                lost with a folder; SX612 for what the system refuses.
        """
        commit(self._staged, self._run)

    def discard(self) -> None:
        """Remove what was written and has not got its name; a second call does nothing."""
        with held_signals(), ExitStack() as every:
            for one in self._staged:
                every.callback(one.discard)

    def _stage(self, one: Staged, write: Write) -> Staged:
        self._check_apart(one)
        with refusals(one.path):
            # What is begun is known before a signal can end it.
            with held_signals():
                if not self._alone:
                    one.journal = claim(one.final, one.temporary, self._run)
                self._staged.append(one)
            one.write(write)
        return one

    def _check_apart(self, one: Staged) -> None:
        for other in self._staged:
            if one.final == other.final:
                fail(codes.UNWRITABLE, f"`{one.path}` is written twice in one run", help="choose another name")
            for inner, outer in ((one, other), (other, one)):
                if outer.is_folder and outer.final in inner.final.parents:
                    fail(
                        codes.UNWRITABLE,
                        f"`{inner.path}` is in the folder `{outer.path}`, which is an output of the same run and is "
                        "written as a whole",
                        help="choose a name outside of it",
                    )
