"""What stands beside a state and knows its parameters: a warning where, and only where, it would mean others."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_optimizer_state_dict
from torch.optim.swa_utils import AveragedModel

import statex
from tests.effort import examples

State = dict[str, Any]


def trained() -> tuple[nn.Module, torch.optim.Optimizer]:
    """Return a model whose parameters are of one shape each but for two, and its optimizer after a step."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3), nn.Linear(3, 3))
    optimizer = torch.optim.Adam(model.named_parameters())
    model(torch.rand(4, 3)).sum().backward()
    optimizer.step()
    return model, optimizer


def by_position() -> Any:
    found = trained()[1].state_dict()
    for group in found["param_groups"]:
        group.pop("param_names", None)
    return found


def by_name(*, flat: bool = False) -> Any:
    return get_optimizer_state_dict(*trained(), options=StateDictOptions(flatten_optimizer_state_dict=flat))


def averaged(prefix: str = "", part: str = "") -> State:
    return {prefix + key: tensor for key, tensor in trained()[0].state_dict().items() if part in key}


BESIDE: Mapping[str, tuple[Any, str, bool, bool]] = {
    "optimizer": (by_position(), "optimizer", True, False),
    "named": (trained()[1].state_dict(), "optimizer", True, True),
    "fsdp": (by_name(), "optimizer", False, True),
    "flat": (by_name(flat=True), "optimizer", False, True),
    "optimizer_states": ([by_position(), by_position()], "optimizer", True, False),
    "wrapped": ({"loss_scaler": 1.0, "inner": {"base": by_position()}}, "optimizer", True, False),
    "ema": (averaged(), "averaged model", False, True),
    "swa": (dict(AveragedModel(trained()[0]).state_dict()), "averaged model", False, True),
    "part": ({"decay": 0.9, "shadow": averaged(part="weight")}, "averaged model", False, True),
    "list": ({"shadow_params": [t.detach() for t in trained()[0].parameters()]}, "moving average", True, False),
}
"""What may stand beside a state, what it is called, and whether it knows parameters by their places and names."""
NOT_SCALED = (
    "it cannot follow: the `exp_avg` of the new `2.weight` does not follow from that of `2.weight`: "
    "`mul` does more than move elements"
)
PLACES = {"optimizer_states": "optimizer_states.0", "wrapped": "wrapped.inner.base", "part": "part.shadow"}

STATEMENTS = [
    "rename 0.weight -> first.weight", "rename prefix '' -> 'm.'", "rename { 0.bias -> 2.bias; 2.bias -> 0.bias }",
    "drop 0.bias", "drop 1.num_batches_tracked", "set 2.weight = transpose", "set 2.weight = it", "set 2.bias = it * 2",
    "add 3.weight = zeros([3, 3])", "add steps = zeros([1], dtype=i64)", "copy 0.bias -> 3.bias", "order natural",
    "order like ft", "split 0.bias -> 0.bias.{p:q|k|v} = chunk(3)",
    "merge 0.bias, 2.bias -> both = cat", "rename? nothing -> x", "set 1.num_batches_tracked = it + 1",
    "drop 0.weight; copy ft::0.weight -> 0.weight", "rename 0.weight -> x; rename x -> 0.weight",
    "set 0.weight = it * 2; drop 0.weight; add 0.weight = zeros([3, 3])",
]  # fmt: skip


def plain(state: Mapping[str, Any]) -> list[tuple[str, torch.Tensor]]:
    return [(key, value) for key, value in state.items() if value.is_floating_point()]


def same(one: list[tuple[str, torch.Tensor]], other: list[tuple[str, torch.Tensor]], *, named: bool) -> bool:
    """Say whether whoever knows the tensors by place, or by name, knows the same ones."""
    if named:
        one, other = sorted(one, key=lambda pair: pair[0]), sorted(other, key=lambda pair: pair[0])
    return len(one) == len(other) and all(
        (not named or a == b) and x.shape == y.shape and torch.equal(x, y)
        for (a, x), (b, y) in zip(one, other, strict=True)
    )


def said(warnings: Any) -> list[tuple[str, str]]:
    return [(one.code.id, one.headline) for one in warnings if one.code.id == "SX916"]


@settings(max_examples=examples(120), deadline=None)
@given(st.sampled_from(sorted(BESIDE)), st.lists(st.sampled_from(STATEMENTS), min_size=1, max_size=2, unique=True))
def test_it_is_said_where_what_it_knows_is_something_else(name: str, statements: list[str]) -> None:
    thing, what, places, names = BESIDE[name]
    state = trained()[0].state_dict()
    ft = {key: state[key] for key in reversed(state)}
    rules = statex.compile("input ft\n" + "\n".join(statements) + "\ndrop ft::**")
    try:
        plan = rules.plan({"model": state, name: thing, "epoch": 3}, root="model", inputs={"ft": ft})
    except statex.StatexError:
        return
    result = rules.apply({"model": state, name: thing}, root="model", inputs={"ft": ft})["model"]
    # A model with the same names has its parameters in the order of before, whatever the order of the state.
    by_names = names or dict(plain(result)).keys() == dict(plain(state)).keys()
    kept = all(same(plain(state), plain(result), named=named) for named in (False,) * places + (True,) * by_names)
    place = PLACES.get(name, name)
    found = said(plan.warnings)
    if kept and "copy ft" in "".join(statements):
        return
    assert bool(found or plan.followed) is not kept, (statements, found)
    assert not (found and plan.followed)
    assert what == "optimizer" or not plan.followed
    assert not found or found[0] == (
        "SX916", f"the {what} in `{place}` stays as it is, and the parameters that it knows do not"
    )  # fmt: skip


@pytest.mark.parametrize("name", sorted(BESIDE))
def test_in_files(tmp_path: Path, name: str) -> None:
    thing, what, places, names = BESIDE[name]
    checkpoint = {"model": trained()[0].state_dict(), name: thing}
    torch.save(checkpoint, tmp_path / "in.pth")
    # Moments do not follow through a product.
    dropped = statex.compile("root 'model'\ndrop 0.weight\nset 2.weight = it * 2")
    count = 2 if name == "optimizer_states" else 1
    place = PLACES.get(name, name)
    done = statex.convert(tmp_path / "in.pth", tmp_path / "out.pth", dropped)
    assert [headline.split("`")[0] for _, headline in said(done.warnings)] == [f"the {what} in "] * count
    (warning, *_) = [one for one in done.warnings if one.code.id == "SX916"]
    by = " and ".join(["position"] * places + ["name"] * names)
    assert [note.text for note in warning.notes] == [
        f"it knows them by {by}, and the program changes which parameters there are and their shapes or values",
        *([NOT_SCALED] if what == "optimizer" else [f"to take it through the same rules: follow '{place}'"]),
        f"to leave it out: drop value('{place.removesuffix('.0')}')",
    ]
    assert warning.span is not None
    assert warning.span.text == ("set 2.weight = it * 2" if what == "optimizer" else "drop 0.weight")
    for number, way in enumerate(("root 'model' -> ''", "root 'model'\n" + warning.notes[-1].text.partition(": ")[2])):
        found = statex.convert(
            tmp_path / "in.pth", tmp_path / f"{number}.pth", f"{way}\ndrop 0.weight\nset 2.weight = it * 2"
        )
        assert not said(found.warnings)
    moved = statex.compile("root 'model' -> 'net'\ndrop 0.weight\nset 2.weight = it * 2").plan(tmp_path / "in.pth")
    assert len(said(moved.warnings)) == count


@pytest.mark.parametrize(
    "beside",
    [
        {"optimizer": {"state": {}, "param_groups": []}},
        {"config": {"state": {"a": 1}, "param_groups": "none"}},
        {"loss": {"weight": torch.ones(7)}},
        {"best": torch.tensor(0.5), "scores": {"0.weight": torch.tensor(0.5)}},
        {"shadow_params": "no list"},
        {"lr_schedulers": [{"last_epoch": 3, "base_lrs": [0.1]}]},
        {"teacher": {"a.weight": torch.ones(3, 3), "0.weight": torch.ones(3, 3), "b": torch.ones(1)}},
    ],
)
def test_what_knows_no_parameters_is_not_warned_of(beside: State) -> None:
    plan = statex.compile("drop 0.weight").plan({"model": trained()[0].state_dict(), **beside}, root="model")
    assert not said(plan.warnings)


def test_where_the_whole_file_is_the_state() -> None:
    model = {f"m.{key}": tensor for key, tensor in trained()[0].state_dict().items()}
    checkpoint = {**model, "optim": by_name()}
    changed = statex.compile("root ''\nrename m.{k:**} -> n.{k}").plan(checkpoint)
    (warning,) = [one for one in changed.warnings if one.code.id == "SX916"]
    assert "the optimizer in `optim`" in warning.headline
    assert warning.notes[-1].text == "to leave it out: drop optim.**"
    assert not said(statex.compile("root ''\nrename m.{k:**} -> n.{k}\ndrop optim.**").plan(checkpoint).warnings)
    assert not said(statex.compile("root ''\ndrop optim.state.**").plan(checkpoint).warnings)
    checkpoint["optim"] = by_position()
    assert said(statex.compile("root ''\ndrop m.0.weight").plan(checkpoint).warnings)
    assert not said(statex.compile("root ''\ndrop m.0.weight\ndrop optim.**").plan(checkpoint).warnings)


def test_where_the_names_of_the_whole_file_are_joined() -> None:
    """As a distributed checkpoint of a flat dict has them: the optimizer is no dict of its own."""
    model = trained()[0].state_dict()
    checkpoint = {**model, **{f"optim.{key}": value for key, value in by_name(flat=True).items()}}
    changed = statex.compile("rename prefix '0.' -> '9.'").plan(checkpoint)
    (warning,) = [one for one in changed.warnings if one.code.id == "SX916"]
    assert "the optimizer in `optim`" in warning.headline
    assert warning.notes[-1].text == "to leave it out: drop optim.**"
    assert not said(statex.compile("rename prefix '0.' -> '9.'\ndrop optim.**").plan(checkpoint).warnings)
    assert not said(statex.compile("rename prefix '' -> ''").plan(checkpoint).warnings)
    alone = {**model, "state.0.weight": torch.ones(2), "net.state.0.bias": torch.ones(2)}
    assert not said(statex.compile("rename prefix '0.' -> '9.'").plan(alone).warnings)


def test_torch_takes_the_moments_of_one_parameter_for_those_of_another() -> None:
    """What the warning is of: torch says nothing."""
    model, optimizer = trained()
    for rules in ("rename { 0.{p} -> 2.{p}; 2.{p} -> 0.{p} }\nset 1.weight = it * 2", "set 0.weight = it * 2"):
        checkpoint = {"model": model.state_dict(), "optimizer": by_position()}
        assert said(statex.compile(rules).plan(checkpoint, root="model").warnings)
        changed = statex.compile(rules).apply(checkpoint, root="model")
        other = trained()[0]
        other.load_state_dict(changed["model"])
        taken = torch.optim.Adam(other.parameters())
        taken.load_state_dict(changed["optimizer"])
        old, new = optimizer.param_groups[0]["params"], taken.param_groups[0]["params"]
        assert not torch.equal(old[0], new[0])
        assert torch.equal(optimizer.state[old[0]]["exp_avg"], taken.state[new[0]]["exp_avg"])
