"""Between statements nothing is left of how a result came about: one run gives the bits of two runs through a file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

import statex
from statex import StatexError
from statex.dsl.ops import OPERATIONS
from statex.dsl.ops.base import OperationError
from statex.dsl.plan.graph import Graph
from statex.dsl.values import TensorValue
from statex.execute.kernels.laying_out import laid_out
from tests.checkpoint.states import bits
from tests.dsl.ops.strategies import CALLS, as_tensors
from tests.effort import examples, least

State = Mapping[str, torch.Tensor]

VIEWS = [
    "transpose", "permute(1, 0)", "it[:, 1:]", "it[1:]", "it[::2]", "it[:, ::3]", "it[:, 2]", "it[3]",
    "narrow(1, 1, 5)", "narrow(0, 1, 3)", "it[1:, 1:] | transpose", "expand(3, -1, -1)", "(it[:1] | expand(6, -1))",
    "unsqueeze(0)", "(it | unsqueeze(1))[:, :, 1:]", "rearrange('a b -> b a')", "rearrange('(x a) b -> x b a', x=2)",
    "flip(0)", "roll(1, dims=1)", "reshape(-1)", "(it | transpose) * 2", "(it | transpose) + (it | transpose)",
    "it * 1.5", "exp(it)", "cast(bf16)", "cast(f64)", "(it | transpose) | cast(bf16)", "it @ transpose(it)",
    "(it | flatten)[1:]", "cat(it, it, dim=1)", "stack(it | transpose, it | transpose)", "it[[2, 0, 1]]",
    "clone(it | transpose)", "::other", "zeros_like", "pad([1, 1])", "mean(dim=1)", "sum(dim=0, keepdim=true)",
    "abs(it)[1:]", "ones_like(it)[:, 1:]",
]  # fmt: skip
"""What leaves a result lying in memory as a file would not hold it, among others."""
SENSITIVE = [
    "sum", "sum(dim=0)", "sum(dim=-1)", "mean", "mean(dim=0)", "mean(dim=-1)", "norm", "norm(dim=0)", "norm(p=1)",
    "it @ transpose(it, -2, -1)", "transpose(it, -2, -1) @ it", "exp(it)", "it * 3 - 1", "cast(f32) | sum",
    "cast(bf16)", "sqrt(abs(it))", "max(dim=0)", "flatten | sum(dim=0)", "it ** 3", "transpose(0, -1)",
    "cat(it, it) | sum(dim=0)", "abs(it) | log", "weight_norm(it, sum(abs(it), dim=1, keepdim=true))", "it",
]  # fmt: skip
"""What torch may compute with other last bits where elements lie otherwise, among others."""


def state(rows: int, columns: int, dtype: torch.dtype, seed: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)

    return {"a": random(rows, columns), "other": random(rows, columns), "b": random(rows, columns)}


@st.composite
def programs(draw: st.DrawFn) -> tuple[str, str]:
    """Draw two statements of which the second computes with what the first has made."""
    view, value = draw(st.sampled_from(VIEWS)), draw(st.sampled_from(SENSITIVE))
    firsts = [
        f"set a = {view}", f"set a, b = {view}", f"add c = {view} for a", f"copy a -> c; set a = {view}",
        f"merge a as x, b as y -> a = x + 0 * y | {view}", "merge a, b -> a = stack(dim=2)", "use turn('a')",
        "split a -> a, c = chunk(2, dim=1)", "split a -> c, a = chunk(2)", "rename a -> c; copy b -> a",
        "split a over e -> a.{e} = unstack(dim=1)", f"within m {{ set w = {view} }}; set a = {view}",
    ]  # fmt: skip
    seconds = [
        f"set ** = {value} where is_floating_point(it)", f"set a = {value}", f"add d = {value} for a",
        f"add d = {value} for c", f"merge a, other -> d = stack({value})", "set a = it + ::b", f"set c = {value}",
        f"set a* = {value}", f"set c = it | {value}", "split a -> p, q = chunk(2)", "rename a -> z; copy z -> y",
    ]  # fmt: skip
    first, second = draw(st.sampled_from(firsts)), draw(st.sampled_from(seconds))
    return first, second


MACRO = "macro turn(k) { set {$k} = transpose }\n"


def run(rules: str, given_: State, folder: Path, suffix: str) -> dict[str, torch.Tensor]:
    """Return what rules make of a state, through files of a format."""
    if suffix == ".pth":
        torch.save(dict(given_), folder / "in.pth")
    else:
        save_file({key: tensor.contiguous().clone() for key, tensor in given_.items()}, folder / f"in{suffix}")
    statex.convert(folder / f"in{suffix}", folder / f"out{suffix}", statex.compile(rules), force=True)
    out = folder / f"out{suffix}"
    return torch.load(out) if suffix == ".pth" else load_file(out)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_one_run_is_two_runs(tmp_path: Path, suffix: str) -> None:
    seen: Counter[str] = Counter()

    @settings(max_examples=examples(200), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(
        programs(),
        st.sampled_from([(6, 7), (4, 33), (8, 8), (33, 17), (64, 130)]),
        st.sampled_from([torch.float32, torch.float32, torch.float64, torch.bfloat16]),
        st.integers(0, 5),
    )
    def holds(program: tuple[str, str], shape: tuple[int, int], dtype: torch.dtype, seed: int) -> None:
        given_ = {**state(*shape, dtype, seed), "m.w": state(*shape, dtype, seed + 9)["a"]}
        first, second = (MACRO + one for one in program)
        together = f"{MACRO}{program[0]}\n{program[1]}"
        try:
            wanted = run(second, run(first, given_, tmp_path, suffix), tmp_path, suffix)
        except StatexError:
            seen["refused"] += 1
            return
        seen["done"] += 1
        found = run(together, given_, tmp_path, suffix)
        in_memory = statex.compile(together).apply(given_)
        twice = statex.compile(second).apply(statex.compile(first).apply(given_))
        assert found.keys() == wanted.keys() == in_memory.keys()
        for key, tensor in wanted.items():
            assert bits(found[key]) == bits(tensor), key
            assert bits(in_memory[key]) == bits(tensor), key
            assert bits(twice[key]) == bits(tensor), key

    holds()
    assert seen["done"] > least(80), seen


@pytest.mark.parametrize("rules", ["set a = transpose; set a = sum(dim=0)", "set a = transpose\nset a = it @ it"])
def test_what_a_statement_has_made_is_laid_out_for_the_next(rules: str) -> None:
    given_ = state(61, 61, torch.float32, 3)
    found = statex.compile(rules).apply(given_)["a"]
    turned = given_["a"].T.contiguous()
    assert torch.equal(found, turned.sum(0) if "sum" in rules else turned @ turned)


def test_within_a_statement_torch_computes_as_it_does() -> None:
    given_ = state(61, 61, torch.float32, 3)
    found = statex.compile("set a = transpose | sum(dim=0)").apply(given_)["a"]
    assert torch.equal(found, given_["a"].T.sum(0))


def test_the_property_is_one_that_can_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Graph, "settled", lambda graph, id, kind: TensorValue(kind.dtype, kind.shape, id))
    given_ = state(61, 61, torch.float32, 3)
    rules = statex.compile("set a = transpose; set a = sum(dim=0)")
    assert not torch.equal(rules.apply(given_)["a"], given_["a"].T.contiguous().sum(0))


# --- what is copied for it --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rules", "copies"),
    [
        ("set a = transpose", 0),
        ("set a = transpose\nrename a -> z\norder natural\ncopy z -> y", 0),
        ("set a = transpose\nset b = transpose", 0),
        ("set a = transpose\nset a = it", 0),
        ("set a = transpose\nset a = exp(it)", 1),
        ("set a = exp(it)\nset a = exp(it)", 0),
        ("set a = exp(it)\nset a = transpose\nset a = exp(it)\nset a = exp(it)", 1),
        ("split a -> a, c = chunk(2)\nset a = exp(it)", 0),
        ("split a -> a, c = chunk(2, dim=1)\nset ** = exp(it)", 2),
    ],
)
def test_only_what_lies_otherwise_and_is_computed_with_is_copied(
    monkeypatch: pytest.MonkeyPatch, rules: str, copies: int
) -> None:
    from statex.execute.kernels import by_torch

    made: list[bool] = []

    def noting(tensor: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = laid_out(tensor)
        made.append(result.data_ptr() != tensor.data_ptr())
        return result

    monkeypatch.setattr(by_torch, "laid_out", noting)
    given_ = state(8, 16, torch.float32, 0)
    statex.compile(rules).apply(given_)
    assert sum(made) == copies


@pytest.mark.parametrize(
    "make",
    [
        lambda: torch.randn(4, 5).T, lambda: torch.randn(7)[1:], lambda: torch.randn(64)[16:],
        lambda: torch.randn(3, 1)[:, :1], lambda: torch.randn(5, 8)[:, 1:2], lambda: torch.randn(1, 5).T,
        lambda: torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last), lambda: torch.randn(0, 3).T,
        lambda: torch.randn(2, 1, 4, 5).to(memory_format=torch.channels_last), lambda: torch.randn(()),
        lambda: torch.randn(3, dtype=torch.complex64).conj(), lambda: torch.randn(3, dtype=torch.complex64).conj().imag,
        lambda: torch.randn(1).expand(7), lambda: torch.randn(4, 5, device="meta").T,
    ],
)  # fmt: skip
def test_laid_out_is_as_a_file_holds_it(make: Any) -> None:
    tensor = make()
    found = laid_out(tensor)
    fresh = torch.empty(tensor.shape, dtype=tensor.dtype)
    assert (found.shape, found.stride(), found.dtype) == (fresh.shape, fresh.stride(), fresh.dtype)
    assert found.storage_offset() * found.element_size() % 64 == 0
    assert not found.is_conj()
    assert not found.is_neg()
    if not tensor.is_meta:
        assert torch.equal(found, tensor)
    assert laid_out(found).data_ptr() == found.data_ptr()


@pytest.mark.filterwarnings("ignore:ComplexHalf support is experimental")
@pytest.mark.parametrize("name", [name for name, one in OPERATIONS.items() if one.lays_out])
def test_operations_that_lay_out_their_results(name: str) -> None:
    @settings(max_examples=examples(150), deadline=None, derandomize=True)
    @given(CALLS[name])
    def holds(arguments: dict[str, Any]) -> None:
        try:
            OPERATIONS[name].infer(**arguments)
            found = OPERATIONS[name].run(torch, **as_tensors(arguments))
        except OperationError:
            return
        assert laid_out(found).data_ptr() == found.data_ptr()

    holds()
