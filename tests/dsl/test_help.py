"""Keys in help are written as a rule file takes them."""

from __future__ import annotations

import pytest
import torch

import statex
from statex import StatexError

STATE = {key: torch.full((2,), float(n)) for n, key in enumerate(["odd key.w", "a-b", "bias", "0.w", "m.w", "it's"])}


def help_for(rules: str) -> list[str]:
    program = statex.compile(rules)
    inputs = {"a": STATE} if "input a" in rules else None
    try:
        found = program.plan(STATE, inputs=inputs).warnings
    except StatexError as error:
        found = error.diagnostics
    return [note.text for one in found for note in one.notes if note.kind == "help"]


@pytest.mark.parametrize(
    ("rules", "help"),
    [
        ("drop 'odd kay.w'", "did you mean `'odd key.w'`? if it may be absent: `drop?`"),
        ('drop "odd kay.*"', 'did you mean `"odd key.*"`? if it may be absent: `drop?`'),
        ("drop bais", "did you mean `bias`? if it may be absent: `drop?`"),
        ("set m.w = ::bais", "did you mean `::bias`?"),
        ("set m.w = ::'a-c'", "did you mean `::'a-b'`?"),
        ("set m.w = ::'0.ww'", "did you mean `0.w`?"),
        ("input a\nset m.w = it + a::bais", "did you mean `a::bias`?"),
        ("input a\nset m.w = it + a::'a-c'", "did you mean `a::'a-b'`?"),
        ("rename m.w -> 'odd key.w'", "if it is not needed, drop it first: `drop 'odd key.w'`"),
        ("copy m.w -> 'a-b'", "if it is not needed, drop it first: `drop 'a-b'`"),
        ("input a\nset m.w = it + a::bias", "if this is meant: drop a::**"),
    ],
)
def test_keys_are_quoted_where_they_have_to_be(rules: str, help: str) -> None:
    assert help in help_for(rules)


@pytest.mark.parametrize("key", STATE)
def test_tensors_read_back(key: str) -> None:
    from statex.dsl.keys.quoting import show_key, show_tensor

    done = statex.compile(
        f"input a\nadd one = {show_tensor(key)}\nadd two = {show_tensor(key, 'a')}\ndrop {show_key(key)}"
    )
    state = done.apply(STATE, inputs={"a": STATE})
    assert torch.equal(state["one"], STATE[key])
    assert torch.equal(state["two"], STATE[key])
    assert key not in state
