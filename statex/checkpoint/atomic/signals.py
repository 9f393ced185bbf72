"""Signals that ask the process to end, held back while it must not."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import FrameType

_ENDING = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


@contextmanager
def held_signals() -> Iterator[None]:
    """Let SIGINT, SIGTERM and SIGHUP wait until the end of the block, and deliver them then.

    Python runs handlers in the main thread alone; in another thread there is nothing to hold. A signal that is ignored
    stays so.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    waiting: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        waiting.append(number)

    try:
        with ExitStack() as restored:
            for number in _ENDING:
                restored.enter_context(_handled(number, note))
            yield
    finally:
        for number in dict.fromkeys(waiting):
            signal.raise_signal(number)


@contextmanager
def _handled(number: int, handler: signal._HANDLER) -> Iterator[None]:
    before = signal.getsignal(number)
    if before is None or before is signal.SIG_IGN:
        yield
        return
    signal.signal(number, handler)
    try:
        yield
    finally:
        # One that came while another was given back its handler may have made that ignore all the rest.
        if signal.getsignal(number) is handler:
            signal.signal(number, before)
