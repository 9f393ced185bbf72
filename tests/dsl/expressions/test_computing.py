"""Statements that compute in a wider dtype, expressions that choose, numbers and dicts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import statex
from statex import StatexError

BF = torch.bfloat16


def one(rules: str, state: dict[str, Any], key: str = "w", **given: Any) -> torch.Tensor:
    return statex.compile(rules).apply(state, **given)[key]  # type: ignore[no-any-return]


def refused(rules: str, state: dict[str, Any], **given: Any) -> str:
    with pytest.raises(StatexError) as error:
        statex.compile(rules).apply(state, **given)
    return str(error.value)


# --- in f32 -----------------------------------------------------------------------------------------------------


@given(
    st.sampled_from([BF, torch.float16, torch.float32, torch.float8_e4m3fn]),
    st.sampled_from([BF, torch.float16, torch.float32]),
    st.integers(0, 2**31),
)
@settings(deadline=None)
def test_in_f32_rounds_once_to_the_dtype_of_the_key(own: torch.dtype, other: torch.dtype, seed: int) -> None:
    made = torch.Generator().manual_seed(seed)
    w, v = (torch.randn(7, 5, generator=made).to(dtype) for dtype in (own, other))
    expected = (w.float() * 0.3 + v.float() @ torch.eye(5)).to(own)
    found = one("set w in f32 = it * 0.3 + x.v @ x.eye", {"w": w, "x.v": v, "x.eye": torch.eye(5)})
    assert found.dtype is own
    assert torch.equal(found.view(torch.uint8), expected.view(torch.uint8))


def test_in_f64_takes_every_float() -> None:
    w, v = torch.randn(4, dtype=torch.float64), torch.randn(4)
    assert torch.equal(one("set w in f64 = it + x.v", {"w": w, "x.v": v}), w + v.double())
    assert torch.equal(one("set x.v in f64 = it + ::w", {"w": w, "x.v": v}, "x.v"), (w + v.double()).float())


def test_ints_are_read_as_they_are() -> None:
    w = torch.randn(3, dtype=BF)
    found = one("set w in f32 = it * cast(x.n, f32)", {"w": w, "x.n": torch.tensor([1, 2, 3])})
    assert torch.equal(found, (w.float() * torch.tensor([1.0, 2.0, 3.0])).to(BF))


def test_conditions_ask_for_the_dtype_that_the_tensor_has() -> None:
    state = {"w": torch.ones(2, dtype=BF)}
    assert one("set w in f32 = it * 2 if dtype == bf16 else it * 3 where dtype == bf16", state).tolist() == [2.0, 2.0]


def test_split_and_merge_compute_in_a_wider_dtype() -> None:
    a, b = torch.randn(4, dtype=BF), torch.randn(4, dtype=BF)
    pieces = statex.compile("split w -> {p:q|k} in f32 = chunk(it * 0.7, 2)").apply({"w": a})
    assert torch.equal(torch.cat([pieces["q"], pieces["k"]]), (a.float() * 0.7).to(BF))
    merged = one("merge x.a as a, x.b as b -> w in f32 = (a + b) / 2", {"x.a": a, "x.b": b})
    assert torch.equal(merged, ((a.float() + b.float()) / 2).to(BF))


def test_in_f32_streams_as_it_computes_in_memory(tmp_path: Path) -> None:
    state = {"w": torch.randn(300, 500).to(BF), "v.w": torch.randn(300, 500)}
    rules = "set w in f32 = it * 0.3 + v.w"
    torch.save(state, tmp_path / "in.pth")
    statex.convert(tmp_path / "in.pth", tmp_path / "out.pth", rules)
    assert torch.equal(torch.load(tmp_path / "out.pth")["w"], one(rules, state))


@pytest.mark.parametrize(
    ("rules", "said"),
    [
        ("set ** in f32 = it * 2", "SX413]: `in f32` cannot hold the values of i64 keys"),
        ("set d in f32 = it * 2", "SX413]: `in f32` cannot hold the values of f64 keys"),
        ("set w in f32 = it + ::d", "SX413]: `in f32` cannot hold the values of a tensor of f64"),
        ("set w in f32 = it + ::c", "SX413]: `in f32` cannot hold the values of a tensor of c64"),
        ("set w in bf16 = it * 2", "SX413]: a statement computes in f32 or f64, not in `bf16`"),
        ("set w in wide = it * 2", "SX202]: `wide` is not defined"),
        ("merge w, ::d as x -> z in f64 = it[0] + x", "SX402]: the sources are bf16 and f64"),
    ],
)
def test_what_cannot_be_computed_in_a_dtype(rules: str, said: str) -> None:
    state = {"w": torch.ones(2, dtype=BF), "n": torch.tensor([1, 2]), "d": torch.ones(2, dtype=torch.float64),
             "c": torch.ones(2, dtype=torch.complex64)}  # fmt: skip
    if "merge" in rules:
        rules = rules.replace("::d", "d")
    assert said in refused(rules, state)


# --- x if c else y ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 2])
def test_the_branch_that_is_not_taken_is_not_evaluated(n: int) -> None:
    state = {"w": torch.ones(3)}
    rules = "param n: int\nset w = it * 2 if n == 1 else cat(it, absent.key)"
    if n == 1:
        assert one(rules, state, n=n).tolist() == [2.0] * 3
    else:
        assert "SX304" in refused(rules, state, n=n)


def test_a_choice_goes_on_and_binds_looser_than_a_pipe() -> None:
    state = {"w": torch.arange(3.0)}
    rules = "param n: int\nset w = it | neg if n < 0 else it * 10 if n > 0 else it"
    assert [one(rules, state, n=n)[1].item() for n in (-1, 0, 1)] == [-1.0, 1.0, 10.0]


def test_a_condition_cannot_read_values() -> None:
    assert "SX220" in refused("set w = it if it > 0 else neg", {"w": torch.ones(1)})


# --- numbers and dicts ------------------------------------------------------------------------------------------


def test_whole_floats_are_lengths() -> None:
    state = {"w": torch.arange(16.0)}
    found = one("param n: int\nset w = reshape(sqrt(n), n / 4)[:isqrt(n) / 2]", state, n=16)
    assert torch.equal(found, torch.arange(16.0).reshape(4, 4)[:2])
    assert "SX405" in refused("set w = reshape(2.5, 4)", state)


def test_sqrt_of_a_tensor_stays_that_of_torch() -> None:
    assert torch.equal(one("set w = sqrt", {"w": torch.arange(4.0)}), torch.arange(4.0).sqrt())
    assert one("set w = it * sqrt(2.25)", {"w": torch.ones(1)}).item() == 1.5
    assert "SX217" in refused("set w = it * sqrt(-1)", {"w": torch.ones(1)})


def test_dicts_are_looked_up() -> None:
    state = {"a.q.w": torch.ones(1), "a.k.w": torch.ones(1)}
    rules = "param d: dict\nset {m:**}.w = it * lookup(d, m, default=5)"
    found = statex.compile(rules).apply(state, d={"a.q": 2})
    assert [found[key].item() for key in state] == [2.0, 5.0]
    assert "did you mean `a.q`?" in refused("param d: dict\nset a.q.w = it * lookup(d, 'a.qq')", state, d={"a.q": 2})


@pytest.mark.parametrize("pattern", ["q", "a.q", "a\\.(q|k)", "^a\\.k", "layers.*q", "x|y"])
@pytest.mark.parametrize("module", ["a.q", "layers.0.q", "aq", "a.k"])
def test_lookup_regex_finds_what_peft_finds(pattern: str, module: str) -> None:
    peft = pytest.importorskip("peft.utils.other")
    table = {pattern: 2.0, "k": 3.0}
    expected = table.get(peft.get_pattern_key(table, module), 7.0)
    rules = "param d: dict\nset {m:**}.w = it * lookup_regex(d, m, default=7.0)"
    assert one(rules, {f"{module}.w": torch.ones(1)}, f"{module}.w", d=table).item() == expected


def test_a_hostile_regular_expression_is_stopped() -> None:
    rules = "param d: dict\nset {m:**}.w = it * lookup_regex(d, m)"
    assert "SX207" in refused(rules, {"a" * 60 + ".w": torch.ones(1)}, d={"((a|aa)+)+[bc]": 1})
    assert "is not a regular expression" in refused(rules, {"a.w": torch.ones(1)}, d={"(": 1})


# --- expect same ------------------------------------------------------------------------------------------------


def test_the_same_bits_are_expected(tmp_path: Path) -> None:
    base = {"a.w": torch.randn(5), "a.n": torch.tensor([1, 2])}
    rules = "input ft\nexpect same **, ft::{key}\nset a.w = it + ft::a.w"
    plan = statex.compile(rules).plan(base, inputs={"ft": base})
    assert "2 compared" in str(plan)
    statex.compile(rules).apply(base, inputs={"ft": base})
    torch.save(base, tmp_path / "base.pth")
    other = {**base, "a.w": base["a.w"].clone()}
    other["a.w"][0] = -0.0
    base["a.w"][0] = 0.0
    with pytest.raises(StatexError, match=r"a\.w and ft::a\.w: equal, but for the bits of 1 of 5 elements"):
        statex.compile(rules).apply(base, inputs={"ft": other})
    torch.save(base, tmp_path / "base.pth")
    torch.save(other, tmp_path / "other.pth")
    with pytest.raises(StatexError, match=r"a\.w and ft::a\.w: equal, but for the bits of 1 of 5 elements"):
        statex.convert(tmp_path / "base.pth", tmp_path / "out.pth", rules, inputs={"ft": tmp_path / "other.pth"})
    assert not (tmp_path / "out.pth").exists()


def test_what_is_computed_can_be_expected_to_be_the_same() -> None:
    state = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.arange(6.0).reshape(2, 3).T.contiguous()}
    statex.compile("set a = transpose\nexpect same a, ::b\ndrop b").apply(state)
    assert "a and b: max abs" in refused("set a = transpose * 2\nexpect same a, ::b\ndrop b", state)


def test_expect_same_asks_every_tensor_of_an_input() -> None:
    state = {"a.w": torch.ones(2), "b": torch.zeros(3), "c": torch.ones(1)}
    for inputs in ({"ft": {"a.w": torch.ones(2), "b": torch.zeros(3)}}, {"ft": {"b": torch.zeros(3)}}):
        rules = statex.compile("input ft\nexpect same ft::{k:**}, {k}")
        assert not rules.plan(state, inputs=inputs).warnings
        assert list(rules.apply(state, inputs=inputs)) == list(state)
    for wrong in (torch.ones(3), torch.zeros(2), torch.zeros(3).half(), -torch.zeros(3)):
        with pytest.raises(statex.StatexError, match=r"ft::b.* and .*b"):
            statex.compile("input ft\nexpect same ft::{k:**}, {k}").apply(state, inputs={"ft": {"b": wrong}})
    family = "input rank[]\nexpect same rank::{k:**}, {k}"
    same, other = {"b": torch.zeros(3)}, {"b": torch.ones(3)}
    statex.compile(family).apply(state, inputs={"rank": [same, dict(same)]})
    with pytest.raises(statex.StatexError, match=r"rank\[1\]::b"):
        statex.compile(family).apply(state, inputs={"rank": [same, other]})


def test_every_member_of_a_family_is_compared() -> None:
    state = {"a": torch.ones(2)}
    rules = "input rank[]\nexpect same a, rank::{key}"
    statex.compile(rules).apply(state, inputs={"rank": [state, state]})
    with pytest.raises(StatexError, match=r"rank\[1\]::a: max abs 1"):
        statex.compile(rules).apply(state, inputs={"rank": [state, {"a": torch.zeros(2)}]})


def test_types_are_compared_while_planning() -> None:
    with pytest.raises(StatexError, match="cannot be the same: they are of different types"):
        statex.compile("input ft\nexpect same a, ft::{key}").plan(
            {"a": torch.ones(2)}, inputs={"ft": {"a": torch.ones(2).half()}}
        )
