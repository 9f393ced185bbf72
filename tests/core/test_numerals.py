from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import statex
from statex.core.numerals import is_numeral


@given(st.integers(0, 10**18 - 1))
def test_numbers_as_they_are_written(number: int) -> None:
    assert is_numeral(str(number))
    assert not is_numeral(f"0{number}")
    assert not is_numeral(f"{number}.")


@pytest.mark.parametrize("text", ["", "-1", "+1", " 1", "1\n", "1_0", "٣", "²", "00", "9" * 19, "9" * 5000])
def test_other_texts(text: str) -> None:
    assert not is_numeral(text)


def test_a_key_of_many_digits_is_a_name_like_others() -> None:
    long = f"layers.{'9' * 5000}.w"
    found = statex.infer({long: torch.ones(2, 3) * 2}, {f"m.{long}": torch.ones(2, 3) * 2})
    assert found.proved
