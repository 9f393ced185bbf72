from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from statex.checkpoint.io.ahead import ahead


def running() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "statex-ahead"]


@pytest.mark.parametrize("items", [list(range(1000)), [], [None, ValueError("an item, and no failure"), None]])
def test_gives_every_item_in_order(items: list[object]) -> None:
    with ahead(iter(items)) as found:
        assert list(found) == items
    assert not running()


def test_raises_what_the_iterator_raises_after_the_items_before() -> None:
    def broken() -> Iterator[int]:
        yield 1
        raise OSError("no more")

    with ahead(broken()) as found:
        assert next(found) == 1
        with pytest.raises(OSError, match="no more"):
            next(found)
    assert not running()


def test_runs_a_little_ahead_and_no_further() -> None:
    made: list[int] = []
    enough = threading.Event()

    def counting() -> Iterator[int]:
        for number in range(100):
            made.append(number)
            if number == 2:
                enough.set()
            yield number

    with ahead(counting()) as found:
        assert next(found) == 0
        assert enough.wait(10), "it waits for its user"
        assert next(found) == 1
        assert len(made) < 10
    assert not running()


def test_a_user_who_fails_ends_the_thread() -> None:
    with pytest.raises(ZeroDivisionError), ahead(iter(range(10**9))) as found:
        assert 1 / next(found)
    assert not running()
