"""The order of parameters that keys tell: that of torch's own states stays, and cut ones come together again."""

from __future__ import annotations

from typing import Any

import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

import statex
from statex.following.module_order import module_order

MODULES = st.recursive(
    st.sampled_from([lambda: nn.Linear(2, 2), lambda: nn.BatchNorm1d(2), lambda: nn.Linear(2, 2, bias=False)]),
    lambda inner: st.lists(inner, min_size=1, max_size=3).map(lambda made: lambda: owning([one() for one in made])),
    max_leaves=8,
)


def owning(parts: list[nn.Module]) -> nn.Module:
    """Return a module with parts, and with parameters of its own beside them."""
    module = nn.Module()
    for number, part in enumerate(parts):
        module.add_module(f"m{number}", part)
    module.scale = nn.Parameter(torch.ones(2))
    module.register_buffer("seen", torch.zeros(2))
    return module


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(MODULES, st.randoms())
def test_torchs_own_order_stays(make: Any, random: Any) -> None:
    model = make()
    keys = list(model.state_dict())
    assert module_order(keys) == keys
    names = [name for name, _ in model.named_parameters()]
    assert [key for key in module_order(keys) if key in set(names)] == names
    random.shuffle(keys)
    mixed = module_order(keys)
    assert sorted(mixed) == sorted(keys)
    assert module_order(mixed) == mixed


def test_weights_and_biases_that_are_split_one_after_the_other() -> None:
    """The keys have the three weights first; the model has weight and bias of each layer together."""
    torch.manual_seed(0)
    old, new = nn.Module(), nn.Module()
    old.qkv, old.o = nn.Linear(4, 12), nn.Linear(4, 4)
    new.q, new.k, new.v, new.o = (nn.Linear(4, 4) for _ in range(4))
    optimizer = torch.optim.Adam(old.parameters())
    for p in old.parameters():
        p.grad = torch.randn_like(p)
    optimizer.step()
    checkpoint = {"model": old.state_dict(), "optimizer": optimizer.state_dict()}
    found = statex.compile("split qkv.{t} -> {p:q|k|v}.{t} = chunk(3)").apply(checkpoint, root="model")
    new.load_state_dict(found["model"])
    resumed = torch.optim.Adam(new.parameters())
    resumed.load_state_dict(found["optimizer"])
    for slot in ("exp_avg", "exp_avg_sq"):
        weights = optimizer.state[old.qkv.weight][slot].chunk(3)
        biases = optimizer.state[old.qkv.bias][slot].chunk(3)
        for layer, weight, bias in zip((new.q, new.k, new.v), weights, biases, strict=True):
            assert torch.equal(resumed.state[layer.weight][slot], weight)
            assert torch.equal(resumed.state[layer.bias][slot], bias)
