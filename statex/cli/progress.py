"""What is done while bytes are written: a bar on a terminal, or events as JSON, and signals are heard.

The events of `--progress=json` go to standard error, one JSON object a line:

    {"event": "phase", "name": "planning"}                  files are opened, and all is checked
    {"event": "phase", "name": "writing"}                   from the first byte until the outputs have their names
    {"event": "progress", "done": 524288, "total": 1048576} bytes of tensors, a few times a second
    {"event": "end", "ok": true, "done": 1048576, "total": 1048576}

The first event says `planning`, the last one how it ended: with `ok` outputs are in place, synced and verified, and
`done` is `total` (both 0 if nothing was to be written). Wrong arguments and syntax errors end a command before its
first event. Errors and warnings are text between the events, or with `--json` in the one document on standard output.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import typer

from statex.cli import signals
from statex.cli.options import Saying
from statex.diagnostics.amounts import show_bytes

_WORTH = 64 << 20
"""Bytes below which a bar would only flash by."""
_PAUSE = 0.2
"""Seconds between two events."""

Update = Callable[[int, int], None]


@contextmanager
def shown(saying: Saying, events: str | None = None) -> Iterator[Update]:
    """Give a function to call with bytes done and in all: it draws a bar if one is wanted, or prints events."""
    if events not in (None, "json"):
        raise typer.BadParameter(f"`--progress` takes json, and got `{events}`", param_hint="--progress")
    if events is not None:
        with _events() as update:
            yield update
    elif saying.quiet or saying.json or not sys.stderr.isatty():
        yield lambda done, total: signals.check()
    else:
        with _bar() as update:
            yield update


@contextmanager
def _events() -> Iterator[Update]:
    events = _Events()
    _print(event="phase", name="planning")
    try:
        yield events
    except BaseException:
        events.end(ok=False)
        raise
    events.end(ok=True)


class _Events:
    """Prints how far the writing is: when it begins, now and then, and when all is done."""

    def __init__(self) -> None:
        self._next = 0.0
        self._done = self._total = 0
        self._writing = False

    def __call__(self, done: int, total: int) -> None:
        signals.check()
        if not self._writing:
            self._writing = True
            _print(event="phase", name="writing")
        # Bytes of headers are written as well, and are not part of the total.
        self._done, self._total = min(done, total), total
        now = time.monotonic()
        if now >= self._next and self._done < total:
            self._next = now + _PAUSE
            self._say()

    def end(self, *, ok: bool) -> None:
        if ok and self._writing:
            self._done = self._total
            self._say()
        _print(event="end", ok=ok, done=self._done, total=self._total)

    def _say(self) -> None:
        _print(event="progress", done=self._done, total=self._total)


def _print(**event: object) -> None:
    print(json.dumps(event), file=sys.stderr, flush=True)


def _said(done: int, total: int, seconds: float) -> str:
    """Return how far the writing is, and how fast it is going."""
    speed = f", {show_bytes(int(done / seconds))}/s" if done and seconds > 0 else ""
    return f"{show_bytes(done)} of {show_bytes(total)}{speed}"


@contextmanager
def _bar() -> Iterator[Update]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    bar = Progress(
        BarColumn(), TextColumn("{task.fields[said]}"), TimeRemainingColumn(),
        console=Console(file=sys.stderr), transient=True,
    )  # fmt: skip
    task = bar.add_task("", total=None, said="")
    began = time.monotonic()

    def update(done: int, total: int) -> None:
        signals.check()
        if total >= _WORTH:
            bar.start()
            done = min(done, total)
            bar.update(task, completed=done, total=total, said=_said(done, total, time.monotonic() - began))

    try:
        yield update
    finally:
        bar.stop()
