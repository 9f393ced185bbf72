"""The proof on the header: what it calls equal comes back in bits, for casts between any two dtypes."""

from __future__ import annotations

from itertools import product

import pytest
import torch

import statex
from statex.inverse.history import after_all, before_all
from statex.inverse.losses import lossless
from statex.inverse.proof import compiled, differences, header_of
from tests.inverse.test_random import same

DTYPES = {
    "bool": torch.bool, "u8": torch.uint8, "i8": torch.int8, "i16": torch.int16, "i32": torch.int32, "i64": torch.int64,
    "f8_e4m3fn": torch.float8_e4m3fn, "f8_e5m2": torch.float8_e5m2, "f16": torch.float16, "bf16": torch.bfloat16,
    "f32": torch.float32, "f64": torch.float64,
}  # fmt: skip


def shown(state: dict[str, torch.Tensor], rules: str, back: str) -> list[str]:
    """Return the keys of a state that the header does not show to come back."""
    plan = statex.compile(rules).plan(state)
    before, after = before_all(plan), after_all(plan)
    inverse = compiled(back, header_of(plan.graph, after), {})
    return differences(plan.graph, before, after, inverse)


def numbers(dtype: torch.dtype) -> torch.Tensor:
    """Return every number of a dtype, or the ends of its range and many between them; no NaNs."""
    if dtype is torch.bool:
        return torch.tensor([False, True])
    size = dtype.itemsize
    if size <= 2:
        whole = torch.arange(2 ** (8 * size), dtype=torch.int32).to(torch.int16 if size == 2 else torch.uint8)
        found = whole.view(dtype)
    elif dtype.is_floating_point:
        ends = torch.finfo(dtype)
        found = torch.tensor(
            [ends.max, ends.min, ends.tiny, ends.smallest_normal / 2, 1 + ends.eps, -0.0, 0.1], dtype=dtype
        )
    else:
        limits = torch.iinfo(dtype)
        found = torch.tensor([limits.max, limits.min, limits.max - 1, -1, 0, 2**24 + 1], dtype=dtype)
    return found[~found.isnan()] if dtype.is_floating_point else found


def test_a_cast_that_rounds_is_no_movement() -> None:
    state = {"w": torch.randn(4)}
    assert shown(state, "set w = cast(bf16)", "set w = cast(f32)") == ["w"]
    assert shown(state, "set w = cast(i64)", "set w = cast(f32)") == ["w"]
    assert shown({"w": torch.arange(4)}, "set w = cast(f64)", "set w = cast(i64)") == ["w"]
    assert shown({"w": torch.arange(4)}, "set w = cast(i32) | transpose(0, 0)", "set w = cast(i64)") == ["w"]


def test_two_casts_are_not_one() -> None:
    assert shown({"w": torch.randn(4)}, "set w = cast(bf16)\nset w = cast(f32)", "") == ["w"]
    assert shown({"w": torch.randn(4).bfloat16()}, "set w = cast(f32)\nset w = cast(bf16)", "") == []


@pytest.mark.parametrize("old", DTYPES)
def test_a_cast_that_the_header_shows_to_be_undone_is_exact(old: str) -> None:
    state = {"w": numbers(DTYPES[old])}
    proved = 0
    for new in DTYPES:
        rules, back = f"set w = cast({new})", f"set w = cast({old})"
        program = statex.compile(rules)
        is_exact = not shown(state, rules, back)
        proved += is_exact
        assert is_exact == lossless(program.plan(state)).is_lossless
        if is_exact:
            assert same(statex.compile(back).apply(program.apply(state))["w"], state["w"]), new
    assert proved >= 1  # to itself


def test_casts_that_lose_nothing_are_known() -> None:
    pairs = [(old, new) for old, new in product(DTYPES, DTYPES) if old != new]
    exact = {
        (old, new)
        for old, new in pairs
        if not shown({"w": numbers(DTYPES[old])}, f"set w = cast({new})", f"set w = cast({old})")
    }
    held = {
        (old, new)
        for old, new in pairs
        if same(numbers(DTYPES[old]).to(DTYPES[new]).to(DTYPES[old]), numbers(DTYPES[old]))
    }
    # A byte of a bool may be more than 0 and 1; between i8 and u8 bits stay, numbers do not.
    assert exact == {(old, new) for old, new in held if old != "bool" and {old, new} != {"i8", "u8"}}
    assert len(exact) == 33
