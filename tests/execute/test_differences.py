"""Differences of values, against torch's own arithmetic on the same tensors."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import statex
from statex.execute import differences
from statex.session.bare import Bare
from statex.session.compared import Compared, compared
from statex.session.request import InputSpec, Request
from statex.session.session import Session
from tests.effort import examples

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


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (torch.float32, torch.int32),
        (torch.bfloat16, torch.float16),
        (torch.uint8, torch.int8),
        (torch.int16, torch.bfloat16),
    ],
)
def test_equal_bits_of_two_dtypes_are_other_numbers(tmp_path: Path, one: torch.dtype, other: torch.dtype) -> None:
    bits = (torch.arange(100) * 3 + 100).to({1: torch.uint8, 2: torch.int16, 4: torch.int32}[one.itemsize])
    a, b = bits.view(one), bits.view(other)
    found = compare(tmp_path, a, b).values["t"]
    absolute = (wide(a) - wide(b)).abs()
    assert (found.elements, found.absolute) == ((absolute > 0).sum().item(), absolute.max().item())
    equal = torch.arange(100).to(one)
    assert compare(tmp_path, equal, equal.to(other)).values.get("t") is None or not torch.equal(
        wide(equal), wide(equal.to(other))
    )


@pytest.mark.parametrize("dtype", [*FLOATS, torch.int64, torch.complex64])
@pytest.mark.parametrize(("rtol", "atol"), [(0.1, 0.0), (0.0, 0.5), (1e-3, 1e-2)])
def test_what_differs_by_more_than_a_tolerance_is_what_torch_says(
    tmp_path: Path, dtype: torch.dtype, rtol: float, atol: float
) -> None:
    torch.manual_seed(1)
    one = (torch.randn(40_000) * 5).to(dtype)
    other = torch.where(torch.rand(40_000) < 0.5, wide(one), wide(one) * 1.05 + 0.001).to(dtype)
    found = compare(tmp_path, one, other, rtol=rtol, atol=atol).values.get("t")
    apart = ~torch.isclose(wide(one), wide(other), rtol=rtol, atol=atol)
    unequal = wide(one) != wide(other)
    if found is None:
        assert not unequal.any()
        return
    assert (found.elements, found.within) == (apart.sum().item(), (unequal & ~apart).sum().item())
    absolute = (wide(one) - wide(other)).abs()[apart]
    assert found.absolute == (absolute.max().item() if len(absolute) else 0.0)
    assert found.relative == ((absolute / wide(other).abs()[apart]).max().item() if len(absolute) else 0.0)


def test_many_tensors_of_all_sizes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Small ones are compared together, large ones in parts; each difference is where it belongs."""
    monkeypatch.setattr(differences, "_PART", 1 << 14)
    monkeypatch.setattr(differences, "_PIECE", 1 << 12)
    monkeypatch.setattr(differences, "_buffers", differences._Buffers())
    torch.manual_seed(2)
    dtypes = [torch.float32, torch.bfloat16, torch.int64, torch.bool, torch.complex128]
    one = {f"t{i}": (torch.randn(size) * 3).to(dtypes[i % 5]) for i, size in enumerate(SIZES * 5)}
    other = {key: tensor.clone() for key, tensor in one.items()}
    changed = {}
    for key in list(one)[1::3]:
        if len(other[key]):
            place = len(one[key]) - 1 if key[-1] in "13579" else len(one[key]) // 2
            other[key][place] = 1 if not one[key][place] else 0
            changed[key] = (wide(one[key]) - wide(other[key])).abs().max().item()
    torch.save(one, tmp_path / "a.pth")
    torch.save(other, tmp_path / "b.pth")
    with Bare(tmp_path / "a.pth") as a, Bare(tmp_path / "b.pth") as b:
        found = compared(a, b)
    assert {key: value.absolute for key, value in found.values.items()} == changed
    assert list(found.values) == list(changed)
    assert {key: (value.numel, value.elements) for key, value in found.values.items()} == {
        key: (len(one[key]), 1) for key in changed
    }


SIZES = [0, 1, 3, 100, 511, 512, 513, 4096, 5000, 40_001]


def test_a_checkpoint_as_it_is_has_the_values_of_its_session(tmp_path: Path) -> None:
    base = torch.arange(24.0).view(4, 6)
    state = {"a": base, "view": base.T[1:], "half": base[:2].to(torch.bfloat16), "n": 3, "none": torch.ones(0)}
    torch.save({"epoch": 1, "state": state}, tmp_path / "a.pth")
    statex.convert(tmp_path / "a.pth", tmp_path / "b.pth", "")
    tensors = {key: value.contiguous() for key, value in state.items() if isinstance(value, torch.Tensor)}
    statex.convert(tensors, tmp_path / "c.safetensors", "")
    statex.convert(tensors, tmp_path / "d", "", format="dcp")
    for name, alike in (("b.pth", 4), ("c.safetensors", 4), ("d", 4)):
        with Session(Request(InputSpec(tmp_path / "a.pth"))) as a, Bare(tmp_path / name) as b:
            assert dict(a.types) | dict(b.types) == dict(a.types)
            assert compared(a, b).equal == alike
            assert compared(b, a).equal == alike


RARE = [0.0, -0.0, 1.0, 1.5, -3.0, math.inf, -math.inf, math.nan, 1e-30, 1e30]


@given(st.lists(st.sampled_from(RARE), min_size=1, max_size=6), st.data())
@settings(deadline=None, max_examples=examples(60))
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


SIGNALLING = [(torch.bfloat16, 0x7FA1), (torch.float16, 0x7D01), (torch.float32, 0x7F800001)]


@pytest.mark.parametrize(("dtype", "bits"), SIGNALLING)
def test_payloads_of_nans_differ_without_a_warning(tmp_path: Path, dtype: torch.dtype, bits: int) -> None:
    whole = torch.int32 if dtype.itemsize == 4 else torch.int16
    one = torch.tensor([bits, 0], dtype=whole).view(dtype)
    other = torch.tensor([bits + 1, 0], dtype=whole).view(dtype)
    assert compare(tmp_path, one, one.clone()).agree
    assert list(compare(tmp_path, one, other).values) == ["t"]
