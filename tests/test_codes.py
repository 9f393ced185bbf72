"""Each code's example, run on a checkpoint made for it, gives that code."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

import statex
from statex.core.source import Source
from statex.diagnostics.codes.registry import all_codes
from statex.recipe.read import parse_recipe

BY_ID = {code.id: code for code in all_codes()}
COMMANDS = {code.id for code in all_codes() if re.match(r"statex[ .]|torch\.save|\{'a'|\w+: \{", code.example)}
"""Codes of command lines, files, targets and of what recipes run into; tests of these bring them about."""
RECIPES = {code.id for code in all_codes() if code.example.startswith("statex: ")}
"""Codes whose example is a recipe."""


def ones(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.ones(*shape, dtype=dtype)


SQUARE = {"a.weight": ones(2, 2)}
STATES: dict[str, Mapping[str, Any]] = {
    "SX154": {"a" * 40 + "c": ones(2)},
    "SX157": {"a.x": ones(2)},
    "SX158": {"a.0": ones(2)},
    "SX160": {"a.x.b.w": ones(2)},
    "SX161": {"a.b1": ones(2)},
    "SX302": {"a.weight": ones(2), "b.weight": ones(2)},
    "SX306": SQUARE,
    "SX307": {"x_y_z.weight": ones(2)},
    "SX308": {"bn._extra_state": {"x": 1}, "bn.weight": ones(2)},
    "SX309": {f"{m}.{p}": ones(2) for m in "xy" for p in "qkv" if m + p != "yk"},
    "SX310": {f"experts.{e}.w": ones(2) for e in (0, 1, 3)},
    "SX311": {"a.0.q": ones(2), "a.1.q": ones(2), "a.0.k": ones(2)},
    "SX312": {"a.0.q": ones(2), "b.k": ones(2)},
    "SX313": {"experts.0.w": ones(2)},
    "SX314": {"a.qkv": ones(6, 2)},
    "SX315": {"model.layers.0.w": ones(2)},
    "SX316": {"a": ones(2), "b": ones(2)},
    "SX317": {"layers.0.attn.weight": ones(2)},
    "SX319": {"a.x": ones(2)},
    "SX322": {"x" * 6000: ones(2)},
    "SX323": {"bn.weight": ones(2), "bn.bias": ones(2)},
    "SX326": {"model": {"model.w": ones(2)}},
    "SX327": {"ema": [ones(2), ones(2), ones(2)]},
    "SX401": {"a.weight": ones(2, 3), "b.weight": ones(2, 4)},
    "SX402": {"a.weight": ones(2), "b.weight": ones(2, dtype=torch.bfloat16)},
    "SX403": {"bn.num_batches_tracked": torch.tensor(3)},
    "SX407": {"a.qkv": ones(10, 2)},
    "SX413": {"bn.weight": ones(2), "bn.num_batches_tracked": torch.tensor(3)},
    "SX619": {"model": SQUARE, "optimizer": {"lr": 0.1}},
    "SX901": (lambda shared: {"lm_head.weight": shared, "embed.weight": shared})(ones(2, 2)),
    "SX902": {"bn.weight": ones(2), "bn.num_batches_tracked": torch.tensor(3)},
}
FOLLOWED: dict[str, Any] = {"state": {0: {"step": 1, "exp_avg": ones(2, 2)}}, "param_groups": [{"params": [0, 1]}]}
STATES["SX340"] = STATES["SX343"] = STATES["SX916"] = {
    "model": {"a.weight": ones(2, 2), "b.weight": ones(2, 2)},
    "optimizer": FOLLOWED,
}
STATES["SX341"] = {
    "model": {"a.weight": ones(2, 2), "b.weight": ones(2, 2)},
    "optimizer": {"state": {}, "param_groups": [{"params": [0]}, {"params": [1]}]},
}
STATES["SX342"] = {"model": {"a.weight": ones(2), "b.weight": ones(2)}, "optimizer": FOLLOWED}
STATES["SX344"] = {"model": {"a.weight": ones(2, 2), "b.weight": ones(2, 2)}, "optimizer": FOLLOWED}
STATES["SX345"] = {
    "model": SQUARE,
    "optimizer": {"state": {0: {"row_var": ones(2), "col_var": ones(2)}}, "param_groups": [{"params": [0]}]},
}
STATES["SX346"] = {
    "model": {"a.weight": ones(2, 2), "b.bias": ones(2)},
    "optimizer": {
        "state": {0: {"exp_avg": ones(2, 2)}, 1: {"exp_avg": ones(2)}},
        "param_groups": [{"params": [0]}, {"params": [1]}],
    },
}
for _code in ("SX330", "SX331", "SX332"):
    STATES[_code] = {"model": SQUARE, "epoch": 3}
STATES["SX906"] = {"a.weight": ones(2, 2, dtype=torch.bfloat16)}
PROLOGUE = {
    "SX320": "input ft\n",
    "SX321": "input rank[]\n",
}
INPUTS: dict[str, dict[str, Any]] = {
    "SX320": {"ft": SQUARE},
    "SX321": {"rank": [SQUARE, {"b.weight": ones(2, 2)}]},
    "SX903": {"lora": SQUARE},
}


def codes_of(rules: str, state: Mapping[str, Any], folder: Path, inputs: dict[str, Any]) -> list[str]:
    try:
        program = statex.compile(rules, name="self.sx", folder=folder)
        plan = program.plan(state, inputs=inputs)
    except statex.StatexError as error:
        return [d.code.id for d in error.diagnostics]
    return [d.code.id for d in plan.warnings]


@pytest.mark.parametrize("id", sorted(set(BY_ID) - COMMANDS - RECIPES))
def test_the_example_gives_its_code(id: str, tmp_path: Path) -> None:
    rules = PROLOGUE.get(id, "") + BY_ID[id].example
    (tmp_path / "self.sx").write_text(rules)
    found = codes_of(rules, STATES.get(id, SQUARE), tmp_path, INPUTS.get(id, {}))
    assert set(found) == {id}, found


@pytest.mark.parametrize("id", sorted(RECIPES))
def test_the_example_of_a_recipe_gives_its_code(id: str) -> None:
    with pytest.raises(statex.StatexError) as caught:
        parse_recipe(Source("recipe.yaml", BY_ID[id].example))
    assert {d.code.id for d in caught.value.diagnostics} == {id}


def test_codes_of_commands_are_brought_about_elsewhere() -> None:
    here = Path(__file__).parent
    rooms = ("cli", "checkpoint", "execute", "migrating", "recipe")
    files = [here / "test_api.py", *(path for room in rooms for path in here.glob(f"{room}/*.py"))]
    text = "".join(path.read_text() for path in files)
    missing = {id for id in COMMANDS if id not in text}
    assert not missing
