"""The corpus of conversions, undone: each that loses nothing comes back in bits, and what loses says what it loses."""

from __future__ import annotations

import pytest
import torch

import statex
from statex import StatexError
from statex.grammar import factory as make
from statex.grammar.printer import show
from statex.inverse.losses import lossless
from statex.inverse.program import inverse
from statex.inverse.stored import rules_giving
from tests.inferring.corpus import CASES, Case
from tests.inferring.test_corpus import equal

# Casts that round, and rules that drop, cut or replace a tensor: known from the names, not asked of statex.
LOSING = {
    "to bf16", "to f16, norms not", "bf16 and renamed", "unet, to half", "backbone alone", "encoder alone", "no biases",
    "first layers", "layers pruned and renumbered", "vocabulary cut", "positions cut off", "a new head of zeros",
    "adapter as it is saved", "adapter away",
}  # fmt: skip
WRITTEN = [case for case in CASES if case.code is None and not case.name.endswith("initial")]


@pytest.mark.parametrize("case", WRITTEN, ids=lambda case: case.name)
def test_there_and_back(case: Case) -> None:
    old = case.start()
    rules = statex.compile(case.rules)
    assert lossless(rules.plan(old, params=case.params)).is_lossless == (case.name not in LOSING)
    if case.name in LOSING:
        with pytest.raises(StatexError) as raised:
            rules.inverse(old, params=case.params)
        assert raised.value.diagnostics[0].code.id == "SX333"
        return
    back = statex.compile(rules.inverse(old, params=case.params).text)
    again = back.apply(rules.apply(old, params=case.params))
    assert equal({key: torch.as_tensor(value) for key, value in again.items()}, dict(old))


@pytest.mark.parametrize("case", [case for case in WRITTEN if case.name in LOSING], ids=lambda case: case.name)
def test_what_loses_comes_back_with_what_is_kept(case: Case) -> None:
    old = case.start()
    rules = statex.compile(case.rules)
    found = inverse(rules.plan(old, params=case.params), rules.statements, keep=True)
    assert (found.lost, found.unshown, found.apart) == ((), (), ())
    lost = statex.compile(show(make.program(*rules_giving(found.tensors, old)))).apply(old)
    result = rules.apply(old, params=case.params)
    again = statex.compile(found.text).apply(result, inputs={found.input: lost})
    assert equal({key: torch.as_tensor(value) for key, value in again.items()}, dict(old))
    assert (list(again) == list(old)) == found.in_order
    kept = sum(one.nbytes for one in lost.values())
    whole = sum(torch.as_tensor(old[key]).nbytes for key in found.stored)
    assert kept * (5 if "cut" in case.name else 1) <= whole


def test_most_conversions_lose_nothing() -> None:
    assert {case.name for case in CASES} >= LOSING
    assert len(WRITTEN) - len(LOSING) >= 45
