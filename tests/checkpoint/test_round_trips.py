"""A state that torch can save comes back as it was: bits, order, `_metadata`, ties, Parameters, what is around it."""

from __future__ import annotations

import tempfile
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import nn

import statex

NOTHING = statex.compile("")
DTYPES = [
    torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16, torch.int8,
    torch.uint8, torch.bool, torch.complex64, torch.complex128, torch.float8_e4m3fn, torch.float8_e5m2,
    torch.uint16, torch.uint32, torch.uint64,
]  # fmt: skip


def bits(tensor: torch.Tensor) -> torch.Tensor:
    """Return the bytes of a tensor, so that NaN payloads count."""
    return torch.atleast_1d(tensor.detach()).contiguous().reshape(-1).view(torch.uint8)


def assert_same(actual: Any, expected: Any, *, tied: bool = True) -> None:
    """Check two values of a checkpoint for equality in everything that a file can keep."""
    if isinstance(expected, torch.Tensor):
        assert (actual.dtype, actual.shape, actual.layout) == (expected.dtype, expected.shape, expected.layout)
        assert actual.requires_grad == expected.requires_grad
        assert isinstance(actual, nn.Parameter) == isinstance(expected, nn.Parameter)
        if expected.layout is torch.strided and not expected.is_quantized:
            assert torch.equal(bits(actual), bits(expected))
        else:
            assert torch.equal(actual.to_dense(), expected.to_dense())
    elif isinstance(expected, Mapping):
        assert type(actual) is type(expected)
        assert list(actual) == list(expected)
        for key, value in expected.items():
            assert_same(actual[key], value)
        assert getattr(actual, "_metadata", None) == getattr(expected, "_metadata", None)
    elif isinstance(expected, list | tuple):
        assert type(actual) is type(expected)
        assert len(actual) == len(expected)
        for one, other in zip(actual, expected, strict=True):
            assert_same(one, other)
    else:
        assert actual == expected


def ties(state: Mapping[str, torch.Tensor]) -> set[frozenset[str]]:
    """Return which keys share a storage."""
    found: dict[int, set[str]] = {}
    for key, tensor in state.items():
        if tensor.numel():
            found.setdefault(tensor.untyped_storage().data_ptr(), set()).add(key)
    return {frozenset(keys) for keys in found.values() if len(keys) > 1}


@st.composite
def tensors(draw: st.DrawFn) -> torch.Tensor:
    """Random bytes as a tensor of any dtype: scalars, empty ones, views with strides and offsets."""
    dtype = draw(st.sampled_from(DTYPES))
    shape = draw(st.lists(st.integers(0, 4), max_size=4))
    count = 1
    for length in shape:
        count *= length
    lead = draw(st.integers(0, 3))
    size = torch.empty((), dtype=dtype).element_size()
    seed = draw(st.integers(0, 2**31))
    raw = torch.randint(0, 256, ((count + lead) * size,), generator=torch.Generator().manual_seed(seed))
    raw = (raw % 2 if dtype is torch.bool else raw).to(torch.uint8)
    tensor = raw.view(dtype)[lead:].reshape(shape)
    if tensor.ndim >= 2 and draw(st.booleans()):
        tensor = tensor.transpose(0, 1)
    if draw(st.booleans()) and (dtype.is_floating_point or dtype.is_complex):
        return nn.Parameter(tensor, requires_grad=draw(st.booleans()))
    return tensor


names = st.lists(st.sampled_from(["a", "b", "0", "1", "weight", "é", "with space"]), min_size=1, max_size=3).map(
    ".".join
)


@st.composite
def states(draw: st.DrawFn) -> OrderedDict[str, torch.Tensor]:
    drawn = draw(st.dictionaries(names, tensors(), min_size=1, max_size=6))
    state = OrderedDict(drawn)
    for key in draw(st.lists(st.sampled_from(sorted(drawn)), max_size=2)):
        state[f"{key}.tied"] = drawn[key]
    return state


@settings(max_examples=60, deadline=None)
@given(states())
def test_torch_files(state: OrderedDict[str, torch.Tensor]) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        torch.save(state, folder / "in.pth")
        statex.convert(folder / "in.pth", folder / "out.pth", NOTHING)
        loaded = torch.load(folder / "out.pth", weights_only=True)
        assert_same(loaded, state)
        assert ties(loaded) == ties(state)


@settings(max_examples=40, deadline=None)
@given(states())
def test_safetensors_files(state: OrderedDict[str, torch.Tensor]) -> None:
    plain = {k: v.detach().clone(memory_format=torch.contiguous_format) for k, v in state.items()}
    plain = {k: v for k, v in plain.items() if not v.is_complex()}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        torch.save(plain, folder / "in.pth")
        statex.convert(folder / "in.pth", folder / "out.safetensors", NOTHING)
        loaded = load_file(folder / "out.safetensors")
        assert set(loaded) == set(plain)
        for key, tensor in plain.items():
            assert_same(loaded[key], tensor)
        statex.convert(folder / "out.safetensors", folder / "back.pth", NOTHING)
        back = torch.load(folder / "back.pth", weights_only=True)
        assert set(back) == set(plain)
        for key, tensor in plain.items():
            assert_same(back[key], tensor)


def test_what_is_around_a_state(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(2, 3)).sum().backward()
    optimizer.step()
    whole = {
        "epoch": 3,
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "args": {"lr": 1e-3, "betas": (0.9, 0.99), "names": ["a", None, True]},
    }
    torch.save(whole, tmp_path / "in.pth")
    statex.convert(tmp_path / "in.pth", tmp_path / "out.pth", statex.compile("root 'model'"))
    assert_same(torch.load(tmp_path / "out.pth", weights_only=True), whole)


def test_extra_state_with_tensors(tmp_path: Path) -> None:
    state = OrderedDict([("a.weight", torch.ones(2)), ("a._extra_state", {"amax": torch.ones(3), "recipe": "x"})])
    torch.save(state, tmp_path / "in.pth")
    statex.convert(tmp_path / "in.pth", tmp_path / "out.pth", statex.compile("rename prefix '' -> 'm.'"))
    loaded = torch.load(tmp_path / "out.pth", weights_only=True)
    assert_same(loaded, OrderedDict((f"m.{k}", v) for k, v in state.items()))


@pytest.mark.filterwarnings("ignore:.*quantize:UserWarning")
@pytest.mark.filterwarnings("ignore:Sparse.* tensor support:UserWarning")
@pytest.mark.filterwarnings("ignore:TypedStorage is deprecated")  # by torch.load itself
def test_sparse_and_quantized_tensors_pass_through(tmp_path: Path) -> None:
    state = OrderedDict(
        a=torch.eye(3).to_sparse(),
        b=torch.eye(3).to_sparse_csr(),
        c=torch.quantize_per_tensor(torch.ones(3), 0.5, 0, torch.qint8),
        d=torch.ones(2),
    )
    torch.save(state, tmp_path / "in.pth")
    statex.convert(tmp_path / "in.pth", tmp_path / "out.pth", statex.compile("rename d -> e.d"))
    loaded = torch.load(tmp_path / "out.pth", weights_only=True)
    assert list(loaded) == ["a", "b", "c", "e.d"]
    assert loaded["a"].layout is torch.sparse_coo
    assert torch.equal(loaded["b"].to_dense(), torch.eye(3))
    assert torch.equal(loaded["c"].dequantize(), torch.ones(3))


def test_a_view_is_saved_compactly(tmp_path: Path) -> None:
    big = torch.randn(1000, 1000)
    torch.save({"a": big[:2], "b": torch.ones(1)}, tmp_path / "in.pth")
    assert (tmp_path / "in.pth").stat().st_size > 4_000_000
    statex.convert(tmp_path / "in.pth", tmp_path / "out.pth", NOTHING)
    assert (tmp_path / "out.pth").stat().st_size < 20_000
    assert torch.equal(torch.load(tmp_path / "out.pth", weights_only=True)["a"], big[:2])


@pytest.mark.parametrize("value", [torch.eye(3).to_sparse(), torch.ones(2, dtype=torch.complex128)])
def test_what_safetensors_cannot_hold_is_refused_by_name(tmp_path: Path, value: torch.Tensor) -> None:
    torch.save({"ok.w": torch.ones(1), "odd.w": value}, tmp_path / "in.pth")
    with pytest.raises(statex.StatexError) as caught:
        statex.convert(tmp_path / "in.pth", tmp_path / "out.safetensors", NOTHING)
    assert [row[0].strip() for row in caught.value.diagnostics[0].rows] == ["odd.w"]
    assert not (tmp_path / "out.safetensors").exists()
