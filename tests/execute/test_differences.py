"""Differences of values, against torch's own arithmetic on the same tensors."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from statex.session.compared import Compared, compared
from statex.session.request import InputSpec, Request
from statex.session.session import Session

FLOATS = [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn]
OTHERS = [torch.int64, torch.int8, torch.uint8, torch.bool, torch.complex64]


def compare(folder: Path, one: torch.Tensor, other: torch.Tensor, **tolerance: float) -> Compared:
    torch.save({"t": one}, folder / "a.pth")
    torch.save({"t": other}, folder / "b.pth")
    with Session(Request(InputSpec(folder / "a.pth"))) as a, Session(Request(InputSpec(folder / "b.pth"))) as b:
        return compared(a, b, **tolerance)


def wide(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.to(torch.complex128 if tensor.is_complex() else torch.float64)


@pytest.mark.parametrize("dtype", [*FLOATS, *OTHERS])
@pytest.mark.parametrize("numel", [0, 1, 7, 65_536, 200_001])
def test_largest_differences_are_those_of_torch(tmp_path: Path, dtype: torch.dtype, numel: int) -> None:
    torch.manual_seed(numel)
    one, other = ((torch.randn(numel) * 5).to(dtype) for _ in range(2))
    found = compare(tmp_path, one, other)
    absolute = (wide(one) - wide(other)).abs()
    if torch.equal(wide(one), wide(other)):
        assert found.agree
        return
    difference = found.values["t"]
    assert difference.absolute == absolute.max().item()
    apart = absolute > 0
    assert difference.elements == apart.sum().item()
    assert difference.relative == (absolute[apart] / wide(other)[apart].abs()).max().item()
    assert difference.numel == numel


RARE = [0.0, -0.0, 1.0, 1.5, -3.0, math.inf, -math.inf, math.nan, 1e-30, 1e30]


@given(st.lists(st.sampled_from(RARE), min_size=1, max_size=6), st.data())
@settings(deadline=None, max_examples=60)
def test_rare_numbers_agree_where_torch_says_so(values: list[float], data: st.DataObject) -> None:
    import tempfile

    others = data.draw(st.lists(st.sampled_from(values), min_size=len(values), max_size=len(values)))
    rtol, atol = data.draw(st.sampled_from([(0.0, 1e-9), (0.1, 0.0), (1e-3, 1e-3)]))
    one, other = torch.tensor(values), torch.tensor(others)
    with tempfile.TemporaryDirectory() as folder:
        found = compare(Path(folder), one, other, rtol=rtol, atol=atol)
    assert found.agree == torch.allclose(one.double(), other.double(), rtol=rtol, atol=atol, equal_nan=True)


def test_only_one_side_is_infinite(tmp_path: Path) -> None:
    found = compare(tmp_path, torch.tensor([0.0, math.inf]), torch.tensor([math.inf, math.inf]), rtol=0.1)
    assert not found.agree
    assert found.values["t"].elements == 1


def test_integers_beyond_what_a_double_tells_apart(tmp_path: Path) -> None:
    found = compare(tmp_path, torch.tensor([2**60, 5]), torch.tensor([2**60 + 1, 5]))
    assert (found.values["t"].elements, found.values["t"].absolute) == (1, 1.0)
    for dtype, low in ((torch.uint64, 2**63), (torch.int64, 2**62), (torch.int64, -(2**63))):
        one, other = torch.tensor([low + 5], dtype=dtype), torch.tensor([low], dtype=dtype)
        for pair in ((one, other), (other, one)):
            assert not compare(tmp_path, *pair, atol=4.0).agree
            assert compare(tmp_path, *pair, atol=5.0).agree
    found = compare(tmp_path, torch.tensor([2**63 - 1]), torch.tensor([-(2**63)]))
    assert found.values["t"].absolute == float(2**64)


def test_infinite_and_finite_numbers_differ(tmp_path: Path) -> None:
    for one, other in ((1.0, math.inf), (math.inf, 1.0), (math.inf, -math.inf), (complex(1, 0), complex(math.inf, 0))):
        found = compare(tmp_path, torch.tensor([one]), torch.tensor([other]), rtol=1.0, atol=1e30)
        assert not found.agree, (one, other)
        assert (found.values["t"].absolute, found.values["t"].relative) == (math.inf, math.inf)


def test_numbers_within_the_tolerance_are_not_equal(tmp_path: Path) -> None:
    found = compare(tmp_path, torch.tensor([1.0, 2.0, 3.0]), torch.tensor([1.0, 2.5, 4.0]), atol=0.6)
    assert (found.agree, found.equal) == (False, 0)
    assert (found.values["t"].elements, found.values["t"].within) == (1, 1)
    for dtype in (torch.bool, torch.float8_e4m3fn, torch.complex64, torch.int8):
        found = compare(tmp_path, torch.zeros(200_000, dtype=dtype), torch.ones(200_000, dtype=dtype), atol=1.5)
        assert (found.agree, found.equal, found.values["t"].within) == (True, 0, 200_000)


def test_bits_alone(tmp_path: Path) -> None:
    one, other = torch.zeros(3), torch.tensor([0.0, -0.0, 0.0])
    found = compare(tmp_path, one, other)
    assert not found.agree
    assert (found.values["t"].bits, found.values["t"].elements) == (1, 0)
    assert compare(tmp_path, one, other, atol=1e-9).agree


def test_one_side_is_nan(tmp_path: Path) -> None:
    found = compare(tmp_path, torch.tensor([1.0, math.nan]), torch.tensor([1.5, 2.0]))
    assert math.isnan(found.values["t"].absolute)
    assert found.values["t"].elements == 2


def test_other_dtypes_and_layouts_of_equal_numbers(tmp_path: Path) -> None:
    base = torch.arange(12.0).view(3, 4)
    found = compare(tmp_path, base.T, base.T.contiguous().to(torch.bfloat16))
    assert list(found.types) == ["t"]
    assert not found.values
    assert compare(tmp_path, base.T, base.T.contiguous()).agree
