"""Signals that end a command: unfinished files are removed, one line is printed, the exit code is 128 + the number."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sys import UnraisableHookArgs

_ENDING = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


class Stopped(BaseException):
    """A signal asked the process to end."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number
        self.name = signal.Signals(number).name


_received: list[Stopped] = []


def install() -> None:
    """Let the ending signals raise `Stopped`; one that is ignored (as by nohup) stays so."""
    for number in _ENDING:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _stop)
    sys.unraisablehook = _report_ignored


def leave() -> None:
    """Ignore the ending signals from now on: all is done and said, and the interpreter takes its time to end.

    In the midst of that it would give them back to the system, which ends the process without a word.
    """
    for number in _ENDING:
        signal.signal(number, signal.SIG_IGN)


def _stop(number: int, frame: FrameType | None) -> None:
    # A second signal would interrupt the clean-up after the first.
    leave()
    stopped = Stopped(number)
    _received.append(stopped)
    raise stopped


def _report_ignored(ignored: UnraisableHookArgs) -> None:
    """Say nothing of a signal that met what may raise nothing, such as the end of an object: it is heard later."""
    if not isinstance(ignored.exc_value, Stopped):
        sys.__unraisablehook__(ignored)


@contextmanager
def heard() -> Iterator[None]:
    """Let a signal that comes inside end it, whatever the code that it meets makes of it.

    An import of torch, for one, may go on after it, or end in another error.
    """
    try:
        yield
    except Exception:
        check()
        raise
    check()


def check() -> None:
    """Raise `Stopped` again for a signal that came before."""
    if _received:
        raise _received[0]
