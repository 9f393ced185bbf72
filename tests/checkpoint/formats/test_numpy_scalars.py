"""Numbers of numpy beside a state are read as the numbers they are, without numpy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy
import pytest
import torch

import statex
from statex import StatexError

SCALARS: list[Any] = [
    numpy.float64(0.9), numpy.float32(0.1), numpy.float16(2.5), numpy.int64(-(2**62)), numpy.int8(-3),
    numpy.uint64(2**62), numpy.uint8(200), numpy.bool_(True), numpy.array(7.5, ">f8")[()],
]  # fmt: skip


@pytest.mark.parametrize("scalar", SCALARS, ids=lambda one: type(one).__name__)
def test_a_scalar_is_a_number(tmp_path: Path, scalar: Any) -> None:
    torch.save({"state_dict": {"w": torch.ones(1)}, "best": [scalar], "it": scalar}, tmp_path / "in.pth")
    statex.convert(
        tmp_path / "in.pth", tmp_path / "out.pth",
        f"expect value('it') == {scalar.item()}; expect value('best') == [{scalar.item()}]".replace("True", "true"),
    )  # fmt: skip
    found = torch.load(tmp_path / "out.pth", weights_only=False)
    assert type(found["it"]) is type(scalar)
    assert found["it"] == scalar


def test_what_is_no_plain_number_is_none(tmp_path: Path) -> None:
    torch.save({"state_dict": {"w": torch.ones(1)}, "z": numpy.complex64(1j)}, tmp_path / "in.pth")
    with pytest.raises(StatexError, match="SX221"):
        statex.compile("expect value('z') == 1").plan(tmp_path / "in.pth")
