"""The programs of the examples and the documents there and back: every tensor equal in bits, and the text readable."""

from __future__ import annotations

import pytest
import torch

import statex
from statex.inverse.losses import lossless
from tests.inverse.programs import PROGRAMS, Program


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.name)
def test_there_and_back(program: Program) -> None:
    rules = statex.compile(program.rules)
    assert lossless(rules.plan(program.state, params=program.given)).is_lossless
    found = rules.inverse(program.state, params=program.given)
    assert (found.generated, found.in_order, found.lost, found.unshown) == (program.generated, program.in_order, (), ())
    back = statex.compile(found.text).apply(rules.apply(program.state, params=program.given))
    assert set(back) == set(program.state)
    assert list(back) == list(program.state) or not program.in_order
    assert all(torch.equal(back[key], value) for key, value in program.state.items())


def test_the_inverse_of_the_inverse_does_what_the_rules_do() -> None:
    (llama,) = [one for one in PROGRAMS if one.name == "llama"]
    rules = statex.compile(llama.rules)
    result = rules.apply(llama.state, params=llama.given)
    back = statex.compile(rules.inverse(llama.state, params=llama.given).text)
    again = statex.compile(back.inverse(result).text).apply(back.apply(result))
    assert list(again) == list(result)
    assert all(torch.equal(again[key], value) for key, value in result.items())


def test_llama_reads_as_its_author_wrote_it() -> None:
    (llama,) = [one for one in PROGRAMS if one.name == "llama"]
    text = statex.compile(llama.rules).inverse(llama.state, params=llama.given).text
    assert "set **.q_proj.weight = rearrange('(h two d) c -> (h d two) c', h=heads, two=2)\n" in text
    assert "  model.layers.{i}.self_attn.{p:q|k|v|o}_proj.weight -> layers.{i}.attention.w{p}.weight\n" in text
    assert "# Meta rotates neighbouring pairs within a head, Hugging Face its two halves." in text
    assert "param heads: int = 2\n" in text
