"""Parameters given from Python."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import statex
from statex import StatexError

STATE = {"a.w": torch.ones(2, 2)}


@pytest.mark.parametrize(
    ("type", "given", "expected"),
    [
        ("int", np.int64(3), 3),
        ("float", np.float32(2.5), 2.5),
        ("float", np.float64(2.5), 2.5),
        ("bool", np.bool_(True), True),
        ("list", [np.int64(3), 1], (3, 1)),
        ("int", np.array(3), 3),
        ("list", torch.Size([2, 3]), (2, 3)),
    ],
)
def test_scalars_of_numpy_are_numbers(type: str, given: Any, expected: Any) -> None:
    for declared in (f"param n: {type}", "param n"):
        found = statex.compile(declared).plan(STATE, n=given).parameters["n"]
        assert found == expected
        assert repr(found) == repr(expected)


def planned(tmp_path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    torch.save(STATE, tmp_path / "in.pth")
    command = [sys.executable, "-m", "statex", "plan", *arguments, str(tmp_path / "in.pth")]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)


FROM = "param heads: int from 'text_config.heads'\nset a.w = it * heads"


@pytest.mark.parametrize(
    ("files", "arguments", "said"),
    [
        (['{"text_config": {"heads": 3}, "heads": 9}'], ["-e", f"{FROM}\nexpect heads == 3"], ""),
        (['{"text_config": {"heads": 3}}'], ["-e", f"{FROM}\nexpect heads == 5", "-D", "heads=5"], ""),
        (['{"text_config": null}'], ["-e", f"{FROM.replace(chr(10), ' = 7' + chr(10), 1)}\nexpect heads == 7"], ""),
        (['{"a": 1}', '{"text_config": {"heads": 4}}'], ["-e", f"{FROM}\nexpect heads == 4"], ""),
        (
            ['{"text_config": {"heads": 3}}', '{"text_config": {"heads": 4}}'], ["-e", FROM],
            "SX206]: `text_config.heads` is not the same in `0.json` and in `1.json`",
        ),
        (
            ['{"text_confg": {"heads": 3}}'], ["-e", FROM],
            "`0.json` has no `text_config.heads`; did you mean `text_confg.heads`?",
        ),
        (['{"text_config": {"heads": "3"}}'], ["-e", FROM], "SX206]: the parameter `heads` takes an int, and this is"),
        ([], ["-e", FROM], "it is read from a file of parameters: --params FILE"),
    ],
)  # fmt: skip
def test_parameters_are_read_from_a_path_in_a_file(
    files: list[str], arguments: list[str], said: str, tmp_path: Path
) -> None:
    for number, text in enumerate(files):
        (tmp_path / f"{number}.json").write_text(text)
        arguments = [*arguments, "--params", f"{number}.json"]
    done = planned(tmp_path, *arguments)
    assert said in done.stderr
    assert (done.returncode == 0) is (not said), done.stderr


def test_a_dict_is_given_as_json(tmp_path: Path) -> None:
    rules = "param d: dict\nset a.w = it * lookup(d, 'x')"
    assert planned(tmp_path, "-e", rules, "-D", 'd={"x": 2}').returncode == 0
    assert "SX206]: the parameter `d` takes a dict" in planned(tmp_path, "-e", rules, "-D", "d=3").stderr


def test_what_is_no_value_is_called_by_its_type() -> None:
    with pytest.raises(StatexError, match="the parameter `n` takes an int, and this is of type Tensor"):
        statex.compile("param n: int").plan(STATE, n=torch.ones(2))


@pytest.mark.parametrize("arguments", ["d", "d, 'a', 1, 2", "'a', d", "d, 1"])
def test_a_dict_is_asked_for_one_text(arguments: str) -> None:
    with pytest.raises(StatexError) as caught:
        statex.compile(f"param d: dict\nlet _n = lookup({arguments})").plan(STATE, d={"a": 1})
    assert [found.code.id for found in caught.value.diagnostics] == ["SX207"]
