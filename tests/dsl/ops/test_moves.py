"""Where operations say that elements go is where torch has them."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import count
from typing import Any

import pytest
import torch
from hypothesis import given, settings

from statex.core.dtypes import BY_NAME, DType
from statex.core.header import TensorType, contiguous
from statex.core.strides import Tiling
from statex.dsl.ops import OPERATIONS
from statex.dsl.ops.base import OperationError
from tests.core.tilings import filled
from tests.dsl.ops.strategies import CALLS
from tests.effort import examples, least

INT64 = BY_NAME["i64"]
MOVING = sorted(name for name, operation in OPERATIONS.items() if operation.moves is not None)


def as_ints(value: Any) -> Any:
    """Return an argument with the dtype of the places that elements say."""
    if isinstance(value, TensorType):
        return replace(value, dtype=INT64)
    if isinstance(value, tuple):
        return tuple(map(as_ints, value))
    return INT64 if isinstance(value, DType) else value


def mapped(value: Any, function: Any) -> Any:
    if isinstance(value, TensorType):
        return function(value)
    return tuple(mapped(one, function) for one in value) if isinstance(value, tuple) else value


@pytest.mark.parametrize("name", MOVING)
def test_elements_go_where_torch_has_them(name: str) -> None:
    operation = OPERATIONS[name]
    seen: Counter[str] = Counter()

    @settings(max_examples=examples(300), deadline=None, derandomize=True)
    @given(CALLS[name])
    def holds(arguments: dict[str, Any]) -> None:
        arguments = {key: as_ints(value) for key, value in arguments.items()}
        try:
            kind = operation.infer(**arguments)
        except OperationError:
            seen["refused"] += 1
            return
        assert operation.moves is not None
        numbers, sources = count(), count()

        def tensor(type: TensorType) -> Any:
            start = 100_000 * next(numbers)
            return torch.arange(start, start + type.numel).reshape(type.shape)

        def tiling(type: TensorType) -> Tiling:
            return Tiling.of(next(sources), 0, type.shape, contiguous(type.shape))

        wanted = operation.run(torch, **{key: mapped(value, tensor) for key, value in arguments.items()})
        found = operation.moves(**{key: mapped(value, tiling) for key, value in arguments.items()})
        pieces = isinstance(kind, tuple)
        if found is None:
            seen["not said"] += 1
            return
        for one, other in zip(found if pieces else [found], wanted if pieces else [wanted], strict=True):
            assert one is not None
            assert one.shape == tuple(other.shape)
            assert (filled(one) == other.numpy()).all()
        seen["found"] += 1

    holds()
    assert seen["found"] > least(20)
    assert seen["not said"] <= seen["found"]
