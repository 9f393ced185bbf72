"""The Python surface: rules from text and paths, states in memory, plans as text and data, streams, lazy mappings."""

from __future__ import annotations

import inspect
import json
import random
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import statex
from statex import StatexError
from tests.effort import examples


def state() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return {f"layers.{i}.{n}": torch.randn(4, 4) for i in range(3) for n in ("q", "k", "v")} | {"n": torch.tensor(3)}


def codes(caught: pytest.ExceptionInfo[StatexError]) -> list[str]:
    return [one.code.id for one in caught.value.diagnostics]


class TestRules:
    def test_text_paths_and_several(self, tmp_path: Path) -> None:
        (tmp_path / "a.sx").write_text("rename n -> m")
        for given_ in ("rename n -> m", tmp_path / "a.sx", str(tmp_path / "a.sx")):
            assert "m" in statex.compile(given_).apply(state())
        rules = statex.compile([tmp_path / "a.sx", "rename m -> k", statex.compile("rename k -> j")])
        assert "j" in rules.apply(state())
        assert "l" in (rules + statex.compile("rename j -> l")).apply(state())
        assert list(statex.compile([]).apply(state())) == list(state())

    def test_a_text_that_ends_like_a_file(self) -> None:
        assert len(statex.compile("drop a.sx").statements) == 1

    def test_what_is_not_rules(self) -> None:
        with pytest.raises(TypeError, match="this is a int"):
            statex.compile(3)

    @given(st.text(min_size=1, max_size=12))
    @settings(deadline=None, max_examples=examples(80))
    def test_a_quoted_key_matches_itself_alone(self, key: str) -> None:
        if any(not part for part in key.split(".")) or re.search(r"[\x00-\x1f\x7f\ud800-\udfff]", key):
            return
        found = statex.compile(f"drop {statex.quote(key)}").apply({key: torch.ones(1), key + "x": torch.ones(1)})
        assert list(found) == [key + "x"]


class TestConvert:
    def test_a_state_in_memory_and_rules_as_text(self, tmp_path: Path) -> None:
        given_ = state()
        done = statex.convert(given_, tmp_path / "out.safetensors", "set ** = it * 2 where ndim == 2; rename n -> m")
        assert done.path == tmp_path / "out.safetensors"
        with statex.open(done.path) as found:
            assert sorted(found) == sorted([*(key for key in given_ if key != "n"), "m"])
            assert torch.equal(found["layers.1.q"], given_["layers.1.q"] * 2)

    @pytest.mark.parametrize("call", ["apply", "plan", "convert", "verify"])
    def test_a_module_is_not_a_state(self, tmp_path: Path, call: str) -> None:
        rules, module = statex.compile(""), nn.Linear(2, 2)
        calls: dict[str, Callable[[Any], object]] = {
            "apply": rules.apply,
            "plan": rules.plan,
            "convert": lambda given: statex.convert(given, tmp_path / "x.pth", rules),
            "verify": lambda given: statex.verify(given, like={}),
        }
        with pytest.raises(StatexError) as caught:
            calls[call](module)
        assert codes(caught) == ["SX634"]
        assert "module.state_dict()" in str(caught.value)

    def test_arrays_of_numpy_are_tensors(self) -> None:
        array = numpy.arange(6, dtype=numpy.float32).reshape(2, 3)
        found = statex.compile("set a = transpose; rename b -> c").apply({"a": array, "b": array})
        assert torch.equal(found["a"], torch.from_numpy(array).T)
        assert torch.equal(found["c"], torch.from_numpy(array))
        with pytest.raises(StatexError) as caught:
            statex.compile("").apply({"a": numpy.array(["text"])})
        assert codes(caught) == ["SX634"]


class TestPlans:
    def test_text_and_data(self) -> None:
        plan = statex.compile("drop layers.0.*; rename n -> m").plan(state())
        assert str(plan).splitlines()[0].split() == ["<rules>:1", "drop", "layers.0.*", "3", "dropped"]
        assert repr(plan) == "<statex.Plan: 2 statements, 10 keys in, 7 out>"
        assert json.loads(json.dumps(plan.to_dict()))["outputs"]["m"]["from"] == "n"
        assert "<table>" in plan._repr_html_()
        assert plan.account["layers.0.q"].kind == "dropped"
        assert plan.account["n"].results == ("m",)

    def test_names_in_html_are_escaped(self) -> None:
        plan = statex.compile("""rename '<b>' -> 'c'""").plan({"<b>": torch.ones(1)})
        assert "<b>" not in plan._repr_html_()


class TestComparisons:
    def test_compare_says_what_verify_raises(self) -> None:
        module = nn.Linear(3, 2)
        found = statex.compare({"weight": torch.ones(2, 4), "extra": torch.ones(1)}, module)
        assert not found.fits
        assert (list(found.missing), list(found.unexpected), list(found.different)) == (["bias"], ["extra"], ["weight"])
        assert statex.compare(module.state_dict(), module).fits
        with pytest.raises(StatexError) as caught:
            statex.compare({})
        assert codes(caught) == ["SX506"]

    def test_diff(self, tmp_path: Path) -> None:
        torch.save(state(), tmp_path / "a.pth")
        statex.convert(tmp_path / "a.pth", tmp_path / "b.safetensors", "set layers.0.q = it + 1; rename n -> m")
        assert statex.diff(tmp_path / "a.pth", tmp_path / "b.safetensors", rules="rename n -> m").equal == 9
        assert statex.diff(tmp_path / "a.pth", tmp_path / "b.safetensors", rules="rename n -> m", atol=1.5).agree


class TestOpen:
    @pytest.mark.parametrize("name", ["a.pth", "a.safetensors"])
    def test_tensors_on_demand(self, tmp_path: Path, name: str) -> None:
        given_ = state()
        statex.convert(given_, tmp_path / name, "")
        with statex.open(tmp_path / name) as found:
            assert len(found) == 10
            assert dict(found.header.entries).keys() == given_.keys()
            assert "n" in found
            assert all(torch.equal(found[key], given_[key]) for key in given_)
            with pytest.raises(KeyError, match=r"did you mean `layers\.0\.q`"):
                found["layers.0.Q"]
        found.close()

    def test_a_root(self, tmp_path: Path) -> None:
        torch.save({"model": state(), "ema": state()}, tmp_path / "a.pth")
        with statex.open(tmp_path / "a.pth", root="ema") as found:
            assert torch.equal(found["n"], torch.tensor(3))


RULES = """
    merge layers.{i}.q as q, layers.{i}.k as k, layers.{i}.v as v -> layers.{i}.qkv = cat(q, k, v)
    set layers.1.qkv = it * 2
    rename n -> m
    add ones = ones([2])
    copy m -> m2
"""


class TestStream:
    @given(st.randoms())
    @settings(deadline=None, max_examples=examples(20))
    def test_any_order_gives_what_apply_gives(self, rng: random.Random) -> None:
        given_ = state()
        rules = statex.compile(RULES)
        wanted = rules.apply(given_)
        items = list(given_.items())
        rng.shuffle(items)
        meta = {key: value.to("meta") for key, value in given_.items()}
        found = dict(rules.stream(iter(items), meta))
        assert found.keys() == wanted.keys()
        assert all(torch.equal(found[key], wanted[key]) for key in wanted)

    def test_each_comes_as_soon_as_it_can(self) -> None:
        given_ = state()
        came: list[str] = []

        def items() -> Iterator[tuple[str, torch.Tensor]]:
            for key, value in given_.items():
                came.append(key)
                yield key, value

        places = {key: len(came) for key, _ in statex.compile(RULES).stream(items(), given_)}
        assert places == {"ones": 0, "layers.0.qkv": 3, "layers.1.qkv": 6, "layers.2.qkv": 9, "m": 10, "m2": 10}

    def test_tensors_are_let_go(self) -> None:
        import weakref

        alive: list[weakref.ref[torch.Tensor]] = []

        def items() -> Iterator[tuple[str, torch.Tensor]]:
            for key, value in state().items():
                made = value.clone()
                alive.append(weakref.ref(made))
                yield key, made
                del made
                assert sum(one() is not None for one in alive) <= 3

        for key, _ in statex.compile(RULES.replace("set layers.1.qkv = it * 2", "")).stream(items(), state()):
            assert key

    def test_the_header_of_a_file(self, tmp_path: Path) -> None:
        torch.save(state(), tmp_path / "a.pth")
        header = statex.read_header(tmp_path / "a.pth")
        assert dict(statex.compile("keep n").stream(state().items(), header)).keys() == {"n"}

    @pytest.mark.parametrize(
        ("items", "said"),
        [
            ({"a": torch.ones(2), "c": torch.ones(2)}, "the header has no such key"),
            ({"a": torch.ones(2)}, "`b` did not come"),
            ({"a": torch.ones(3)}, "came as f32[3], and the header says f32[2]"),
            ({"a": "text"}, "came as str"),
        ],
    )
    def test_what_is_not_as_the_header_says(self, items: dict[str, Any], said: str) -> None:
        with pytest.raises(StatexError) as caught:
            list(statex.compile("").stream(items.items(), {"a": torch.ones(2), "b": torch.ones(2)}))
        assert codes(caught) == ["SX324"]
        assert said in str(caught.value)

    def test_errors_of_the_program_come_at_once(self) -> None:
        with pytest.raises(StatexError):
            statex.compile("drop x.y").stream(iter(()), state())


@pytest.mark.parametrize("name", [name for name in statex.__all__ if name != "__version__"])
def test_help_says_something(name: str) -> None:
    value = getattr(statex, name)
    assert inspect.getdoc(value)
    if inspect.isfunction(value):
        assert "Raises" in value.__doc__ or name in ("quote", "lossless")


def test_a_rule_text_has_a_size() -> None:
    with pytest.raises(StatexError) as caught:
        statex.compile("drop " + "a.b, " * 500_000 + "z")
    assert [one.code.id for one in caught.value.diagnostics] == ["SX115"]
    assert len(str(caught.value)) < 1000


def test_results_are_printed_in_a_few_lines(tmp_path: Path) -> None:
    """Not with their insides, which name every key and hold the bytes of pickles."""
    state = {f"layers.{i}.w": torch.ones(2) for i in range(300)}
    rules = statex.compile("rename prefix '' -> 'm.'\nset m.layers.0.w = it[:1]")
    torch.save(state, tmp_path / "in.pth")
    torch.save({"a": torch.ones(2), "b": torch.ones(2)}, tmp_path / "small.pth")
    torch.save({"a": torch.ones(2), "b": torch.ones(3)}, tmp_path / "other.pth")
    done = statex.convert(tmp_path / "in.pth", tmp_path / "out.pth", rules, like=rules.apply(state), reversible=True)
    other = statex.compare(state, {"layers.0.w": torch.ones(3)})
    assert done.reversal is not None
    results: dict[str, Any] = {
        "<statex.Conversion": done,
        "300 keys": done.outputs[0],
        "apply out.back.sx": done.reversal,
        "300 keys come back, 1 of these from `lost`": done.reversal.inverse,
        "299 of 300 tensors come back": statex.lossless(rules.plan(state)),
        "2 statements": rules.plan(state),
        "1 of wrong shape": other,
        "1 equal": statex.diff(tmp_path / "small.pth", tmp_path / "other.pth"),
        "299 of 300 tensors equal in bits": statex.infer(state, {**state, "layers.7.w": torch.randn(2)}),
    }
    for said, result in results.items():
        text = repr(result)
        assert len(text) < 400
        assert "\n" not in text
        assert said in text
    assert str(done).splitlines() == [str(done)]
    for part in ("out.pth`: 300 keys, 2.3 KiB, verified against", "to undo it: statex apply out.back.sx"):
        assert part in str(done)
