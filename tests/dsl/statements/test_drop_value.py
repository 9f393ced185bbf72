"""`drop value(…)`: what stands around a state is left out by name."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest
import torch

import statex
from statex import StatexError


class Unknown:
    pass


def checkpoint() -> dict[str, Any]:
    model = torch.nn.Linear(2, 2)
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    return {
        "model": model.state_dict(), "optimizer": optimizer.state_dict(), "args": Namespace(lr=0.1), "epoch": 3,
        "more": {"a": 1, "b.c": 2},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("rules", "left"),
    [
        ("drop value('args')", {"args"}),
        ("drop value('optimizer'), value('epoch')", {"optimizer", "epoch"}),
        ("drop value(['args'])", {"args"}),
        ("drop? value('absent'), value('epoch')", {"epoch"}),
        ("if true { drop value('epoch') }", {"epoch"}),
    ],
)
def test_what_is_named_is_left_out(rules: str, left: set[str], tmp_path: Path) -> None:
    whole = checkpoint()
    torch.save(whole, tmp_path / "in.pth")
    statex.convert(tmp_path / "in.pth", tmp_path / "out.pth", rules, root="model")
    found = torch.load(tmp_path / "out.pth", weights_only=False)
    assert list(found) == [key for key in whole if key not in left]
    assert set(statex.compile(rules).apply(whole, root="model")) == set(found)
    assert torch.equal(found["model"]["weight"], whole["model"]["weight"])


def test_a_value_inside_of_what_stays(tmp_path: Path) -> None:
    found = statex.compile("drop value('more.a'), value('more.b.c')").apply(checkpoint(), root="model")
    assert found["more"] == {}


def test_a_plan_says_so_and_the_optimizer_is_not_missed() -> None:
    rules = statex.compile("set weight = it * 2\ndrop value('optimizer')")
    plan = rules.plan(checkpoint(), root="model")
    assert "1 left out" in str(plan)
    assert "left out around the state: optimizer" in str(plan)
    assert not plan.warnings
    assert (plan.totals.keys_in, plan.totals.dropped) == (2, 0)
    warned = statex.compile("set weight = it * 2").plan(checkpoint(), root="model").warnings
    assert [one.code.id for one in warned] == ["SX916"]


def test_the_way_out_that_is_offered_for_an_unknown_class(tmp_path: Path) -> None:
    torch.save({**checkpoint(), "odd": Unknown()}, tmp_path / "in.pth")
    with pytest.raises(StatexError, match="SX640") as error:
        statex.convert(tmp_path / "in.pth", tmp_path / "out.pth", "", root="model")
    way = next(note.text for note in error.value.diagnostics[0].notes if note.kind == "help")
    statex.convert(tmp_path / "in.pth", tmp_path / "out.pth", way, root="model")
    assert "odd" not in torch.load(tmp_path / "out.pth", weights_only=False)


@pytest.mark.parametrize(
    ("rules", "said"),
    [
        ("drop value('optimzer')", "did you mean `value('optimizer')`?"),
        ("drop value('weight')", "= help: drop weight"),
        ("drop value('model')", "`model` is the state itself"),
        ("drop value('epoch.x')", "there is no value at `epoch.x`"),
        ("within a { drop value('epoch') }", "SX216"),
        ("macro m() { drop value('epoch') }", "SX216"),
    ],
)
def test_what_cannot_be_left_out(rules: str, said: str) -> None:
    with pytest.raises(StatexError) as error:
        statex.compile(rules).plan(checkpoint(), root="model")
    assert said in str(error.value)


def test_value_is_still_a_key_and_a_question() -> None:
    state = {"value": torch.ones(1), "a.value": torch.ones(1)}
    assert list(statex.compile("drop value").apply(state)) == ["a.value"]
