"""`set`, `add` and `drop` of `value(…)`: what stands around a state, in memory and through torch's own reader."""

from __future__ import annotations

import copy
import json
from argparse import Namespace
from collections import OrderedDict, defaultdict
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch

import statex
from statex import StatexError
from statex.core.surroundings import value_in


def checkpoint() -> dict[str, Any]:
    model = torch.nn.Linear(2, 2)
    return {
        "epoch": 3,
        "model": model.state_dict(),
        "hyper": {"lr": 0.1, "name": "run", "betas": (0.9, 0.999), "nested": OrderedDict(a={"b": 1})},
        "steps": {0: "zero", 1: "one"},
        "history": [{"loss": 1.0}, {"loss": 0.5}],
        "a.b": 5,
        "best": torch.tensor(0.5),
    }


def through_file(rules: str, whole: dict[str, Any], folder: Path, **keywords: Any) -> Any:
    """Return what torch's own safe loader makes of a conversion of a saved checkpoint."""
    torch.save(whole, folder / "in.pth")
    statex.convert(folder / "in.pth", folder / "out.pth", rules, root="model", verify_written=True, **keywords)
    return torch.load(folder / "out.pth", weights_only=True)


def plain(value: Any) -> Any:
    """Return a checkpoint with lists in place of tensors, so that `==` compares it, kinds and the order of keys too."""
    if isinstance(value, torch.Tensor):
        return "tensor", value.tolist()
    if isinstance(value, dict):
        return type(value).__name__, [(key, plain(one)) for key, one in value.items()]
    if isinstance(value, list | tuple):
        return type(value).__name__, [plain(one) for one in value]
    return type(value).__name__, value


def changed(path: list[Any], value: Any) -> dict[str, Any]:
    """Return the checkpoint with one place changed by plain Python."""
    whole = copy.deepcopy(checkpoint())
    here: Any = whole
    for part in path[:-1]:
        if part not in here if isinstance(here, dict) else False:
            here[part] = {}
        here = here[part]
    if isinstance(here, list) and path[-1] == len(here):
        here.append(value)
    else:
        here[path[-1]] = value
    return whole


SET: list[tuple[str, list[Any], Any]] = [
    ("set value('epoch') = 4", ["epoch"], 4),
    ("set value('epoch') = value('epoch') + 1", ["epoch"], 4),
    ("set value('epoch') = 0.5", ["epoch"], 0.5),
    ("set value('epoch') = true", ["epoch"], True),
    ("set value('epoch') = none", ["epoch"], None),
    ("set value('epoch') = 'three'", ["epoch"], "three"),
    ("set value('epoch') = \"{x} {y:**}\"", ["epoch"], "{x} {y:**}"),
    ("set value('epoch') = [1, [2.0, 'x'], none, []]", ["epoch"], [1, [2.0, "x"], None, []]),
    ("set value('hyper.lr') = value('hyper.lr') * 10", ["hyper", "lr"], 1.0),
    ("set value('hyper.nested.a.b') = -1", ["hyper", "nested", "a", "b"], -1),
    ("set value('hyper.betas') = value('hyper.betas')", ["hyper", "betas"], [0.9, 0.999]),
    ("set value('steps.1') = 'uno'", ["steps", 1], "uno"),
    ("set value(['steps', 1]) = 'uno'", ["steps", 1], "uno"),
    ("set value('history.1.loss') = value('history.0.loss') / 4", ["history", 1, "loss"], 0.25),
    ("set value(['history', 0]) = 'gone'", ["history", 0], "gone"),
    ("set value('a.b') = 6", ["a.b"], 6),
    ("set value(['a.b']) = value(['a.b']) + 1", ["a.b"], 6),
    ("set value('best') = 0.25", ["best"], 0.25),
    ("set value('hyper') = lookup(value('hyper.nested'), 'a')", ["hyper"], {"b": 1}),
    ("set value('epoch') = shape(::weight)", ["epoch"], [2, 2]),
    ("param n: int = 7; set value('epoch') = n", ["epoch"], 7),
    ("let n = count(**); set value('epoch') = n", ["epoch"], 2),
    ("if value('epoch') == 3 { set value('epoch') = 4 } else { set value('epoch') = 5 }", ["epoch"], 4),
    ("add value('note') = 'x'", ["note"], "x"),
    ("add value('hyper.wd') = 0", ["hyper", "wd"], 0),
    ("add value('run.info.id') = 12", ["run", "info", "id"], 12),
    ("add value('steps.2') = 'two'", ["steps", 2], "two"),
    ("add value(['steps', '2']) = 'two'", ["steps", "2"], "two"),
    ("add value(['x.y', 'z']) = 1", ["x.y", "z"], 1),
    ("add value('history.2') = 0", ["history", 2], 0),
    ("add value('history.0.step') = 9", ["history", 0, "step"], 9),
]


@pytest.mark.parametrize(("rules", "path", "value"), SET, ids=[rules for rules, _, _ in SET])
def test_one_place_is_changed_and_nothing_else(rules: str, path: list[Any], value: Any, tmp_path: Path) -> None:
    torch.manual_seed(0)
    whole = checkpoint()
    torch.manual_seed(0)
    expected = changed(path, value)
    if path[:1] == ["run"]:
        expected["run"] = {"info": {"id": 12}}
    before = plain(whole)
    assert plain(through_file(rules, whole, tmp_path)) == plain(expected)
    assert plain(statex.compile(rules).apply(whole, root="model")) == plain(expected)
    assert plain(whole) == before


def test_a_dict_is_given_as_a_parameter(tmp_path: Path) -> None:
    rules = "param config: dict\nadd value('config') = config\nset value('epoch') = lookup(value('config'), 'start')"
    config = {"start": 1, "deep": {"list": [1, {"x": None}], "flag": True}}
    found = through_file(rules, checkpoint(), tmp_path, params={"config": config})
    assert (found["config"], found["epoch"]) == (config, 1)


def test_what_is_not_touched_is_the_same_object() -> None:
    whole = checkpoint() | {"args": Namespace(lr=1)}
    found = statex.compile("set value('hyper.lr') = 1").apply(whole, root="model")
    assert found["history"] is whole["history"]
    assert found["args"] is whole["args"]
    assert found["hyper"]["nested"] is whole["hyper"]["nested"]
    assert whole["hyper"]["lr"] == 0.1


def test_objects_beside_stay_as_they_are(tmp_path: Path) -> None:
    whole = checkpoint() | {"args": Namespace(lr=1, tags=["a"])}
    torch.save(whole, tmp_path / "in.pth")
    rules = "set value('epoch') = value('args.lr'); add value('args2') = value('args.tags')"
    statex.convert(tmp_path / "in.pth", tmp_path / "out.pth", rules, root="model")
    found = torch.load(tmp_path / "out.pth", weights_only=False)
    assert found["args"] == whole["args"]
    assert (found["epoch"], found["args2"]) == (1, ["a"])


def test_an_object_gives_way_to_a_value(tmp_path: Path) -> None:
    whole = checkpoint() | {"args": Namespace(lr=1)}
    found = through_file("set value('args') = value('args.lr')", whole, tmp_path)
    assert found["args"] == 1


def test_a_list_that_stands_at_two_places_is_changed_at_one(tmp_path: Path) -> None:
    shared = [1, 2]
    found = through_file("set value('one.0') = 9", checkpoint() | {"one": shared, "other": shared}, tmp_path)
    assert (found["one"], found["other"]) == ([9, 2], [1, 2])


def test_a_value_set_at_two_places_is_two_objects() -> None:
    found = statex.compile("set value('epoch'), value('best') = [1]").apply(checkpoint(), root="model")
    assert found["epoch"] == found["best"] == [1]
    assert found["epoch"] is not found["best"]


# --- statements follow one another ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rules", "epoch"),
    [
        ("set value('epoch') = 10; set value('epoch') = value('epoch') + 1", 11),
        ("drop value('epoch'); add value('epoch') = value('epoch', 20)", 20),
        ("add value('n') = 5; set value('epoch') = value('n')", 5),
        ("set value('hyper.lr') = 7; set value('epoch') = lookup(value('hyper.nested'), 'a') if false else 1", 1),
        ("add value('x.y') = 2; set value('epoch') = value('x.y'); drop value('x')", 2),
        ("set value('epoch') = 1; if value('epoch') == 1 { set value('epoch') = 30 }", 30),
        ("let before = value('epoch'); set value('epoch') = 9; set value('epoch') = before", 3),
        ("set value(['history', 0]) = 1; set value('epoch') = value('history.0')", 1),
        ("drop value('history.0'); set value('epoch') = value('history.0.loss')", 0.5),
        ("set value('epoch'), value('best') = value('epoch') + 1; set value('epoch') = value('best')", 4),
        ("set weight = it * 2 where value('epoch') == 3; set value('epoch') = 1", 1),
    ],
)
def test_a_statement_sees_what_those_before_have_left(rules: str, epoch: Any) -> None:
    assert statex.compile(rules).apply(checkpoint(), root="model")["epoch"] == epoch


@pytest.mark.parametrize(
    "rules",
    [
        "drop value('epoch'); let n = value('epoch')",
        "drop value('hyper'); set bias = it * value('hyper.lr')",
        "drop value('history.1'); let n = value('history.1.loss')",
    ],
)
def test_what_is_gone_cannot_be_asked_for(rules: str) -> None:
    with pytest.raises(StatexError) as error:
        statex.compile(rules).plan(checkpoint(), root="model")
    assert [one.code.id for one in error.value.diagnostics] == ["SX221"]


def test_items_of_one_statement_go_by_the_places_before_it(tmp_path: Path) -> None:
    whole = checkpoint() | {"xs": [0, 1, 2, 3]}
    rules = "drop value('xs.0'), value('xs.2'), value('hyper.lr'), value('hyper.lr')"
    found = through_file(rules, whole, tmp_path)
    assert found["xs"] == [1, 3]
    assert "lr" not in found["hyper"]
    assert statex.compile("drop value('hyper'), value('hyper.lr')").apply(whole, root="model").keys() == (
        whole.keys() - {"hyper"}
    )


# --- paths ------------------------------------------------------------------------------------------------------


def twice() -> dict[str, Any]:
    return {"model": {"w": torch.ones(1)}, "a": {"b": 1, 0: "int", "0": "text"}, "a.b": 2}


@pytest.mark.parametrize(
    ("path", "value"),
    [("['a', 'b']", 1), ("['a.b']", 2), ("['a', 0]", "int"), ("['a', '0']", "text"), ("'model.w', 9", 9)],
)
def test_a_list_names_one_value(path: str, value: Any) -> None:
    rules = f"add value('found') = value({path})"
    assert statex.compile(rules).apply(twice(), root="model")["found"] == value


@pytest.mark.parametrize("statement", ["let n = value('{}')", "set value('{}') = 1", "drop value('{}')"])
@pytest.mark.parametrize(("path", "lists"), [("a.b", ["['a', 'b']", "['a.b']"]), ("a.0", ["['a', '0']", "['a', 0]"])])
def test_a_text_with_two_readings_is_an_error(statement: str, path: str, lists: list[str]) -> None:
    with pytest.raises(StatexError) as error:
        statex.compile(statement.format(path)).plan(twice(), root="model")
    (found,) = error.value.diagnostics
    assert found.code.id == "SX626"
    helps = [note.text for note in found.notes if note.kind == "help"]
    assert helps == [f"value({one})" for one in lists]
    for one in lists:
        statex.compile(statement.replace("'{}'", one)).plan(twice(), root="model")


def test_one_of_two_places_is_changed() -> None:
    found = statex.compile("set value(['a', 0]) = 1; set value(['a.b']) = 3").apply(twice(), root="model")
    assert (found["a"], found["a.b"]) == ({"b": 1, 0: 1, "0": "text"}, 3)
    dropped = statex.compile("drop value(['a.b']), value(['a', '0'])").apply(twice(), root="model")
    assert (dropped["a"], "a.b" in dropped) == ({"b": 1, 0: "int"}, False)


def test_show_and_headers_have_an_address_for_each() -> None:
    torch_free = {"['a', 'b']": 1, "['a', 0]": "int", "['a', '0']": "text", "['a.b']": 2}
    header = statex.compile("").plan(twice(), root="model").header
    assert dict(header.values) == torch_free
    assert header.around == ("a", "['a.b']")


# --- what cannot be ---------------------------------------------------------------------------------------------


WRONG = [
    ("set value('epoc') = 1", "SX221", "did you mean `value('epoch')`?"),
    ("set value('hyper.lrr') = 1", "SX221", "did you mean `value('hyper.lr')`?"),
    ("set value('new') = 1", "SX221", "`add value('new') = …` makes a new one"),
    ("set value('epoch.x') = 1", "SX221", "there is no value at `epoch.x` around the state"),
    ("set value('history.5') = 1", "SX221", "there is no value at `history.5`"),
    ("add value('epoch') = 1", "SX330", "`epoch` already exists: it is an int"),
    ("add value('epoch') = 1", "SX330", "`set value('epoch') = …` gives it a new value"),
    ("add value(['history', 0]) = 1", "SX330", "it is a dict"),
    ("add value('best') = 1", "SX330", "it is a tensor f32[]"),
    ("add value('epoch.x') = 1", "SX332", "`epoch` is an int, which holds no further values"),
    ("add value('best.x') = 1", "SX332", "`best` is a tensor f32[], which holds no further values"),
    ("add value('history.3') = 1", "SX332", "add value('history.2') = …"),
    ("add value('history.x') = 1", "SX332", "`history` has 2 items, and a new one goes at the end"),
    ("add value(['history', -1]) = 1", "SX332", "`history` has 2 items"),
    ("add value('x..y') = 1", "SX332", "value(['x', '', 'y'])"),
    ("set value('model') = 1", "SX332", "`model` is the state itself"),
    ("set value('model.weight') = 1", "SX332", "`set weight = …` gives it a new value"),
    ("drop value('model.weight')", "SX332", "`model.weight` is inside the state"),
    ("drop? value('model.weight')", "SX332", "`model.weight` is inside the state"),
    ("add value('model.x') = 1", "SX332", "`model.x` is inside the state"),
    ("set value('') = 1", "SX332", "the state stands in"),
    ("root 'model' -> ''; set value('epoch') = 1", "SX332", "with nothing around it"),
    ("root 'model' -> ''; add value('x') = 1", "SX332", "with nothing around it"),
    ("root 'model' -> 'net.it'; add value('net') = 1", "SX332", "the state stands in `net`"),
    ("root 'model' -> 'net'; add value('net') = 1", "SX332", "`net` is the state itself"),
    ("root 'model' -> 'net'; add value('net.x') = 1", "SX332", "`net.x` is inside the state"),
    ("set value('epoch') = ::weight", "SX331", "this is a tensor"),
    ("set value('epoch') = ::weight * 2", "SX331", "this is a tensor"),
    ("set value('epoch') = sum(::weight)", "SX331", "ask for what the header knows: `shape(…)`, `numel(…)`"),
    ("set value('epoch') = [1, ::weight]", "SX331", "a value around the state is"),
    ("set value('epoch') = bf16", "SX331", "write 'bfloat16'"),
    ("set value('epoch') = [1, dtype(::weight)]", "SX331", "write 'float32'"),
    ("set value('hyper'), value('hyper.lr') = 1", "SX302", "`hyper.lr` is inside `hyper`"),
    ("set value('hyper.lr'), value('hyper') = 1", "SX302", "`hyper.lr` is inside `hyper`"),
    ("set value('epoch') = it", "SX218", "`it` has no current tensor here"),
    ("set value('epoch') = nothing", "SX202", "`nothing`"),
    ("within a { set value('epoch') = 1 }", "SX216", "`set` is about the whole program"),
    ("macro m() { add value('x') = 1 }", "SX216", "`add` is about the whole program"),
    ("if false { set value('epoch') = nothing }", "SX202", "`nothing`"),
    ("let n = value([])", "SX207", "`value` takes the path"),
    ("let n = value([1.5])", "SX207", "`value` takes the path"),
    ("let n = value('hyper.nested.a.c')", "SX221", "the checkpoint has no plain value at `hyper.nested.a.c`"),
    ("let n = value(['epoc'])", "SX221", "value(['epoc'], 0)"),
    ("let n = value('model')", "SX221", "no plain value at `model`"),
]


@pytest.mark.parametrize(("rules", "code", "said"), WRONG)
def test_what_cannot_be(rules: str, code: str, said: str) -> None:
    with pytest.raises(StatexError) as error:
        statex.compile(rules).plan(checkpoint(), root=None if rules.startswith("root") else "model")
    assert [one.code.id for one in error.value.diagnostics] == [code]
    assert said in str(error.value)


def test_what_a_namespace_holds_is_asked_for_and_not_changed(tmp_path: Path) -> None:
    torch.save(checkpoint() | {"args": Namespace(lr=1)}, tmp_path / "in.pth")
    for rules in ("set value('args.lr') = 2", "drop value('args.lr')", "add value('args.lr') = 2"):
        with pytest.raises(StatexError, match=r"argparse\.Namespace") as error:
            statex.compile(rules).plan(tmp_path / "in.pth", root="model")
        assert [one.code.id for one in error.value.diagnostics] == ["SX332"]
        assert "`drop value('args')` leaves it out as a whole" in str(error.value)
    with pytest.raises(StatexError, match="which holds no further values"):
        statex.compile("add value('args.new') = 2").plan(tmp_path / "in.pth", root="model")


def test_a_state_that_is_all_has_nothing_around_it() -> None:
    state = {"weight": torch.ones(2), "steps": 5}
    for rules, said in [
        ("add value('epoch') = 1", "`root '' -> 'model'`"),
        ("set value('steps') = 1", "`steps` is a key of the state"),
        ("set value('weight') = 1", "`weight` is a key of the state"),
        ("drop value('weight')", "drop weight"),
    ]:
        with pytest.raises(StatexError) as error:
            statex.compile(rules).plan(state)
        assert [one.code.id for one in error.value.diagnostics] == ["SX332"]
        assert said in str(error.value)
    assert list(statex.compile("drop? value('optimizer')").apply(state)) == ["weight", "steps"]
    assert statex.compile("let n = value('steps'); set weight = it * n").apply(state)["weight"].tolist() == [5.0, 5.0]


def test_all_places_that_are_wrong_are_said_at_once() -> None:
    rules = "set value('x'), value('y'), value('epoch') = 1\nadd value('epoch') = 2\ndrop value('z')"
    with pytest.raises(StatexError) as error:
        statex.compile(rules).plan(checkpoint(), root="model")
    assert [one.code.id for one in error.value.diagnostics] == ["SX221", "SX221", "SX330", "SX221"]


# --- with `root` ------------------------------------------------------------------------------------------------


def test_a_bare_state_gets_an_envelope(tmp_path: Path) -> None:
    state = {"weight": torch.ones(2), "epoch": torch.zeros(1)}
    torch.save(state, tmp_path / "in.pth")
    rules = "root '' -> 'model'\nadd value('epoch') = 1\nset value('epoch') = value('epoch') + 1"
    statex.convert(tmp_path / "in.pth", tmp_path / "out.pth", rules)
    found = torch.load(tmp_path / "out.pth", weights_only=True)
    assert plain(found) == plain({"epoch": 2, "model": state})
    assert plain(statex.compile(rules).apply(state)) == plain(found)


def test_a_state_that_moves_leaves_the_rest_to_be_changed(tmp_path: Path) -> None:
    rules = """
        root 'model' -> 'hyper.net'
        set value('epoch') = value('epoch') + 1
        add value('hyper.x') = 1
        drop value('history')
    """
    torch.save(checkpoint(), tmp_path / "in.pth")
    statex.convert(tmp_path / "in.pth", tmp_path / "out.pth", rules)
    found = torch.load(tmp_path / "out.pth", weights_only=True)
    assert list(found) == ["epoch", "hyper", "steps", "a.b", "best"]
    assert list(found["hyper"]) == ["lr", "name", "betas", "nested", "x", "net"]
    assert found["epoch"] == 4
    assert list(found["hyper"]["net"]) == ["weight", "bias"]


def test_values_of_the_state_are_asked_for_wherever_it_goes() -> None:
    whole = {"model": {"w": torch.ones(1), "n": 4}, "epoch": 3}
    rules = "root 'model' -> 'net'; set value('epoch') = value('model.n') + value('epoch')"
    assert statex.compile(rules).apply(whole)["epoch"] == 7


def test_a_state_in_a_list_keeps_its_place() -> None:
    whole = {"models": [{"w": torch.ones(1)}, {"w": torch.zeros(1)}, 5], "epoch": 1}
    root: list[str | int] = ["models", 1]
    found = statex.compile("set value('models.2') = 6; add value('models.3') = 7").apply(whole, root=root)
    assert found["models"][2:] == [6, 7]
    assert found["models"][1]["w"].tolist() == [0.0]
    with pytest.raises(StatexError, match="would move up") as error:
        statex.compile("drop value('models.0')").plan(whole, root=root)
    assert "`set value('models.0') = none` keeps the places" in str(error.value)
    kept = statex.compile("set value('models.0') = none").apply(whole, root=root)
    assert kept["models"][0] is None
    assert kept["models"][1]["w"].tolist() == [0.0]


# --- formats ----------------------------------------------------------------------------------------------------


def test_a_folder_of_torch_distributed(tmp_path: Path) -> None:
    torch.save(checkpoint(), tmp_path / "in.pth")
    rules = "set value('epoch') = 4; add value('run.id') = 'x'; drop value('steps'), value('history')"
    statex.convert(tmp_path / "in.pth", tmp_path / "out", rules, root="model", format="dcp")
    again = "set value('epoch') = value('epoch') * 2; set value('run.id') = value('run.id') + 'y'"
    statex.convert(tmp_path / "out", tmp_path / "again.pth", again, root="model")
    found = torch.load(tmp_path / "again.pth", weights_only=True)
    assert (found["epoch"], found["run"], "steps" in found) == (8, {"id": "xy"}, False)


@pytest.mark.parametrize("name", ["out.safetensors", "folder/"])
def test_formats_that_hold_tensors_alone_say_so(name: str, tmp_path: Path) -> None:
    torch.save({"weight": torch.ones(2)}, tmp_path / "in.pth")
    rules = "root '' -> 'model'; add value('epoch') = 1"
    keywords: dict[str, Any] = {"format": "torch"} if name.endswith("/") else {}
    with pytest.raises(StatexError, match="SX614"):
        statex.convert(tmp_path / "in.pth", f"{tmp_path}/{name}", rules, **keywords)


# --- what is said -----------------------------------------------------------------------------------------------


def test_plans_say_what_is_changed() -> None:
    rules = """
        set value('epoch') = 4
        set value('epoch') = 5
        add value('run.id') = 'x'
        drop value('steps')
        add value('tmp') = 1
        drop value('tmp')
        drop value('a.b')
        add value(['a.b']) = 'back'
    """
    plan = statex.compile(rules).plan(checkpoint(), root="model")
    assert plan.left_around == ("steps",)
    said = str(plan)
    assert "left out around the state: steps\n" in said
    assert "set around the state: epoch = 5, a.b = 'back'\n" in said
    assert "added around the state: run.id = 'x'" in said
    assert "tmp" not in said.splitlines()[-1]
    assert plan.totals.untouched == 2
    data = json.loads(json.dumps(plan.to_dict()))
    assert data["around"][:3] == [
        {"of": "value", "change": "set", "path": ["epoch"], "step": 0, "value": 4},
        {"of": "value", "change": "set", "path": ["epoch"], "step": 1, "value": 5},
        {"of": "value", "change": "added", "path": ["run", "id"], "step": 2, "value": "x"},
    ]
    assert data["around"][3] == {"of": "value", "change": "left out", "path": ["steps"], "step": 3}
    assert data["steps"][0]["changes"] == [{"kind": "value set", "before": [], "after": ["value('epoch')"]}]
    assert "epoch = 5" in plan._repr_html_()


def stepped() -> tuple[torch.nn.Module, Any]:
    """Return a model and the state of its optimizer, whose moments do not follow a parameter that is scaled."""
    model = torch.nn.Linear(2, 2)
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    return model, optimizer.state_dict()


def test_the_optimizer_that_is_left_out_or_replaced_is_not_missed() -> None:
    model, optimizer = stepped()
    whole = {"model": model.state_dict(), "optimizer": optimizer}
    (warning,) = statex.compile("set bias = it * 2").plan(whole, root="model").warnings
    assert warning.code.id == "SX916"
    help = warning.notes[-1].text
    assert help == "to leave it out: drop value('optimizer')"
    for way in (help.partition(": ")[2], "set value('optimizer') = none"):
        assert not statex.compile(f"set bias = it * 2\n{way}").plan(whole, root="model").warnings
    kept = statex.compile("set bias = it * 2; add value('epoch') = 1").plan(whole, root="model").warnings
    assert [one.code.id for one in kept] == ["SX916"]


def test_an_optimizer_in_a_list_goes_with_the_list() -> None:
    model, optimizer = stepped()
    whole = {"model": model.state_dict(), "optimizer_states": [optimizer, optimizer]}
    first, second = statex.compile("set bias = it * 2").plan(whole, root="model").warnings
    assert first.notes[-1].text == second.notes[-1].text == "to leave it out: drop value('optimizer_states')"
    beside = {"all": [model.state_dict(), optimizer]}
    (warning,) = statex.compile("set bias = it * 2").plan(beside, root=["all", 0]).warnings
    assert warning.notes[-1].text == "to write the state alone: root 'all.0' -> ''"


# --- any tree, any program --------------------------------------------------------------------------------------


def random_tree(random: Random, depth: int = 0) -> Any:
    kinds = ["scalar"] * (1 + depth) + ["dict", "list", "tuple"] * (depth < 4)
    kind = random.choice(kinds)
    if kind == "scalar":
        return random.choice([1, 2.5, "x", None, True])
    size = random.randrange(4)
    if kind == "dict":
        return {key: random_tree(random, depth + 1) for key in random.sample(["a", "b", "c", "0", 0, 1, "a.b"], size)}
    items = [random_tree(random, depth + 1) for _ in range(size)]
    return items if kind == "list" else tuple(items)


def places(tree: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [path] if path else []
    pairs = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list | tuple) else ()
    return found + [place for key, one in pairs for place in places(one, (*path, key))]


def naively(tree: Any, path: tuple[Any, ...], verb: str, value: Any) -> Any:
    """Return a tree changed at a place, made anew by plain Python."""
    first, *rest = path
    pairs = list(tree.items() if isinstance(tree, dict) else enumerate(tree))
    if rest:
        pairs = [(key, naively(one, tuple(rest), verb, value) if key == first else one) for key, one in pairs]
    elif verb == "drop":
        pairs = [(key, one) for key, one in pairs if key != first]
    else:
        new = (first, value)
        pairs = [new if key == first else (key, one) for key, one in pairs] + [new] * (first not in dict(pairs))
    return dict(pairs) if isinstance(tree, dict) else type(tree)([one for _, one in pairs])


@pytest.mark.parametrize("seed", range(150))
def test_any_program_does_what_plain_python_does(seed: int) -> None:
    random = Random(seed)
    state = {"w": torch.ones(1)}
    tree: Any = {"model": state, "t": random_tree(random), "u": [random_tree(random), {"a": 1}]}
    expected, lines = tree, []
    for _ in range(random.randrange(1, 7)):
        known = [path for path in places(expected) if path[0] != "model"]
        verb, path = random.choice(["set", "add", "drop"]), random.choice(known or [()])
        if verb == "add":
            inner = value_in(expected, path)
            ends = (
                [len(inner)]
                if isinstance(inner, list | tuple)
                else ["new", "n.w", 7]
                if isinstance(inner, dict)
                else []
            )
            new = [end for end in ends if not isinstance(inner, dict) or end not in inner]
            if not new:
                continue
            path = (*path, random.choice(new))
        elif not path:
            continue
        value = random.choice([3, "new", [1, [True]]]) if verb != "drop" else None
        written = "[" + ", ".join(repr(part) for part in path) + "]"
        lines.append(f"{verb} value({written})" + ("" if verb == "drop" else f" = {value!r}".replace("True", "true")))
        expected = naively(expected, path, verb, value)
    rules = "\n".join(lines)
    assert plain(statex.compile(rules).apply(tree, root="model")) == plain(expected), rules


def test_depth_is_bounded() -> None:
    deep: Any = 1
    for _ in range(100):
        deep = [deep]
    for rules, code in [
        (f"add value('{'.'.join(['a'] * 20_000)}') = 1", "SX332"),
        ("param d: list; add value('x') = d", "SX331"),
    ]:
        given = {"d": deep} if "param" in rules else {}
        with pytest.raises(StatexError, match=code):
            statex.compile(rules).plan(checkpoint(), root="model", **given)


def test_containers_in_memory_stay_what_they_are() -> None:
    whole = checkpoint() | {"counts": defaultdict(int, a=1), "args": Namespace(lr=0.1)}
    rules = "set value('counts.a') = 2; add value('counts.b') = 3; set value('epoch') = value('args.lr')"
    found = statex.compile(rules).apply(whole, root="model")
    assert found["counts"] == {"a": 2, "b": 3}
    assert found["counts"].default_factory is int
    assert found["epoch"] == 0.1
    assert dict(whole["counts"]) == {"a": 1}


def test_what_stands_where_a_state_was() -> None:
    whole = {"xs": [torch.ones(1), torch.zeros(1)], "epoch": 1}
    found = statex.compile("root 'xs' -> 'net'; add value('xs.note') = 'moved'").apply(whole)
    assert list(found) == ["epoch", "xs", "net"]
    assert found["xs"] == {"note": "moved"}


def test_numbers_that_json_does_not_have(tmp_path: Path) -> None:
    rules = statex.compile("param x: float; set value('epoch') = x")
    plan = rules.plan(checkpoint(), root="model", x=float("inf"))
    assert "epoch = inf" in str(plan)
    assert rules.apply(checkpoint(), root="model", x=float("inf"))["epoch"] == float("inf")
