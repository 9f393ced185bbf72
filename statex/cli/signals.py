"""Signals that end a command: what was begun is removed, one line is printed, the exit code is 128 and the number."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

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


def _stop(number: int, frame: FrameType | None) -> None:
    # A second signal would interrupt the clean-up after the first.
    for other in _ENDING:
        signal.signal(other, signal.SIG_IGN)
    stopped = Stopped(number)
    _received.append(stopped)
    raise stopped


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
