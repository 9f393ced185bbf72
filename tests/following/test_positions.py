"""Each parameter finds its own moments when torch loads the result, whatever the order of keys and modules."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import statex

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
