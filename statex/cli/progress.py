"""What is done while bytes are written: a bar on a terminal, with rate and time left, and signals are heard."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from statex.cli import signals

_WORTH = 64 << 20
"""Bytes below which a bar would only flash by."""


@contextmanager
def shown(wanted: bool) -> Iterator[Callable[[int, int], None]]:
    """Give a function to call with bytes done and in all: it draws the bar, where one is wanted."""
    if not wanted or not sys.stderr.isatty():
        yield lambda done, total: signals.check()
        return
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
