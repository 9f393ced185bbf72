"""States inside checkpoints: nothing around or inside them is lost, and what they are nested in comes back."""

from __future__ import annotations

from collections import Counter, OrderedDict, namedtuple
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn

import statex
from statex import StatexError
from tests.checkpoint.states import same

ONES = torch.ones(2)
ZEROS = torch.zeros(2)
Point = namedtuple("Point", "x y")
State = Any


def code_of(rules: str, state: State, **options: Any) -> str:
    """Return what the one error of rules on a state says."""
    with pytest.raises(StatexError) as caught:
        statex.compile(rules).plan(state, **options)
    (found,) = caught.value.diagnostics
    return f"{found.code.id} {found.span.line if found.span is not None else 0}: {found.headline}"


def test_a_tensor_that_takes_the_name_of_a_dict() -> None:
    state = {"enc": {"a": ONES, "b": {"c": ONES}}, "x": ZEROS}
    assert code_of("root ''\nrename x -> enc", state).startswith("SX326 2: `enc.a` is in a dict `enc`, and")
    assert code_of("root ''\nrename x -> enc.b", state).startswith("SX326 2: `enc.b.c` is in a dict `enc.b`, and")
    done = statex.compile("root '' flat\nrename x -> enc").apply(state)
    assert list(done) == ["enc.a", "enc.b.c", "enc"]
    assert done["enc"] is ZEROS


def test_what_is_around_the_state_and_holds_no_tensor_is_the_same_object() -> None:
    around: dict[str, Any] = {"point": Point(1, 2), "size": torch.Size([1]), "seen": Counter("ab"), "list": [1, (2, 3)]}
    for rules in ("root 'model'", "root 'model' -> 'state_dict'"):
        done = statex.compile(rules).apply({"model": {"a": ONES}, **around})
        assert all(done[key] is value for key, value in around.items())


@pytest.mark.parametrize(
    ("root", "taken"),
    [
        ("'model' -> 'optimizer'", "optimizer"),
        ("'model' -> 'optimizer.model'", None),
        ("'model' -> 'optimizer.lr'", "optimizer.lr"),
        ("'model' -> 'optimizer.lr.x'", "optimizer.lr"),
        ("'model' -> 'epoch.model'", "epoch"),
        ("'model' -> 'model'", None),
        ("'model' -> 'model.inner'", None),
        ("'model' -> 'net'", None),
        ("'outer.model' -> 'outer'", None),
        ("'pair.model' -> 'pair'", "pair"),
        ("'model' -> ''", None),
    ],
)
def test_a_root_is_put_on_nothing_that_is_there(root: str, taken: str | None) -> None:
    a = {"a.w": ONES}
    checkpoint = {"model": a, "optimizer": {"lr": 0.1}, "epoch": 3, "outer": {"model": a}, "pair": {"model": a, "n": 1}}
    rules = statex.compile(f"root {root}")
    if taken is None:
        rules.apply(checkpoint)
        return
    with pytest.raises(StatexError, match=f"SX619.*has something at `{taken}` already"):
        rules.plan(checkpoint)


# --- a key that gets another name -------------------------------------------------------------------------------

OPTIMIZER = {"optim": {"state": {"m.fc.weight": {"exp_avg": ONES, "step": ZEROS}, "m.fc.bias": {"exp_avg": ONES}}}}
LISTED = {"ema": {"shadow_params": [ONES, ZEROS, ONES]}, 7: ONES, "net": {"fc.w": ZEROS}}


@pytest.mark.parametrize(
    ("state", "rules", "wanted"),
    [
        # One part of the path changes, or several segments do.
        (
            OPTIMIZER,
            "rename part m -> ''",
            {"optim": {"state": {"fc.weight": {"exp_avg": ONES, "step": ZEROS}, "fc.bias": {"exp_avg": ONES}}}},
        ),
        (
            OPTIMIZER,
            "rename part { m -> a.b.c\n state -> moments\n exp_avg -> mean }",
            None,
        ),
        (
            OPTIMIZER,
            "rename part { m -> n\n state -> moments\n exp_avg -> mean }",
            {"optim": {"moments": {"n.fc.weight": {"mean": ONES, "step": ZEROS}, "n.fc.bias": {"mean": ONES}}}},
        ),
        # The same in two statements, each of which changes one part.
        (
            OPTIMIZER,
            "rename part m -> a.b.c\nrename part state -> moments",
            {
                "optim": {
                    "moments": {"a.b.c.fc.weight": {"exp_avg": ONES, "step": ZEROS}, "a.b.c.fc.bias": {"exp_avg": ONES}}
                }
            },
        ),
        ({"m": {"m.fc": ONES}}, "rename part m -> n", {"n": {"n.fc": ONES}}),
        ({"m": {"fc": ONES}}, "rename m.fc -> m.x.y", {"m": {"x.y": ONES}}),
        ({"m.x": {"fc": ONES}}, "rename part x -> y", {"m.y": {"fc": ONES}}),
        # A dict is taken out.
        ({"m": {"fc.w": ONES}, "e": ZEROS}, "rename prefix 'm.' -> ''", {"fc.w": ONES, "e": ZEROS}),
        ({"a": {"b": {"fc.w": ONES}}}, "rename prefix 'a.b.' -> ''", {"fc.w": ONES}),
        ({"a": {"b": {"fc.w": ONES}}}, "rename part b -> ''", {"a": {"fc.w": ONES}}),
        ({"h": {"w": ONES}}, "rename h.w -> v", {"v": ONES}),
        # What goes to a dict that is there is in it.
        ({"m": {"fc.w": ONES}, "x": ZEROS}, "rename x -> m.x.y", {"m": {"fc.w": ONES, "x.y": ZEROS}}),
        ({"m": {"fc.w": ONES}, "h": {"x": ZEROS}}, "rename part h -> m", {"m": {"fc.w": ONES, "x": ZEROS}}),
        ({"m": {"w": ONES}, "h.k": {"x": ZEROS}}, "rename prefix 'h.k.' -> 'm.k.'", {"m": {"w": ONES, "k.x": ZEROS}}),
        ({"m": {"a.b": ONES}, "a": ZEROS}, "rename m.a.b -> q\nrename q -> m.a.b", {"m": {"a.b": ONES}, "a": ZEROS}),
        (
            {"m": {"w": ONES}, "n": {"w": ZEROS}},
            "rename { m.w -> n.w\n n.w -> m.w }",
            {"n": {"w": ONES}, "m": {"w": ZEROS}},
        ),
        # New keys go as deep as there are dicts.
        ({"m": {"h": {"w": ONES}}}, "add m.h.x.y = zeros([2])", {"m": {"h": {"w": ONES, "x.y": ZEROS}}}),
        ({"m": {"h": {"w": ONES}}}, "add q.x = zeros([2])", {"m": {"h": {"w": ONES}}, "q.x": ZEROS}),
        ({"m": {"h": {"w": ONES}}}, "copy m.h.w -> m.k.w", {"m": {"h": {"w": ONES}, "k": {"w": ONES}}}),
        ({"m": {"w": ONES}}, "rename part m -> n\nadd n.x = zeros([2])", {"n": {"w": ONES, "x": ZEROS}}),
        # Statements that make values.
        ({"m": {"w": torch.ones(4)}}, "split m.w -> m.{p:a|b} = chunk(2)", {"m": {"a": ONES, "b": ONES}}),
        ({"m": {"a": ONES, "b": ONES}}, "merge m.{p:a|b} over p -> m.w.x = cat", {"m": {"w.x": torch.ones(4)}}),
        ({"m": {"w": ONES}}, "set m.w = it * 0", {"m": {"w": ZEROS}}),
        # Lists and ints.
        (
            LISTED,
            "rename part shadow_params -> shadows",
            {"ema": {"shadows": [ONES, ZEROS, ONES]}, 7: ONES, "net": {"fc.w": ZEROS}},
        ),
        (
            LISTED,
            "drop ema.shadow_params.0\nrenumber ema.shadow_params.{i:int}",
            {"ema": {"shadow_params": [ZEROS, ONES]}, 7: ONES, "net": {"fc.w": ZEROS}},
        ),
        (
            LISTED,
            "drop ema.shadow_params.2",
            {"ema": {"shadow_params": [ONES, ZEROS]}, 7: ONES, "net": {"fc.w": ZEROS}},
        ),
        (LISTED, "drop ema.**", {7: ONES, "net": {"fc.w": ZEROS}}),
        (
            LISTED,
            "rename ema.shadow_params.{i:int} -> ema.shadow_params.p{i}",
            {"ema": {"shadow_params": {"p0": ONES, "p1": ZEROS, "p2": ONES}}, 7: ONES, "net": {"fc.w": ZEROS}},
        ),
        (
            LISTED,
            "add ema.shadow_params.3 = zeros([2])",
            {"ema": {"shadow_params": [ONES, ZEROS, ONES, ZEROS]}, 7: ONES, "net": {"fc.w": ZEROS}},
        ),
        ({"l": (ONES, ZEROS)}, "rename { l.0 -> l.1\n l.1 -> l.0 }", {"l": (ZEROS, ONES)}),
        ({0: {"w": ONES}, 1: {"w": ONES}}, "rename {i:int}.w -> {i + 1}.w", {1: {"w": ONES}, 2: {"w": ONES}}),
        ({"s": {0: ONES, 1: ZEROS}}, "rename s.0 -> s.zero", {"s": {"zero": ONES, 1: ZEROS}}),
        ({"s": {"0": ONES}}, "rename s.0 -> s.1", {"s": {"1": ONES}}),
        ({"s": {"a": ONES, 5: ZEROS}}, "rename s.5 -> t.5", {"s": {"a": ONES}, "t": {5: ZEROS}}),
        (
            {"e": [{"w": ONES}, {"w": ZEROS}]},
            "merge e.{i:int}.w over i -> e.w = stack",
            {"e": {"w": torch.stack([ONES, ZEROS])}},
        ),
    ],
)
def test_a_key_with_another_name_stays_in_its_dicts(tmp_path: Path, state: State, rules: str, wanted: State) -> None:
    rules = f"root ''\n{rules}"
    if wanted is None:
        assert code_of(rules, state).startswith("SX326")
        return
    done = statex.compile(rules).apply(state)
    assert _unordered(done, wanted), done
    torch.save(state, tmp_path / "in.pth")
    statex.convert(tmp_path / "in.pth", tmp_path / "out.pth", rules)
    assert _unordered(torch.load(tmp_path / "out.pth"), wanted)
    flat = statex.compile(rules.replace("root ''", "root '' flat", 1)).apply(state)
    assert all(isinstance(value, torch.Tensor) for value in flat.values())


def _unordered(one: Any, other: Any) -> bool:
    """Say whether trees are equal, whatever the order of keys."""
    if isinstance(one, dict):
        return (
            type(one) is type(other)
            and one.keys() == other.keys()
            and all(
                type(key) is type(next(k for k in other if k == key)) and _unordered(value, other[key])
                for key, value in one.items()
            )
        )
    if isinstance(one, list | tuple):
        return type(one) is type(other) and len(one) == len(other) and all(map(_unordered, one, other))
    return torch.equal(one, other) if isinstance(one, torch.Tensor) else bool(one == other)


@pytest.mark.parametrize(
    ("state", "rules", "said"),
    [
        (
            {"model": {"model.w": ONES, "h": ONES}},
            "rename prefix 'model.' -> ''",
            "SX326 2: `model.w` can be nested as ['model', 'w'] or ['model.w']",
        ),
        (
            {"a": {"a": ONES}},
            "rename text 'a' -> 'a.a'\nrename a.a.a.a -> a.b.a",
            "SX326 2: `a.a.a.a` can be nested as",
        ),
        ({"a": {"a": ONES}}, "rename a.a -> a.a.a", "SX326 2: `a.a.a` can be nested as ['a.a', 'a'] or ['a', 'a.a']"),
        ({"h": {"w.x": ONES}}, "rename h.w.x -> b.w", "SX326 2: `b.w` can be nested as ['b.w'] or ['b', 'w']"),
        ({"h": {"w": ONES}, "x": ZEROS}, "rename { h.w -> g.w\n x -> g.x }", "SX326 2: `g.x` can be nested as"),
        (
            {"h": {"w": ONES}, "h.x": {"q": ONES}},
            "set h.w = it * 2\nadd h.x.y = zeros([1])",
            "SX326 3: `h.x.y` can be nested as ['h', 'x.y'] or ['h.x', 'y']",
        ),
        (LISTED, "drop ema.shadow_params.1", "SX327 2: `ema.shadow_params` is a list, and its place 1 is empty"),
        (
            LISTED,
            "rename ema.shadow_params.1 -> ema.shadow_params.x",
            "SX327 2: `ema.shadow_params` is a list, and `x` is not a place in it",
        ),
        (LISTED, "add ema.shadow_params.5 = zeros([1])", "SX327 0: `ema.shadow_params` is a list, and its place 3"),
        ({"l": [[ONES], [ZEROS]]}, "drop l.0.**", "SX327 2: `l` is a list, and its place 0 is empty"),
    ],
)
def test_where_it_cannot_be_told(state: State, rules: str, said: str) -> None:
    assert code_of(f"root ''\n{rules}", state).startswith(said)
    statex.compile(f"root '' flat\n{rules}").plan(state)


def test_help_can_be_pasted() -> None:
    with pytest.raises(StatexError) as caught:
        statex.compile("root 'm'\ndrop 'odd-name.0'").plan({"m": {"odd-name": [ONES, ZEROS]}, "e": 1})
    helps = [note.text for note in caught.value.diagnostics[0].notes if note.kind == "help"]
    assert helps == ['close the gap after this: renumber "odd-name.{i:int}"', "root 'm' flat"]
    renumber = helps[0].partition(": ")[2]
    done = statex.compile(f"root 'm'\ndrop 'odd-name.0'\n{renumber}").apply({"m": {"odd-name": [ONES, ZEROS]}, "e": 1})
    assert _unordered(done, {"m": {"odd-name": [ZEROS]}, "e": 1})


def test_metadata_of_dicts_follows_their_modules(tmp_path: Path) -> None:
    net = nn.Sequential(OrderedDict(conv=nn.Conv1d(2, 2, 1), norm=nn.BatchNorm1d(2)))
    state = {"model": net.state_dict(), "ema": {"shadow": net.state_dict(), "decay": 0.9}}
    rule = "rename part norm -> body.bn"
    wanted = statex.compile(rule).apply(net.state_dict())
    torch.save(state, tmp_path / "in.pth")
    statex.convert(tmp_path / "in.pth", tmp_path / "out.pth", f"root ''\n{rule}\nrename part ema -> average")
    for done in (
        torch.load(tmp_path / "out.pth"),
        statex.compile(f"root ''\n{rule}\nrename part ema -> average").apply(state),
    ):
        assert same(done["model"], wanted)
        assert same(done["average"], {"shadow": wanted, "decay": 0.9})
    assert same(state["model"], net.state_dict())


def test_texts_beside_tensors_are_entries() -> None:
    plan = statex.compile("rename note -> text").plan({"w": ONES, "note": "a text"})
    assert [output.opaque.kind if output.opaque else "" for output in plan.outputs.values()] == ["", "str"]


def test_a_header_alone_is_nested_as_its_state() -> None:
    for state in (LISTED, OPTIMIZER, {"h": {"w": ONES}, "e": ONES}, {"w": ONES}, {0: ONES}):
        whole = statex.compile("root ''\nrename? part h -> g").plan(state)
        alone = statex.compile("rename? part h -> g").plan(statex.compile("root ''").plan(state).header)
        assert (alone.nested, list(alone.outputs)) == (whole.nested, list(whole.outputs))


# --- flat -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rules", "wanted"),
    [
        ("root 'model.lm' -> ''", {"h.w": ONES, "h.v": ZEROS, "l.0": ONES}),
        ("root 'model.lm' -> '' flat", {"h.w": ONES, "h.v": ZEROS, "l.0": ONES}),
        ("root 'model.lm' flat", {"model": {"lm": {"h.w": ONES, "h.v": ZEROS, "l.0": ONES}}, "n": 3}),
        ("root 'model.lm' -> 'x' flat", {"x": {"h.w": ONES, "h.v": ZEROS, "l.0": ONES}, "n": 3}),
        ("root '' flat", {"model.lm.h.w": ONES, "model.lm.h.v": ZEROS, "model.lm.l.0": ONES, "n": 3}),
        ("root 'model.lm.l' flat", {"model": {"lm": {"h": {"w": ONES, "v": ZEROS}, "l": {"0": ONES}}}, "n": 3}),
        ("root 'model.lm'", {"model": {"lm": {"h": {"w": ONES, "v": ZEROS}, "l": [ONES]}}, "n": 3}),
    ],
)
def test_a_state_is_written_flat(tmp_path: Path, rules: str, wanted: State) -> None:
    state = {"model": {"lm": {"h": {"w": ONES, "v": ZEROS}, "l": [ONES]}}, "n": 3}
    assert _unordered(statex.compile(rules).apply(state), wanted)
    torch.save(state, tmp_path / "in.pth")
    statex.convert(tmp_path / "in.pth", tmp_path / "out.pth", rules)
    assert _unordered(torch.load(tmp_path / "out.pth"), wanted)


NESTED = {"h": {"x": ONES, "y": ZEROS}, "e": ONES}
RENAMED = "rename h.{p:x=w|y=v} -> h.{p}"
FLAT = {"h.w": ONES, "h.v": ZEROS, "e": ONES}


def test_a_nested_result_does_not_fit_a_flat_target(tmp_path: Path) -> None:
    torch.save(FLAT, tmp_path / "golden.pth")
    torch.save(NESTED, tmp_path / "in.pth")
    for like in (FLAT, tmp_path / "golden.pth"):
        with pytest.raises(StatexError, match=r"SX501.*2 nested differently") as caught:
            statex.convert(tmp_path / "in.pth", tmp_path / "out.pth", f"root ''\n{RENAMED}", like=like)
        assert "in the dict ['h'] here, flat in " in str(caught.value)
        assert "= help: root '' flat" in str(caught.value)
        assert not (tmp_path / "out.pth").exists()
    done = statex.convert(tmp_path / "in.pth", tmp_path / "out.pth", f"root '' flat\n{RENAMED}", like=FLAT)
    assert done.comparison is not None
    assert done.comparison.agreeing == 3
    assert _unordered(torch.load(tmp_path / "out.pth"), FLAT)
    assert statex.verify(tmp_path / "out.pth", like=FLAT).agreeing == 3


def test_a_nested_result_fits_a_target_that_is_nested_alike(tmp_path: Path) -> None:
    golden = {"h": {"w": ONES, "v": ZEROS}, "e": ONES}
    torch.save(golden, tmp_path / "golden.pth")
    torch.save(NESTED, tmp_path / "in.pth")
    for like in (golden, tmp_path / "golden.pth"):
        done = statex.convert(tmp_path / "in.pth", tmp_path / "out.pth", f"root ''\n{RENAMED}", like=like, force=True)
        assert done.comparison is not None
        assert done.comparison.agreeing == 3
    assert statex.verify(tmp_path / "out.pth", like=golden, root="").agreeing == 3
    with pytest.raises(StatexError, match=r"SX501.*1 nested differently"):
        statex.verify(tmp_path / "out.pth", like={"h": {"v": ZEROS}, "h.w": ONES, "e": ONES}, root="")


def test_a_module_takes_no_dicts() -> None:
    module = nn.ModuleDict({"h": nn.Linear(2, 2)})
    nested = {"h": dict(module["h"].state_dict())}
    with pytest.raises(RuntimeError):
        module.load_state_dict(nested)
    assert code_of("root ''", nested, target=module).startswith("SX501")
    with pytest.raises(StatexError, match="root '' flat"):
        statex.verify(nested, module, root="")
    assert not statex.compare(nested, module, root="").fits
    module.load_state_dict(statex.compile("root '' flat").apply(nested, target=module))
    assert statex.verify(nested, nn.Linear(2, 2)).agreeing == 2


@pytest.mark.parametrize(
    ("state", "helps"),
    [
        ({"h": {"w": ONES}, "e": ZEROS}, ["root '' flat"]),
        ({"l": [ONES, ZEROS]}, ["root '' flat"]),
        ({"h": {"w": ONES}}, ["take the bare state: root 'h' -> ''"]),
        ({"h": {"w": ONES}, "n": 3}, ["take the bare state: root 'h' -> ''"]),
        (
            {"h": {"w": ONES}, "e": {"w": ZEROS}, "n": 3},
            ["take one state and leave out the other: root 'h' -> ''", "write a .pth"],
        ),
        ({"w": ONES, "n": 3}, ["leave out what is not a tensor: drop n", "write a .pth"]),
    ],
)
@pytest.mark.parametrize("name", ["out.safetensors", "out/"])
def test_formats_without_dicts(tmp_path: Path, state: State, helps: list[str], name: str) -> None:
    torch.save(state, tmp_path / "in.pth")
    options: Any = {"format": "torch"} if name == "out/" else {}
    with pytest.raises(StatexError, match="SX614") as caught:
        statex.convert(tmp_path / "in.pth", f"{tmp_path}/{name}", "root ''", **options)
    said = [note.text for note in caught.value.diagnostics[0].notes if note.kind == "help"]
    assert said == [help.replace("write a .pth", "write one file") if name == "out/" else help for help in helps]
    if "root '' flat" in helps:
        statex.convert(tmp_path / "in.pth", f"{tmp_path}/{name}", "root '' flat", **options)


# --- round trips ------------------------------------------------------------------------------------------------

names = st.sampled_from(["a", "b", "m.a", "m.a.b", "0", "3", "w-1", "Ж", "", "_extra_state", "x._extra_state"])
keys = st.one_of(names, names, st.integers(-2, 5))
leaves = st.one_of(
    st.integers(1, 3).map(torch.ones),
    st.integers(1, 3).map(torch.ones),
    st.integers(-3, 3),
    st.sampled_from([None, True, "text", 0.5]),
)


def _ordered(items: dict[Any, Any]) -> Any:
    found: Any = OrderedDict(items)
    found._metadata = OrderedDict([("", {"version": 1})])
    return found


nested_states: st.SearchStrategy[Any] = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(keys, inner, max_size=4),
        st.dictionaries(names, inner, max_size=4).map(_ordered),
    ),
    max_leaves=15,
)


def tried(rules: str, state: State, *codes: str) -> Any:
    """Return what rules make of a state; a state or rules that give one of these codes are left out."""
    try:
        return statex.compile(rules).apply(state)
    except StatexError as error:
        assume({one.code.id for one in error.diagnostics}.isdisjoint({"SX608", *codes}))
        raise


@settings(deadline=None)
@given(st.dictionaries(keys, nested_states, max_size=4))
def test_what_no_rule_changes_comes_back_as_it_was(tmp_path_factory: pytest.TempPathFactory, state: State) -> None:
    assert same(tried("root ''", state), state)
    folder = tmp_path_factory.getbasetemp()
    torch.save(state, folder / "in.pth")
    statex.convert(folder / "in.pth", folder / "out.pth", "root ''", force=True)
    assert same(torch.load(folder / "out.pth"), torch.load(folder / "in.pth"))
    if statex.compile("root ''").plan(state).nested.paths:
        assert statex.verify(folder / "out.pth", like=state, root="").fits


segments = st.sampled_from(["a", "b", "c", "a.b", "b.c", "c.a.b"])
plain_states: st.SearchStrategy[Any] = st.recursive(
    st.integers(1, 3).map(torch.ones),
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=3),
        st.dictionaries(segments, inner, min_size=1, max_size=3),
        st.dictionaries(st.integers(0, 3), inner, min_size=1, max_size=3),
    ),
    max_leaves=12,
)
states = st.dictionaries(segments, plain_states, min_size=1, max_size=3)


@settings(deadline=None)
@given(states, st.sampled_from(["a", "b", "c"]), st.sampled_from(["new", "a1"]))
def test_segments_that_are_renamed_and_back(state: State, old: str, new: str) -> None:
    there, back = f"rename? part {old} -> {new}", f"rename? part {new} -> {old}"
    assert same(tried(f"root ''\n{there}\n{back}", state), state)
    once = statex.compile(f"root ''\n{there}").apply(state)
    assert same(statex.compile(f"root ''\n{back}").apply(once), state)


RULES = ["part a -> ''", "part a -> b.a", "text 'b' -> 'x.y'", "part b.c -> a"]


@settings(deadline=None)
@given(states, st.sampled_from(RULES))
def test_what_is_written_nested_has_the_keys_of_the_plan(state: State, rule: str) -> None:
    rules = f"root ''\nrename? {rule}"
    done = tried(rules, state, "SX302", "SX303", "SX316", "SX326", "SX327")
    plan, before = statex.compile(rules).plan(state), statex.compile("root ''").plan(state)
    assert sorted(statex.compile("root ''").plan(done).outputs) == sorted(plan.outputs)
    kept = [key for key, output in plan.outputs.items() if output.module_source == key]
    assert all(plan.nested.paths.get(key) == before.nested.paths.get(key) for key in kept)


@pytest.mark.parametrize(
    ("tree", "root", "said"),
    [
        ({0: ONES, "0": ONES}, None, ["be named `0`: `[0]` and `['0']`", "save the checkpoint again"]),
        (
            {"a": {"b": ONES}, "a.b": ONES},
            "",
            ["be named `a.b`: `['a', 'b']` and `['a.b']`", "root=['a']   or in the rules: root ['a']"],
        ),
    ],
)
def test_entries_that_get_one_name(tree: Any, root: str | None, said: list[str]) -> None:
    with pytest.raises(StatexError, match="SX608") as caught:
        statex.compile("").plan(tree, root=root)
    assert all(one in str(caught.value) for one in said), str(caught.value)


@pytest.mark.parametrize(
    ("beside", "flat"), [({"c": ONES}, True), ({"c": ONES, "d": 3}, False), ([ONES], True), ([1, 2], False), (3, False)]
)
def test_flat_is_offered_where_containers_of_tensors_alone_are_in_the_way(
    tmp_path: Path, beside: object, flat: bool
) -> None:
    torch.save({"a": ONES, "b": beside}, tmp_path / "in.pth")
    with pytest.raises(StatexError) as caught:
        statex.convert(tmp_path / "in.pth", tmp_path / "out.safetensors", "root ''")
    assert ("root '' flat" in str(caught.value)) is flat
