"""The version of a layout travels through every format, and comes out as it went in, or with a word about it."""

from __future__ import annotations

import json
import pickle
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from inspect import signature
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed.checkpoint as dcp
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn
from torch.distributed.checkpoint.format_utils import dcp_to_torch_save
from torch.distributed.checkpoint.state_dict import set_model_state_dict

import statex
from statex.checkpoint.formats import stamps
from statex.checkpoint.formats.safetensors.format import SAFETENSORS
from statex.session.format_warnings import format_warnings
from statex.session.stamps import with_stamps
from tests.cli.conftest import Run
from tests.migrating.nets import Net, Outer, same_forward, trained
from tests.recipe.conftest import Bench, bench, run

__all__ = ["bench", "run"]

pytestmark = [
    pytest.mark.filterwarnings("ignore:torch.distributed is"),
    pytest.mark.filterwarnings("ignore:TypedStorage is deprecated"),
]
ALONE: dict[str, Any] = {"no_dist": True} if "no_dist" in signature(dcp.save).parameters else {}
FORMATS: dict[str, dict[str, Any]] = {
    "torch": {"format": "torch"},
    "safetensors": {"format": "safetensors"},
    "sharded torch": {"format": "torch", "shard_size": 100},
    "sharded safetensors": {"format": "safetensors", "shard_size": 100},
    "dcp": {"format": "dcp"},
}


def path_of(folder: Path, name: str) -> str:
    """Return a path for an output of a format."""
    ending = {"torch": ".pth", "safetensors": ".safetensors"}.get(name, "/")
    return f"{folder / name.replace(' ', '_')}{ending}"


@pytest.fixture
def model(chain: statex.Chain) -> nn.Module:
    """A larger model with a module in its present layout inside."""
    return trained(Outer(statex.attach(Net(), chain, scale=3.0)))


@pytest.fixture
def saved(model: nn.Module, tmp_path: Path) -> Callable[[str], str]:
    """Return the path of the model's state in a format."""

    def convert(name: str) -> str:
        path = path_of(tmp_path, name)
        done = statex.convert(model.state_dict(), path, "", **FORMATS[name])
        assert done.warnings == ()
        return path

    return convert


def noted(state: Any) -> dict[str, Any]:
    """Return the versions in a `_metadata` by the paths of modules."""
    found = state.metadata if hasattr(state, "metadata") else state._metadata
    return {path: one["statex"] for path, one in (found or {}).items() if "statex" in one}


def codes(warnings: Any) -> list[str]:
    return [one.code.id for one in warnings]


def refused(work: Callable[[], object]) -> tuple[list[str], str]:
    with pytest.raises(statex.StatexError) as caught:
        work()
    return codes(caught.value.diagnostics), str(caught.value)


def texts(path: str | Path) -> dict[str, str]:
    """Return the `__metadata__` of a safetensors file, as its library reads it."""
    with safe_open(path, "pt") as file:
        return dict(file.metadata())


# --- round trips ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", FORMATS)
@pytest.mark.parametrize("second", FORMATS)
def test_the_version_goes_from_each_format_to_each(
    first: str, second: str, model: nn.Module, saved: Callable[[str], str], chain: statex.Chain, tmp_path: Path
) -> None:
    state = model.state_dict()
    wanted = noted(state)
    assert wanted["parts.net"]["params"] == {"scale": 3.0}
    source, target, back = saved(first), path_of(tmp_path / "out", second), tmp_path / "back.pth"
    (tmp_path / "out").mkdir()
    done = statex.convert(source, target, "", verify_written=True, **FORMATS[second])
    assert done.warnings == ()
    assert noted(statex.read_header(source)) == noted(statex.read_header(target)) == wanted
    statex.convert(target, back, "")
    loaded = torch.load(back, weights_only=True)
    assert noted(loaded) == wanted
    assert all(torch.equal(loaded[key], value) for key, value in state.items())
    again = Outer(statex.attach(Net(), chain, scale=3.0))
    again.load_state_dict(loaded)
    assert same_forward(model, again)


def test_torch_files_keep_torch_s_versions_and_other_formats_do_not_make_them_up(
    model: nn.Module, saved: Callable[[str], str]
) -> None:
    assert statex.read_header(saved("torch")).metadata == model.state_dict()._metadata
    found = statex.read_header(saved("safetensors")).metadata
    assert found is not None
    assert list(found) == ["parts.net"]
    assert list(found["parts.net"]) == ["statex"]


def test_a_state_without_versions_gets_none(tmp_path: Path) -> None:
    for name, how in FORMATS.items():
        path = path_of(tmp_path, name)
        statex.convert(Net().state_dict(), path, "", **how)
        metadata = statex.read_header(path).metadata
        assert (metadata is None) == ("torch" not in name)
    assert texts(tmp_path / "safetensors.safetensors") == {"format": "pt"}
    assert not hasattr(statex.compile("").apply(tmp_path / "safetensors.safetensors"), "_metadata")


def test_the_text_in_safetensors(model: nn.Module, saved: Callable[[str], str], tmp_path: Path) -> None:
    path = saved("safetensors")
    found = texts(path)
    assert sorted(found) == ["format", "statex"]
    assert json.loads(found["statex"]) == noted(model.state_dict())
    loaded, state = load_file(path), model.state_dict()
    assert loaded.keys() == state.keys()
    assert all(torch.equal(loaded[key], value) for key, value in state.items())
    for other in ("dcp", "sharded safetensors", "torch"):
        again = tmp_path / "again.safetensors"
        statex.convert(saved(other), again, "order natural", force=True)
        assert texts(again) == found


def test_every_shard_carries_it(saved: Callable[[str], str]) -> None:
    shards = sorted(Path(saved("sharded safetensors")).glob("*.safetensors"))
    assert len(shards) > 2
    assert len({texts(shard)["statex"] for shard in shards}) == 1
    assert noted(statex.read_header(shards[1])) == noted(statex.read_header(shards[0].parent))


def test_other_texts_stay_and_files_are_the_same_to_the_byte(saved: Callable[[str], str], tmp_path: Path) -> None:
    source, first, second = saved("safetensors"), tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    save_file(load_file(source), first, {**texts(source), "author": "somebody", "license": "MIT"})
    statex.convert(first, second, "")
    assert texts(second) == texts(first)
    again = tmp_path / "c.safetensors"
    statex.convert(second, again, "")
    assert again.read_bytes() == second.read_bytes()


# --- what loads them --------------------------------------------------------------------------------------------------


@pytest.fixture
def square(tmp_path: Path) -> tuple[nn.Module, statex.Chain, str]:
    """A module of layout 1 whose header does not tell it from layout 0, and its state in a safetensors file."""
    chain = statex.migrations(_folder(tmp_path / "square", "set weight = transpose"))
    module = trained(statex.attach(nn.Linear(3, 3), chain))
    path = str(tmp_path / "square.safetensors")
    statex.convert(module.state_dict(), path, "")
    return module, chain, path


def _folder(folder: Path, *steps: str) -> Path:
    folder.mkdir()
    for number, rules in enumerate(steps, 1):
        (folder / f"{number:04}_step.sx").write_text(rules)
    return folder


def test_an_opened_checkpoint_is_loaded_by_its_version(square: tuple[nn.Module, statex.Chain, str]) -> None:
    module, chain, path = square
    again = statex.attach(nn.Linear(3, 3), chain)
    with statex.open(path) as state:
        again.load_state_dict(state)
        assert torch.equal(again.weight, module.weight)
        again.load_state_dict(state, assign=True)
        assert state._metadata == {"": {"statex": module.state_dict()._metadata[""]["statex"]}}
        assert torch.equal(statex.migrate_state(again, state)["weight"], module.weight)
        assert noted(statex.compile("").apply(state)) == noted(module.state_dict())


def test_an_opened_torch_file_is_loaded_by_torch_s_versions(tmp_path: Path) -> None:
    state = nn.BatchNorm1d(2).state_dict()
    del state["num_batches_tracked"]
    torch.save(state, tmp_path / "new.pth")
    with statex.open(tmp_path / "new.pth") as opened, pytest.raises(RuntimeError, match="num_batches_tracked"):
        nn.BatchNorm1d(2).load_state_dict(opened)


def test_a_plain_dict_carries_none(square: tuple[nn.Module, statex.Chain, str]) -> None:
    module, chain, path = square
    with pytest.raises(RuntimeError, match="SX806"):
        statex.attach(nn.Linear(3, 3), chain).load_state_dict(load_file(path))
    again = statex.attach(nn.Linear(3, 3), chain, assume=1)
    again.load_state_dict(load_file(path))
    assert torch.equal(again.weight, module.weight)


def test_versions_alone_are_to_torch_as_no_metadata(tmp_path: Path) -> None:
    """BatchNorm takes a state without `num_batches_tracked` where no version is noted of it, and else does not."""
    state = statex.attach(nn.Sequential(nn.BatchNorm1d(2)), "drop? x").state_dict()
    del state["0.num_batches_tracked"]
    with pytest.raises(RuntimeError, match="num_batches_tracked"):
        nn.Sequential(nn.BatchNorm1d(2)).load_state_dict(state)
    nn.Sequential(nn.BatchNorm1d(2)).load_state_dict(dict(state))
    statex.convert(state, tmp_path / "a.safetensors", "")
    statex.convert(tmp_path / "a.safetensors", tmp_path / "b.pth", "")
    back = torch.load(tmp_path / "b.pth", weights_only=True)
    assert list(back._metadata) == [""]
    nn.Sequential(nn.BatchNorm1d(2)).load_state_dict(back)


# --- modules that are renamed -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize(
    ("rules", "path"),
    [
        ("rename part parts.net -> trunk", "trunk"),
        ("rename prefix '' -> 'model.'", "model.parts.net"),
        ("keep parts.net.**; rename prefix 'parts.net.' -> ''", ""),
        ("keep parts.net.**; rename prefix 'parts.' -> ''", "net"),
        ("drop parts.**", None),
    ],
)
def test_the_version_follows_its_module(
    name: str, rules: str, path: str | None, model: nn.Module, saved: Callable[[str], str], tmp_path: Path
) -> None:
    source, target = saved(name), path_of(tmp_path / "out", name)
    (tmp_path / "out").mkdir()
    stamp = noted(model.state_dict())["parts.net"]
    done = statex.convert(source, target, rules, **FORMATS[name])
    assert codes(done.warnings) == (["SX921"] if path is not None else [])
    assert noted(statex.read_header(target)) == ({path: stamp} if path is not None else {})


def test_the_version_of_the_whole_goes_below_with_it(chain: statex.Chain) -> None:
    state = statex.attach(Net(), chain).state_dict()
    with pytest.warns(statex.StatexWarning, match="SX921"):
        moved = statex.compile("rename prefix '' -> 'net.'").apply(state)
    assert list(noted(moved)) == ["net"]
    assert moved._metadata[""] == {"version": 1}
    other = statex.migrations(_folder(Path(chain.label).with_name("other"), "drop? x"))
    outer = statex.attach(nn.ModuleDict({"net": statex.attach(Net(), chain)}), other)
    outer.load_state_dict(moved)


def test_a_step_that_moves_the_whole_leaves_no_version_behind(tmp_path: Path) -> None:
    state = statex.attach(nn.Linear(2, 2), statex.migrations(_folder(tmp_path / "a", "drop? x"))).state_dict()
    longer = statex.migrations(_folder(tmp_path / "b", "drop? x", "rename prefix '' -> 'fc.'"))
    module = statex.attach(nn.ModuleDict({"fc": nn.Linear(2, 2)}), longer)
    migrated = statex.migrate_state(module, state)
    assert {path: one["version"] for path, one in noted(migrated).items()} == {"": 2}


def test_each_output_has_the_versions_of_its_modules(bench: Bench, chain: statex.Chain) -> None:
    state = nn.ModuleDict({name: Outer(statex.attach(Net(), chain)) for name in "ab"}).state_dict()
    bench.save("in.pth", state)
    outputs = ["all: {path: all.safetensors}"]
    outputs += [f"{name}: {{path: {name}.{ending}, keep: '{name}.**'}}" for name, ending in
                {"a": "safetensors", "b": "pth"}.items()]  # fmt: skip
    bench.write("recipe.yaml", "statex: 1\ninputs: {main: in.pth}\noutputs:\n  " + "\n  ".join(outputs))
    bench("-W", "error")
    paths = {
        name: list(noted(statex.read_header(bench.folder / name)))
        for name in ("all.safetensors", "a.safetensors", "b.pth")
    }
    assert paths == {
        "all.safetensors": ["a.parts.net", "b.parts.net"], "a.safetensors": ["a.parts.net"], "b.pth": ["b.parts.net"],
    }  # fmt: skip


# --- shards that disagree ---------------------------------------------------------------------------------------------


def _mixed(folder: Path, other: Path) -> tuple[str, str]:
    """Put the last shard of a set into another; return the names of the first and the last."""
    first, *_, last = sorted(path.name for path in folder.iterdir() if "-of-" in path.name)
    (folder / last).write_bytes((other / last).read_bytes())
    return first, last


@pytest.mark.parametrize("format", ["torch", "safetensors"])
def test_shards_of_different_layouts_are_refused(format: str, chain: statex.Chain, tmp_path: Path) -> None:
    longer = statex.migrations(_folder(tmp_path / "longer", *(p.program.source.text for p in chain.parts), "drop? x"))
    for name, one in {"old": chain, "new": longer}.items():
        state = Outer(statex.attach(Net(), one)).state_dict()
        statex.convert(state, tmp_path / name, "", format=format, shard_size=100)
    first, last = _mixed(tmp_path / "old", tmp_path / "new")
    found, said = refused(lambda: statex.read_header(tmp_path / "old"))
    assert found == ["SX820"]
    assert all(name in said for name in (first, last, "`parts.net`", "layout 3 of a chain", "layout 4 of a chain"))
    assert noted(statex.read_header(tmp_path / "old" / last))["parts.net"]["version"] == 4


def test_a_shard_without_a_version_is_refused(chain: statex.Chain, tmp_path: Path) -> None:
    for name, module in {"old": Net(), "new": statex.attach(Net(), chain)}.items():
        statex.convert(module.state_dict(), tmp_path / name, "", format="safetensors", shard_size=100)
    first, last = _mixed(tmp_path / "new", tmp_path / "old")
    found, said = refused(lambda: statex.read_header(tmp_path / "new"))
    assert found == ["SX820"]
    assert all(name in said for name in (first, last, "no version", "layout 3 of a chain"))


def test_shards_that_differ_in_parameters_are_refused(chain: statex.Chain, tmp_path: Path) -> None:
    for name, scale in {"old": 1.0, "new": 2.0}.items():
        state = statex.attach(Net(), chain, scale=scale).state_dict()
        statex.convert(state, tmp_path / name, "", format="safetensors", shard_size=100)
    _mixed(tmp_path / "old", tmp_path / "new")
    found, said = refused(lambda: statex.read_header(tmp_path / "old"))
    assert (found, "parameters, differ" in said) == (["SX820"], True)


# --- entries of strangers ---------------------------------------------------------------------------------------------

STAMP = {"scheme": 1, "version": 0, "digests": [], "params": {}}


def _deep(levels: int) -> str:
    return '{"":{"scheme":1,"x":' + "[" * levels + "]" * levels + "}}"


NOT_OURS = ["", "0.1", "made by statex", "null", "3", "[]", '"text"', "NaN"]
UNREADABLE = [
    "{",
    "{}",
    '{"":{"scheme":1}',
    '{"": {"scheme": 1}, "": {"scheme": 2}}',
    '{"": 5}',
    '{"": {"version": 1}}',
    '{"": {"scheme": 1}, "a": null}',
    '{"": {"scheme": 1, "version": 18446744073709551616}}',
    _deep(70),
    _deep(200_000),
    '{"": {"scheme": 1, "version": ' + "9" * 5000 + "}}",
    json.dumps({"": STAMP}) + " " * (4 << 20),
]


@pytest.mark.parametrize("text", [*NOT_OURS, *UNREADABLE], ids=lambda text: text[:40])
def test_a_text_that_is_no_version_stays_as_it_is(text: str, tmp_path: Path) -> None:
    source, target = tmp_path / "in.safetensors", tmp_path / "out.safetensors"
    save_file({"weight": torch.ones(2)}, source, {"statex": text})
    assert statex.read_header(source).metadata is None
    done = statex.convert(source, target, "")
    assert codes(done.warnings) == (["SX924"] if text in UNREADABLE else [])
    assert texts(target) == {"format": "pt", "statex": text}
    lost = statex.convert(source, tmp_path / "out.pth", "")
    assert codes(lost.warnings)[-1:] == ["SX905"]


def test_a_text_of_another_program_gives_way_to_a_version_and_that_is_said(tmp_path: Path) -> None:
    save_file({"weight": torch.ones(2)}, tmp_path / "in.safetensors", {"statex": "0.1"})
    plan = replace(statex.compile("").plan(tmp_path / "in.safetensors"), metadata={"": {"statex": STAMP}})
    assert codes(format_warnings(plan, SAFETENSORS)) == ["SX905"]
    assert {**with_stamps(plan), "format": "pt"} == {
        "format": "pt",
        "statex": json.dumps({"": STAMP}, separators=(",", ":")),
    }


FORMS: list[dict[str, Any]] = [
    {"scheme": 2, "version": [1]},
    {"scheme": 1, "version": True, "digests": ["a"]},
    {"scheme": 1, "version": -1, "digests": []},
    {"scheme": 1, "version": 10**9, "digests": []},
    {"scheme": None},
    {"scheme": 1, "version": 1, "digests": {"a": 1}, "params": float("inf")},
    {"scheme": 1, "version": 0, "digests": [], "text": "\ud800 \u2028 \0"},
]


@pytest.mark.parametrize("form", FORMS, ids=str)
@pytest.mark.parametrize("name", FORMATS)
def test_a_version_in_another_form_is_carried_and_refused_when_it_is_needed(
    form: dict[str, Any], name: str, tmp_path: Path
) -> None:
    module = statex.attach(nn.Linear(2, 2), "drop? x")
    state = nn.Linear(2, 2).state_dict()
    state._metadata[""]["statex"] = form
    path = path_of(tmp_path, name)
    statex.convert(state, path, "", **FORMATS[name])
    assert noted(statex.read_header(path)) == {"": form}
    statex.convert(path, tmp_path / "back.pth", "")
    back = torch.load(tmp_path / "back.pth", weights_only=True)
    assert noted(back) == {"": form}
    if "text" not in form:
        with pytest.raises(RuntimeError, match="SX809"):
            module.load_state_dict(back)


@pytest.mark.parametrize(
    "form", [5, None, "0.1", (1, 2), {"version": 1}, {"scheme": 1, "x": (1,)}, {"scheme": 1, 2: 3}]
)
@pytest.mark.parametrize("name", ["safetensors", "sharded safetensors", "dcp"])
def test_what_no_text_can_hold_is_said(form: Any, name: str, tmp_path: Path) -> None:
    state = Outer(nn.Linear(2, 2)).state_dict()
    state._metadata["parts.net"]["statex"] = form
    state._metadata["before"]["statex"] = STAMP
    torch.save(state, tmp_path / "in.pth")
    path = path_of(tmp_path, name)
    done = statex.convert(tmp_path / "in.pth", path, "", **FORMATS[name])
    assert codes(done.warnings) == ["SX923"]
    assert "`parts.net`" in done.warnings[0].headline
    assert noted(statex.read_header(path)) == {"before": STAMP}
    again = statex.convert(tmp_path / "in.pth", tmp_path / "out.pth", "")
    assert again.warnings == ()


def test_what_is_too_large_is_said(tmp_path: Path) -> None:
    state = nn.Linear(2, 2).state_dict()
    state._metadata[""]["statex"] = STAMP | {"params": {"table": [1.5] * (1 << 20)}}
    done = statex.convert(state, tmp_path / "out.safetensors", "")
    assert codes(done.warnings) == ["SX923"]
    assert texts(tmp_path / "out.safetensors") == {"format": "pt"}


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=10,
)
_stamp = st.dictionaries(st.text(max_size=4), _json, max_size=3).map(lambda one: {"scheme": 1, **one})


@settings(deadline=None)
@given(st.dictionaries(st.text(max_size=4), _stamp | _json, max_size=3))
def test_what_is_read_is_what_is_written(found: dict[str, Any]) -> None:
    metadata = stamps.from_text(json.dumps(found))
    state = OrderedDict((path, {"statex": one}) for path, one in found.items())
    if metadata is None:
        assert stamps.left_out(state) or not found
        return
    assert stamps.left_out(state) == []
    text = stamps.as_text(metadata)
    assert json.dumps(json.loads(text), sort_keys=True) == json.dumps(found, sort_keys=True)
    assert stamps.as_text(stamps.from_text(text)) == stamps.as_text(state) == text
    assert stamps.difference(metadata, state) is None


@settings(deadline=None)
@given(st.text(max_size=30) | _json.map(json.dumps), st.integers(0, 30))
def test_any_text_can_be_read(text: str, end: int) -> None:
    text = text[:end]
    metadata = stamps.from_text(text)
    assert metadata is None or stamps.as_text(metadata)
    tree: dict[str, Any] = {"a": {}}
    try:
        stamps.with_stamps(tree, text)
    except ValueError:
        assert tree == {"a": {}}


# --- torch.distributed.checkpoint -------------------------------------------------------------------------------------


@pytest.fixture
def folder(model: nn.Module, tmp_path: Path) -> Path:
    """A folder with the state of a model among others."""
    state = {
        "model": model.state_dict(),
        "averaged": model.state_dict(),
        "optimizer": {"m": torch.ones(2), "groups": [1, 2]},
    }
    torch.save(state, tmp_path / "nested.pth")
    statex.convert(tmp_path / "nested.pth", tmp_path / "nested", "", root="model", format="dcp")
    return tmp_path / "nested"


def test_states_inside_a_folder_carry_their_own(folder: Path, model: nn.Module) -> None:
    for root in ("model", "averaged"):
        assert noted(statex.read_header(folder, root=root)) == noted(model.state_dict())
    assert statex.read_header(folder, root="optimizer").metadata is None
    target = folder.with_name("model.safetensors")
    statex.convert(folder, target, "root 'model' -> ''")
    assert json.loads(texts(target)["statex"]) == noted(model.state_dict())


def test_torch_s_own_loaders_do_not_see_it(folder: Path, model: nn.Module) -> None:
    wanted = model.state_dict()
    fresh = Outer(Net())
    content: dict[str, Any] = {"model": fresh.state_dict(), "optimizer": {"m": torch.zeros(2)}}
    dcp.load(content, checkpoint_id=folder, **ALONE)
    set_model_state_dict(fresh, content["model"])
    assert all(torch.equal(fresh.state_dict()[key], value) for key, value in wanted.items())
    assert content["optimizer"]["m"].tolist() == [1, 1]
    dcp_to_torch_save(folder, folder.with_name("whole.pth"))
    whole = torch.load(folder.with_name("whole.pth"), weights_only=True)
    assert list(whole) == ["model", "averaged", "optimizer"]
    Outer(Net()).load_state_dict(whole["model"])
    keys = set(dcp.FileSystemReader(folder).read_metadata().state_dict_metadata)
    assert keys == {f"{name}.{key}" for name in ("model", "averaged") for key in wanted} | {
        "optimizer.m", "optimizer.groups",
    }  # fmt: skip


def test_a_bare_state_in_a_folder_is_loaded_into_a_model(saved: Callable[[str], str], model: nn.Module) -> None:
    path = saved("dcp")
    state = Outer(Net()).state_dict()
    dcp.load(state, checkpoint_id=path, **ALONE)
    assert all(torch.equal(state[key], value) for key, value in model.state_dict().items())
    dcp_to_torch_save(path, f"{path}whole.pth")
    Outer(Net()).load_state_dict(torch.load(f"{path}whole.pth", weights_only=True))


@pytest.mark.filterwarnings("ignore:Detected an existing checkpoint")
def test_what_torch_saves_anew_carries_none(saved: Callable[[str], str]) -> None:
    path = saved("dcp")
    state = Outer(Net()).state_dict()
    dcp.load(state, checkpoint_id=path, **ALONE)
    dcp.save(state, checkpoint_id=path, **ALONE)
    assert statex.read_header(path).metadata is None


@pytest.mark.parametrize(
    "entry",
    [
        (), ("a", "b"), 5, None, (5,), "ab", ("",), ("{",), ("5",), ("[5]",), ('[["model", {}]]',),
        ('[[["model"], {"": 5}]]',), ('[["model", {"": {"scheme": 1}}]]',), (_deep(100_000),),
        (json.dumps([[["model"] * 100, {"": STAMP}]]),),
    ],
    ids=str,
)  # fmt: skip
def test_a_damaged_entry_of_a_folder_is_one_error(entry: object, folder: Path) -> None:
    _put(folder, entry)
    found, said = refused(lambda: statex.read_header(folder, root="model"))
    assert found == ["SX604"]
    assert ".metadata" in said


@pytest.mark.parametrize(
    "path", [["modell"], ["model", "before.weight"], ["model", "x", "y"], [5], [None, []], [["model"]]]
)
def test_an_entry_for_what_is_not_there_says_nothing(path: list[Any], folder: Path) -> None:
    _put(folder, (json.dumps([[path, {"": STAMP}]]),))
    assert statex.read_header(folder, root="model").metadata is None


def _put(folder: Path, entry: object) -> None:
    file = folder / ".metadata"
    header = pickle.loads(file.read_bytes())
    header.planner_data["statex:stamps"] = entry
    file.write_bytes(pickle.dumps(header))


def test_a_key_of_the_same_name_is_refused(tmp_path: Path, chain: statex.Chain) -> None:
    plain = {"statex:stamps": torch.ones(2)}
    statex.convert(plain, tmp_path / "plain", "", format="dcp")
    assert statex.read_header(tmp_path / "plain").metadata is None
    state = statex.attach(Net(), chain).state_dict()
    state["statex:stamps"] = torch.ones(2)
    assert refused(lambda: statex.convert(state, tmp_path / "out", "", format="dcp"))[0] == ["SX614"]


# --- other rules ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FORMATS)
def test_rules_that_change_a_state_of_any_format_are_warned_of(
    name: str, model: nn.Module, saved: Callable[[str], str], tmp_path: Path
) -> None:
    path = saved(name)
    for rules in ("set before.weight = it * 2", "drop before.bias", "rename part before -> after", "add x = ones([2])"):
        assert codes(statex.compile(rules).plan(path).warnings) == ["SX921"]
    for rules in ("", "order natural", "drop? nothing.**", "expect exists(before.weight)"):
        assert statex.compile(rules).plan(path).warnings == ()
        assert noted(statex.compile(rules).apply(path)) == noted(model.state_dict())
    with pytest.warns(statex.StatexWarning, match=r"SX921.*`parts.net`") as caught:
        statex.compile("set before.weight = it * 2").apply(path)
    assert [one.filename for one in caught] == [__file__]
    done = statex.convert(path, tmp_path / "changed.pth", "set before.weight = it * 2", dry_run=True)
    assert codes(done.warnings) == ["SX921"]


def test_states_inside_a_state_count(chain: statex.Chain, tmp_path: Path) -> None:
    inner = statex.attach(Net(), chain).state_dict()
    torch.save({"a": inner, "b": Outer(Net()).state_dict()}, tmp_path / "in.pth")
    statex.convert(tmp_path / "in.pth", tmp_path / "in", "", root="", format="dcp")
    for name in ("in.pth", "in"):
        (warning,) = statex.compile("drop b.before.bias").plan(tmp_path / name, root="").warnings
        assert (warning.code.id, "noted for `a`," in warning.headline) == ("SX921", True)
        assert statex.compile("").plan(tmp_path / name, root="").warnings == ()


@pytest.mark.parametrize("name", FORMATS)
def test_commands_and_recipes_warn_of_it(name: str, saved: Callable[[str], str], bench: Bench) -> None:
    path = saved(name)
    for command in ("plan", "apply"):
        ended = bench.call(command, "-e", "drop before.bias", path, *(["out.pth"] if command == "apply" else []))
        assert (ended.exit_code, "SX921" in ended.err) == (0, True)
        ended = bench.call(command, "-e", "", path, *(["same.pth"] if command == "apply" else []))
        assert (ended.exit_code, ended.err) == (0, "")
    bench.write(
        "recipe.yaml", f"statex: 1\ninputs: {{main: {path}}}\nrules: [drop before.bias]\noutputs: {{path: out2.pth}}"
    )
    assert "SX921" in bench().err
    assert noted(statex.read_header(bench.folder / "out2.pth")) == noted(statex.read_header(path))


# --- show -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FORMATS)
def test_show_says_which_layout_a_module_has(
    name: str, saved: Callable[[str], str], model: nn.Module, run: Run
) -> None:
    path = saved(name)
    ended = run("show", path)
    assert [line for line in ended.out.splitlines() if "layout" in line] == ["  parts.net: layout 3 of a chain"]
    assert run("show", path, "--json").json["versions"] == noted(model.state_dict())


def test_show_folds_modules_that_are_alike(chain: statex.Chain, run: Run) -> None:
    state = nn.ModuleList([statex.attach(Net(), chain) for _ in range(12)]).state_dict()
    state._metadata[""]["statex"] = "0.1\x1b"
    torch.save(state, "in.pth")
    wanted = ["  the state: a version in an unknown form", "  {0..11}: layout 3 of a chain"]
    assert [line for line in run("show", "in.pth").out.splitlines() if "version" in line or "layout" in line] == wanted
    assert "  7: layout 3 of a chain" in run("show", "in.pth", "--all").out.splitlines()
    assert "" not in run("show", "in.pth", "--json").json["versions"]
