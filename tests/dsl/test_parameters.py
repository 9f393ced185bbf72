"""Parameters given from Python."""

from __future__ import annotations

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


def test_what_is_no_value_is_called_by_its_type() -> None:
    with pytest.raises(StatexError, match="the parameter `n` takes an int, and this is of type Tensor"):
        statex.compile("param n: int").plan(STATE, n=torch.ones(2))
