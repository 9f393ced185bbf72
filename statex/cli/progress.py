"""What is done while bytes are written: a bar on a terminal, or events as JSON, and signals are heard."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import typer

from statex.cli import signals
from statex.cli.options import Saying

_WORTH = 64 << 20
"""Bytes below which a bar would only flash by."""
_PAUSE = 0.2
"""Seconds between two events."""

Update = Callable[[int, int], None]


@contextmanager
def shown(saying: Saying, events: str | None = None) -> Iterator[Update]:
    """Give a function to call with bytes done and in all: it draws a bar where one is wanted, or prints events."""
    if events not in (None, "json"):
        raise typer.BadParameter(f"`--progress` takes json, and got `{events}`")
    if events is not None:
        yield _Events()
    elif saying.quiet or saying.json or not sys.stderr.isatty():
        yield lambda done, total: signals.check()
    else:
        with _bar() as update:
            yield update


class _Events:
    """Prints one JSON object a line to standard error: now and then, and when all is done."""

    def __init__(self) -> None:
        self._next = 0.0

    def __call__(self, done: int, total: int) -> None:
        signals.check()
        now = time.monotonic()
        if now >= self._next or done >= total:
            self._next = now + _PAUSE
            print(json.dumps({"event": "progress", "done": done, "total": total}), file=sys.stderr, flush=True)


@contextmanager
def _bar() -> Iterator[Update]:
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

    bar = Progress(
        BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn(),
        console=Console(file=sys.stderr), transient=True,
    )  # fmt: skip
    task = bar.add_task("", total=None)

    def update(done: int, total: int) -> None:
        signals.check()
        if total >= _WORTH:
            bar.start()
            bar.update(task, completed=done, total=total)

    try:
        yield update
    finally:
        bar.stop()
