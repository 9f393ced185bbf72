"""The progress of a command on standard error: a line that is rewritten, log lines, or events as JSON.

A terminal has the line, once a command takes more than a moment; with CI set it has lines of a log, which
`--progress=plain` prints anywhere. What is not a terminal has nothing, unless it is asked for.

The events of `--progress=json` are one JSON object a line:

    {"event": "phase", "name": "planning"}                  files are opened, and all is checked
    {"event": "phase", "name": "writing"}                   bytes of outputs are written
    {"event": "progress", "phase": "writing", "done": 524288, "total": 1048576}
                                                            in bytes, a few times a second
    {"event": "phase", "name": "syncing"}                   what was written is waited for, until the disk has it
    {"event": "end", "ok": true, "done": 1048576, "total": 1048576}

Further phases are `reading` (checksums, digests or values are compared) and `reading back` (`--verify-written`). A
phase may come again, and then goes on where it was: of a set, each file is written and synced before the next. A
`total` of 0 is one that is not known. The first event says `planning`, the last one how the command ended: with `ok`
outputs are in place, synced and verified. Its `done` and `total` are those of writing, or of reading if nothing was
written; with `ok` they are equal, both 0 if there was nothing to do. Wrong arguments and syntax errors end a command
before its first event. Errors and warnings are text between the events, or with `--json` in the one document on
standard output.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress

import typer

from statex.cli import signals
from statex.cli.live import LiveLine, Plain
from statex.cli.options import Saying
from statex.core.progress import PLANNING, READING, WRITING, Progress, Tell

_PAUSE = 0.2
"""Seconds between two events, and between two looks at the clock where nothing is heard."""
_MOMENT = 0.5
"""Seconds that a command may take without a line on its terminal."""
_EVERY = 10.0
"""Seconds between two lines of a log."""


@contextmanager
def shown(saying: Saying, asked: str | None = None) -> Iterator[Tell]:
    """Give a function that hears how far the work is, and shows it as it is asked for or else fits the stream."""
    if asked is not None and asked not in _WAYS:
        raise typer.BadParameter(f"`--progress` takes json, plain or none, and got `{asked}`", param_hint="--progress")
    with _WAYS[asked]() if asked is not None else _fitting(saying) as tell:
        yield tell


def _fitting(saying: Saying) -> AbstractContextManager[Tell]:
    if saying.quiet or saying.json or not sys.stderr.isatty():
        return _none()
    if os.environ.get("CI", "") not in ("", "0", "false") or os.environ.get("TERM") == "dumb":
        return _plain(_MOMENT)
    return _line()


@contextmanager
def _none() -> Iterator[Tell]:
    yield lambda now: signals.check()


@contextmanager
def _plain(delay: float = 0.0) -> Iterator[Tell]:
    plain = Plain(sys.stderr, _EVERY, delay)
    with plain.ticking(_PAUSE):
        yield plain


@contextmanager
def _line() -> Iterator[Tell]:
    line = LiveLine(sys.stderr, _PAUSE, _MOMENT)
    with line.above(), line.ticking(_PAUSE):
        yield line


@contextmanager
def _events() -> Iterator[Tell]:
    events = _Events()
    events(Progress(PLANNING))
    try:
        yield events
    except BaseException:
        events.end(ok=False)
        raise
    events.end(ok=True)


class _Events:
    """Prints how far the work is: when a phase begins, now and then, and when all is done."""

    def __init__(self) -> None:
        self._next = 0.0
        self._now = self._said = Progress("")
        self._main = Progress("")
        """What there is to do above all: writing, or reading where nothing is written."""

    def __call__(self, now: Progress) -> None:
        signals.check()
        if now.phase != self._now.phase:
            self._say()
            _print(event="phase", name=now.phase)
            self._said = Progress(now.phase, 0, now.total)
        self._now = now
        if now.phase == WRITING or (now.phase == READING and self._main.phase != WRITING):
            self._main = now
        if time.monotonic() >= self._next:
            self._say()

    def _say(self) -> None:
        if self._now != self._said:
            self._next = time.monotonic() + _PAUSE
            self._said = now = self._now
            _print(event="progress", phase=now.phase, done=now.done, total=now.total)

    def end(self, *, ok: bool) -> None:
        """Print how it ended."""
        self._say()
        main = self._main
        _print(event="end", ok=ok, done=main.total if ok else main.done, total=main.total)


def _print(**event: object) -> None:
    with suppress(OSError):  # who watched has gone: that is no reason to end the work
        print(json.dumps(event), file=sys.stderr, flush=True)


_WAYS: dict[str, Callable[[], AbstractContextManager[Tell]]] = {"json": _events, "plain": _plain, "none": _none}
