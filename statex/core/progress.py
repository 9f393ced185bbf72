"""The progress of a run: its phases by name, and the bytes done in each."""

from __future__ import annotations

from collections.abc import Callable
from inspect import signature

from statex.core.record import record

PLANNING, READING, WRITING = "planning", "reading", "writing"
SYNCING, READING_BACK = "syncing", "reading back"


@record
class Progress:
    """How far a run is: the phase that is on, and how many of its bytes are done.

    The phases are `planning` (files are opened, all is checked), `reading` (bytes are compared, with digests, checksums
    or others), `writing`, `syncing` (waiting for the disk) and `reading back`. A phase may come again, as each file is
    written and synced before the next: it goes on where it was. `total` is 0 where nobody knows it beforehand.
    """

    phase: str
    done: int = 0
    total: int = 0


Tell = Callable[[Progress], None]
"""Hears how far a run is, whenever that changes."""
Add = Callable[[int], None]
"""Hears of further bytes that are done; 0 says that the phase is on."""


def unheard(count: int) -> None:
    """Let bytes go by that nobody wants to know of."""


@record
class Watch:
    """What hears of the bytes of outputs: when they are written, and when they are on the disk."""

    written: Add = unheard
    synced: Add = unheard


class Phases:
    """The phases of a run, for one who wants to know of them, if anybody does."""

    def __init__(self, tell: Tell | None) -> None:
        self._tell = tell

    def phase(self, name: str, total: int | None = None) -> Add:
        """Return what counts the bytes of a phase, of a total if that is known; nothing is told before."""
        tell = self._tell
        if tell is None:
            return unheard
        done = 0

        def add(count: int) -> None:
            nonlocal done
            done += count
            # Bytes of headers are written as well, and are not part of the total.
            tell(Progress(name, done, 0) if total is None else Progress(name, min(done, total), total))

        return add

    def begin(self, name: str, total: int | None = None) -> Add:
        """Tell that a phase is on, and return what counts its bytes."""
        add = self.phase(name, total)
        add(0)
        return add


def teller(progress: Tell | Callable[[int, int], None] | None) -> Tell | None:
    """Return what tells a caller's function: all phases if it takes one argument, or the bytes of writing alone."""
    if progress is None:
        return None
    if not _takes(progress, 2):
        return progress  # type: ignore[return-value]

    def tell(now: Progress) -> None:
        if now.phase == WRITING:
            progress(now.done, now.total)  # type: ignore[call-arg, arg-type]

    return tell


def _takes(function: Callable[..., object], count: int) -> bool:
    """Say whether a function can be called with so many arguments; true where Python cannot tell."""
    try:
        signature(function).bind(*range(count))
    except TypeError:
        return False
    except ValueError:  # some that are written in C
        return True
    return True
