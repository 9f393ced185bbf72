"""What numpy computes in place of torch is torch's result to the bit, but for the payload of NaNs."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from statex.core.dtypes import BY_NAME, DType
from statex.dsl.ops import OPERATIONS
from statex.dsl.ops.base import ArgKind
from statex.execute.kernels import by_numpy
from statex.execute.readable import as_bytes
from tests.effort import examples

NAMES = sorted(name for name, operation in OPERATIONS.items() if operation.numpy is not None)
FLOATS = [BY_NAME[name] for name in ("f32", "f64", "f16", "bf16")]
SPECIAL = [0.0, -0.0, 1.0, -1.0, 0.5, 2.5, 3.5, 1e-45, 6e-8, 65504.0, 3.3e38, float("inf"), float("-inf"), float("nan")]
NUMBERS = st.sampled_from([0.3, 2, -1, 1e-3, 3.0, 1e30]) | st.floats(allow_nan=False)


def made(dtype: DType, count: int, seed: int) -> torch.Tensor:
    """Return random bits: numbers of any size, and special ones."""
    generator = torch.Generator().manual_seed(seed)
    kind = getattr(torch, dtype.name)
    bits = torch.randint(0, 256, (count * dtype.itemsize,), generator=generator, dtype=torch.uint8).view(kind)
    near = torch.randn(count, generator=generator, dtype=torch.float64).to(kind)
    special = torch.tensor(SPECIAL, dtype=torch.float64).to(kind).repeat(count // len(SPECIAL) + 1)[:count]
    choice = torch.randint(0, 4, (count,), generator=generator)
    return torch.where(choice == 0, bits, torch.where(choice == 1, special, near))


def array(tensor: torch.Tensor, dtype: DType) -> Any:
    import numpy

    return numpy.frombuffer(bytes(as_bytes(tensor)), by_numpy.NUMPY[dtype.name])


def mapped(value: Any, function: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return function(value)
    return tuple(mapped(one, function) for one in value) if isinstance(value, tuple) else value


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_numpy_computes_as_torch(name: str, dtype: DType) -> None:
    operation = OPERATIONS[name]
    seen: Counter[bool] = Counter()

    @settings(max_examples=examples(60), deadline=None)
    @given(st.data())
    def holds(data: st.DataObject) -> None:
        count = data.draw(st.sampled_from([1, 3, 42, 700]))
        seeds = st.integers(0, 10_000)
        arguments: dict[str, Any] = {}
        for number, parameter in enumerate(operation.parameters):
            one = made(dtype, count, data.draw(seeds))
            if parameter.kind is ArgKind.TENSORS:
                more = data.draw(st.integers(0, 3))
                arguments[parameter.name] = (one, *(made(dtype, count, data.draw(seeds)) for _ in range(more)))
            elif parameter.kind is ArgKind.OPERAND and (number or operation.commutes) and data.draw(st.booleans()):
                arguments[parameter.name] = data.draw(NUMBERS)
            else:
                arguments[parameter.name] = one
        if not any(isinstance(value, torch.Tensor | tuple) for value in arguments.values()):
            return
        wanted = operation.run(torch, **arguments)
        plain = {key: mapped(value, lambda one: array(one, dtype)) for key, value in arguments.items()}
        found = torch.frombuffer(bytearray(by_numpy.computed(operation, dtype, plain).tobytes()), dtype=wanted.dtype)
        nan = wanted.isnan()
        assert torch.equal(found.isnan(), nan)
        one, other = (torch.where(nan, 0, t).view(torch.uint8) for t in (found, wanted))
        assert torch.equal(one, other)
        seen[bool(nan.any())] += 1

    holds()
    assert seen[True]
    assert seen[False]
