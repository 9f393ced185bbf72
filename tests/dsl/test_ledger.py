"""The account: what became of every tensor, against what really happens to the data, and numbers that add up."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import statex
from statex import Plan, StatexError
from statex.dsl.plan.graph import SourceKey
from statex.dsl.plan.ledger import Totals, label, unread
from tests.dsl.test_programs import KEYS, filled, over, states
from tests.effort import examples, least

State = Mapping[str, Any]


def ones(*shape: int) -> torch.Tensor:
    return torch.ones(*shape)


def planned(program: str, state: State, inputs: Mapping[str, Any] | None = None) -> Plan:
    return statex.compile(program).plan(state, inputs=inputs or {})


def fates(plan: Plan) -> dict[str, tuple[str, tuple[str, ...], int]]:
    return {label(plan, key): (fate.kind, fate.results, fate.step) for key, fate in plan.fates.items()}


def assert_adds_up(plan: Plan) -> None:
    found = plan.totals
    assert found.keys_in == found.untouched + found.moved + found.used + found.dropped + found.replaced
    assert found.keys_out == found.untouched + found.moved + found.copied + found.taken + found.computed
    assert (found.keys_in, found.keys_out) == (len(plan.header.entries), len(plan.outputs))
    kinds = Counter(fate.kind for key, fate in plan.fates.items() if not key.input)
    assert kinds == Counter({kind: getattr(found, kind) for kind in kinds})
    assert sum(kinds.values()) == found.keys_in
    assert found.computed == sum(output.origin is None for output in plan.outputs.values())


PAIR = {"a": torch.arange(4.0), "b": torch.arange(4.0) + 9}


@pytest.mark.parametrize(
    ("program", "kinds"),
    [
        ("", {"a": ("untouched", ("a",), -1), "b": ("untouched", ("b",), -1)}),
        ("set a = it", {"a": ("untouched", ("a",), -1)}),
        ("rename a -> c", {"a": ("moved", ("c",), 0)}),
        ("rename a -> c; rename c -> a", {"a": ("moved", ("a",), 1)}),
        ("copy a -> c", {"a": ("untouched", ("a", "c"), -1)}),
        ("rename a -> c; copy c -> d", {"a": ("moved", ("c", "d"), 0)}),
        ("copy a -> c; drop a", {"a": ("moved", ("c",), 0)}),
        ("set a = it * 2", {"a": ("used", ("a",), 0)}),
        ("add c = ::a * 2; drop a", {"a": ("used", ("c",), 0)}),
        ("drop a", {"a": ("dropped", (), 0)}),
        ("keep b", {"a": ("dropped", (), 0)}),
        ("set a = it * 2; drop a", {"a": ("dropped", (), 1)}),
        ("set a = it * 2; set a = zeros_like", {"a": ("replaced", (), 1)}),
        ("drop a; add a = zeros([2])", {"a": ("dropped", (), 0)}),
        ("set a = zeros_like", {"a": ("replaced", (), 0)}),
        ("set a = zeros_like; drop a", {"a": ("replaced", (), 0)}),
        ("set b = it + ::a; set b = zeros_like; drop a", {"a": ("dropped", (), 2), "b": ("replaced", (), 1)}),
        ("set b = it + ::a; drop a; set b = zeros_like", {"a": ("replaced", (), 2), "b": ("replaced", (), 2)}),
        ("copy a -> c; drop c; drop a", {"a": ("dropped", (), 2)}),
        ("merge a, b -> c = cat; drop c", {"a": ("dropped", (), 1), "b": ("dropped", (), 1)}),
        ("split a -> c, d = chunk(2); drop c", {"a": ("used", ("d",), 0)}),
        ("split a -> c, d = chunk(2); drop c; drop d", {"a": ("dropped", (), 2)}),
        ("order natural; drop a", {"a": ("dropped", (), 1)}),
    ],
)
def test_what_became_of_a_tensor(program: str, kinds: dict[str, Any]) -> None:
    plan = planned(program, PAIR)
    found = fates(plan)
    assert {key: found[key] for key in kinds} == kinds
    assert_adds_up(plan)


def test_a_drop_beside_statements_that_compute_is_counted() -> None:
    state = {"a": ones(2), "b": ones(2), "c": ones(2), "d": ones(2), "e": ones(2)}
    plan = planned("set a = it * 2; drop b, c; rename d -> f; copy f -> g; add h = zeros([2])", state)
    assert plan.totals == Totals(
        keys_in=5, keys_out=5, untouched=1, moved=1, used=1, dropped=2, replaced=0, computed=2, copied=1, taken=0
    )


def tied() -> dict[str, torch.Tensor]:
    shared = torch.ones(2)
    return {"a": shared, "b": shared, "c": torch.ones(2)}


@pytest.mark.parametrize(
    ("program", "a", "b"),
    [
        ("drop b", ("untouched", ("a",), -1), ("dropped", (), 0)),
        ("drop b; set a = it * 2", ("used", ("a",), 1), ("dropped", (), 0)),
        ("drop a; set b = it * 2", ("dropped", (), 0), ("used", ("b",), 1)),
        ("add d = ::a * 2; drop a", ("dropped", (), 1), ("untouched", ("b",), -1)),
        ("add d = ::a * 2; drop a, b", ("used", ("d",), 0), ("used", ("d",), 0)),
        ("set a, b = it * 2", ("used", ("a", "b"), 0), ("used", ("a", "b"), 0)),
        ("set b = it * 2; drop a, b", ("dropped", (), 1), ("dropped", (), 1)),
        ("merge a, b -> d = it[0]", ("used", ("d",), 0), ("used", ("d",), 0)),
    ],
)
def test_of_a_tie_a_dropped_key_is_dropped_and_the_others_go_on(program: str, a: Any, b: Any) -> None:
    plan = planned(program, tied())
    found = fates(plan)
    assert (found["a"], found["b"]) == (a, b)
    assert_adds_up(plan)


def test_what_is_no_tensor_is_accounted_for() -> None:
    state = {"bn.w": ones(2), "bn._extra_state": {"x": 1}}
    assert fates(planned("rename bn.{x} -> n.{x}", state))["bn._extra_state"] == ("moved", ("n._extra_state",), 0)
    plan = planned("drop bn._extra_state; set bn.w = it + 1", state)
    assert fates(plan)["bn._extra_state"] == ("dropped", (), 0)
    assert_adds_up(plan)


# --- further inputs ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("program", "fate"),
    [
        ("", ("unread", (), -1)),
        ("expect exists(ft::x)", ("unread", (), -1)),
        ("set a = it * size(ft::x, 0)", ("unread", (), -1)),
        ("set a = it where count(ft::x) == 1", ("unread", (), -1)),
        ("drop ft::x", ("dropped", (), 0)),
        ("copy ft::x -> c", ("moved", ("c",), 0)),
        ("copy ft::x -> c; copy c -> d", ("moved", ("c", "d"), 0)),
        ("copy ft::x -> c; drop c", ("dropped", (), 1)),
        ("set a = it + ft::x", ("used", ("a",), 0)),
        ("set a = ft::x", ("used", ("a",), 0)),
        ("set a = it + ft::x; drop ft::x", ("used", ("a",), 0)),
        ("set a = it + ft::x; set a = zeros_like", ("replaced", (), 1)),
        ("set a = it + ft::x; drop a", ("dropped", (), 1)),
        ("add c = zeros_like(ft::x)", ("used", (), 0)),
        ("add c = zeros_like(ft::x); drop c", ("used", (), 1)),
        ("set a = it * 2 for ft::x", ("used", (), 0)),
        ("add {n} = zeros([2]) for ft::{n:x|y}", ("used", (), 0)),
        ("set a = it * 2 for ft::x; drop ft::x", ("dropped", (), 1)),
        ("drop ft::x; set a = it * 2 for ft::x", ("dropped", (), 0)),
    ],
)
def test_what_became_of_a_tensor_of_a_further_input(program: str, fate: Any) -> None:
    plan = planned(f"input ft\n{program}", PAIR, {"ft": {"x": torch.arange(4.0)}})
    assert fates(plan)["ft::x"] == fate
    assert [w.code.id for w in plan.warnings] == (["SX903"] if fate[0] == "unread" else [])
    assert unread(plan) == {"ft": ["x"] if fate[0] == "unread" else []}
    assert_adds_up(plan)


def test_members_of_a_family_have_fates_of_their_own() -> None:
    ranks = [{"x": torch.ones(4), "y": torch.ones(4)} for _ in range(2)]
    plan = planned("input rank[]\nset a = rank::x[1]", PAIR, {"rank": ranks})
    found = {key: fate[0] for key, fate in fates(plan).items() if "rank" in key}
    assert found == {"rank[0]::x": "unread", "rank[1]::x": "used", "rank[0]::y": "unread", "rank[1]::y": "unread"}
    # A tensor that is read of one member is not overlooked.
    assert unread(plan) == {"rank": ["y"]}
    assert "1 of the 2 tensors" in plan.warnings[0].headline
    dropped = planned("input rank[]\nset a = rank::x[1]\ndrop rank::y", PAIR, {"rank": ranks})
    assert not dropped.warnings
    assert fates(dropped)["rank[1]::y"] == ("dropped", (), 1)


def test_what_is_taken_from_inputs_is_counted_apart() -> None:
    plan = planned("input ft\ncopy ft::x -> c; copy c -> d; drop a", PAIR, {"ft": {"x": torch.ones(2)}})
    assert plan.totals == Totals(
        keys_in=2, keys_out=3, untouched=1, moved=0, used=0, dropped=1, replaced=0, computed=0, copied=0, taken=2
    )


# --- sources that would be lost ---------------------------------------------------------------------------------

BN = {"bn.weight": ones(2), "bn.bias": ones(2) * 2, "l.weight": ones(2, 2), "l.bias": ones(2) * 3}


@pytest.mark.parametrize(
    ("program", "span", "headline", "help", "cases"),
    [
        (
            "merge bn.weight as x, bn.bias as y -> bn.both = x",
            "bn.bias", "`bn.bias` reaches no result of this `merge`, and would be lost",
            "if it is meant to go, drop it first: `drop bn.bias`", ("bn.bias",),
        ),
        (
            "split l.weight -> l.{p:a|b} = [l.bias, bn.bias]",
            "l.weight", "`l.weight` reaches no result of this `split`, and would be lost",
            "if it is meant to go, drop it first: `drop l.weight`", ("l.weight",),
        ),
        (
            "merge bn.weight as x, bn.bias as y -> bn.both = cat(x, zeros_like(y))",
            "bn.bias", "`bn.bias` reaches no result of this `merge`, and would be lost",
            "if it is meant to go, drop it first: `drop bn.bias`", ("bn.bias",),
        ),
        (
            "merge bn.weight as x, bn.bias as y -> bn.both = x | reshape(size(y, 0))",
            "bn.bias", "`bn.bias` reaches no result of this `merge`, and would be lost",
            "if it is meant to go, drop it first: `drop bn.bias`", ("bn.bias",),
        ),
        (
            "merge {m}.weight as x, {m}.bias as y -> {m}.both = x",
            "{m}.bias", "sources of this `merge` reach none of its results, and would be lost",
            "if they are meant to go, drop them first: `drop {m}.bias`", ("bn.bias", "l.bias"),
        ),
        (
            "merge bn.{p:weight|bias} over p -> bn.both = it[0]",
            "bn.{p:weight|bias}", "`bn.bias` reaches no result of this `merge`, and would be lost",
            "if it is meant to go, drop it first: `drop bn.bias`", ("bn.bias",),
        ),
        (
            "merge {m}.weight as x, {m}.bias as y -> {m}.both = x where m == 'bn'",
            "{m}.bias", "`bn.bias` reaches no result of this `merge`, and would be lost",
            "if it is meant to go, drop it first: `drop bn.bias`", ("bn.bias",),
        ),
        (
            "within bn { merge weight as x, bias as y -> both = x }",
            "bias", "`bias` reaches no result of this `merge`, and would be lost",
            "if it is meant to go, drop it first: `drop bias`", ("bn.bias",),
        ),
    ],
)  # fmt: skip
def test_a_source_that_no_result_is_made_of_is_an_error(
    program: str, span: str, headline: str, help: str, cases: Sequence[str]
) -> None:
    with pytest.raises(StatexError) as caught:
        planned(program, BN)
    (found,) = caught.value.diagnostics
    assert (found.code.id, found.headline, found.cases) == ("SX323", headline, tuple(cases))
    assert found.span is not None
    assert found.span.text == span
    assert [note.text for note in found.notes] == [help]


def test_the_help_can_be_pasted() -> None:
    plan = planned("drop bn.bias\nmerge bn.weight as x -> bn.both = x", BN)
    assert fates(plan)["bn.bias"] == ("dropped", (), 0)


@pytest.mark.parametrize(
    "program",
    [
        "merge bn.weight, bn.bias -> bn.both = cat",
        "split l.weight -> l.a, l.b = [it[:1], l.bias]",
        "set bn.bias = bn.weight + it\nmerge bn.weight as x, bn.bias as y -> bn.both = y",
        "set bn.weight, bn.bias = zeros([2])\nmerge bn.weight as x, bn.bias as y -> bn.both = x",
        "merge bn.weight as x, bn.bias as y -> bn.both = (x | zeros_like) + cat(x, y)[:2]",
        "split? l.weight -> l.a, l.b = [l.bias, l.bias] where ndim == 1",
    ],
)
def test_a_source_that_some_result_is_made_of_is_none(program: str) -> None:
    assert_adds_up(planned(program, BN))


@pytest.mark.parametrize(
    ("program", "code"),
    [
        ("set bn.bias = zz.bias\nmerge bn.weight as x, bn.bias as y -> bn.both = x", "SX304"),
        ("set bn.bias = zz.bias\nmerge bn.weight as x, bn.bias as y -> bn.both = y", "SX304"),
        ("merge bn.weight as x, bn.bias as y -> bn.both = x + zz.y", "SX304"),
        ("merge bn.weight as x, bn.bias as y -> l.bias = x", "SX303"),
        ("split l.weight -> a, b, c = [l.bias, bn.bias]", "SX314"),
        ("split l.weight -> bn.a, bn.bias = [l.bias, it]", "SX303"),
        ("set l.weight = zz.w\nsplit l.weight -> a, b = [l.bias, bn.bias]", "SX304"),
    ],
)
def test_an_earlier_error_is_the_only_one(program: str, code: str) -> None:
    with pytest.raises(StatexError) as caught:
        planned(program, BN)
    assert [d.code.id for d in caught.value.diagnostics] == [code]


# --- against what happens to the data ---------------------------------------------------------------------------

VALUES = ["it", "it * 2", "-it", "transpose", "cast(bf16)", "it + a.w", "reshape(-1)", "it[0]", "cat(it, it)", "it[1]",
          "zeros([2, 2])", "zeros_like", "ones_like(a.w)", "sum(it, dim=0)", "{m}.w", "{m}.b + it", "permute(1, 0)",
          "chunk(2)", "unstack", "stack", "cat", "sections([1, 1])", "mean", "[a.w, it]", "[it[:1], l.0.w]",
          "[a.w, l.0.w]"]  # fmt: skip
"""Expressions whose results differ wherever one of the tensors they are made of does."""

NAMED = {
    "copy ft::a.w -> ft.w": (),
    "copy ft::{k} -> new.{k}": ("n", "z"),
    "set a.w = it + ft::a.w": (),
    "set {m}.w = ft::{m}.w for ft::{m:**}.w": ("a.w",),
    "set a.w = zeros_like(ft::a.w)": ("a.w",),
    "add t = zeros([2]) for ft::z": ("z",),
    "add u = ft::n * 2": (),
    "set a.w = it * size(ft::z, 0)": (),
    "drop ft::a.w": ("a.w",),
    "drop ft::{k}": ("n", "z"),
}
"""Statements over a further input, with the tensors they name without making anything of their data."""

further = st.sampled_from(sorted(NAMED))
random = st.one_of(*(over(captures, VALUES) for captures in ("", "i", "m", "mx", "*")))
some = st.sampled_from(["a.w", "a.*", "*.w", "**.b", "l.{i:int}.w", "x.**", "a.c", "new.*", "head.w", "**.{p:v|w}"])
fitting = st.one_of(
    filled(st.sampled_from(["drop? ", "drop? ", "keep? **.w, "]), some),
    filled("set? ", some, " = ", st.sampled_from(["it * 2", "zeros_like", "it + 1", "ones_like(it) * 3", "a.w + it"])),
    filled("copy? ", some, " -> x.{key}"),
    filled("add? y.{key} = it + 1 for ", some),
    filled("rename? ", some, " -> r.{key}"),
    filled(
        "merge? {m:**}.w as w, {m}.b as b -> {m}.c = ",
        st.sampled_from(["w + b", "w", "cat(b, w)", "b"]),
        " where exists({m}.b) and exists({m}.w)",
    ),
    filled("merge? l.{i:int}.w over i -> l.w = ", st.sampled_from(["stack", "it[0]", "cat", "it[-1] + it[0]"])),
    filled("split? ", some, " -> {key}.{p:q|k} = ", st.sampled_from(["chunk(2)", "[it, it + 1]", "[a.w, a.w]"])),
    st.sampled_from(["order natural", "rename? prefix 'l.' -> ''", "rename? part w -> v", "renumber? l.{i:int}"]),
)


@st.composite
def programs(draw: st.DrawFn) -> list[str]:
    """Return programs of single statements, each of which is one step of the plan."""
    kinds = draw(st.lists(st.sampled_from([fitting] * 7 + [random] + [further] * 2), min_size=1, max_size=5))
    return [draw(kind) for kind in kinds]


@st.composite
def regular(draw: st.DrawFn) -> dict[str, Any]:
    """Return states most statements can be carried out on."""
    keys = draw(st.lists(st.sampled_from(KEYS), min_size=3, max_size=6, unique=True))
    state: dict[str, Any] = {key: torch.arange(4.0).reshape(2, 2) for key in keys}
    return state | ({"a._extra_state": {"some": 1}} if draw(st.booleans()) else {})


def disturbed(tensor: torch.Tensor) -> torch.Tensor:
    return tensor * 3 + 7


def equal(one: State, other: State) -> bool:
    return all(
        torch.equal(value, other[key]) if isinstance(value, torch.Tensor) else value is other[key]
        for key, value in one.items()
    )


class Reality:
    """What the statements do to data: which tensors make a difference after so many of them, tried one at a time."""

    def __init__(self, statements: Sequence[str], state: State, ft: State) -> None:
        self.statements, self.state, self.ft = statements, state, ft
        self.sources = [SourceKey("", 0, key) for key in state] + [SourceKey("ft", 0, key) for key in ft]
        self.plain = [self.after(count, state, ft) for count in range(len(statements) + 1)]

    def after(self, count: int, state: State, ft: State) -> State:
        program = "\n".join(["input ft", *self.statements[:count]])
        return statex.compile(program).apply(dict(state), inputs={"ft": dict(ft)})

    def results(self, count: int, source: SourceKey) -> list[str]:
        """Return the keys of the result of the first statements that a tensor makes a difference for."""
        given, whose = (self.ft, "ft") if source.input else (self.state, "")
        plain = self.plain[count]
        if not isinstance(given[source.key], torch.Tensor):
            return [key for key, value in plain.items() if value is given[source.key]]
        changed = {**given, source.key: disturbed(given[source.key])}
        other = self.after(count, self.state if whose else changed, changed if whose else self.ft)
        return [key for key, value in plain.items() if not equal({key: value}, other)]

    def fate(self, source: SourceKey) -> tuple[str, list[str], int | None]:
        """Return kind and results of a tensor, and the number of the statement that let it go."""
        count = len(self.statements)
        results = self.results(count, source)
        if results:
            given = (self.ft if source.input else self.state)[source.key]
            standing = [key for key in results if self.plain[count][key] is given]
            return ("standing", standing, None) if standing else ("used", results, None)
        before = next((number for number in reversed(range(count)) if self.results(number, source)), None)
        if before is not None:
            verb = re.match("[a-z]+", self.statements[before])
            assert verb is not None
            return {"drop": "dropped", "keep": "dropped", "set": "replaced"}[verb[0]], [], before
        naming = [n for n, text in enumerate(self.statements) if source.key in NAMED.get(text, ()) and source.input]
        drops = [number for number in naming if self.statements[number].startswith("drop")]
        return ("dropped", [], drops[-1]) if drops else ("used" if naming else "unread", [], None)


def test_the_account_is_what_happens_to_the_data() -> None:
    seen: Counter[str] = Counter()

    @settings(max_examples=examples(600), deadline=None, derandomize=True)
    @given(programs(), regular())
    def holds(statements: list[str], state: dict[str, Any]) -> None:
        # Each has a value of its own; of ties the tests above tell.
        state = {key: v + 11 * i if isinstance(v, torch.Tensor) else v for i, (key, v) in enumerate(state.items())}
        ft = {"a.w": torch.full((2, 2), 500.0), "n": torch.full((2,), 600.0), "z": torch.full((2,), 700.0)}
        try:
            plan = planned("\n".join(["input ft", *statements]), state, {"ft": ft})
        except StatexError as error:
            seen.update(d.code.id for d in error.diagnostics)
            return
        assert len(plan.steps) == len(statements)
        assert_adds_up(plan)
        reality = Reality(statements, state, ft)
        assert list(plan.fates) == reality.sources
        for source, fate in plan.fates.items():
            kind, results, step = reality.fate(source)
            seen[fate.kind] += 1
            assert kind == ("standing" if fate.kind in ("untouched", "moved") else fate.kind), source
            assert list(fate.results) == results, source
            assert step is None or step == fate.step, source
        assert {key for keys in unread(plan).values() for key in keys} == {
            key.key for key, fate in plan.fates.items() if fate.kind == "unread"
        }

    holds()
    # All of them must come about often enough, or the programs try nothing.
    kinds = ("untouched", "moved", "used", "dropped", "replaced", "unread", "SX323")
    assert all(seen[kind] > least(20) for kind in kinds), dict(seen)


def test_numbers_add_up_in_all_programs() -> None:
    @settings(max_examples=examples(600), deadline=None, derandomize=True)
    @given(programs(), st.one_of(states(), regular()))
    def holds(statements: list[str], state: dict[str, Any]) -> None:
        ft = {"a.w": torch.ones(2, 2), "n": torch.ones(2), "z": torch.ones(2)}
        ft["n"] = ft["z"]
        try:
            plan = planned("\n".join(["input ft", *statements]), state, {"ft": ft})
        except StatexError:
            return
        assert_adds_up(plan)
        for fate in plan.fates.values():
            assert (fate.kind in ("untouched", "moved")) <= bool(fate.results)
            assert set(fate.results) <= plan.outputs.keys()
            if fate.kind in ("dropped", "replaced"):
                assert plan.steps[fate.step].verb in {"dropped": ("drop", "keep"), "replaced": ("set",)}[fate.kind]

    holds()


def test_what_has_no_elements_is_made_of_nothing() -> None:
    with pytest.raises(StatexError, match=r"SX323.*`w` reaches no result"):
        planned("split w -> a, b = [it[:0], it[:0]]", {"w": ones(2, 2)})
    plan = planned("merge e, f -> g = cat", {"e": ones(0, 2), "f": ones(0, 2)})
    assert plan.totals.used == 2
