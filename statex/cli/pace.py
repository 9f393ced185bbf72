"""The progress of a phase in words: percentage, bytes, speed and the time left."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

from statex.core.progress import PLANNING, Progress
from statex.diagnostics.amounts import show_bytes

Clock = Callable[[], float]
_SURE = 1.0
"""Seconds of a phase before which nobody can say how long it will take."""
_LATELY, _APART = 10.0, 0.5
"""Seconds of a phase that tell its speed, and those between two looks at it."""


class _Spent:
    """The time that was spent in a phase, and the bytes that were done at times since lately."""

    def __init__(self, done: int) -> None:
        self.seconds = 0.0
        self.last = done
        self._seen = deque([(0.0, done)])

    def see(self, seconds: float, done: int) -> None:
        """Note the bytes that were done after a time."""
        self.last = done
        if seconds >= self._seen[-1][0] + _APART:
            self._seen.append((seconds, done))
        while len(self._seen) > 1 and self._seen[1][0] <= seconds - _LATELY:
            self._seen.popleft()

    def speed(self, seconds: float) -> float:
        """Return the bytes a second lately, after a time; 0 if there is nothing to tell it by."""
        since, done = self._seen[0]
        return (self.last - done) / (seconds - since) if seconds - since >= _SURE else 0.0


class Pace:
    """Hears how far a run is, and knows the time that each phase has taken, however often that came again."""

    def __init__(self, clock: Clock = time.monotonic) -> None:
        self._clock = clock
        self._since = clock()
        self.now = Progress(PLANNING)
        self._phases = {PLANNING: _Spent(0)}

    def hear(self, now: Progress) -> bool:
        """Note how far the run is; say whether another phase is on than before."""
        changed = now.phase != self.now.phase
        spent = self._phases.get(now.phase)
        begins = spent is None or now.done < spent.last
        if changed or begins:
            self._phases[self.now.phase].seconds = self.seconds
            self._since = self._clock()
        if spent is None or begins:
            spent = self._phases[now.phase] = _Spent(now.done)
        self.now = now
        spent.see(self.seconds, now.done)
        return changed

    @property
    def seconds(self) -> float:
        """How long the phase that is on has taken so far."""
        return self._phases[self.now.phase].seconds + self._clock() - self._since

    def __str__(self) -> str:
        now, seconds = self.now, self.seconds
        if now.done and now.total:
            return ", ".join(self._measured(now, seconds))
        known = show_bytes(now.done or now.total) if now.done or now.total else ""
        return ", ".join(part for part in (now.phase, known, show_time(seconds)) if part)

    def _measured(self, now: Progress, seconds: float) -> list[str]:
        said = [f"{now.phase} {100 * now.done // now.total:3d} %", f"{show_bytes(now.done)} of {show_bytes(now.total)}"]
        speed = self._phases[now.phase].speed(seconds)
        if speed > 0:
            said += [f"{show_bytes(int(speed))}/s", f"{show_time((now.total - now.done) / speed)} left"]
        return said


def show_time(seconds: float) -> str:
    """Write a time: minutes and seconds, or hours before them."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
