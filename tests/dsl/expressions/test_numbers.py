"""Numbers of thousands of digits, in keys and in rule files, are no tracebacks."""

from __future__ import annotations

import pytest
import torch

import statex
from statex import StatexError

MANY = "1" * 5000
STATE = {f"l.{MANY}.w": torch.ones(1), "l.2.w": torch.zeros(1), "l.1.w": torch.zeros(1)}


def test_a_condition_on_numbers_does_not_see_them() -> None:
    with pytest.raises(StatexError, match="the condition holds for none of the 2 keys"):
        statex.compile("drop l.{i:int}.w where i > 3").apply(STATE)


def test_longer_digits_in_keys_are_text() -> None:
    done = statex.compile("rename l.{i:int}.w -> m.{i + 1}.w").apply(STATE)
    assert sorted(done) == sorted([f"l.{MANY}.w", "m.2.w", "m.3.w"])
    assert list(statex.compile("order natural").apply(STATE)) == ["l.1.w", "l.2.w", f"l.{MANY}.w"]
    assert len(statex.compile("rename l.{i}.w -> m.{i}.w").apply(STATE)) == 3
    assert len(statex.compile(f"rename l.{{i:{MANY}|2}}.w -> m.{{i}}.w").apply(STATE)) == 3


@pytest.mark.parametrize(
    "rules",
    [
        f"param n: int = {MANY}",
        f"set l.2.w = it[:{MANY}]",
        f"rename l.2.w -> m.{{2 + {MANY}}}",
        f"add x.{{{MANY}}} = zeros(1)",
    ],
)
def test_numbers_in_a_rule_file(rules: str) -> None:
    with pytest.raises(StatexError, match="SX217"):
        statex.compile(rules).apply(STATE)


@pytest.mark.parametrize("width", ["0999999999999", "9999"])
def test_a_width_no_key_has(width: str) -> None:
    for field in (f"{{i:{width}}}", f"{{i + 1:{width}}}"):
        with pytest.raises(StatexError, match="SX1"):
            statex.compile(f"rename l.{{i:int}}.w -> m.{field}.w").apply({"l.2.w": torch.ones(1)})
