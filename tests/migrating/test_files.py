"""Checkpoints that are carried along a chain: `statex.migrate`, on states in memory and on files."""

from __future__ import annotations

import copy
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

import statex
from statex.dsl.plan.text import plan_lines
from statex.migrating.files import status
from statex.session.request import InputSpec, Request
from tests.migrating.nets import Net, Outer, Unchanged, same_forward, trained, unstamped

LAYOUTS = range(4)
DOWNS = {
    "0001_rename_norm": "rename part norm -> bn",
    "0002_fuse_qk": "split qk.{t:weight|bias} -> q.{t}, k.{t} = chunk(2, dim=0)",
    "0003_scale_head": "param scale: float = 2\nrename part out.fc -> head\nset head.weight, head.bias = it / scale",
}


def folder_of(folder: Path, **files: str) -> statex.Chain:
    folder.mkdir(exist_ok=True)
    for name, text in files.items():
        (folder / f"{name}.sx").write_text(text)
    return statex.migrations(folder)


@pytest.fixture
def two_way(chain: statex.Chain, tmp_path: Path) -> statex.Chain:
    """The chain with what undoes its steps."""
    return folder_of(tmp_path / "chain", **{f"{name}.down": text for name, text in DOWNS.items()})


def codes(error: statex.StatexError) -> list[str]:
    return [one.code.id for one in error.diagnostics]


def read(path: Path) -> Any:
    return torch.load(path, weights_only=True)


def equal(one: Any, other: Any) -> bool:
    """Say whether two states have the same keys in the same order, bits and `_metadata`."""
    same = [(k, t.dtype, t.shape) for k, t in one.items()] == [(k, t.dtype, t.shape) for k, t in other.items()]
    return (
        same
        and all(torch.equal(one[key], other[key]) for key in one)
        and getattr(one, "_metadata", None) == getattr(other, "_metadata", None)
    )


# --- up ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_file_is_what_a_module_makes_of_it(layout: int, chain: statex.Chain, tmp_path: Path) -> None:
    """The same bits and `_metadata` as `migrate_state` of a module, from the layout that the header tells."""
    state = trained(Net(layout)).state_dict()
    torch.save(state, tmp_path / "in.pth")
    done = statex.migrate(tmp_path / "in.pth", tmp_path / "out.pth", chain)
    assert done.warnings == ()
    migrated: Any = statex.migrate_state(statex.attach(Net(), chain), state)
    migrated._metadata[""] = statex.attach(Net(), chain).state_dict()._metadata[""]  # also where nothing was to be done
    assert equal(read(tmp_path / "out.pth"), migrated)
    new = statex.attach(Net(), chain)
    new.load_state_dict(read(tmp_path / "out.pth"))
    assert same_forward(trained(Net(layout)), new)


@pytest.mark.parametrize(
    "wrap", [lambda s: s, dict, lambda s: {"state_dict": s, "epoch": 3}], ids=["", "dict", "nested"]
)
def test_step_by_step_is_all_at_once(wrap: Any, chain: statex.Chain, tmp_path: Path) -> None:
    torch.save(wrap(trained(Net(0)).state_dict()), tmp_path / "0.pth")
    for layout in (1, 2, 3):
        statex.migrate(
            tmp_path / f"{layout - 1}.pth", tmp_path / f"{layout}.pth", chain, to=layout, params={"scale": 4}
        )
    statex.migrate(tmp_path / "0.pth", tmp_path / "once.pth", chain, params={"scale": 4})
    one, other = read(tmp_path / "3.pth"), read(tmp_path / "once.pth")
    if "epoch" in one:
        assert one["epoch"] == other["epoch"] == 3
        one, other = one["state_dict"], other["state_dict"]
    assert equal(one, other)
    assert torch.equal(one["out.fc.weight"], trained(Net(0)).state_dict()["head.weight"] * 4)


def test_a_state_in_memory_is_not_changed(chain: statex.Chain, tmp_path: Path) -> None:
    state = trained(Net(0)).state_dict()
    before = Unchanged(state)
    statex.migrate(state, tmp_path / "out.pth", chain)
    before.check()
    assert read(tmp_path / "out.pth")._metadata[""]["statex"]["version"] == 3


def test_the_folder_of_a_chain_and_one_step_are_chains(chain: statex.Chain, tmp_path: Path) -> None:
    state = trained(Net(0)).state_dict()
    statex.migrate(state, tmp_path / "a.pth", tmp_path / "chain")
    statex.migrate(state, tmp_path / "b.pth", str(tmp_path / "chain"))
    assert equal(read(tmp_path / "a.pth"), read(tmp_path / "b.pth"))
    statex.migrate(state, tmp_path / "c.pth", "rename part bn -> norm")
    assert list(read(tmp_path / "c.pth")) == list(Net(1).state_dict())


def test_a_result_that_does_not_fit_is_not_written(chain: statex.Chain, tmp_path: Path) -> None:
    with pytest.raises(statex.StatexError) as caught:
        statex.migrate(trained(Net(0)).state_dict(), tmp_path / "out.pth", chain, target=nn.Linear(2, 2))
    assert codes(caught.value) == ["SX501"]
    assert not (tmp_path / "out.pth").exists()


@pytest.mark.parametrize("attached", [False, True])
def test_a_target_loads_what_was_made(attached: bool, chain: statex.Chain, tmp_path: Path) -> None:
    target = statex.attach(Net(), chain) if attached else Net()
    done = statex.migrate(trained(Net(1)).state_dict(), tmp_path / "out.pth", chain, target=target)
    assert done.comparison is not None
    assert done.comparison.fits


# --- where the version goes -------------------------------------------------------------------------------------------


def version_in(done: statex.Conversion, path: str = "") -> Any:
    assert done.plan is not None
    return (done.plan.metadata or {}).get(path, {}).get("statex", {}).get("version")  # type: ignore[attr-defined]


def test_a_plain_dict_gets_no_metadata(chain: statex.Chain, tmp_path: Path) -> None:
    done = statex.migrate(dict(trained(Net(0)).state_dict()), tmp_path / "out.pth", chain)
    assert done.plan is not None
    assert done.plan.metadata is None
    state = read(tmp_path / "out.pth")
    assert type(state) is dict
    assert list(state) == list(Net().state_dict())


def test_formats_that_can_carry_a_version_are_given_one(chain: statex.Chain, tmp_path: Path) -> None:
    save_file(trained(Net(0)).state_dict(), tmp_path / "in.safetensors")
    done = statex.migrate(tmp_path / "in.safetensors", tmp_path / "out.safetensors", chain)
    assert done.plan is not None
    assert done.plan.metadata == {
        "": {"statex": {"scheme": 1, "version": 3, "digests": list(chain.digests), "params": {}}}
    }
    assert set(load_file(tmp_path / "out.safetensors")) == set(Net().state_dict())
    plain = dict(trained(Net(0)).state_dict())
    assert version_in(statex.migrate(plain, tmp_path / "plain.safetensors", chain)) == 3
    as_torch = statex.migrate(tmp_path / "in.safetensors", tmp_path / "out.pth", chain, to=1)
    assert version_in(as_torch) == 1
    old = Net(1)
    old.load_state_dict(read(tmp_path / "out.pth"))
    assert same_forward(trained(Net(0)), old)


def test_what_is_noted_stays_where_there_is_nothing_to_do(chain: statex.Chain, tmp_path: Path) -> None:
    state = trained(statex.attach(Net(), chain, scale=4.0)).state_dict()
    torch.save(state, tmp_path / "in.pth")
    done = statex.migrate(tmp_path / "in.pth", tmp_path / "out.pth", chain)
    assert done.plan is not None
    assert done.plan.changes_nothing
    assert equal(read(tmp_path / "out.pth"), state)


@pytest.mark.parametrize("at", ["", "enc"])
def test_a_version_stays_where_it_is_noted_when_all_keys_move(at: str, tmp_path: Path) -> None:
    chain = folder_of(tmp_path / "c", **{"0001_a": "rename prefix '' -> 'bert.'", "0002_b": "rename part w -> weight"})
    module: nn.Module = nn.ParameterDict({"w": ONES})
    state = (nn.ModuleDict({at: module}) if at else module).state_dict()
    for layout in range(3):
        statex.migrate(state, tmp_path / "out.pth", chain, assume=0, to=layout, at=at or None, force=True)
        state = read(tmp_path / "out.pth")
        noted = {path: one["statex"]["version"] for path, one in state._metadata.items() if "statex" in one}
        assert noted == {at: layout}
    assert list(state) == [f"{at}.bert.weight" if at else "bert.weight"]


def test_other_rules_still_say_that_the_version_may_not_hold(chain: statex.Chain, tmp_path: Path) -> None:
    statex.migrate(trained(Net(0)).state_dict(), tmp_path / "a.pth", chain, to=1)
    rest = statex.convert(tmp_path / "a.pth", tmp_path / "b.pth", "drop q.**")
    assert [one.code.id for one in rest.warnings] == ["SX921"]
    assert statex.migrate(tmp_path / "a.pth", tmp_path / "c.pth", chain).warnings == ()


# --- down -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("to", LAYOUTS)
def test_down_and_up_again(to: int, two_way: statex.Chain, tmp_path: Path) -> None:
    state = trained(Net(0)).state_dict()
    statex.migrate(state, tmp_path / "up.pth", two_way)
    statex.migrate(tmp_path / "up.pth", tmp_path / "down.pth", two_way, to=to)
    found = read(tmp_path / "down.pth")
    assert set(found) == set(Net(to).state_dict())
    assert found._metadata[""]["statex"]["version"] == to
    assert found._metadata[""]["statex"]["digests"] == list(two_way.digests[:to])
    old = Net(to)
    old.load_state_dict(unstamped(found))
    assert same_forward(trained(Net(0)), old)
    statex.migrate(tmp_path / "down.pth", tmp_path / "again.pth", two_way)
    assert equal(
        dict(read(tmp_path / "again.pth")),
        {key: read(tmp_path / "up.pth")[key] for key in read(tmp_path / "again.pth")},
    )


def test_values_that_were_noted_serve_on_the_way_down(two_way: statex.Chain, tmp_path: Path) -> None:
    state = trained(Net(0)).state_dict()
    statex.migrate(state, tmp_path / "up.pth", two_way, params={"scale": 8})
    statex.migrate(tmp_path / "up.pth", tmp_path / "down.pth", two_way, to=2)
    assert torch.equal(read(tmp_path / "down.pth")["head.weight"], state["head.weight"])


def test_a_value_for_one_step_is_for_what_undoes_it(two_way: statex.Chain, tmp_path: Path) -> None:
    state = trained(Net(0)).state_dict()
    statex.migrate(state, tmp_path / "up.pth", two_way, params={"0003_scale_head.scale": 8})
    assert torch.equal(read(tmp_path / "up.pth")["out.fc.weight"], state["head.weight"] * 8)
    statex.migrate(tmp_path / "up.pth", tmp_path / "down.pth", two_way, to=2)
    assert torch.equal(read(tmp_path / "down.pth")["head.weight"], state["head.weight"])


def test_what_undoes_a_step_may_have_parameters_of_its_own(tmp_path: Path) -> None:
    downs = "param rows: int\nsplit qk -> q, k = sections([rows, 2])"
    chain = folder_of(
        tmp_path / "c", **{"0001_a": "param n: int = 1\nmerge q, k -> qk = cat(dim=0)", "0001_a.down": downs}
    )
    statex.migrate({"q": torch.ones(3, 2), "k": torch.zeros(2, 2)}, tmp_path / "up.pth", chain, params={"n": 2})
    with pytest.raises(statex.StatexError) as caught:
        statex.migrate(tmp_path / "up.pth", tmp_path / "down.pth", chain, to=0, assume=1)
    assert codes(caught.value) == ["SX204"]
    given = {"0001_a.rows": 3, "0001_a.n": 2}
    statex.migrate(tmp_path / "up.pth", tmp_path / "down.pth", chain, to=0, assume=1, params=given)
    assert read(tmp_path / "down.pth")["q"].shape == (3, 2)


def test_a_step_that_nothing_undoes(chain: statex.Chain, tmp_path: Path) -> None:
    chain = folder_of(tmp_path / "chain", **{"0002_fuse_qk.down": DOWNS["0002_fuse_qk"]})
    statex.migrate(trained(Net(0)).state_dict(), tmp_path / "up.pth", chain)
    with pytest.raises(statex.StatexError) as caught:
        statex.migrate(tmp_path / "up.pth", tmp_path / "down.pth", chain, to=0)
    assert codes(caught.value) == ["SX822", "SX822"]
    assert "write " in str(caught.value)
    assert "chain/0003_scale_head.down.sx" in str(caught.value)
    assert "0002_fuse_qk.down.sx" not in str(caught.value)


@pytest.mark.parametrize("module", [False, True])
def test_with_a_target_the_inverse_of_every_step_is_derived(module: bool, chain: statex.Chain, tmp_path: Path) -> None:
    state = trained(Net(0)).state_dict()
    statex.migrate(state, tmp_path / "up.pth", chain, to=2)
    given: dict[str, Any] = {"target": Net(0)} if module else {"like": state}
    done = statex.migrate(tmp_path / "up.pth", tmp_path / "down.pth", chain, to=0, **given)
    assert done.comparison is not None
    assert done.comparison.fits
    back = read(tmp_path / "down.pth")
    assert set(back) == set(state)
    assert all(torch.equal(back[key], state[key]) for key in state)
    net = Net(0)
    net.load_state_dict(back)
    assert same_forward(trained(Net(0)), net)


def test_a_derived_inverse_knows_sizes_that_the_state_does_not_say(tmp_path: Path) -> None:
    chain = folder_of(tmp_path / "c", **{"0001_a": "merge q, k -> qk = cat", "0002_b": "rename qk -> block.qk"})
    state = {"q": torch.rand(3, 2), "k": torch.rand(5, 2)}
    statex.migrate(state, tmp_path / "up.pth", chain)
    meta = {key: torch.empty(value.shape, device="meta") for key, value in state.items()}
    statex.migrate(tmp_path / "up.pth", tmp_path / "down.pth", chain, assume=2, to=0, like=meta)
    back = read(tmp_path / "down.pth")
    assert torch.equal(back["q"], state["q"])
    assert torch.equal(back["k"], state["k"])


def test_files_that_undo_steps_come_before_inverses(tmp_path: Path) -> None:
    steps = {"0001_a": "merge q, k -> qk = cat", "0002_b": "set qk = it * 3", "0002_b.down": "set qk = it / 3"}
    chain = folder_of(tmp_path / "c", **steps)
    state = {"q": torch.ones(3, 2), "k": torch.ones(5, 2)}
    statex.migrate(state, tmp_path / "up.pth", chain)
    done = statex.migrate(tmp_path / "up.pth", tmp_path / "down.pth", chain, assume=2, to=0, like=state)
    assert done.plan is not None
    names = [step.span.source.name for step in done.plan.steps]
    assert [name.rpartition("/")[2] for name in names] == ["0002_b.down.sx", "<the inverse of 0001_a.sx>"]
    assert torch.equal(read(tmp_path / "down.pth")["k"], state["k"])


def test_what_a_step_has_lost_is_said(tmp_path: Path) -> None:
    chain = folder_of(tmp_path / "c", **{"0001_a": "set w = it[:2]"})
    state = {"w": torch.rand(3, 2)}
    statex.migrate(state, tmp_path / "up.pth", chain, assume=0)
    with pytest.raises(statex.StatexError) as caught:
        statex.migrate(tmp_path / "up.pth", tmp_path / "down.pth", chain, assume=1, to=0, like=state)
    assert codes(caught.value) == ["SX822"]
    assert "it[:2] drops rows 2.. of w" in str(caught.value)


def test_a_target_of_another_model_derives_nothing(tmp_path: Path) -> None:
    chain = folder_of(tmp_path / "c", **{"0001_a": "merge q, k -> qk = cat"})
    statex.migrate({"q": torch.rand(3, 2), "k": torch.rand(5, 2)}, tmp_path / "up.pth", chain)
    for like, why in (
        ({"q": torch.rand(3, 2), "k": torch.rand(4, 2)}, "the steps make `qk` of the target in another shape"),
        ({"q": torch.rand(3, 2)}, "step 1 cannot be carried out on"),
        (
            {"q": torch.rand(3, 2), "k": torch.rand(5, 2), "b": torch.rand(2)},
            "the steps make `b` of the target, which",
        ),
    ):
        with pytest.raises(statex.StatexError) as caught:
            statex.migrate(tmp_path / "up.pth", tmp_path / "down.pth", chain, assume=1, to=0, like=like)
        assert codes(caught.value) == ["SX822"]
        assert why in str(caught.value)


def test_an_inverse_is_for_the_module_at_a_path(tmp_path: Path) -> None:
    chain = folder_of(tmp_path / "c", **{"0001_a": "merge q, k -> qk = cat"})
    state = {"m.q": torch.rand(3, 2), "m.k": torch.rand(5, 2), "w": torch.rand(2)}
    statex.migrate(state, tmp_path / "up.pth", chain, at="m", assume=0)
    statex.migrate(tmp_path / "up.pth", tmp_path / "down.pth", chain, at="m", assume=1, to=0, like=state)
    back = read(tmp_path / "down.pth")
    assert set(back) == set(state)
    assert all(torch.equal(back[key], state[key]) for key in state)


def test_an_empty_file_undoes_a_step_that_loses_nothing(tmp_path: Path) -> None:
    chain = folder_of(tmp_path / "c", **{"0001_a": "drop? buffer", "0001_a.down": "# nothing is needed of it"})
    statex.migrate({"w": torch.ones(2)}, tmp_path / "out.pth", chain, assume=1, to=0)
    assert list(read(tmp_path / "out.pth")) == ["w"]


# --- how a layout is recognised ---------------------------------------------------------------------------------------


def layout_of(state: Any, chain: statex.Chain) -> int | None:
    """Return the layout that is recognised, `None` where it cannot be told."""
    return status(Request(InputSpec(state)), chain)[1].layout


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("half", [False, True])
def test_a_layout_is_recognised_by_the_header_alone(layout: int, half: bool, chain: statex.Chain) -> None:
    net = trained(Net(layout))
    assert layout_of((net.half() if half else net).state_dict(), chain) == layout


ONES = torch.ones(2, 2)


@pytest.mark.parametrize(
    ("steps", "keys", "layout"),
    [
        (["rename part a -> b"], ["a.w"], 0),
        (["rename part a -> b"], ["b.w"], 1),
        (["drop old", "rename a -> b"], ["old", "a"], 0),
        (["drop old", "rename a -> b"], ["a"], 1),
        (["drop old", "rename a -> b"], ["b"], 2),
        (["drop? old", "rename a -> b"], ["a"], 1),
        (["add new = zeros([2])"], ["a"], 0),
        (["add new = zeros([2])"], ["a", "new"], 1),
        (["rename first { a -> b }", "drop? z"], ["b", "z"], 1),
        (["rename a -> b", "set b = it * 2\nrename b -> c"], ["b"], 1),
        (["if true { within enc { rename {m}.w -> {m}.weight } }"], ["enc.a.weight"], 1),
        (["split qkv -> q, k = chunk(2, dim=0)"], ["q", "k"], 1),
        (["rename suffix '.gamma' -> '.weight'"], ["a.weight"], 1),
        (["rename text gamma -> weight"], ["ln_gamma"], 0),
        (["rename text gamma -> weight"], ["ln_weight"], 1),
        (["copy a -> b"], ["a"], 0),
    ],
)
def test_layouts_that_the_header_tells(steps: list[str], keys: list[str], layout: int, tmp_path: Path) -> None:
    chain = folder_of(tmp_path / "c", **{f"{n:04}_step": text for n, text in enumerate(steps, 1)})
    done = statex.migrate(dict.fromkeys(keys, ONES), tmp_path / "out.pth", chain, dry_run=True)
    assert done.plan is not None
    expected = statex.compile("\n".join(steps[layout:])).plan(dict.fromkeys(keys, ONES))
    assert list(done.plan.outputs) == list(expected.outputs)
    assert len(done.plan.steps) == len(expected.steps)


@pytest.mark.parametrize(
    ("steps", "keys", "layouts"),
    [
        (["set w = transpose"], ["w"], "0 and 1"),
        (["set w = it * 2", "rename w -> v"], ["w"], "0 and 1"),
        (["rename prefix '' -> 'model.'"], ["model.w"], "0 and 1"),
        (["rename prefix '' -> 'model.'"], ["w"], "0 and 1"),
        (["rename layers.{i:int} -> layers.{i + 1}"], ["layers.1", "layers.2"], "0 and 1"),
        (["drop layers.0.**\nrename layers.{i:int}.w -> layers.{i - 1}.w"], ["layers.0.w", "layers.1.w"], "0 and 1"),
        (["renumber layers.{i:int}\ndrop? none", "rename w -> v", "set v = it + 1"], ["v"], "2 and 3"),
    ],
)
def test_layouts_that_it_does_not_tell(steps: list[str], keys: list[str], layouts: str, tmp_path: Path) -> None:
    """Steps that could be carried out once more on what they have made are never carried out by guess."""
    chain = folder_of(tmp_path / "c", **{f"{n:04}_step": text for n, text in enumerate(steps, 1)})
    with pytest.raises(statex.StatexError, match=f"could be of any of the layouts {layouts}\n") as caught:
        statex.migrate(dict.fromkeys(keys, ONES), tmp_path / "out.pth", chain)
    assert codes(caught.value) == ["SX806"]
    assert f"assume={layouts[-1]}" in str(caught.value)


@pytest.mark.parametrize(
    ("steps", "keys"),
    [
        (["rename part a -> b"], ["x.w"]),
        (["rename q -> k"], ["module.k"]),
        (["drop? old"], ["w"]),
        (["rename? a -> b"], ["w"]),
        (["rename m.{rest:**} -> {rest}"], ["w"]),
    ],
)
def test_a_state_in_which_nothing_tells_of_the_chain(steps: list[str], keys: list[str], tmp_path: Path) -> None:
    chain = folder_of(tmp_path / "c", **{f"{n:04}_step": text for n, text in enumerate(steps, 1)})
    with pytest.raises(statex.StatexError) as caught:
        statex.migrate(dict.fromkeys(keys, ONES), tmp_path / "out.pth", chain)
    assert codes(caught.value) == ["SX821"]
    assert ("at='module'" in str(caught.value)) == (keys == ["module.k"])
    done = statex.migrate(dict.fromkeys(keys, ONES), tmp_path / "out.pth", chain, assume=1)
    assert done.plan is not None
    assert done.plan.changes_nothing


def test_a_target_tells_what_the_header_does_not(tmp_path: Path) -> None:
    chain = folder_of(tmp_path / "c", **{"0001_turn": "set w = transpose", "0002_cast": "set w = cast(f16)"})
    old = {"w": torch.ones(2, 3)}
    for like, changed in (({"w": torch.ones(3, 2).half()}, 2), ({"w": torch.ones(2, 3).half()}, 1)):
        done = statex.migrate(old, tmp_path / "out.safetensors", chain, like=like, force=True)
        assert done.plan is not None
        assert len(done.plan.steps) == changed


def test_a_target_is_of_the_layout_that_is_wanted(chain: statex.Chain, tmp_path: Path) -> None:
    state = dict(trained(Net(0)).state_dict())
    statex.migrate(state, tmp_path / "1.pth", chain, to=1, like=Net(1).state_dict())
    with pytest.raises(statex.StatexError) as caught:
        statex.migrate(state, tmp_path / "2.pth", chain, to=2, like=Net(1).state_dict())
    assert codes(caught.value) == ["SX501"]


# --- versions and what is said ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", [0, 1, 2])
@pytest.mark.parametrize("with_target", [False, True])
def test_a_version_that_the_header_contradicts(
    layout: int, with_target: bool, chain: statex.Chain, tmp_path: Path
) -> None:
    state = Net(layout).state_dict()
    state._metadata[""]["statex"] = statex.attach(Net(), chain).state_dict()._metadata[""]["statex"]  # type: ignore[attr-defined]
    said = f"its version says layout 3, and the state fits layout {layout} and not this one"
    with pytest.raises(statex.StatexError, match=said) as caught:
        statex.migrate(state, tmp_path / "out.pth", chain, target=Net() if with_target else None)
    assert codes(caught.value) == ["SX807"]


@pytest.mark.parametrize("layout", [1, 2])
def test_a_target_of_an_older_layout_is_named(layout: int, chain: statex.Chain, tmp_path: Path) -> None:
    statex.migrate(dict(trained(Net(0)).state_dict()), tmp_path / "old.safetensors", chain, to=layout)
    said = f"unless Net is of layout {layout} and not of layout 3: .*old.safetensors` fits it as it is"
    with pytest.raises(statex.StatexError, match=said) as caught:
        statex.migrate(tmp_path / "old.safetensors", tmp_path / "new.safetensors", chain, target=Net(layout))
    assert codes(caught.value) == ["SX807"]


def test_a_version_holds_where_optional_steps_would_do_something(tmp_path: Path) -> None:
    """A key may come again under a name that a step took away."""
    steps = {"0001_a": "drop? rope", "0002_b": "rename? rotary -> rope", "0003_c": "drop? none"}
    chain = folder_of(tmp_path / "c", **steps)
    state = nn.ParameterDict({"rotary": ONES}).state_dict()
    statex.migrate(state, tmp_path / "3.pth", chain, assume=1)
    assert list(read(tmp_path / "3.pth")) == ["rope"]
    statex.migrate(tmp_path / "3.pth", tmp_path / "again.pth", chain)
    assert list(read(tmp_path / "again.pth")) == ["rope"]


def test_steps_may_ask_the_target(tmp_path: Path) -> None:
    chain = folder_of(tmp_path / "c", **{"0001_a": "rename a -> b\nset b = cast(dtype(target::b))"})
    statex.migrate({"a": ONES}, tmp_path / "out.pth", chain, like={"b": ONES.half()})
    assert read(tmp_path / "out.pth")["b"].dtype == torch.float16


def test_a_version_whose_steps_cannot_be_carried_out(chain: statex.Chain, tmp_path: Path) -> None:
    statex.migrate(trained(Net(0)).state_dict(), tmp_path / "1.pth", chain, to=1)
    state = read(tmp_path / "1.pth")
    state["query.weight"] = state.pop("q.weight")
    with pytest.raises(statex.StatexError, match="its version says layout 1, and the steps after it cannot") as caught:
        statex.migrate(state, tmp_path / "out.pth", chain)
    assert codes(caught.value) == ["SX807"]


def test_what_is_assumed_holds_for_states_without_a_version_alone(chain: statex.Chain, tmp_path: Path) -> None:
    state = trained(Net(1)).state_dict()
    for assume in (0, 2, 3):
        with pytest.raises(statex.StatexError, match=f"`assume` says layout {assume}, and") as caught:
            statex.migrate(state, tmp_path / "out.pth", chain, assume=assume)
        assert codes(caught.value) == ["SX807"]
    statex.migrate(state, tmp_path / "2.pth", chain, assume=1, to=2)
    statex.migrate(tmp_path / "2.pth", tmp_path / "3.pth", chain, assume=0)
    assert set(read(tmp_path / "3.pth")) == set(Net().state_dict())


def test_a_step_that_was_edited_is_found(chain: statex.Chain, tmp_path: Path) -> None:
    statex.migrate(trained(Net(0)).state_dict(), tmp_path / "2.pth", chain, to=2)
    edited = folder_of(tmp_path / "chain", **{"0002_fuse_qk": "merge k.{t:weight|bias}, q.{t} -> qk.{t} = cat(dim=0)"})
    with pytest.raises(statex.StatexError, match=r"another step 2 than `0002_fuse_qk.sx`") as caught:
        statex.migrate(tmp_path / "2.pth", tmp_path / "3.pth", edited)
    assert codes(caught.value) == ["SX808"]


def test_a_version_of_another_chain(chain: statex.Chain, tmp_path: Path) -> None:
    """It is said to be of another, and not of a later one."""
    statex.migrate(trained(Net(0)).state_dict(), tmp_path / "3.pth", chain)
    with pytest.raises(statex.StatexError, match="another step 1 than") as caught:
        statex.migrate(tmp_path / "3.pth", tmp_path / "out.pth", "rename part norm -> bn")
    assert codes(caught.value) == ["SX808"]


@pytest.mark.parametrize("params", [[1], {"scale": {}}, {1: 2}, {"scale": torch.ones(1)}])
def test_values_of_no_known_form_are_refused(params: Any, chain: statex.Chain, tmp_path: Path) -> None:
    statex.migrate(trained(Net(0)).state_dict(), tmp_path / "1.pth", chain, to=1)
    state = read(tmp_path / "1.pth")
    state._metadata[""]["statex"]["params"] = params
    with pytest.raises(statex.StatexError) as caught:
        statex.migrate(state, tmp_path / "out.pth", chain)
    assert codes(caught.value) == ["SX809"]


@pytest.mark.parametrize("given", [{"to": 4}, {"to": -1}, {"assume": 4}])
def test_layouts_that_there_are_not(given: dict[str, int], chain: statex.Chain, tmp_path: Path) -> None:
    with pytest.raises(statex.StatexError) as caught:
        statex.migrate(Net(0).state_dict(), tmp_path / "out.pth", chain, **given)  # type: ignore[arg-type]
    assert codes(caught.value) == ["SX812"]


# --- parameters -------------------------------------------------------------------------------------------------------


def test_values_are_noted_and_hold_for_the_steps_that_come(chain: statex.Chain, tmp_path: Path) -> None:
    state = trained(Net(0)).state_dict()
    statex.migrate(state, tmp_path / "1.pth", chain, to=1, params={"scale": 4})
    assert read(tmp_path / "1.pth")._metadata[""]["statex"]["params"] == {"scale": 4.0}
    statex.migrate(tmp_path / "1.pth", tmp_path / "3.pth", chain)
    assert torch.equal(read(tmp_path / "3.pth")["out.fc.weight"], state["head.weight"] * 4)
    statex.migrate(tmp_path / "1.pth", tmp_path / "other.pth", chain, params={"scale": 8})
    assert torch.equal(read(tmp_path / "other.pth")["out.fc.weight"], state["head.weight"] * 8)
    assert read(tmp_path / "other.pth")._metadata[""]["statex"]["params"] == {"scale": 8.0}


def test_another_value_for_a_step_that_was_carried_out(chain: statex.Chain, tmp_path: Path) -> None:
    statex.migrate(trained(Net(0)).state_dict(), tmp_path / "3.pth", chain, params={"scale": 4})
    statex.migrate(tmp_path / "3.pth", tmp_path / "same.pth", chain, params={"scale": 4.0})
    with pytest.raises(statex.StatexError) as caught:
        statex.migrate(tmp_path / "3.pth", tmp_path / "out.pth", chain, params={"scale": 5})
    assert codes(caught.value) == ["SX823"]
    assert "`scale` is 5.0 now, and `3.pth` has been through its steps with 4.0" in str(caught.value)


def test_modules_say_so_as_well(chain: statex.Chain) -> None:
    state = statex.attach(Net(), chain, scale=4.0).state_dict()
    statex.attach(Net(), chain, scale=4.0).load_state_dict(state)
    statex.attach(Net(), chain).load_state_dict(state)
    with pytest.raises(RuntimeError, match="SX823"):
        statex.attach(Net(), chain, scale=5.0).load_state_dict(state)
    with pytest.raises(statex.StatexError) as caught:
        statex.migrate_state(statex.attach(Net(), chain, scale=5.0), state)
    assert codes(caught.value) == ["SX823"]


def test_modules_carry_out_further_steps_with_what_is_noted(chain: statex.Chain, tmp_path: Path) -> None:
    state = trained(Net(0)).state_dict()
    statex.migrate(state, tmp_path / "2.pth", chain, to=2, params={"scale": 4})
    new = statex.attach(Net(), chain)
    new.load_state_dict(read(tmp_path / "2.pth"))
    assert torch.equal(new.out.fc.weight, state["head.weight"] * 4)
    migrated: Any = statex.migrate_state(new, read(tmp_path / "2.pth"))
    assert migrated._metadata[""]["statex"]["params"] == {"scale": 4.0}


@pytest.mark.parametrize(
    ("declared", "given", "noted"),
    [
        ("param p: dtype = f32", "bf16", "bfloat16"),
        ("param p: dtype = f32", torch.bfloat16, "bfloat16"),
        ("param p: list = [1]", (1, 2), [1, 2]),
        ("param p = 'x'", "y", "y"),
        ("param p: bool = false", True, True),
        ("if true { param p: float = 1 }", 3, 3.0),
        ("include 'parts/p.sx'", 3, 3.0),
    ],
)
def test_values_are_noted_as_plain_data(declared: str, given: Any, noted: Any, tmp_path: Path) -> None:
    (tmp_path / "c" / "parts").mkdir(parents=True)
    (tmp_path / "c" / "parts" / "p.sx").write_text("param p: float = 1")
    chain = folder_of(tmp_path / "c", **{"0001_a": f"{declared}\nrename a -> b"})
    statex.migrate({"a": ONES}, tmp_path / "out.safetensors", chain, params={"p": given}, dry_run=True)
    state = OrderedDict({"a": ONES})
    state._metadata = OrderedDict()  # type: ignore[attr-defined]
    done = statex.migrate(state, tmp_path / "out.pth", chain, params={"p": given})
    assert done.plan is not None
    assert done.plan.metadata is not None
    assert done.plan.metadata[""]["statex"]["params"] == {"p": noted}  # type: ignore[index]
    statex.migrate(tmp_path / "out.pth", tmp_path / "again.pth", chain, params={"p": given})


def test_a_misspelt_parameter_is_refused(chain: statex.Chain, tmp_path: Path) -> None:
    for given, code in (({"scal": 1}, "SX205"), ({"scale": "x"}, "SX206")):
        with pytest.raises(statex.StatexError) as caught:
            statex.migrate(Net(0).state_dict(), tmp_path / "out.pth", chain, params=given)
        assert set(codes(caught.value)) == {code}


def test_a_value_that_is_missing_is_asked_for_only_where_it_is_needed(tmp_path: Path) -> None:
    chain = folder_of(
        tmp_path / "c", **{"0001_a": "param n: int\nrename a -> b\nset b = it * n", "0002_b": "rename b -> c"}
    )
    with pytest.raises(statex.StatexError) as caught:
        statex.migrate({"a": ONES}, tmp_path / "out.pth", chain)
    assert codes(caught.value) == ["SX204"]
    statex.migrate({"b": ONES}, tmp_path / "out.pth", chain)
    assert list(read(tmp_path / "out.pth")) == ["c"]


# --- part of a state --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_module_inside_is_what_it_is_alone(layout: int, chain: statex.Chain, tmp_path: Path) -> None:
    """The same bits, order and `_metadata` as `migrate_state` of a model with the module inside."""
    state = trained(Outer(Net(layout))).state_dict()
    torch.save(state, tmp_path / "in.pth")
    done = statex.migrate(tmp_path / "in.pth", tmp_path / "out.pth", chain, at="parts.net", target=Outer(Net()))
    assert done.warnings == ()
    holder = Outer(statex.attach(Net(), chain))
    migrated: Any = statex.migrate_state(holder, state)
    migrated._metadata["parts.net"]["statex"] = holder.state_dict()._metadata["parts.net"]["statex"]
    assert equal(read(tmp_path / "out.pth"), migrated)


def test_the_path_is_where_the_version_is_noted(chain: statex.Chain, tmp_path: Path) -> None:
    state = trained(Outer(Net(0))).state_dict()
    statex.migrate(state, tmp_path / "1.pth", chain, at="parts.net", to=1)
    statex.migrate(tmp_path / "1.pth", tmp_path / "3.pth", chain)
    assert read(tmp_path / "3.pth")._metadata["parts.net"]["statex"]["version"] == 3
    assert set(read(tmp_path / "3.pth")) == set(Outer(Net()).state_dict())


def test_several_places_are_told_apart_by_a_path(chain: statex.Chain, tmp_path: Path) -> None:
    pair = trained(nn.ModuleDict({"left": Net(0), "right": Net(0)}))
    statex.migrate(pair.state_dict(), tmp_path / "1.pth", chain, at="left", to=1)
    statex.migrate(tmp_path / "1.pth", tmp_path / "2.pth", chain, at="right.", to=2)
    with pytest.raises(statex.StatexError, match="are noted for `left` and `right`: which one") as caught:
        statex.migrate(tmp_path / "2.pth", tmp_path / "3.pth", chain)
    assert codes(caught.value) == ["SX824"]
    statex.migrate(tmp_path / "2.pth", tmp_path / "3.pth", chain, at="left")
    versions = {path: one.get("statex", {}).get("version") for path, one in read(tmp_path / "3.pth")._metadata.items()}
    assert {path: version for path, version in versions.items() if version is not None} == {"left": 3, "right": 2}


def test_versions_of_another_chain_do_not_count(chain: statex.Chain, tmp_path: Path) -> None:
    outer = statex.attach(Outer(Net(0)), "rename part first -> before", assume=1)
    state = trained(outer).state_dict()
    statex.migrate(state, tmp_path / "out.pth", chain, at="parts.net")
    found = read(tmp_path / "out.pth")
    assert found._metadata[""]["statex"] == state._metadata[""]["statex"]
    assert found._metadata["parts.net"]["statex"]["version"] == 3


def test_a_path_without_keys(chain: statex.Chain, tmp_path: Path) -> None:
    with pytest.raises(statex.StatexError) as caught:
        statex.migrate(Outer(Net(0)).state_dict(), tmp_path / "out.pth", chain, at="parts.nett")
    assert codes(caught.value) == ["SX825"]
    assert "at='parts.net'" in str(caught.value)


def test_ties_with_the_rest_of_a_state_are_seen(tmp_path: Path) -> None:
    shared = torch.ones(2, 2)
    state = {"enc.embed": shared, "head": shared, "other": torch.zeros(2)}
    with pytest.raises(statex.StatexError, match="no key"):
        statex.migrate(state, tmp_path / "out.pth", "set head = it * 2", at="enc", assume=0)
    done = statex.migrate(
        copy.copy(state), tmp_path / "out.pth", "set embed = it * 2\nallow missing x", at="enc", assume=0
    )
    assert [one.code.id for one in done.warnings] == ["SX901"]
    found = read(tmp_path / "out.pth")
    assert torch.equal(found["enc.embed"], shared * 2)
    assert torch.equal(found["head"], shared)
    assert done.plan is not None
    assert done.plan.is_allowed("missing", "enc.x")
    assert not done.plan.is_allowed("missing", "x")
    assert done.plan.account["enc.embed"].kind == "used"
    assert "enc.embed = f32[2, 2]" in "\n".join(plan_lines(done.plan, keys=True))
