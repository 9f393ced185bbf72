"""Modules that load their own past, by torch's own `load_state_dict`."""

from __future__ import annotations

import copy
import io
import pickle
import re
import subprocess
import sys
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import statex
from tests.migrating.nets import Net, Outer, Unchanged, same_forward, trained, unstamped

LAYOUTS = range(4)


def attached(chain: statex.Chain, **given: Any) -> Net:
    return statex.attach(Net(), chain, **given)


def saved(module: nn.Module) -> Any:
    """Return the state of a module after a round trip through a file."""
    file = io.BytesIO()
    torch.save(module.state_dict(), file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def fronts(module: nn.Module) -> list[str]:
    return [name for name, one in module.named_modules() if "_load_from_state_dict" in vars(one)]


# --- every layout -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("assign", [False, True])
@pytest.mark.parametrize("strict", [False, True])
def test_every_layout_is_loaded(layout: int, assign: bool, strict: bool, chain: statex.Chain) -> None:
    old, new = trained(Net(layout)), attached(chain)
    state = old.state_dict()
    if assign:  # torch itself notes `assign_to_params_buffers` in the `_metadata` it is given
        state = unstamped(state)
        reference = unstamped(Net().state_dict())
        Net().load_state_dict(reference, assign=True)
        assert any("assign_to_params_buffers" in one for one in reference._metadata.values())
    before = Unchanged(state)
    found = new.load_state_dict(state, strict=strict, assign=assign)
    assert not found.missing_keys
    assert not found.unexpected_keys
    assert same_forward(old, new)
    assert fronts(new) == []
    if assign:
        assert all("statex" not in one for one in state._metadata.values())
        for one in state._metadata.values():
            one.pop("assign_to_params_buffers", None)
    before.check()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_is_loaded_inside_a_larger_module(layout: int, chain: statex.Chain) -> None:
    old, new = trained(Outer(Net(layout))), Outer(attached(chain))
    state = old.state_dict()
    before = Unchanged(state)
    new.load_state_dict(state)
    before.check()
    assert same_forward(old, new)
    assert fronts(new) == []


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_plain_dict_is_loaded(layout: int, chain: statex.Chain) -> None:
    old, new = trained(Outer(Net(layout))), Outer(attached(chain))
    state = dict(old.state_dict())
    before = Unchanged(state)
    new.load_state_dict(state)
    before.check()
    assert same_forward(old, new)


def test_untouched_tensors_are_the_callers_with_assign(chain: statex.Chain) -> None:
    state = trained(Net(0)).state_dict()
    new = attached(chain)
    new.load_state_dict(state, assign=True)
    assert new.norm.running_mean.data_ptr() == state["bn.running_mean"].data_ptr()


def test_tied_weights_stay_tied() -> None:
    class Tied(nn.Module):
        def __init__(self, name: str) -> None:
            super().__init__()
            self.embed = nn.Embedding(3, 2)
            setattr(self, name, nn.Linear(2, 3, bias=False))
            getattr(self, name).weight = self.embed.weight

    old, new = (
        Tied("head"),
        statex.attach(Tied("out"), "set embed.weight, head.weight = it * 2\nrename part head -> out"),
    )
    new.load_state_dict(old.state_dict())
    assert new.out.weight is new.embed.weight
    assert torch.equal(new.out.weight, old.head.weight * 2)
    fresh = statex.attach(Tied("out"), "rename part head -> out")
    fresh.load_state_dict(old.state_dict(), assign=True)
    assert fresh.out.weight.data_ptr() == fresh.embed.weight.data_ptr() == old.embed.weight.data_ptr()


def test_states_of_other_dtypes_are_recognised_by_keys_and_shapes(chain: statex.Chain) -> None:
    old, new = trained(Net(0)).half(), attached(chain)
    new.load_state_dict(old.state_dict())
    assert new.qk.weight.dtype == torch.float32
    assert torch.equal(new.qk.weight[:3], old.q.weight.float())


def test_dtypes_decide_where_they_can() -> None:
    """Layouts that differ by nothing else are told from one another."""
    module = statex.attach(nn.Linear(2, 2), "set ** = (it + 1) | cast(f32)")
    old = nn.Linear(2, 2).to(torch.float64)
    module.load_state_dict(old.state_dict())
    assert torch.allclose(module.weight, old.weight.float() + 1)


def test_extra_state_goes_along() -> None:
    class Extra(nn.Module):
        def __init__(self, name: str) -> None:
            super().__init__()
            setattr(self, name, nn.Linear(1, 1))
            self.extra: object = None

        def get_extra_state(self) -> object:
            return {"name": "x", "tensor": torch.ones(2)}

        def set_extra_state(self, state: object) -> None:
            self.extra = state

    new = statex.attach(Extra("b"), "rename part a -> b")
    state = Extra("a").state_dict()
    new.load_state_dict(state)
    assert new.extra is state["_extra_state"]


# --- versions of the modules inside -----------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["alone", "inside"])
def test_versions_follow_modules_that_are_renamed(where: str, chain: statex.Chain) -> None:
    """BatchNorm of version 1 has no `num_batches_tracked`; one of version 2 that lacks it is an error."""
    old, new = trained(Net(0)), attached(chain)
    whole = (lambda net: net) if where == "alone" else Outer
    state = whole(old).state_dict()
    path = "bn" if where == "alone" else "parts.net.bn"
    del state[f"{path}.num_batches_tracked"]
    with (
        pytest.warns(statex.StatexWarning, match="SX920"),
        pytest.raises(RuntimeError, match=r"bn\.num_batches_tracked|Missing key"),
    ):
        whole(new).load_state_dict(state)
    state._metadata[path]["version"] = 1
    before = Unchanged(state)
    with pytest.warns(statex.StatexWarning, match="SX920"), pytest.raises(RuntimeError):
        whole(new).load_state_dict(state)
    before.check()


RENAMED = "rename part bn -> norm"


@pytest.mark.parametrize("where", ["alone", "inside"])
@pytest.mark.parametrize("assign", [False, True])
def test_a_renamed_batch_norm_is_loaded_by_its_own_version(where: str, assign: bool) -> None:
    class Renamed(nn.Module):
        def __init__(self, name: str) -> None:
            super().__init__()
            setattr(self, name, nn.BatchNorm1d(2))

    class Seen(nn.BatchNorm1d):
        def _load_from_state_dict(self, state: Any, prefix: str, noted: Any, *rest: Any) -> None:
            seen.append((prefix, dict(noted)))
            super()._load_from_state_dict(state, prefix, noted, *rest)

    seen: list[tuple[str, dict[str, Any]]] = []
    inner = Renamed("norm")
    inner.norm = Seen(2)
    statex.attach(inner, RENAMED)
    whole = (lambda net: net) if where == "alone" else Outer
    state = whole(Renamed("bn")).state_dict()
    path = "bn" if where == "alone" else "parts.net.bn"
    state._metadata[path]["mark"] = "of the old place"
    state._metadata[path]["assign_to_params_buffers"] = not assign  # left over from another load
    new = whole(inner)
    new.load_state_dict(state, assign=assign)
    ((prefix, noted),) = seen
    assert prefix == f"{path.removesuffix('bn')}norm."
    expected = {"version": 2, "mark": "of the old place"}
    assert noted == (expected | {"assign_to_params_buffers": True} if assign else expected)
    assert state._metadata[path]["mark"] == "of the old place"
    # The next load is torch's alone.
    new.load_state_dict(new.state_dict())
    assert seen[-1][1] == {"version": 2}


def test_what_a_caller_calls_metadata_is_none_of_our_business() -> None:
    class Seen(nn.BatchNorm1d):
        def _load_from_state_dict(self, state: Any, prefix: str, noted: Any, *rest: Any) -> None:
            seen.append(dict(noted))
            super()._load_from_state_dict(state, prefix, noted, *rest)

    seen: list[dict[str, Any]] = []
    metadata = {"parts.net.bn": {"version": 1}, "epoch": 3}
    old, new = Outer(nn.ModuleDict({"bn": nn.BatchNorm1d(2)})), Outer(nn.ModuleDict({"norm": Seen(2)}))
    statex.attach(new.parts["net"], RENAMED)
    new.load_state_dict(dict(old.state_dict()))
    assert seen == [{}]
    assert metadata == {"parts.net.bn": {"version": 1}, "epoch": 3}


@pytest.mark.parametrize("where", ["alone", "inside"])
def test_a_missing_counter_is_missed_after_a_rename(where: str) -> None:
    """With the wrong version, which a plain rename in a hook leaves, BatchNorm would make one up."""

    class Renamed(nn.Module):
        def __init__(self, name: str) -> None:
            super().__init__()
            setattr(self, name, nn.BatchNorm1d(2))

    whole = (lambda net: net) if where == "alone" else Outer
    new = whole(statex.attach(Renamed("norm"), RENAMED, assume=0))
    state = whole(Renamed("bn")).state_dict()
    path = "" if where == "alone" else "parts.net."
    del state[f"{path}bn.num_batches_tracked"]
    before = Unchanged(state)
    with pytest.raises(
        RuntimeError, match=rf'Missing key\(s\) in state_dict: "{re.escape(path)}norm.num_batches_tracked"'
    ):
        new.load_state_dict(state)
    before.check()
    assert fronts(new) == []
    state._metadata[f"{path}bn"]["version"] = 1
    assert new.load_state_dict(state).missing_keys == []


def test_what_is_put_in_front_is_gone_after_an_error_inside() -> None:
    class Breaks(nn.Linear):
        def _load_from_state_dict(self, *rest: Any, **named: Any) -> None:
            raise KeyError("broken")

    class Two(nn.Module):
        def __init__(self, second: nn.Module, *names: str) -> None:
            super().__init__()
            for name, one in zip(names, (nn.Linear(1, 1), second, nn.BatchNorm1d(1)), strict=True):
                setattr(self, name, one)

    new = statex.attach(Two(Breaks(1, 1), "x", "b", "c"), "rename part a -> x")
    state = Two(nn.Linear(1, 1), "a", "b", "c").state_dict()
    before = Unchanged(state)
    with pytest.raises(KeyError, match="broken"):
        new.load_state_dict(state)
    assert fronts(new) == []
    before.check()


def test_what_is_left_of_a_broken_load_means_nothing_to_the_next() -> None:
    """A hook between the modules can raise where nobody is in front to see it."""

    class Pair(nn.Module):
        def __init__(self, first: str) -> None:
            super().__init__()
            setattr(self, first, nn.Linear(1, 1))
            self.norm = nn.BatchNorm1d(1)

    def breaks(*_: object) -> None:
        raise KeyError("broken")

    new = statex.attach(Pair("x"), "rename part a -> x")
    handle = new.x.register_load_state_dict_post_hook(breaks)
    with pytest.raises(KeyError):
        new.load_state_dict(Pair("a").state_dict())
    handle.remove()
    twin = copy.deepcopy(new)
    old = trained(Pair("x"), 3)
    for one in (new, twin, pickle.loads(pickle.dumps(nn.Sequential(new.norm)))):
        one.load_state_dict(old.state_dict() if isinstance(one, Pair) else nn.Sequential(old.norm).state_dict())
    assert torch.equal(new.x.weight, old.x.weight)
    assert torch.equal(twin.norm.running_mean, old.norm.running_mean)
    assert fronts(new) == []


# --- versions of states -----------------------------------------------------------------------------------------------


def test_a_saved_state_carries_its_version(chain: statex.Chain) -> None:
    new = Outer(attached(chain, scale=2.0))
    state = saved(new)
    noted = state._metadata["parts.net"]
    assert noted["version"] == 1
    assert noted["statex"] == {"scheme": 1, "version": 3, "digests": list(chain.digests), "params": {"scale": 2.0}}
    assert list(state) == list(Outer(Net()).state_dict())
    again = Outer(attached(chain))
    again.load_state_dict(state)
    assert same_forward(new, again)


def test_the_version_decides_where_the_header_does_not() -> None:
    old, new = nn.Linear(2, 2), nn.Linear(2, 2)
    turned = statex.compile("set weight = transpose")
    statex.attach(new, turned)
    with pytest.raises(RuntimeError, match="SX806") as caught:
        new.load_state_dict(old.state_dict())
    assert "assume=0" in str(caught.value)
    new.load_state_dict(new.state_dict())
    statex.detach(new)
    statex.attach(new, turned, assume=0)
    new.load_state_dict(old.state_dict())
    assert torch.equal(new.weight, old.weight.T)
    turned_once = saved(new)
    new.load_state_dict(turned_once)
    assert torch.equal(new.weight, old.weight.T)
    statex.detach(new)
    statex.attach(new, turned, assume=1)
    new.load_state_dict(old.state_dict())
    assert torch.equal(new.weight, old.weight)


def test_a_version_is_migrated_from(chain: statex.Chain, tmp_path: Path) -> None:
    """A state that was saved at layout 2, when the chain had two steps."""
    folder = tmp_path / "earlier"
    folder.mkdir()
    for step in chain.steps[:2]:
        (folder / step.name).write_text(f"# as it was\n{step.parts[0].program.source.text}")
    old = statex.attach(trained(Net(2)), statex.migrations(folder))
    new = attached(chain)
    new.load_state_dict(saved(old))
    assert same_forward(old, new)


def test_an_edited_step_is_found(chain: statex.Chain, tmp_path: Path) -> None:
    old = attached(chain)
    path = tmp_path / "chain" / "0002_fuse_qk.sx"
    path.write_text(path.read_text().replace("q.{t:weight|bias}, k.{t}", "k.{t:weight|bias}, q.{t}"))
    new = attached(statex.migrations(tmp_path / "chain"))
    with pytest.raises(RuntimeError, match="SX808") as caught:
        new.load_state_dict(old.state_dict())
    assert "0002_fuse_qk.sx" in str(caught.value)


def test_a_later_version_is_refused(chain: statex.Chain, tmp_path: Path) -> None:
    old = attached(chain)
    (tmp_path / "chain" / "0003_scale_head.sx").unlink()
    new = statex.attach(Net(2), statex.migrations(tmp_path / "chain"))
    with pytest.raises(RuntimeError, match="SX809"):
        new.load_state_dict(old.state_dict())


@pytest.mark.parametrize(
    "stamp",
    [
        "text", {}, {"scheme": 2}, {"scheme": 1}, {"scheme": 1, "version": "3", "digests": []},
        {"scheme": 1, "version": 3, "digests": ["x"]}, {"scheme": 1, "version": True, "digests": ["x"]},
        {"scheme": 1, "version": 1, "digests": [1]}, {"scheme": 1, "version": -1, "digests": []},
    ],
)  # fmt: skip
def test_versions_of_no_known_form_are_refused(stamp: Any, chain: statex.Chain) -> None:
    new = attached(chain)
    state = new.state_dict()
    state._metadata[""]["statex"] = stamp
    with pytest.raises(RuntimeError, match="SX809"):
        new.load_state_dict(state)


@pytest.mark.parametrize("layout", [0, 1, 2])
def test_a_version_that_the_header_contradicts_is_refused(layout: int, chain: statex.Chain) -> None:
    new = attached(chain)
    state = Net(layout).state_dict()
    state._metadata[""]["statex"] = new.state_dict()._metadata[""]["statex"]
    with pytest.raises(RuntimeError, match="SX807") as caught:
        new.load_state_dict(state)
    assert f"its version says layout 3, and the state of Net fits layout {layout} and not this one" in str(caught.value)


def test_a_version_whose_steps_cannot_be_carried_out_is_refused(chain: statex.Chain) -> None:
    new = attached(chain, assume=1)
    state = Net(1).state_dict()
    for key in [key for key in state if key.startswith("q.")]:
        del state[key]
    with pytest.raises(RuntimeError, match="SX807") as caught:
        new.load_state_dict(state)
    assert "q." in str(caught.value)


def test_what_is_assumed_holds_for_states_without_a_version_alone(chain: statex.Chain) -> None:
    new = attached(chain, assume=0)
    old = trained(Net(0))
    new.load_state_dict(old.state_dict())
    assert same_forward(old, new)
    new.load_state_dict(new.state_dict())
    assert same_forward(old, new)
    with pytest.raises(RuntimeError, match="SX807") as caught:
        new.load_state_dict(unstamped(new.state_dict()))
    assert "`assume` says layout 0" in str(caught.value)


def test_part_of_a_state_of_a_stated_layout_is_migrated(chain: statex.Chain) -> None:
    new = attached(chain, assume=1)
    state = trained(Net(1)).state_dict()
    del state["norm.running_mean"]
    found = new.load_state_dict(state, strict=False)
    assert found.missing_keys == ["norm.running_mean"]
    assert found.unexpected_keys == []
    assert torch.equal(new.qk.weight[:3], state["q.weight"])


def test_part_of_an_old_state_without_a_version_is_said_to_be_unknown(chain: statex.Chain) -> None:
    new = attached(chain)
    before = copy.deepcopy(new.state_dict())
    state = {"bn.weight": torch.ones(4)}
    with pytest.warns(statex.StatexWarning, match="SX920"):
        found = new.load_state_dict(state, strict=False)
    assert found.unexpected_keys == ["bn.weight"]
    assert all(torch.equal(value, before[key]) for key, value in new.state_dict().items())


def test_part_of_a_present_state_is_loaded_without_a_word(chain: statex.Chain) -> None:
    new = attached(chain)
    new.load_state_dict({"norm.weight": torch.full((4,), 3.0)}, strict=False)
    assert new.norm.weight[0] == 3


def test_empty_states_pass(chain: statex.Chain) -> None:
    for state in ({}, OrderedDict()):
        found = Outer(attached(chain)).load_state_dict(state, strict=False)
        assert found == Outer(Net()).load_state_dict(state, strict=False)


def test_what_fits_no_layout_is_torchs_to_report(chain: statex.Chain) -> None:
    state = Net(0).state_dict()
    state["head.weight"] = torch.ones(5, 6)
    with pytest.warns(statex.StatexWarning, match="SX920"), pytest.raises(RuntimeError, match="Missing key"):
        attached(chain).load_state_dict(state)


def test_steps_that_do_nothing_to_a_state_leave_no_doubt() -> None:
    chain = "drop? rope.freqs\nset? gone.weight = it * 2"
    module = statex.attach(nn.Linear(2, 2), chain)
    module.load_state_dict(nn.Linear(2, 2).state_dict())
    with_more = {**nn.Linear(2, 2).state_dict(), "rope.freqs": torch.ones(3)}
    module.load_state_dict(with_more)


def test_warnings_of_steps_are_warnings() -> None:
    old = nn.Linear(2, 2, bias=False)
    state = {"weight": old.weight, "tied": old.weight}
    module = statex.attach(nn.Module(), "set tied = it * 2\nrename tied -> other")
    for name in ("weight", "other"):
        module.register_parameter(name, nn.Parameter(torch.zeros(2, 2)))
    with pytest.warns(statex.StatexWarning, match="SX901"):
        module.load_state_dict(state)


def test_two_fitting_layouts_are_an_error(tmp_path: Path) -> None:
    (tmp_path / "0001_turn.sx").write_text("set a.weight = transpose")
    (tmp_path / "0002_name.sx").write_text("rename part a -> b")
    module = statex.attach(nn.ModuleDict({"b": nn.Linear(2, 2)}), statex.migrations(tmp_path))
    with pytest.raises(RuntimeError, match="any of the layouts 0 and 1"):
        module.load_state_dict(nn.ModuleDict({"a": nn.Linear(2, 2)}).state_dict())
    module.load_state_dict(nn.ModuleDict({"b": nn.Linear(2, 2)}).state_dict())


# --- parameters -------------------------------------------------------------------------------------------------------


def test_parameters_reach_the_steps_that_declare_them(chain: statex.Chain) -> None:
    old, new = trained(Net(2)), attached(chain, scale=4.0)
    new.load_state_dict(old.state_dict())
    assert torch.equal(new.out.fc.weight, old.head.weight * 4)


@pytest.mark.parametrize(
    ("rules", "given", "code"),
    [
        ("param n: int\nset a = it * n", {}, "SX204"),
        ("param n: int\nset a = it * n", {"m": 1, "n": 1}, "SX205"),
        ("param n: int\nset a = it * n", {"n": "x"}, "SX206"),
        ("rename a -> b", {"assume": 2}, "SX812"),
        ("rename a -> b", {"assume": -1}, "SX812"),
        ("rename a -> b", {"assume": True}, "SX812"),
        ("input ft\nset a = it + ft::{key}", {}, "SX805"),
    ],
)
def test_what_is_wrong_is_said_when_a_chain_is_attached(rules: str, given: dict[str, Any], code: str) -> None:
    module = nn.Linear(1, 1)
    with pytest.raises(statex.StatexError) as caught:
        statex.attach(module, rules, **given)
    assert [one.code.id for one in caught.value.diagnostics] == [code]
    assert not module._load_state_dict_pre_hooks


# --- hooks ------------------------------------------------------------------------------------------------------------


def test_attached_twice_is_once(chain: statex.Chain) -> None:
    module = attached(chain)
    assert statex.attach(module, chain) is module
    assert len(module._load_state_dict_pre_hooks) == 1
    for other, given in (("rename a -> b", {}), (chain, {"scale": 3.0}), (chain, {"assume": 0})):
        with pytest.raises(statex.StatexError) as caught:
            statex.attach(module, other, **given)
        assert [one.code.id for one in caught.value.diagnostics] == ["SX810"]


def test_detached_is_as_torch_has_it(chain: statex.Chain) -> None:
    module = attached(chain)
    statex.detach(module)
    statex.detach(module)
    assert not module._load_state_dict_pre_hooks
    assert not module._load_state_dict_post_hooks
    assert not module._state_dict_hooks
    assert "statex" not in module.state_dict()._metadata[""]
    with pytest.raises(RuntimeError, match="Missing key"):
        module.load_state_dict(Net(0).state_dict())


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda module: pickle.loads(pickle.dumps(module))])
def test_copies_and_pickles_load_their_past_too(copied: Any, chain: statex.Chain) -> None:
    old, new = trained(Net(0)), copied(Outer(attached(chain)))
    new.parts["net"].load_state_dict(old.state_dict())
    assert same_forward(old, new.parts["net"])
    statex.attach(new.parts["net"], chain)
    assert len(new.parts["net"]._load_state_dict_pre_hooks) == 1


def test_one_module_at_two_places_is_loaded_at_both(chain: statex.Chain) -> None:
    old, new = trained(Net(0)), attached(chain)
    twice = nn.ModuleDict({"a": new, "b": new})
    twice.load_state_dict(nn.ModuleDict({"a": old, "b": old}).state_dict())
    assert same_forward(old, new)


def test_a_module_with_a_past_inside_of_another(chain: statex.Chain) -> None:
    """The outer chain moves the inner module, whose own chain then finds its version at the new place."""
    old = trained(Outer(Net(0)))
    new = Outer(attached(chain))
    new.rest = new.before
    del new.before
    statex.attach(new, "rename part before -> rest")
    state = old.state_dict()
    before = Unchanged(state)
    new.load_state_dict(state)
    before.check()
    assert torch.equal(new.rest.weight, old.before.weight)
    assert same_forward(old.parts["net"], new.parts["net"])
    assert fronts(new) == []


@pytest.mark.parametrize(
    "rules",
    [
        "set weight = resize([3, 2])",
        "set weight = it[:3]",
        "set ** = cast(f32)",
        "set weight = transpose | transpose",
        "set bias = pad([0, 3 - size(it, 0)])",
        "set weight = resize([3, 2])\nset ** = cast(f32)",
    ],
)
def test_steps_that_would_change_nothing_leave_no_doubt(rules: str) -> None:
    """It is the same whether a plain state has been through them or not."""
    net = nn.Linear(2, 3)
    state = {key: value.clone() for key, value in nn.Linear(2, 3).state_dict().items()}
    statex.attach(net, rules)
    net.load_state_dict(state)
    assert all(torch.equal(value, state[key]) for key, value in net.named_parameters())


@pytest.mark.parametrize("rules", ["set weight = flip(0)", "set bias = it + 0", "set weight, bias = resize([3])"])
def test_steps_that_may_change_something_leave_a_doubt(rules: str) -> None:
    net = nn.BatchNorm1d(3, track_running_stats=False)
    statex.attach(net, f"{rules}\nset weight = roll(1)")
    with pytest.raises(RuntimeError, match="SX806"):
        net.load_state_dict(dict(net.state_dict()))


def test_inner_versions_go_where_an_outer_chain_moves_them() -> None:
    class Holder(nn.Module):
        def __init__(self, name: str) -> None:
            super().__init__()
            self.add_module(name, statex.attach(nn.Linear(2, 2), "set weight = transpose"))

    old, new = Holder("a"), statex.attach(Holder("b"), "rename part a -> b")
    state = old.state_dict()
    new.load_state_dict(state)
    assert torch.equal(new.b.weight, old.a.weight)
    del state._metadata["a"]["statex"]
    with pytest.raises(RuntimeError, match="SX806"):
        new.load_state_dict(state)


def test_only_modules_have_a_past() -> None:
    with pytest.raises(TypeError, match="this is a dict"):
        statex.attach({}, "rename a -> b")  # type: ignore[type-var]


# --- wrappers ---------------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_compiled_module_loads_its_past(when: str, chain: statex.Chain) -> None:
    old = trained(Net(0))
    if when == "before":
        new: Any = torch.compile(attached(chain))
    else:
        new = torch.compile(Net())
        assert statex.attach(new, chain) is new
    new.load_state_dict(torch.compile(old).state_dict())
    assert same_forward(old, new._orig_mod)
    assert new.state_dict()._metadata["_orig_mod"]["statex"]["version"] == 3
    new._orig_mod.load_state_dict(old.state_dict())
    statex.detach(new)
    assert not new._orig_mod._load_state_dict_pre_hooks


DDP = """
import sys
import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel as DDP
import statex
from tests.migrating.nets import Net, same_forward, trained

def work(rank, folder, chain):
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    old, new = trained(Net(0)), DDP(statex.attach(Net(), chain))
    new.load_state_dict(DDP(old).state_dict())
    assert same_forward(old, new.module)
    assert new.state_dict()._metadata["module"]["statex"]["version"] == 3
    other = DDP(Net())
    statex.attach(other, chain)
    other.load_state_dict({f"module.{key}": value for key, value in Net(1).state_dict().items()})
    new.train()(torch.ones(2, 4)).sum().backward()
    dist.barrier()
    dist.destroy_process_group()
    print("done", rank)

if __name__ == "__main__":
    folder = sys.argv[1]
    arguments = (folder, statex.migrations(f"{folder}/chain"))
    torch.multiprocessing.start_processes(work, arguments, nprocs=2, start_method="fork")
"""


def test_two_processes_load_their_past(chain: statex.Chain, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(DDP)
    root = str(Path(__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(script), str(tmp_path)],
        env={"PYTHONPATH": root, "PATH": "", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.split()) == ["0", "1", "done", "done"]


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_full_state_is_migrated_for_fsdp(layout: int, chain: statex.Chain, tmp_path: Path) -> None:
    """`set_model_state_dict` matches keys before hooks run: it is given what `migrate_state` returns."""
    import torch.distributed as dist
    from torch.distributed.checkpoint.state_dict import StateDictOptions, set_model_state_dict
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/meeting", rank=0, world_size=1)
    try:
        old, new = trained(Net(layout)), attached(chain)
        fully_shard(new, mesh=init_device_mesh("cpu", (1,)))
        state = statex.migrate_state(new, old.state_dict())
        set_model_state_dict(new, state, options=StateDictOptions(full_state_dict=True))
        assert new.state_dict()._metadata[""]["statex"]["version"] == 3
        plain = Net()
        plain.load_state_dict(
            {key: getattr(it, "full_tensor", lambda it=it: it)() for key, it in new.state_dict().items()}
        )
        assert same_forward(old, plain)
    finally:
        dist.destroy_process_group()


# --- without hooks ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_state_is_migrated_without_loading(layout: int, chain: statex.Chain) -> None:
    old, holder = trained(Outer(Net(layout))), Outer(attached(chain))
    state = old.state_dict()
    before = Unchanged(state)
    migrated = statex.migrate_state(holder, state)
    before.check()
    assert set(migrated) == set(Outer(Net()).state_dict())
    assert migrated["before.weight"] is state["before.weight"]
    assert migrated._metadata["parts.net.norm"] == {"version": 2}
    assert migrated._metadata[""] == {"version": 1}
    assert ("statex" in migrated._metadata["parts.net"]) == (layout < 3)
    plain = Outer(Net())
    plain.load_state_dict(migrated)
    assert same_forward(old, plain)
    again = statex.migrate_state(holder, migrated)
    assert all(again[key] is value for key, value in migrated.items())
    assert again._metadata == migrated._metadata
    holder.load_state_dict(migrated)


def test_a_plain_dict_gets_no_metadata(chain: statex.Chain) -> None:
    migrated = statex.migrate_state(attached(chain), dict(Net(0).state_dict()))
    assert not hasattr(migrated, "_metadata")
    assert set(migrated) == set(Net().state_dict())


def test_to_migrate_takes_a_chain() -> None:
    with pytest.raises(statex.StatexError) as caught:
        statex.migrate_state(Net(), Net(0).state_dict())
    assert [one.code.id for one in caught.value.diagnostics] == ["SX811"]


def test_errors_of_a_migration_are_raised() -> None:
    module = statex.attach(nn.Linear(2, 2), "set weight = transpose")
    with pytest.raises(statex.StatexError) as caught:
        statex.migrate_state(module, nn.Linear(2, 2).state_dict())
    assert [one.code.id for one in caught.value.diagnostics] == ["SX806"]


# --- other rules ------------------------------------------------------------------------------------------------------


def test_other_rules_say_that_the_version_may_not_hold(chain: statex.Chain, tmp_path: Path) -> None:
    module = attached(chain)
    torch.save(module.state_dict(), tmp_path / "in.pth")
    done = statex.convert(tmp_path / "in.pth", tmp_path / "out.pth", "set norm.weight = it * 2")
    assert [one.code.id for one in done.warnings] == ["SX921"]
    state = torch.load(tmp_path / "out.pth", weights_only=True)
    assert state._metadata == module.state_dict()._metadata
    assert statex.compile("order natural").plan(tmp_path / "in.pth").warnings == ()
    module.load_state_dict(state)
    with pytest.warns(statex.StatexWarning, match="SX921"):
        renamed = statex.compile("rename part norm -> bn").apply(state)
    with pytest.raises(RuntimeError, match=r"Missing key"):
        statex.attach(Net(), chain).load_state_dict(renamed)
