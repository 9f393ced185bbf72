"""The corpus: every pair is inferred, proved, and right by torch's own comparison, about as short as by hand."""

from __future__ import annotations

from statistics import median

import pytest
import torch

import statex
from tests.inferring.corpus import CASES, Case, length
from tests.inferring.models import State

LENGTHS: dict[str, tuple[int, int]] = {}


def same_bits(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Say whether two tensors are equal in dtype, shape and every bit."""
    if (one.dtype, one.shape) != (other.dtype, other.shape):
        return False
    left, right = (t.detach().contiguous().reshape(-1).view(torch.uint8) for t in (one, other))
    return torch.equal(left, right)


def equal(one: State, other: State) -> bool:
    return one.keys() == other.keys() and all(same_bits(one[key], other[key]) for key in other)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_program_is_found(case: Case) -> None:
    old, new = case.pair()
    found = statex.infer(old, new)
    assert found.proved, found.rules
    assert equal(statex.compile(found.rules).apply(old), new)
    LENGTHS[case.name] = length(found.rules), length(case.rules)


def test_programs_are_as_short_as_by_hand() -> None:
    measured = [(own, hand) for name, (own, hand) in LENGTHS.items() if not name.endswith("initial")]
    if len(measured) > 20:  # all of them run before this, unless some were chosen
        assert median(own / hand for own, hand in measured) <= 1.2
        assert sum(own for own, _ in measured) <= 1.3 * sum(hand for _, hand in measured)


def test_the_corpus_is_large() -> None:
    assert len(CASES) >= 60
    assert len({case.name for case in CASES}) == len(CASES)
