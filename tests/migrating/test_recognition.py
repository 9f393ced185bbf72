"""Recognising a layout: what is ruled out without a plan, and that this never changes the answer."""

from __future__ import annotations

from collections import Counter
from functools import cached_property
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import statex
from statex import StatexError
from statex.core.header import Header
from statex.dsl.compile import reports
from statex.dsl.plan.leaving import leaving
from statex.execute.live import describe
from statex.execute.verify.target import Target
from statex.migrating import layouts as recognition
from statex.migrating.chain import Chain, chain_of
from statex.migrating.layouts import Layouts, planned
from statex.trees.envelope import state_header
from tests.dsl.test_programs import programs, states
from tests.effort import examples, least


def header_of(state: dict[str, Any]) -> Header:
    return state_header(describe(state), "", "the state")


def chain_from(*steps: str) -> Chain:
    parts = [chain_of(statex.compile(step).parts) for step in steps]
    return Chain("chain", tuple(one.steps[0] for one in parts), parts[0].load)


class Thorough(Layouts):
    """Plans what follows every layout."""

    @cached_property
    def _possible(self) -> list[int]:
        return list(range(self.present + 1))


def answer(found: Layouts) -> object:
    try:
        return found.recognised()
    except StatexError as error:
        return str(error)


STEPS = [
    "rename? part w -> v", "rename? part v -> w", "rename? a.{x} -> b.{x}", "rename? b.{x} -> a.{x}", "drop? head.w",
    "rename? l.{i:int}.{x} -> m.{i}.{x}", "drop? n", "set? **.w = transpose", "set? **.b = it * 2", "order natural",
    "merge? l.{i:int}.w over i -> l.all = stack", "split? head.w -> head.{p:q|k} = [it, it + 1]", "copy? a.w -> c.w",
    "add? {m}.g = ones([2]) for {m:**}.w", "rename? prefix 'l.' -> 'layers.'", "rename? suffix '.w' -> '.weight'",
    "rename? text 'head' -> 'top'", "renumber? l.{i:int}", "if count(**) > 4 { rename? head.w -> top.w }", "keep **.w",
    "allow unexpected head.w", "rename? { a.w -> a.u; a.b -> a.c }", "rename a.w -> x.w", "drop a.b", "set a.w = it[0]",
    "rename? /l\\.(\\d+)\\.w/ -> h.{1}", "macro f(p) { drop? {$p}.w }; use f('a')", "within a { rename part w -> v }",
]  # fmt: skip
KEYS = ["a.w", "a.b", "l.0.w", "l.1.w", "l.10.w", "head.w", "n"]


def test_a_layout_that_is_ruled_out_does_not_fit() -> None:
    seen: Counter[object] = Counter()

    @settings(max_examples=examples(1000), deadline=None, derandomize=True)
    @given(
        st.lists(st.sampled_from(STEPS), min_size=1, max_size=4),
        st.lists(st.sampled_from(KEYS), min_size=2, unique=True),
        st.integers(0, 4),
        st.booleans(),
    )
    def holds(steps: list[str], keys: list[str], layout: int, half: bool) -> None:
        state: dict[str, Any] = {key: torch.zeros(2, 2) for key in keys}
        try:
            target = Target("Net", header_of(statex.compile("\n".join(steps[layout:])).apply(state)))
        except StatexError:
            return
        chain, header = chain_from(*steps), header_of({k: t.half() for k, t in state.items()} if half else state)
        quick, thorough = (kind(chain, {}, target, header) for kind in (Layouts, Thorough))
        found = answer(thorough)
        assert answer(quick) == found
        seen[found if isinstance(found, int) else "none" if found is None else "several"] += 1
        seen["ruled out"] += chain.version + 1 - len(quick._possible)

    holds()
    assert min(seen[one] for one in (0, 1, 2, "several", "ruled out")) > least(20), seen


def test_a_key_that_no_statement_takes_is_in_the_result() -> None:
    seen: Counter[str] = Counter()

    @settings(max_examples=examples(600), deadline=None, derandomize=True)
    @given(programs, states())
    def holds(program: str, state: dict[str, Any]) -> None:
        try:
            rules = statex.compile(program)
            plan = rules.plan(state)
        except StatexError:
            return
        leaves = leaving(rules.parts[0].program.statements)
        for key in state:
            seen["left" if leaves(key) else "perhaps taken"] += 1
            assert not leaves(key) or key in plan.outputs

    holds()
    assert min(seen.values()) > least(100), seen


@pytest.mark.parametrize(
    ("program", "taken", "left"),
    [
        ("merge {m:**}.a, {m}.b -> {m}.c = cat", ["a", "x.y.b"], ["x.y.c"]),
        ("split {m:**}.qkv -> {m}.{p:q|k|v} = chunk(3)", ["x.qkv"], ["x.q"]),
        ("rename { a.* -> b.*; c.{p:x|y.z} -> d.{p} }", ["a.w", "c.x", "c.y.z"], ["a.w.x", "c.z"]),
        ("rename part a.b -> c", ["a.b", "x.a.b.y"], ["a", "x.ab", "a.x.b"]),
        ("rename prefix 'a.' -> 'b.'", ["a.w"], ["b.a.w"]),
        ("rename suffix '.w' -> '.v'", ["a.w"], ["a.b"]),
        ("rename text 'ln' -> 'norm'", ["a.ln_1.w"], ["a.w"]),
        ("drop a.w, **.b where ndim == 1", ["a.w", "b"], ["a.c"]),
        ("set a.w = it * 2\ncopy a.b -> a.c\nadd a.d = ones([2])\norder natural", [], ["a.w", "a.b"]),
        ("if count(**) > 4 { drop a.w } else { drop a.b }", ["a.w", "a.b"], ["a.c"]),
        ("rename /a\\.(.)/ -> b.{1}", ["a.w"], ["a.wv"]),
        # Of what follows nothing is known of any key.
        ("param n: str = 'a'\nrename {$n}.w -> b.w", ["a.w", "x"], []),
        ("keep a.w", ["a.w", "x"], []),
        ("renumber l.{i:int}", ["l.3.w", "x"], []),
        ("within l.{i} { drop w }", ["l.3.w", "x"], []),
        ("macro f(p) { drop {$p}.w }\nuse f('a')", ["a.w", "x"], []),
        ("allow unexpected a.w", ["a.w", "x"], []),
    ],
)
def test_which_keys_are_left(program: str, taken: list[str], left: list[str]) -> None:
    leaves = leaving(statex.compile(program).parts[0].program.statements)
    assert [key for key in taken if leaves(key)] == []
    assert [key for key in left if not leaves(key)] == []


def test_brief_errors_are_the_first_ones() -> None:
    seen: Counter[str] = Counter()

    @settings(max_examples=examples(600), deadline=None, derandomize=True)
    @given(programs, states())
    def holds(program: str, state: dict[str, Any]) -> None:
        try:
            chain = chain_from(program)
        except StatexError:
            return
        header = header_of(state)
        try:
            plan = planned(chain, 0, header, {})
        except StatexError as error:
            first = error.diagnostics[0]
            with pytest.raises(StatexError) as brief:
                planned(chain, 0, header, {}, brief=True)
            (found,) = brief.value.diagnostics
            assert (found.code, found.span, found.headline) == (first.code, first.span, first.headline)
            seen["refused"] += 1
        else:
            assert planned(chain, 0, header, {}, brief=True).outputs == plan.outputs
            seen["done"] += 1

    holds()
    assert min(seen.values()) > least(50), seen


INDEPENDENT = (
    "rename layers.{i}.ln_1.{t} -> layers.{i}.norm_1.{t}",
    "rename part ln_2 -> norm_2",
    "merge layers.{i:int}.{p:q|k|v}.weight over p -> layers.{i}.qkv.weight = cat",
    "drop rope.freqs",
)


def independent() -> dict[str, torch.Tensor]:
    names = ("ln_1.weight", "ln_2.weight", "q.weight", "k.weight", "v.weight")
    return {f"layers.{i}.{name}": torch.ones(2, 2) for i in range(12) for name in names} | {"rope.freqs": torch.ones(3)}


@pytest.mark.parametrize("layout", range(5))
def test_only_steps_that_may_fit_are_planned(layout: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def counting(chain: Chain, after: int, *rest: Any, **named: Any) -> Any:
        made.append(after)
        return planned(chain, after, *rest, **named)

    made: list[int] = []
    chain, old = chain_from(*INDEPENDENT), independent()
    state = statex.compile("\n".join(INDEPENDENT[:layout])).apply(old)
    target = Target("Net", header_of(statex.compile("\n".join(INDEPENDENT)).apply(old)))
    monkeypatch.setattr(recognition, "planned", counting)
    assert Layouts(chain, {}, target, header_of(state)).recognised() == layout
    assert made == list(range(layout + 1))  # later ones would leave keys that the module does not have


def test_what_was_meant_is_looked_for_once_a_place(monkeypatch: pytest.MonkeyPatch) -> None:
    def counting(key: str, keys: Any) -> list[str]:
        looked.extend([key] if keys else ())
        return near(key, keys)

    near, looked = reports.near_keys, list[str]()
    monkeypatch.setattr(reports, "near_keys", counting)
    state = {f"{i}.{name}": torch.ones(1) for i in range(20) for name in ("weight", "scale")}
    rules = "set {m}.weight = it * {m}.scales\nset {m}.bias = it for {m}.weight"
    with pytest.raises(StatexError) as caught:
        statex.compile(rules).plan(state)
    assert looked == ["0.scales", "0.bias"]
    first, second = caught.value.diagnostics
    assert len(first.cases) == len(second.cases) == 20
    assert [note.text for note in first.notes] == ["did you mean `0.scale`?"]
