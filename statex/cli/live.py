"""Progress for people: on one line of a terminal that is rewritten, or in a few plain log lines."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, redirect_stderr, suppress
from math import inf
from typing import Any, TextIO

from statex.cli import signals
from statex.cli.pace import Clock, Pace
from statex.core.progress import Progress


class Live:
    """Says how far a run is: at most every `every` seconds, and nothing in the first `delay`.

    The run calls it whenever that changes; `tick` is for a thread, as a phase may be silent.
    """

    def __init__(self, stream: TextIO, every: float, delay: float = 0.0, clock: Clock = time.monotonic) -> None:
        self._stream = stream
        self._every = every
        self._clock = clock
        self._next = clock() + delay
        self._lock = threading.Lock()
        self.pace = Pace(clock)

    def __call__(self, now: Progress) -> None:
        """Hear how far the run is."""
        signals.check()
        with self._lock:
            if self.pace.hear(now):
                self.changed()
            self._say_if_due()

    def tick(self) -> None:
        """Say how far the run is, if it is time for that."""
        with self._lock:
            self._say_if_due()

    def _say_if_due(self) -> None:
        if self._clock() >= self._next:
            self._next = self._clock() + self._every
            try:
                self.say()
            except OSError:  # who watched has gone: that is no reason to end the work
                self._next = inf

    def say(self) -> None:
        """Say how far the run is."""
        raise NotImplementedError

    def changed(self) -> None:
        """Note that another phase is on."""

    def end(self) -> None:
        """Leave the stream as it is to be."""

    @contextmanager
    def ticking(self, pause: float) -> Iterator[None]:
        """Have a thread tick meanwhile."""
        ended = threading.Event()

        def run() -> None:
            while not ended.wait(pause):
                self.tick()

        thread = threading.Thread(target=run, name="statex-progress", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
            self.end()


class LiveLine(Live):
    """One line of a terminal that is rewritten; what else is printed there meanwhile comes above it."""

    _shown = 0
    """Columns that the line takes."""
    _open = False
    """Somebody else has begun a line, and not ended it."""

    def say(self) -> None:
        """Write the line anew."""
        if self._open:
            return
        text = str(self.pace)[: max(shutil.get_terminal_size().columns - 1, 1)]
        self._write("\r" + text.ljust(self._shown))
        self._shown = len(text)

    def end(self) -> None:
        """Take the line away."""
        with self._lock, suppress(OSError):
            self._clear()

    def _clear(self) -> None:
        if self._shown:
            self._write("\r" + " " * self._shown + "\r")
            self._shown = 0

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()

    @contextmanager
    def above(self) -> Iterator[None]:
        """Let what is printed to standard error meanwhile come above the line."""
        with redirect_stderr(_Above(self, self._stream)):
            yield

    def print_above(self, text: str) -> int:
        """Print something else."""
        with self._lock:
            self._clear()
            self._open = not text.endswith("\n") if text else self._open
            return self._stream.write(text)


class _Above:
    """A stream on which a line is rewritten, for those who print other things to it."""

    def __init__(self, line: LiveLine, stream: TextIO) -> None:
        self._line = line
        self._stream = stream

    def write(self, text: str) -> int:
        """Print a text above the line."""
        return self._line.print_above(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Print several."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class Plain(Live):
    """Lines of a log: one for each phase when it comes first, and then one now and then."""

    def __init__(self, stream: TextIO, every: float, delay: float = 0.0, clock: Clock = time.monotonic) -> None:
        super().__init__(stream, every, delay, clock)
        self._said: set[str] = set()

    def changed(self) -> None:
        """Have a phase said at once that was not on before, unless it is too early for anything."""
        if self._said and self.pace.now.phase not in self._said:
            self._next = self._clock()

    def say(self) -> None:
        """Print a line."""
        self._said.add(self.pace.now.phase)
        print(self.pace, file=self._stream, flush=True)
