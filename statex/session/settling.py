"""Interrupted runs that a command finds: settled before it begins, and reported in any case."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from statex.checkpoint.atomic.names import journals_beside
from statex.diagnostics import Diagnostic, StatexError


def settle(paths: Sequence[Path]) -> tuple[Diagnostic, ...]:
    """Finish or undo interrupted runs that had to do with files; return what to say of it.

    Raises:
        StatexError: SX622 and SX623 for runs that can be neither finished nor undone.
    """
    if not any(os.path.lexists(journal) for journal in journals_beside(paths)):
        return ()
    from statex.checkpoint.atomic.recovery import recover

    return tuple(one.diagnostic() for one in recover(paths))


class Telling:
    """What is open after runs were settled; a context manager that closes it, and tells of these with an error."""

    before: tuple[Diagnostic, ...]
    """What is to be said of the runs."""

    def close(self) -> None:
        """Close what is open."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, *_: object) -> None:
        self.close()
        if isinstance(error, StatexError):
            with telling(self.before):
                raise error


@contextmanager
def telling(before: Sequence[Diagnostic]) -> Iterator[None]:
    """Say what was settled before also where an error ends the work inside."""
    try:
        yield
    except StatexError as error:
        if not before or before[0] in error.diagnostics:
            raise
        raise StatexError((*before, *error.diagnostics)) from error
