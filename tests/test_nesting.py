"""States inside checkpoints: nothing around or inside them is lost."""

from __future__ import annotations

from collections import Counter, namedtuple
from typing import Any

import pytest
import torch

import statex
from statex import StatexError

ONES = torch.ones(2)
ZEROS = torch.zeros(2)
Point = namedtuple("Point", "x y")


def test_a_tensor_that_takes_the_name_of_a_dict() -> None:
    state = {"enc": {"a": ONES, "b": {"c": ONES}}, "x": ZEROS}
    done = statex.compile("root ''\nrename x -> enc").apply(state)
    assert list(done) == ["enc.a", "enc.b.c", "enc"]
    assert done["enc"] is ZEROS
    done = statex.compile("root ''\nrename x -> enc.b").apply(state)
    assert done == {"enc": {"a": ONES, "b.c": ONES, "b": ZEROS}}


def test_what_is_around_the_state_and_holds_no_tensor_is_the_same_object() -> None:
    around: dict[str, Any] = {"point": Point(1, 2), "size": torch.Size([1]), "seen": Counter("ab"), "list": [1, (2, 3)]}
    for rules in ("root 'model'", "root 'model' -> 'state_dict'"):
        done = statex.compile(rules).apply({"model": {"a": ONES}, **around})
        assert all(done[key] is value for key, value in around.items())


@pytest.mark.parametrize(
    ("root", "taken"),
    [
        ("'model' -> 'optimizer'", "optimizer"),
        ("'model' -> 'optimizer.model'", None),
        ("'model' -> 'optimizer.lr'", "optimizer.lr"),
        ("'model' -> 'optimizer.lr.x'", "optimizer.lr"),
        ("'model' -> 'epoch.model'", "epoch"),
        ("'model' -> 'model'", None),
        ("'model' -> 'model.inner'", None),
        ("'model' -> 'net'", None),
        ("'outer.model' -> 'outer'", None),
        ("'pair.model' -> 'pair'", "pair"),
        ("'model' -> ''", None),
    ],
)
def test_a_root_is_put_on_nothing_that_is_there(root: str, taken: str | None) -> None:
    a = {"a.w": ONES}
    checkpoint = {"model": a, "optimizer": {"lr": 0.1}, "epoch": 3, "outer": {"model": a}, "pair": {"model": a, "n": 1}}
    rules = statex.compile(f"root {root}")
    if taken is None:
        rules.apply(checkpoint)
        return
    with pytest.raises(StatexError, match=f"SX619.*has something at `{taken}` already"):
        rules.plan(checkpoint)
