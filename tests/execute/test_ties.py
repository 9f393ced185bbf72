"""Ties: only one and the same statement keeps one; two that make equal values end it, and SX901 says so."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import statex
from tests.effort import examples

STATEMENTS = {
    "set a, b = it * 2": True, "set ** = transpose": True, "set a, b = it": True, "set a = it": True,
    "set {x:a|b} = it * 2": True, "use both('a', 'b')": True, "rename b -> c; rename c -> b": True,
    "set a = it * 2": False, "set b = it * 2": False, "set b = transpose": False, "set a = transpose": False,
    "use twice('a')": False, "within m { set ** = it * 2 }": True,
    "set a = it * 2; set b = it * 2": False, "use twice('a'); use twice('b')": False,
}  # fmt: skip
"""Statements over two tied keys, and whether they keep the tie."""
MACROS = "macro both(x, y) { set {$x}, {$y} = it * 2 }\nmacro twice(x) { set {$x} = it * 2 }\n"


def tied(state: Mapping[str, Any]) -> bool:
    return bool(state["a"].data_ptr() == state["b"].data_ptr())


@settings(max_examples=examples(80), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from(sorted(STATEMENTS)), min_size=1, max_size=4))
def test_only_one_statement_keeps_a_tie(tmp_path: Path, statements: list[str]) -> None:
    shared = torch.arange(4.0).reshape(2, 2)
    state = {"a": shared, "b": shared, "m.w": torch.ones(2, 2)}
    rules = statex.compile(MACROS + "\n".join(statements))
    keeps = all(STATEMENTS[one] for one in statements)
    said = [one.code.id for one in rules.plan(state).warnings if one.code.id != "SX925"]  # macros that are not used
    assert said == ([] if keeps else ["SX901"])
    assert tied(rules.apply(state)) is keeps
    torch.save(state, tmp_path / "in.pth")
    statex.convert(tmp_path / "in.pth", tmp_path / "out.pth", rules, force=True)
    written = torch.load(tmp_path / "out.pth")
    assert tied(written) is keeps
    assert all(torch.equal(written[key], tensor) for key, tensor in rules.apply(state).items())


@pytest.mark.parametrize("before", ["", "rename a -> c\nrename c -> a", "set a, b = it + 1", "copy a -> c\ndrop c"])
def test_whatever_came_before(before: str) -> None:
    shared = torch.ones(2)
    rules = statex.compile(f"{before}\nset a = it * 2\nset b = it * 2")
    (warning,) = rules.plan({"a": shared, "b": shared}).warnings
    assert (warning.code.id, warning.span.text if warning.span else "") == ("SX901", "set b = it * 2")


def test_pieces_of_one_split_stay_tied_and_those_of_two_do_not() -> None:
    shared = torch.arange(4.0)
    one = statex.compile("split {x:a|b} -> {x}.{p:q|k} = chunk(2)").apply({"a": shared, "b": shared})
    assert one["a.q"].data_ptr() == one["b.q"].data_ptr()
    program = "split a -> a.{p:q|k} = chunk(2)\nsplit b -> b.{p:q|k} = chunk(2)"
    two = statex.compile(program).apply({"a": shared, "b": shared})
    assert two["a.q"].data_ptr() != two["b.q"].data_ptr()
