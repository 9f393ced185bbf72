"""Each parameter finds its own moments when torch loads the result, whatever the order of keys and modules."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import statex
from tests.effort import examples

Checkpoint = dict[str, Any]


def layers(*names: str) -> nn.Module:
    """Return a model of square layers, in this order: all of one shape, so that only their order tells them apart."""
    model = nn.Module()
    for name in names:
        model.add_module(name, nn.Linear(3, 3))
    return model


def trained(model: nn.Module, **options: Any) -> Checkpoint:
    """Return a model with its optimizer after a step."""
    torch.manual_seed(0)
    optimizer = torch.optim.Adam(model.parameters(), **options)
    for p in model.parameters():
        p.grad = torch.randn_like(p)
    optimizer.step()
    return {"model": model.state_dict(), "optimizer": optimizer.state_dict()}


def moments(model: nn.Module, checkpoint: Checkpoint) -> dict[str, Tensor]:
    """Return the moments that torch has for each parameter once a model and its optimizer are loaded."""
    model.load_state_dict(checkpoint["model"])
    optimizer = torch.optim.Adam(model.parameters())
    optimizer.load_state_dict(checkpoint["optimizer"])
    return {name: optimizer.state[p]["exp_avg"] for name, p in model.named_parameters()}


def same(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> bool:
    return found.keys() == wanted.keys() and all(torch.equal(found[name], tensor) for name, tensor in wanted.items())


# --- a target whose modules are in another order --------------------------------------------------------------------


@pytest.mark.parametrize("follow", ["", "follow 'optimizer'\n"])
@pytest.mark.parametrize("rule", ["rename part a -> c", "rename { a.{t} -> b.{t}; b.{t} -> c.{t} }"])
def test_renamed_modules_that_the_target_has_in_another_order(rule: str, follow: str) -> None:
    before = trained(layers("a", "b"))
    old = moments(layers("a", "b"), before)
    names = {"a": "c", "b": "b"} if "part" in rule else {"a": "b", "b": "c"}
    for order in (("b", "c"), ("c", "b")):
        after = statex.compile(follow + rule).apply(before, root="model", target=layers(*order))
        wanted = {f"{names[name[0]]}{name[1:]}": tensor for name, tensor in old.items()}
        assert same(moments(layers(*order), after), wanted), order


def test_a_target_in_another_order_without_any_change() -> None:
    before = trained(layers("a", "b"))
    rules = statex.compile("")
    swapped = rules.apply(before, root="model", target=layers("b", "a"))
    assert same(moments(layers("b", "a"), swapped), moments(layers("a", "b"), before))
    assert not rules.plan(before, root="model", target=layers("a", "b")).followed
    kept = rules.apply(before, root="model", target=layers("a", "b"))
    assert kept["optimizer"] == before["optimizer"]


def test_it_is_said_where_the_target_has_another_order_and_nothing_follows() -> None:
    before = trained(layers("a", "b"))
    # One of the two matrices, and nothing says which.
    before["optimizer"]["param_groups"][0]["params"] = [0]
    before["optimizer"]["state"] = {0: before["optimizer"]["state"][0]}
    rules = statex.compile("rename part a -> c")
    (warning,) = [w for w in rules.plan(before, root="model", target=layers("b", "c")).warnings if w.code.id == "SX916"]
    assert warning.notes[0].text == "it knows them by position, and the target has them in another order"
    assert not rules.plan(before, root="model", target=layers("c", "b")).warnings


# --- what a run writes is read by the next one ----------------------------------------------------------------------


def numbered(*order: int) -> nn.Module:
    model = nn.Module()
    model.l = nn.ModuleList(nn.Linear(3, 3) for _ in order)
    return model


REVERSED = "rename l.{i:int}.{t} -> l.{2 - i}.{t}"


@pytest.mark.parametrize("follow", ["", "follow 'optimizer'\n"])
def test_layers_in_reverse_and_then_one_less(follow: str) -> None:
    """The keys stay where they were, and the model has the layers in the order of their numbers."""
    before = trained(numbered(0, 1, 2))
    old = moments(numbered(0, 1, 2), before)
    plan = statex.compile(follow + REVERSED).plan(before, root="model")
    assert str(plan).count("numbered in the order that these names had before") == 1
    after = statex.compile(follow + REVERSED).apply(before, root="model")
    swapped = {f"l.{2 - int(name[2])}{name[3:]}": tensor for name, tensor in old.items()}
    assert same(moments(numbered(0, 1, 2), after), swapped)
    shorter = statex.compile(f"{follow}drop l.2.**").apply(after, root="model")
    assert same(moments(numbered(0, 1), shorter), {k: v for k, v in swapped.items() if not k.startswith("l.2")})
    back = statex.compile(follow + REVERSED).apply(after, root="model")
    assert same(moments(numbered(0, 1, 2), back), old)
    assert list(back["model"]) == list(before["model"])


@pytest.mark.parametrize("order", ["", "\norder like target"])
@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("first", ["a", "z"])
@pytest.mark.parametrize("back_to", [False, True])
def test_there_and_back_by_way_of_a_target(turned: bool, order: str, first: str, back_to: bool) -> None:
    """Both for names that sort as their modules do, and for others, whose order the undoing rules do not bring back."""
    turn = f"\nset {first}.weight = transpose" if turned else ""
    rules = statex.compile(
        f"rename part {first} -> c{order}" if not turn else f"{turn}\nrename part {first} -> c{order}"
    )
    before = trained(layers(first, "b"))
    old = moments(layers(first, "b"), before)
    there = rules.apply(before, root="model", target=layers("b", "c"))
    given = {"target": layers(first, "b")} if back_to else {}
    natural = "\norder natural" if order and first == "a" else ""
    undo = statex.compile(f"rename part c -> {first}{turn}{natural}")
    back = undo.apply(there, root="model", **given)
    assert same(moments(layers(first, "b"), back), old)
    if list(back["model"]) == list(before["model"]):
        assert back["optimizer"].keys() == before["optimizer"].keys()


@settings(max_examples=examples(15), deadline=None)
@given(st.permutations("abc"), st.permutations("abxy"), st.randoms(use_true_random=False), st.booleans())
def test_any_names_in_any_order_there_and_back(first: list[str], second: list[str], random: Random, by: bool) -> None:
    """Modules get new names, some of which others had, in a model of any order; the way back names no model."""
    before = trained(layers(*first))
    old = moments(layers(*first), before)
    names = dict(zip(first, second[:3], strict=True))
    order = random.sample(second[:3], 3)
    there = renamed(before, names, layers(*order))
    wanted = {f"{names[name[0]]}{name[1:]}": tensor for name, tensor in old.items()}
    assert same(moments(layers(*order), there), wanted)
    back = {new: old for old, new in names.items()}
    # With the same names in another order, nothing but the target says which order is meant.
    target = layers(*first) if by or {*first} == {*second[:3]} else None
    again = renamed(there, back, target)
    assert same(moments(layers(*first), again), old)


def renamed(checkpoint: Checkpoint, names: dict[str, str], target: nn.Module | None) -> Checkpoint:
    cases = "; ".join(f"{old}.{{t}} -> {new}.{{t}}" for old, new in names.items() if old != new)
    found: Checkpoint = statex.compile(f"rename {{ {cases} }}" if cases else "").apply(
        checkpoint, root="model", target=target
    )
    return found


def test_a_further_change_of_what_is_not_in_the_order_of_its_keys_needs_the_target() -> None:
    """The model could have the new name in the place of its key, or in that of its moments: nothing tells."""
    before = trained(layers("a", "b"))
    there = statex.compile("rename part a -> c").apply(before, root="model", target=layers("b", "c"))
    further = statex.compile("follow 'optimizer'\nrename part c -> d")
    with pytest.raises(statex.StatexError) as refused:
        further.apply(there, root="model")
    assert [one.code.id for one in refused.value.diagnostics] == ["SX341"]
    known = further.apply(there, root="model", target=layers("b", "d"))
    old = moments(layers("a", "b"), before)
    wanted = {name.replace("a.", "d."): tensor for name, tensor in old.items()}
    assert same(moments(layers("b", "d"), known), wanted)


def test_the_note_is_checked() -> None:
    before = trained(layers("a", "b"))
    there = statex.compile("rename part a -> c").apply(before, root="model", target=layers("b", "c"))
    assert there["optimizer"]["statex"]["names"] == [["b.weight", "b.bias", "c.weight", "c.bias"]]
    there["model"]["d.weight"] = there["model"].pop("c.weight")
    with pytest.raises(statex.StatexError) as refused:
        statex.compile("follow 'optimizer'\ndrop d.weight").apply(there, root="model")
    assert [one.code.id for one in refused.value.diagnostics] == ["SX342"]


# --- keys in another order than modules ------------------------------------------------------------------------------


@pytest.mark.parametrize("keys", [("l.a.w", "l.b", "m.w", "m.b"), ("l.b", "l.a.w", "m.w", "m.b"), ("l.a.w", "l.b")])
def test_modules_whose_own_keys_come_after_those_in_them(keys: tuple[str, ...]) -> None:
    """As in dicts that no module of torch has made; the optimizer has the parameters in the order of the keys."""
    torch.manual_seed(0)
    shapes = {key: (4, 4) if key.endswith("w") else (4,) for key in keys}
    params = {key: nn.Parameter(torch.randn(shape)) for key, shape in shapes.items()}
    optimizer = torch.optim.Adam([*params.values()])
    for p in params.values():
        p.grad = torch.randn_like(p)
    optimizer.step()
    before = {"model": {key: p.detach() for key, p in params.items()}, "optimizer": optimizer.state_dict()}
    after = statex.compile("follow 'optimizer'\nset l.a.w = transpose\nrename l.a.w -> l.x.w").apply(
        before, root="model"
    )
    for place, (new, old) in enumerate(zip(after["model"], keys, strict=True)):
        kept = optimizer.state[params[old]]["exp_avg"]
        assert torch.equal(after["optimizer"]["state"][place]["exp_avg"], kept.t() if new == "l.x.w" else kept), new


def test_keys_in_another_order_than_modules_where_both_fit() -> None:
    shapes = ["l.a.w", "l.w"]
    params = [nn.Parameter(torch.randn(2, 2)) for _ in shapes]
    optimizer = torch.optim.SGD(params, momentum=0.9)
    for p in params:
        p.grad = torch.randn_like(p)
    optimizer.step()
    before = {"model": dict(zip(shapes, params, strict=True)), "optimizer": optimizer.state_dict()}
    with pytest.raises(statex.StatexError) as refused:
        statex.compile("follow 'optimizer'\nset l.w = transpose").plan(before, root="model")
    assert [one.code.id for one in refused.value.diagnostics] == ["SX341"]


def test_averages_in_a_list_by_way_of_a_target() -> None:
    """As diffusers' `EMAModel` keeps them, in the order of the parameters."""
    model = layers("a", "b")
    averages = {name: torch.randn_like(p) for name, p in model.named_parameters()}
    before = {"model": model.state_dict(), "ema": {"decay": 0.9, "shadow_params": [*averages.values()]}}
    there = statex.compile("follow 'ema'\nrename part a -> c").apply(before, root="model", target=layers("b", "c"))
    named = zip((name for name, _ in layers("b", "c").named_parameters()), there["ema"]["shadow_params"], strict=True)
    assert same({name.replace("c.", "a."): tensor for name, tensor in named}, averages)
    back = statex.compile("follow 'ema'\nrename part c -> a").apply(there, root="model")
    assert same(dict(zip(averages, back["ema"]["shadow_params"], strict=True)), averages)
    assert back["ema"].keys() == before["ema"].keys()


# --- names that are given ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", ["rename part a -> c", "drop a.bias", ""])
@pytest.mark.parametrize("wrong", ["count", "name", "groups"])
def test_names_that_do_not_fit_are_an_error(rule: str, wrong: str) -> None:
    before = trained(layers("a", "b"))
    names = [name for name, _ in layers("a", "b").named_parameters()]
    given = {"count": [names[:-1]], "name": [[*names[:-1], "elsewhere"]], "groups": [names[:1], names[1:]]}[wrong]
    with pytest.raises(statex.StatexError) as refused:
        statex.compile(rule).plan(before, root="model", param_names=given)
    assert [one.code.id for one in refused.value.diagnostics] == ["SX347"]
    assert not statex.compile(rule).plan(before, root="model", param_names=[names]).warnings


def test_names_that_were_given_need_not_be_given_again() -> None:
    """Without them, nothing says which of the matrices the optimizer knows."""
    before = trained(layers("a", "b"))
    before["optimizer"]["param_groups"][0]["params"] = [0]
    before["optimizer"]["state"] = {0: before["optimizer"]["state"][2]}
    after = statex.compile("rename part a -> c").apply(before, root="model", param_names=[["b.weight"]])
    shorter = statex.compile("follow 'optimizer'\ndrop c.weight").apply(after, root="model")
    assert shorter["optimizer"]["state"].keys() == {0}
    gone = statex.compile("follow 'optimizer'\ndrop b.weight").apply(after, root="model")
    assert gone["optimizer"]["state"] == {}


# --- new parameters, and what is said ---------------------------------------------------------------------------------


def grouped(model: nn.Module) -> torch.optim.Optimizer:
    found = [*model.parameters()]
    return torch.optim.Adam(
        [{"params": [p for p in found if p.ndim > 1]}, {"params": [p for p in found if p.ndim < 2]}]
    )


def trained_in_groups(model: nn.Module) -> tuple[Checkpoint, torch.optim.Optimizer]:
    optimizer = grouped(model)
    for p in model.parameters():
        p.grad = torch.randn_like(p)
    optimizer.step()
    return {"model": model.state_dict(), "optimizer": optimizer.state_dict()}, optimizer


def kept(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    found = {name: optimizer.state.get(p) for name, p in model.named_parameters()}
    return {name: entry["exp_avg"] for name, entry in found.items() if entry}


@pytest.mark.parametrize("missing", [False, True])
def test_a_new_head_has_the_groups_of_the_old_one(missing: bool) -> None:
    old, new = layers("body", "head"), layers("body")
    new.head = nn.Linear(3, 5)
    before, optimizer = trained_in_groups(old)
    added = "allow missing head.**" if missing else "add head.weight = zeros([5, 3])\nadd head.bias = zeros([5])"
    target = new if missing else None
    after = statex.compile(f"follow 'optimizer'\ndrop head.**\n{added}").apply(before, root="model", target=target)
    resumed = grouped(new)
    resumed.load_state_dict(after["optimizer"])
    body = {name: tensor for name, tensor in kept(old, optimizer).items() if name.startswith("body")}
    assert same(kept(new, resumed), body)


def test_what_is_dropped_and_comes_back_has_its_groups_again() -> None:
    old = layers("head", "body")
    before, optimizer = trained_in_groups(old)
    there = statex.compile("drop head.**").apply(before, root="model")
    rules = "follow 'optimizer'\nadd head.weight = ones([3, 3])\nadd head.bias = ones([3])"
    back = statex.compile(rules).apply(there, root="model")
    resumed = grouped(old)
    resumed.load_state_dict(back["optimizer"])
    body = {name: tensor for name, tensor in kept(old, optimizer).items() if name.startswith("body")}
    assert same(kept(old, resumed), body)


def test_the_warning_shows_the_statement_that_the_optimizer_cannot_follow() -> None:
    before = trained(layers("a", "b"))
    plan = statex.compile("set a.weight = transpose\nset b.weight = it * 2\ndrop a.bias").plan(before, root="model")
    (warning,) = [one for one in plan.warnings if one.code.id == "SX916"]
    assert warning.span is not None
    assert warning.span.text == "set b.weight = it * 2"
