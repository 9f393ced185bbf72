"""Pauses cyclic garbage collection while hundreds of thousands of small objects are created and kept."""

from __future__ import annotations

import atexit
import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def paused() -> Iterator[None]:
    """Leave the collector off inside: it would visit every entry of a large checkpoint again and again."""
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def leave() -> None:
    """Leave the collector off for the rest of the process, one that ends soon, its end included."""
    gc.disable()
    atexit.register(gc.freeze)
