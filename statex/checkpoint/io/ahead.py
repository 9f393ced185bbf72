"""Runs an iterator ahead of its consumer, so that computing and writing overlap."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from queue import SimpleQueue
from typing import TypeVar

_T = TypeVar("_T")
_MOST = 2
"""Items that wait for their use at most, the one in use included."""


@contextmanager
def ahead(items: Iterator[_T]) -> Iterator[Iterator[_T]]:
    """Give the items of an iterator, which runs in a thread of its own; what it raises is raised here, in its place.

    The thread has ended when the context has, whether or not all items were taken.
    """
    done: SimpleQueue[tuple[_T] | BaseException | None] = SimpleQueue()
    room = threading.Semaphore(_MOST)
    stopped = threading.Event()

    def run() -> None:
        try:
            for item in items:
                room.acquire()
                if stopped.is_set():
                    return
                done.put((item,))
            done.put(None)
        except BaseException as error:
            done.put(error)

    def take() -> Iterator[_T]:
        while (found := done.get()) is not None:
            if isinstance(found, BaseException):
                raise found
            yield found[0]
            room.release()

    thread = threading.Thread(target=run, name="statex-ahead", daemon=True)
    thread.start()
    try:
        yield take()
    finally:
        stopped.set()
        room.release()
        thread.join()
