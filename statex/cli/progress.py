"""A bar on a terminal: bytes, rate and time left."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_WORTH = 64 << 20
"""Bytes below which a bar would only flash by."""


@contextmanager
def shown(wanted: bool) -> Iterator[Callable[[int, int], None] | None]:
    """Give a function to call with bytes done and in all, which draws the bar; `None` where none is wanted."""
    if not wanted or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

    bar = Progress(
        BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn(),
        console=Console(file=sys.stderr), transient=True,
    )  # fmt: skip
    task = bar.add_task("", total=None)

    def update(done: int, total: int) -> None:
        if total >= _WORTH:
            bar.start()
            bar.update(task, completed=done, total=total)

    try:
        yield update
    finally:
        bar.stop()
