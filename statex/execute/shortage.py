"""Memory that torch or numpy cannot get: reported as an error of the run, not as one of theirs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from statex.diagnostics import fail
from statex.diagnostics.amounts import show_bytes
from statex.diagnostics.codes import files as codes

_SAID = ("can't allocate memory", "not enough memory", "out of memory", "Unable to allocate")
"""What torch and numpy say of it, on all devices."""


def is_shortage(error: BaseException) -> bool:
    """Say whether an error is about memory that was asked for and not there."""
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(text in str(error) for text in _SAID)
    )


@contextmanager
def told(what: str, nbytes: int = 0) -> Iterator[None]:
    """Refuse what has no memory; `what` is made of it, of so many bytes.

    Raises:
        StatexError: SX616.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_shortage(error):
            raise
        size = f", whose result takes {show_bytes(nbytes)}" if nbytes else ""
        fail(codes.NO_MEMORY, f"there is not enough memory for {what}{size}")
