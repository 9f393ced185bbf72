"""What reaches a terminal, against the categories of Unicode."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from statex.diagnostics.escape import escape


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("model.layers.0.weight", "model.layers.0.weight"),
        ("größe 漢字 🙂 e\u0301", "größe 漢字 🙂 e\u0301"),
        ("\x1b[31mred\x07", r"\x1b[31mred\x07"),
        ("a\x00b\tc\r\n\x7f", r"a\x00b\x09c\x0d\x0a\x7f"),
        ("\x85\x9b31m", r"\x85\x9b31m"),
        ("\u202a\u202b\u202c\u202d\u202e", r"\u202a\u202b\u202c\u202d\u202e"),
        ("\u2066\u2067\u2068\u2069", r"\u2066\u2067\u2068\u2069"),
        ("\u2028\u2029\u200f\ufeff", r"\u2028\u2029\u200f\ufeff"),
        ("file\udcff\ud800", r"file\udcff\ud800"),
        ("\U000e0041", r"\U000e0041"),
    ],
)
def test_escape(raw: str, shown: str) -> None:
    assert escape(raw) == shown


@given(st.text(st.characters()))
def test_nothing_that_controls_a_terminal_is_left(text: str) -> None:
    shown = escape(text)
    assert not {unicodedata.category(c) for c in shown} & {"Cc", "Cf", "Cs", "Zl", "Zp"}
    shown.encode("utf-8")
    assert escape(shown) == shown
