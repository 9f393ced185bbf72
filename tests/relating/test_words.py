"""The words of keys, and which of them mean the same."""

from __future__ import annotations

from collections import Counter

import pytest

from statex.relating import words


def test_a_word_has_one_meaning_and_is_a_word() -> None:
    listed = [word for line in words._MEANT for word in line.split()]
    assert [word for word, count in Counter(listed).items() if count > 1] == []
    assert [word for word in listed if words._WORD.findall(word) != [word] or word in words._WHOLE] == []


@pytest.mark.parametrize(("one", "other"), [("enc.layer", "encoder.layers"), ("wq", "q_proj"), ("fc1", "up_proj")])
def test_words_that_mean_the_same_are_one(one: str, other: str) -> None:
    assert set(words.words_of(one)) <= set(words.words_of(other))
