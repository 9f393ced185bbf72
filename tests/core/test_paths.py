"""Paths: how they are written and read, where a state is found, and what a root names."""

from __future__ import annotations

import re
import shlex
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import statex
from statex import StatexError
from statex.core.header import KeyPath
from statex.core.paths import as_list, as_option, at, in_rules, path_from_text, readings, written
from statex.execute.live import describe
from statex.grammar import parse_text
from statex.trees.roots import find_root

ONES = torch.ones(2)
ZEROS = torch.zeros(3)
SCALAR = torch.tensor(0.5)

parts = st.one_of(st.sampled_from(["a", "b", "a.b", "a.a", "0", "1", ""]), st.integers(-1, 2))
trees: st.SearchStrategy[Any] = st.recursive(
    st.just(0),
    lambda inner: st.one_of(st.dictionaries(parts, inner, max_size=4), st.lists(inner, max_size=3).map(tuple)),
    max_leaves=12,
)


def every_path(tree: Any, path: KeyPath = ()) -> list[KeyPath]:
    """Return the paths of all that is in a tree, the tree itself included."""
    inner: Any = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, tuple) else ()
    return [path, *(one for key, value in inner for one in every_path(value, (*path, key)))]


@settings(deadline=None)
@given(trees)
def test_readings_are_the_paths_with_that_text(tree: Any) -> None:
    paths = every_path(tree)
    for path in paths:
        text = ".".join(map(str, path))
        wanted = [one for one in paths if ".".join(map(str, one)) == text and one]
        found = readings(tree, text)
        assert (found == [()]) if not text else set(found) <= set(wanted)
        assert not text or len(found) == min(len(wanted), 3)


@settings(deadline=None)
@given(trees)
def test_a_written_path_names_itself(tree: Any) -> None:
    for path in every_path(tree):
        text = written(tree, path)
        given_back = path_from_text(text)
        in_a_rule = parse_text(f"root {in_rules(text)}").statements[0]
        assert in_a_rule.path.value == given_back  # type: ignore[union-attr]
        if not path:
            assert given_back == ""
        elif isinstance(given_back, str):
            containers = [one for one in readings(tree, given_back) if isinstance(at(tree, one), dict | tuple)]
            assert containers == [path]
        else:
            assert given_back == path


@settings(deadline=None)
@given(st.lists(st.one_of(st.text(), st.integers(-(10**9), 10**9)), min_size=1).map(tuple))
def test_a_path_as_a_list(path: KeyPath) -> None:
    assert path_from_text(as_list(path)) == path


@settings(deadline=None)
@given(st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=8))
def test_a_path_as_a_shell_has_it(text: str) -> None:
    assert shlex.split(as_option(text)) == [text]


@pytest.mark.parametrize("text", ["[", "['a'", "['a' 'b']", "[a]", "['a',,]", "[1.5]", "['a]"])
def test_what_is_no_list(text: str) -> None:
    with pytest.raises(ValueError, match=re.escape(text)):
        path_from_text(text)


# --- where the state is -----------------------------------------------------------------------------------------


def marked(**entries: Any) -> Any:
    state: Any = OrderedDict(entries)
    state._metadata = OrderedDict()
    return state


LIGHTNING = {
    "epoch": 3,
    "state_dict": {"w": ONES},
    "callbacks": {"ModelCheckpoint{'monitor': 'val.loss'}": {"best_model_score": SCALAR, "best_k_models": {}}},
    "optimizer_states": [{"state": {0: {"step": SCALAR, "exp_avg": ONES}}, "param_groups": [{"lr": SCALAR}]}],
}


@pytest.mark.parametrize(
    ("tree", "root"),
    [
        ({"w": ONES}, ()),
        ({}, ()),
        ({"model": {"w": ONES}, "epoch": 3}, ("model",)),
        (LIGHTNING, ("state_dict",)),
        ({"state_dict": {"w": ONES}, "loss": SCALAR}, ("state_dict",)),
        ({"loss": SCALAR}, ()),
        ({"model": {"w": ONES}, "optimizer": {"state": {0: {"exp_avg": ONES}}}}, ("model",)),
        ({"model": {"w": ONES}, "rng": [ONES, ONES]}, ("model",)),
        ({"model": marked(w=ONES), "ema": {"w": ONES}}, ("model",)),
        ({"model": marked(scale=SCALAR), "loss": {"best": SCALAR}}, ("model",)),
        ({"ema": {"decay": 0.9, "shadow_params": [ONES, ZEROS]}}, ("ema",)),
        ({0: ONES}, ()),
        ({"a": {0: ONES, 1: ZEROS}}, ("a",)),
        ({"state": {0: {"exp_avg": ONES}, 1: {"exp_avg": ONES}}, "param_groups": [{"params": [0, 1]}]}, ("state",)),
        ([ONES, ZEROS], ()),
        (({"w": ONES}, {"lr": 0.1}), (0,)),
        ({"parts": [{"w": ONES}], "n": 1}, ("parts", 0)),
        ({"loss": SCALAR, "ema": {"shadow_params": (ONES,)}}, ("ema",)),
        ({"groups": [[ONES], [ZEROS]]}, ()),
        ({"a.b": {"w": ONES}}, ("a.b",)),
    ],
)
def test_where_the_state_is(tree: Any, root: KeyPath) -> None:
    assert find_root(describe(tree), "it") == root


@pytest.mark.parametrize(
    ("tree", "said"),
    [
        ({"model": {"w": ONES}, "ema": {"w": ONES}}, ["  model  1 tensor", "  ema    1 tensor", "root='model'"]),
        (
            [{"w": ONES}, {"w": ONES}],
            ["  0  1 tensor", "  1  1 tensor", "root='0'   or in the rules: root '0'"],
        ),
        (
            {"a.b": {"w": ONES}, "a": {"b": {"w": ONES}}},
            ["  \"['a.b']\"", "  \"['a', 'b']\"", "root=['a.b']   or in the rules: root ['a.b']"],
        ),
    ],
)
def test_several_states_are_named(tree: Any, said: list[str]) -> None:
    with pytest.raises(StatexError, match="SX606") as caught:
        find_root(describe(tree), "it")
    assert all(one in str(caught.value) for one in said), str(caught.value)


def test_no_state() -> None:
    for tree in ({"epoch": 3, "list": [1, 2]}, [1, 2], 5):
        with pytest.raises(StatexError, match="SX605"):
            find_root(tree, "it")


@pytest.mark.parametrize(
    ("tree", "said"),
    [
        (ONES, ["`it` is a single tensor", "{'weight': tensor}"]),
        ({(1, 2): ONES}, ["the key (1, 2), of type tuple", "text or ints"]),
        ({"a": {None: {"w": ONES}}}, ["a dict with tensors at `a` that", "the key None, of type NoneType"]),
        ({"epoch": 3, (1, 2): 4}, ["`it` holds no dict of tensors"]),
    ],
)
def test_what_there_is_instead_of_a_state(tree: Any, said: list[str]) -> None:
    with pytest.raises(StatexError, match="SX605") as caught:
        find_root(describe(tree), "it")
    assert all(one in str(caught.value) for one in said), str(caught.value)


def test_a_state_in_memory_has_no_name_in_backticks() -> None:
    with pytest.raises(StatexError, match=r"SX605.*: the checkpoint holds no dict"):
        statex.compile("drop a").plan({"epoch": 3})


def test_containers_that_hold_themselves_or_stand_in_many_places() -> None:
    endless: list[Any] = [ONES]
    endless.append(endless)
    laughs: Any = [0]
    for _ in range(60):
        laughs = [laughs, laughs]
    assert find_root({"model": {"w": describe(ONES)}, "laughs": laughs}, "it") == ("model",)
    with pytest.raises(StatexError, match="SX605"):
        find_root({"laughs": laughs}, "it")
    with pytest.raises(StatexError, match="SX605"):
        describe({"model": {"w": ONES}, "endless": endless})


def test_a_file_whose_tensor_is_in_too_many_places(tmp_path: Path) -> None:
    many: Any = [ONES]
    for _ in range(40):
        many = [many, many]
    torch.save({"w": many}, tmp_path / "many.pth")
    with pytest.raises(StatexError, match="SX604"):
        statex.compile("").plan(tmp_path / "many.pth")


# --- a root that is named ---------------------------------------------------------------------------------------

DOTTED = {"a": {"b": {"w": ONES}}, "a.b": {"v": ZEROS}, "l": [{"x": ONES}, {"y": ZEROS}], "n": {3: {"z": ONES}}}


@pytest.mark.parametrize(
    ("root", "keys"),
    [
        ("['a', 'b']", ["w"]),
        ("['a.b']", ["v"]),
        ("['l', 0]", ["x"]),
        ("'l.1'", ["y"]),
        ("'l'", ["0.x", "1.y"]),
        ("['n', 3]", ["z"]),
        ("'n'", ["3.z"]),
        ("'n.3'", ["z"]),
        ("['a', 'b',]", ["w"]),
    ],
)
def test_a_root_that_is_named(root: str, keys: list[str]) -> None:
    assert list(statex.compile(f"root {root}").plan(DOTTED).outputs) == keys
    done = statex.compile(f"root {root}\nset ** = it * 2").apply(DOTTED)
    plan = statex.compile(f"root {root} -> ''").plan(done)
    assert list(plan.outputs) == keys
    given_back = parse_text(f"root {root}").statements[0].path.value  # type: ignore[union-attr]
    assert list(statex.compile("").plan(DOTTED, root=given_back).outputs) == keys
    further = statex.compile(f"input ft root {root}\ncopy ft::** -> new.**").plan({"q": ONES}, inputs={"ft": DOTTED})
    assert list(further.outputs) == ["q", *(f"new.{key}" for key in keys)]


def test_a_text_with_two_readings() -> None:
    for make in (
        lambda: statex.compile("root 'a.b'").plan(DOTTED),
        lambda: statex.compile("").plan(DOTTED, root="a.b"),
    ):
        with pytest.raises(StatexError, match="SX626") as caught:
            make()
        assert "`a.b` can be read as `['a', 'b']` or `['a.b']`" in str(caught.value)
        assert "= help: root ['a', 'b']\n" in str(caught.value) + "\n"
    with pytest.raises(StatexError, match="SX626"):
        statex.compile("root 'n' -> 'a.b.c'").plan(DOTTED)
    done = statex.compile("root 'n' -> ['a.b', 'c']").apply(DOTTED)
    assert done == {**{k: v for k, v in DOTTED.items() if k != "n"}, "a.b": {"v": ZEROS, "c": {3: {"z": ONES}}}}


def test_one_reading_is_a_state_and_the_other_is_not() -> None:
    done = statex.compile("root 'a.b'\nrename w -> x").apply({"a": {"b": 3}, "a.b": {"w": ONES}})
    assert done == {"a": {"b": 3}, "a.b": {"x": ONES}}


@pytest.mark.parametrize(
    ("root", "done"),
    [
        ("'l.0' -> ''", {"x": ONES}),
        ("'n' -> 'l.1.more'", {"l": [{"x": ONES}, {"y": ZEROS, "more": {3: {"z": ONES}}}]}),
        ("'n' -> ['m.o', 're']", {"l": [{"x": ONES}, {"y": ZEROS}], "m.o": {"re": {3: {"z": ONES}}}}),
        ("'n' flat", {"l": [{"x": ONES}, {"y": ZEROS}], "n": {"3.z": ONES}}),
        ("'n' -> 'm' flat", {"l": [{"x": ONES}, {"y": ZEROS}], "m": {"3.z": ONES}}),
    ],
)
def test_where_a_state_is_put(root: str, done: Any) -> None:
    assert statex.compile(f"root {root}").apply({"l": DOTTED["l"], "n": DOTTED["n"]}) == done


@pytest.mark.parametrize("root", ["'l.0' -> 'x'", "'n' -> 'l.0'", "'n' -> 'l.7.x'", "'n' -> ['l', 'x']"])
def test_where_a_state_cannot_be_put(root: str) -> None:
    with pytest.raises(StatexError, match="SX619"):
        statex.compile(f"root {root}").plan({"l": DOTTED["l"], "n": DOTTED["n"]})


def test_a_root_that_is_not_there() -> None:
    for root in ("'x'", "['a', 0]", "['l', 2]", "['l', -1]", "['l', '0']"):
        with pytest.raises(StatexError, match="SX607"):
            statex.compile(f"root {root}").plan(DOTTED)
    with pytest.raises(StatexError, match=r"it has `l\.0` and `l\.1`"):
        statex.compile("root ['l', 5]").plan({"l": [{"w": torch.ones(1)}, {"w": torch.ones(2)}], "n": 1})
