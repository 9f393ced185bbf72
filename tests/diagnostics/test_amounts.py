"""Numbers of bytes and things as messages write them."""

from __future__ import annotations

import pytest

from statex.diagnostics.amounts import counted, show_bytes


@pytest.mark.parametrize(
    ("count", "said"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1500, "1.5 KiB"),
        (2**20 - 53, "1023.9 KiB"),
        (2**20 - 1, "1.0 MiB"),  # not 1024.0 KiB
        (2**20, "1.0 MiB"),
        (5 * 10**9, "4.7 GiB"),
        (2**50 - 2**45, "992.0 TiB"),
        (2**50, "1.0 PiB"),
        (3 * 2**59, "1.5 EiB"),
        (2**60 - 1, "1.0 EiB"),
        (2**71, "2048.0 EiB"),  # no unit is larger
    ],
)
def test_bytes(count: int, said: str) -> None:
    assert show_bytes(count) == said


def test_things() -> None:
    assert [counted(count, "key") for count in (0, 1, 2)] == ["0 keys", "1 key", "2 keys"]
    assert counted(2, "entry", "entries") == "2 entries"
