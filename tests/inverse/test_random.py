"""Random programs: what is called lossless comes back in bits, and what comes back is never called lost in part."""

from __future__ import annotations

from collections import Counter
from typing import Any

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import statex
from statex import StatexError
from statex.grammar import factory as make
from statex.grammar.printer import show
from statex.inverse.losses import lossless
from statex.inverse.program import inverse
from statex.inverse.stored import rules_giving
from tests.dsl.test_programs import KEYS, filled, programs
from tests.effort import examples, least

RENAMES = [
    "l.{i:int}.w -> l.{i}.v", "l.{i}.{x} -> m.{x}.{i}", "{m:**}.w -> {m}.v", "** -> q.**",
    "l.{i:int}.{x} -> l.{i + 1}.{x}", "{m:**}.{x:w=weight|b=bias} -> {x}.{m}",
]  # fmt: skip
MOVES = [
    "it", "-it", "transpose", "cast(f64)", "reshape([1, -1])", "flatten", "unsqueeze(0)", "pad([1, 2])",
    "rearrange('a b -> b a')", "transpose | neg", "cat(it, it)", "it[:1]", "it * 2", "flip(0)", "roll(1, 0)",
    "stack(it, it)", "expand(3, -1, -1)", "zeros_like", "resize([3, -1])", "it[[1, 0]]", "it[1:]", "narrow(-1, 1, 1)",
    "resize([1, -1])", "it[:, :1]", "chunk(it, 2)[1]", "(it | transpose)[:1]", "cast(f32)", "pad([-1, 0])", "it * -1",
]  # fmt: skip
OTHERS = [
    "split l.{i}.w -> l.{i}.{p:x|y} = chunk(2)", "split head.w -> h.x, h.y = sections([1, 1])", "drop **.b",
    "split a.w over e -> a.{e}.u = unstack", "merge l.{i:int}.w over i -> lw = stack", "copy a.w -> a.c",
    "merge a.w, head.w -> ah = cat", "renumber l.{i:int}", "rename prefix '' -> 'm.'", "rename part l -> layers",
    "rename suffix '.w' -> '.weight'", "add t.w = zeros([2])", "add t.w = a.w[:1]", "order natural", "drop? a.b",
    "merge l.{i:int}.w as a, l.{i}.b as b -> l.{i}.ab = stack(a, b)", "within l.{i} { rename w -> v }",
    "split? l.0.w -> l.0.w1, l.0.w2 = neg | chunk(2)", "rename { a.w -> head.w; head.w -> a.w }",
    "add u.w = a.w[1:]", "drop a.w", "drop *.x", "drop l.*.y", "drop h.y", "keep *.w", "drop a.0.u",
    "merge l.{i:int}.w as a, l.{i:int}.b as b over i -> lab = cat(stack(a), stack(b))",
]  # fmt: skip
TURNABLE = st.one_of(
    filled("rename ", st.sampled_from(RENAMES)),
    filled(
        "set ",
        st.sampled_from(["**", "*.w", "l.{i:int}.w", "head.w"]),
        " = ",
        st.sampled_from(MOVES),
        st.sampled_from(["", " where ndim == 2", " where is_floating_point(it)"]),
    ),
    st.sampled_from(OTHERS),
)
turnable = st.lists(TURNABLE, min_size=1, max_size=4).map("\n".join)


@st.composite
def states(draw: st.DrawFn) -> dict[str, Any]:
    """States of random bits, so that no two tensors are equal by chance; no NaNs, whose payloads casts may change."""
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**20)))
    dtype = st.sampled_from([torch.float32, torch.float32, torch.bfloat16, torch.int64])
    shape = st.sampled_from([(2, 2), (2, 2), (2, 2), (4,), (1, 3)])
    result: dict[str, Any] = {}
    for key in draw(st.lists(st.sampled_from(KEYS), min_size=4, unique=True)):
        numbers = torch.randn(draw(shape), generator=generator)
        result[key] = (numbers * 1000).to(draw(dtype))
    if draw(st.booleans()):
        result["tied"] = next(iter(result.values()))
    if draw(st.booleans()):
        result["a._extra_state"] = {"some": 1}
    return result


def same(one: Any, other: Any) -> bool:
    if not isinstance(one, torch.Tensor):
        return bool(one == other)
    if one.dtype != other.dtype or one.shape != other.shape:
        return False
    return torch.equal(one.contiguous().flatten().view(torch.uint8), other.contiguous().flatten().view(torch.uint8))


def check(program: str, state: dict[str, Any], seen: Counter[str]) -> None:
    try:
        rules = statex.compile(program)
        plan = rules.plan(state)
    except StatexError:
        seen["refused"] += 1
        return
    found = lossless(plan)
    made = inverse(plan, rules.statements)
    assert set(made.kept) == set(found.kept)
    assert set(made.lost) == {loss.key for loss in found.losses}
    seen["lossless" if found.is_lossless else "lossy"] += 1
    seen["turned"] += made.turned
    seen["generated"] += made.generated
    assert not made.unshown
    result = rules.apply(state)
    if not any(isinstance(value, torch.Tensor) for value in result.values()):
        return
    seen["carried out"] += 1
    seen["tensors"] += sum(isinstance(state[key], torch.Tensor) for key in made.kept)
    back = statex.compile(made.text).apply(result)
    assert list(back) == list(made.kept) or not made.in_order
    assert set(back) == set(made.kept)
    for key in made.kept:
        assert same(back[key], state[key]), key
    check_kept(rules, plan, state, result, seen)


def check_kept(rules: statex.Rules, plan: statex.Plan, state: dict[str, Any], result: Any, seen: Counter[str]) -> None:
    """With what is lost in a further input, every tensor comes back, and no more than the lost tensors is kept."""
    made = inverse(plan, rules.statements, keep=True)
    assert not made.unshown
    assert set(made.lost) == {key for key in plan.header.entries if key not in made.kept}
    assert all(not isinstance(state[key], torch.Tensor) for key in made.lost)
    if not made.tensors:
        return
    lost = statex.compile(show(make.program(*rules_giving(made.tensors, state)))).apply(state)
    assert list(lost) == [one.name for one in made.tensors]
    assert sum(one.nbytes for one in lost.values()) == sum(one.type.nbytes for one in made.tensors)
    whole = {id(state[key]): state[key].nbytes for key in made.stored}
    assert sum(one.nbytes for one in lost.values()) <= sum(whole.values())
    seen["kept"] += 1
    seen["kept in part"] += any(one.is_part for one in made.tensors)
    back = statex.compile(made.text).apply(result, inputs={made.input: lost})
    assert list(back) == list(made.kept) or not made.in_order
    assert set(back) == set(made.kept)
    for key in made.kept:
        assert same(back[key], state[key]), key


def test_what_is_called_lossless_comes_back_in_bits() -> None:
    seen: Counter[str] = Counter()

    @settings(max_examples=examples(1000), deadline=None, derandomize=True)
    @given(turnable, states())
    def holds(program: str, state: dict[str, Any]) -> None:
        check(program, state, seen)

    holds()
    assert seen["lossless"] > least(40), seen
    assert seen["lossy"] > least(15), seen
    assert seen["turned"] > seen["generated"], seen
    assert seen["carried out"] > least(300), seen
    assert seen["tensors"] > least(1000), seen
    assert seen["kept"] > least(50), seen
    assert seen["kept in part"] > least(25), seen


def test_programs_of_any_kind_are_undone_as_far_as_is_said() -> None:
    seen: Counter[str] = Counter()

    @settings(max_examples=examples(500), deadline=None, derandomize=True)
    @given(programs, states())
    def holds(program: str, state: dict[str, Any]) -> None:
        check(program, state, seen)

    holds()
    assert seen["lossless"] > least(20), seen
    assert seen["lossy"] > least(15), seen
    assert seen["carried out"] > least(50), seen
    assert seen["tensors"] > least(200), seen
