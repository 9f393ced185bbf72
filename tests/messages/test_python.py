"""What Python is told that gives something else than states, paths and rules."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from textwrap import dedent
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import statex
from statex.diagnostics.python_words import in_python

LINEAR = nn.Linear(2, 2)
RULES = statex.compile("rename weight -> w")
FURTHER = statex.compile("input ft\nset weight = it + ft::weight")
STATE = LINEAR.state_dict()

CASES: list[tuple[str, Callable[[], Any], str]] = [
    (
        "several states",
        lambda: RULES.apply({"model": STATE, "ema": STATE}, root=None),
        """
        error[SX606]: the checkpoint holds several states: which one is meant?
            model  2 tensors
            ema    2 tensors
          = help: root='model'   or in the rules: root 'model'
          = help: root '' is the whole file
        """,
    ),
    (
        "an input that is not given",
        lambda: FURTHER.apply(STATE),
        """
        error[SX210]: no checkpoint was given for the input `ft`
         --> <rules>:1:1
           |
         1 | input ft
           | ^^^^^^^^
           = help: inputs={'ft': PATH}
        """,
    ),
    (
        "a parameter that is not given",
        lambda: statex.compile("param n: int\ndrop? x.{$n}").apply(STATE),
        """
        error[SX204]: the parameter `n` has no value
         --> <rules>:1:1
           |
         1 | param n: int
           | ^^^^^^^^^^^^
           = help: params={'n': …}   or a default: `param n: int = …`
        """,
    ),
    (
        "a module",
        lambda: RULES.apply(LINEAR),
        """
        error[SX634]: a state is a mapping of keys to tensors or a path, and this is the module Linear
          = help: give its state: module.state_dict()
        """,
    ),
    (
        "a module as a further input",
        lambda: FURTHER.apply(STATE, inputs={"ft": nn.Sequential(LINEAR)}),
        """
        error[SX634]: a state is a mapping of keys to tensors or a path, and this is the module Sequential
          = help: give its state: module.state_dict()
        """,
    ),
    (
        "an optimizer",
        lambda: RULES.apply(torch.optim.SGD(LINEAR.parameters())),
        """
        error[SX634]: a state is a mapping of keys to tensors or a path, and this is the optimizer SGD
          = help: give its state: optimizer.state_dict()
        """,
    ),
    (
        "pairs",
        lambda: RULES.apply(LINEAR.named_parameters()),
        """
        error[SX634]: a state is a mapping of keys to tensors or a path, and this is of type generator
          = help: of pairs of keys and tensors, `dict(…)` makes a mapping
        """,
    ),
    (
        "a tensor",
        lambda: RULES.apply(LINEAR.weight.detach()),
        """
        error[SX634]: a state is a mapping of keys to tensors or a path, and this is of type Tensor
        """,
    ),
    (
        "a module to convert",
        lambda: statex.convert(LINEAR, "out.pth", "drop bias"),
        """
        error[SX634]: a state is a mapping of keys to tensors or a path, and this is the module Linear
          = help: give its state: module.state_dict()
        """,
    ),
    (
        "rules and destination exchanged",
        lambda: statex.convert(STATE, "drop bias", "out.pth"),
        """
        error[SX102]: the text `out.pth` is not a rule
         --> <rules>:1:1
           |
         1 | out.pth
           | ^^^
           = help: a path is told by its ending .sx, or by its type: Path('out.pth')
           = help: `convert` takes the source, then the destination, then the rules
        """,
    ),
    (
        "a rule file without its ending",
        lambda: statex.compile("rules/names"),
        """
        error[SX102]: the text `rules/names` is not a rule
         --> <rules>:1:1
           |
         1 | rules/names
           | ^^^^^
           = help: a path is told by its ending .sx, or by its type: Path('rules/names')
           = help: `convert` takes the source, then the destination, then the rules
        """,
    ),
    (
        "a rule file that is not there",
        lambda: statex.compile("gone.sx"),
        """
        error[SX222]: `gone.sx` cannot be read: No such file or directory
        """,
    ),
]


@pytest.mark.parametrize(("call", "said"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_the_full_text(call: Callable[[], Any], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(statex.StatexError) as caught:
        call()
    assert str(caught.value) == dedent(said).strip()
    assert not list(tmp_path.iterdir())


def test_rules_as_text_a_dict_as_source_and_arrays_are_taken(tmp_path: Path) -> None:
    statex.convert({"a.w": torch.ones(2)}, tmp_path / "a.pth", "rename a.w -> b.w")
    statex.convert(tmp_path / "a.pth", tmp_path / "b.pth", "rename b.w -> c.w")
    assert list(torch.load(tmp_path / "b.pth")) == ["c.w"]
    state = statex.compile("rename a.w -> b.w").apply({"a.w": np.ones(2)})
    assert torch.equal(state["b.w"], torch.ones(2, dtype=torch.float64))


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("add --force to replace it", "add force=True to replace it"),
        ("--root \"['a.b']\"   or in the rules: root ['a.b']", "root=['a.b']   or in the rules: root ['a.b']"),
        ("--keep-foreign", "keep_foreign=True"),
        ("`statex diff` shows all; numbers that may differ by rounding: --rtol, --atol",
         "`statex diff` shows all; numbers that may differ by rounding: rtol, atol"),
        ("name it: `--target package.module:Model` or `--like other.safetensors`",
         "name it: `target='package.module:Model'` or `like='other.safetensors'`"),
        ("that this is meant: --no-update-config", "that this is meant: update_config=False"),
        ("write `->` in `a--force-b`", "write `->` in `a--force-b`"),
    ],
)  # fmt: skip
def test_options_are_said_in_python(text: str, wanted: str) -> None:
    assert in_python(text) == wanted
