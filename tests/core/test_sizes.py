"""Sizes as people write them."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from statex.core.sizes import LARGEST, PATTERN, is_size, parse_size


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("1", 1),
        ("500", 500),
        ("2GB", 2 * 10**9),
        ("2gb", 2 * 10**9),
        (" 500 MB ", 500 * 10**6),
        ("1.5 KiB", 1536),
        ("2GiB", 2 << 30),
        ("3TB", 3 * 10**12),
        ("7B", 7),
        ("2PiB", 2 << 50),
        ("4eb", 4 * 10**18),
        ("8EiB", None),
        ("0.5KB", 500),
        ("9223372036854775807", LARGEST),
        *((text, None) for text in ("", "0", "0GB", "0.5B", "-1", "1e3", "2 G", "GB", "1iB", "٣", "9" * 400, "9" * 21,
                                    "9223372036854775808", "10000000TB", "nan", "1_000")),
    ],
)  # fmt: skip
def test_sizes(text: str, size: int | None) -> None:
    assert parse_size(text) == size


@given(st.from_regex(r"\A ?[0-9]{1,5}(\.[0-9]{1,3})? ?([kKmMgG]?i?[bB])? ?\n?\Z") | st.text(max_size=6))
def test_what_is_a_size_matches_the_pattern(text: str) -> None:
    if is_size(text) and text == text.strip("\n\t\r"):
        assert re.search(PATTERN, text.strip()) is not None
