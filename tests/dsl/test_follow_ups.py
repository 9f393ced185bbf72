"""One mistake is one message: what depends on it is not reported as well."""

from __future__ import annotations

import pytest
import torch

import statex

STATE = {"0.weight": torch.ones(2, 2), "1.weight": torch.ones(2), "::n": torch.ones(1)}

PROGRAMS = [
    ("param n: int\nset 0.weight = it * n", {}, "SX204"),
    ("param n: int\nparam k: int = n\nlet m = k + 1\nset 0.weight = reshape(m, -1)", {}, "SX204"),
    ("param n: int\nrename 0.{x} -> {n}.{x}", {}, "SX204"),
    ("param n: int\nrename 0.{x} -> {n + 1}.{x}", {}, "SX204"),
    ("param n: int\ndrop {$n}.weight", {}, "SX204"),
    ("param n: int\nif n > 3 { drop x.y } else { drop y.z }", {}, "SX204"),
    ("param n: int\nif not n > 3 { drop x.y }", {}, "SX204"),
    ("param n: int\nif n > 3 and true { drop x.y } else { drop y.z }", {}, "SX204"),
    ("param n: int\nexpect n == 3", {}, "SX204"),
    ("param n: int\ndrop {i:int}.weight where i < n", {}, "SX204"),
    ("param n: int\nrename part weight -> w where ndim < n", {}, "SX204"),
    ("param n: int\nset 0.weight = it[:n]", {}, "SX204"),
    ("param n: int\nset 0.weight = it[n]", {}, "SX204"),
    ("param n: str\ndrop 0.weight where n matches 0.*", {}, "SX204"),
    ("param n: int\nset 0.weight = it * n", {"n": "x"}, "SX206"),
    ("let n = size(m.x, 0)\nset 0.weight = it * n", {}, "SX304"),
    ("input b\nset ** = b::{key}", {}, "SX210"),
    ("input b[]\nset 0.weight = mean(it, b::0.weight)", {}, "SX210"),
    ("input b\nset {m}.weight = it * 2 for b::{m}.weight", {}, "SX210"),
    ("input b\ndrop b::0.weight", {}, "SX210"),
    ("input b\ncopy b::0.weight -> 2.weight", {}, "SX210"),
    ("input b\nexpect exists(b::0.weight)", {}, "SX210"),
    ("input b\nexpect count(b::**) == 3", {}, "SX210"),
    ("input b\nexpect key matches b::0.weight", {}, "SX210"),
    ("input b\nexpect shape b::0.weight == [2, 2]", {}, "SX210"),
    ("drop {i}.weight where i >= 6", {}, "SX207"),
    ("rename part weight -> w where key >= 6", {}, "SX207"),
]


@pytest.mark.parametrize(("program", "given", "code"), PROGRAMS, ids=[p for p, _, _ in PROGRAMS])
def test_one_mistake_is_one_message(program: str, given: dict[str, object], code: str) -> None:
    with pytest.raises(statex.StatexError) as error:
        statex.compile(program).plan(STATE, params=given)
    assert [d.code.id for d in error.value.diagnostics] == [code]
