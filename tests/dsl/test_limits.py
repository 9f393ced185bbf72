"""What a stranger's rule file may not do: fill the memory with a key, or wait for a pipe."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

import statex
from statex import StatexError

STATE = {"l.0.w": torch.zeros(1), "l.1.w": torch.ones(1)}


def codes(rules: str, **params: object) -> list[str]:
    with pytest.raises(StatexError) as caught:
        statex.compile(rules).plan(STATE, params=params)
    return [found.code.id for found in caught.value.diagnostics]


@pytest.mark.parametrize(
    "statement",
    ["rename {m:**} -> {m}{m}", "rename text w -> 'ww'", "rename part w -> w.w"],
)
def test_keys_do_not_grow_without_end(statement: str) -> None:
    assert set(codes("\n".join([statement] * 30))) == {"SX322"}


def test_new_keys_do_not_either() -> None:
    assert codes("let a = 'xxxxxxxxxx'\n" + 'add "' + "{$a}" * 1001 + '" = zeros([1])') == ["SX322"]


def test_a_pipe_is_not_included(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.sx")
    with pytest.raises(StatexError) as caught:
        statex.compile("include 'pipe.sx'", folder=tmp_path).check()
    assert "is not a file" in caught.value.diagnostics[0].headline


@pytest.mark.parametrize(("name", "matches"), [("1", True), ("[01]", False), (".", False), ("(", False)])
def test_a_parameter_in_a_regular_expression_is_text(name: str, matches: bool) -> None:
    rules = statex.compile('param n: str\nrename? /l\\.{$n}\\.(.*)/ -> "m.{1}"')
    assert set(rules.apply(STATE, n=name)) == ({"l.0.w", "m.w"} if matches else set(STATE))


def test_a_parameter_that_is_not_declared() -> None:
    with pytest.raises(StatexError) as caught:
        statex.compile(r"drop /l\.{$n}\.w/").check()
    (found,) = caught.value.diagnostics
    assert found.headline == "there is no parameter `n`"
    assert found.span is not None
    assert found.span.text == "{$n}"
