"""The corpus: every pair is inferred, proved, and right by torch's own comparison, about as short as by hand."""

from __future__ import annotations

from functools import cache
from statistics import median

import pytest
import torch

import statex
from tests.inferring.corpus import CASES, Case, length
from tests.inferring.models import State


def same_bits(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Say whether two tensors are equal in dtype, shape and every bit."""
    if (one.dtype, one.shape) != (other.dtype, other.shape):
        return False
    left, right = (t.detach().contiguous().reshape(-1).view(torch.uint8) for t in (one, other))
    return torch.equal(left, right)


def equal(one: State, other: State) -> bool:
    return one.keys() == other.keys() and all(same_bits(one[key], other[key]) for key in other)


UNTRAINED = [case for case in CASES if case.name.endswith(", initial")]
BY_NAME = {case.name: case for case in CASES}


@cache
def inferred(name: str) -> statex.Inferred:
    """Return what is inferred of a case, once in a process."""
    return statex.infer(*BY_NAME[name].pair())


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_program_is_found(case: Case) -> None:
    old, new = case.pair()
    found = inferred(case.name)
    assert found.proved, found.rules
    assert found.proof is not None
    assert len(found.proof.equal) == len(new) > 0
    assert equal(statex.compile(found.rules).apply(old), new)


@pytest.mark.parametrize(
    "case", [case for case in CASES if case.name.endswith(", initial")], ids=lambda case: case.name
)
def test_what_untrained_weights_teach_holds_for_trained_ones(case: Case) -> None:
    old, new = BY_NAME[case.name.removesuffix(", initial")].pair()
    assert equal(statex.compile(inferred(case.name).rules).apply(old), new)


def test_programs_are_as_short_as_by_hand() -> None:
    measured = [
        (length(inferred(case.name).rules), length(case.rules)) for case in CASES if not case.name.endswith("initial")
    ]
    assert len(measured) > 60
    assert median(own / hand for own, hand in measured) <= 1.2
    assert sum(own for own, _ in measured) <= 1.3 * sum(hand for _, hand in measured)


def test_the_corpus_is_large() -> None:
    assert len(CASES) >= 60
    assert len({case.name for case in CASES}) == len(CASES)
