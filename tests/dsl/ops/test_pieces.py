"""What is computed in pieces to need less memory is what torch, or numpy, computes at once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy
import pytest
import torch

from statex.dsl.ops import OPERATIONS, typing


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(typing, "_PIECE", 1 << 17)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64, torch.complex64, torch.complex128])
@pytest.mark.parametrize("count", [2, 5, 9])
@pytest.mark.parametrize("shape", [(100_003,), (1024 * 33 + 31,), (65, 1027), (1024 * 32 + 1,), (3,), ()])
def test_an_average_in_pieces(dtype: torch.dtype, count: int, shape: Sequence[int]) -> None:
    torch.manual_seed(0)
    tensors = tuple(torch.randn(tuple(shape), dtype=dtype) for _ in range(count))
    found = OPERATIONS["average"].run(torch, tensors)
    assert torch.equal(found, torch.stack(tensors).mean(0))


def test_there_are_pieces() -> None:
    assert len(typing.flat_pieces(100_003, 24)) > 5
    assert [typing.flat_pieces(numel, 24) for numel in (0, 1)] == [[slice(0, 0)], [slice(0, 1)]]


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int32", "bool"])
@pytest.mark.parametrize("shape", [(300, 257), (1, 70_001), (70_001,), (17, 3, 2000)])
@pytest.mark.parametrize("dim", [None, (0,), (-1,)])
@pytest.mark.parametrize("keepdim", [False, True])
def test_a_sum_of_ints_in_pieces(
    dtype: str, shape: tuple[int, ...], dim: tuple[int, ...] | None, keepdim: bool
) -> None:
    array = numpy.random.default_rng(0).integers(-100, 100, shape).astype(dtype)
    found = OPERATIONS["sum"].run(torch, torch.from_numpy(array), dim, keepdim)
    assert found.dtype == torch.int64
    wanted = array.sum(axis=dim, dtype=numpy.int64, keepdims=keepdim)
    assert tuple(found.shape) == wanted.shape
    assert (found.numpy() == wanted).all()
    turned = OPERATIONS["sum"].run(torch, torch.from_numpy(array).permute(*reversed(range(len(shape)))), None, False)
    assert turned.item() == wanted.sum()
