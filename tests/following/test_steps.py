"""A step of the optimizer and the rules can be exchanged: the converted run goes on as the old one would have."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from typing import Any

import pytest
import torch

import statex

State = dict[str, Any]
Make = Callable[[Any], torch.optim.Optimizer]


class Lion(torch.optim.Optimizer):
    """The sign of an average of gradients: one slot of the parameter's shape, and no counter."""

    def __init__(self, params: Any, lr: float = 1e-2) -> None:
        super().__init__(params, {"lr": lr})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        for group in self.param_groups:
            for p in group["params"]:
                average = self.state[p].setdefault("exp_avg", torch.zeros_like(p))
                p.sub_((average * 0.9 + p.grad * 0.1).sign(), alpha=group["lr"])
                average.mul_(0.99).add_(p.grad, alpha=0.01)


OPTIMIZERS: Mapping[str, Make] = {
    "sgd": lambda params: torch.optim.SGD(params, lr=0.1),
    "momentum": lambda params: torch.optim.SGD(params, lr=0.1, momentum=0.9, weight_decay=0.01),
    "nesterov": lambda params: torch.optim.SGD(params, lr=0.1, momentum=0.9, nesterov=True),
    "adam": lambda params: torch.optim.Adam(params, lr=0.01),
    "adamw": lambda params: torch.optim.AdamW(params, lr=0.01, foreach=False),
    "amsgrad": lambda params: torch.optim.AdamW(params, lr=0.01, amsgrad=True),
    "adagrad": lambda params: torch.optim.Adagrad(params, lr=0.01),
    "rmsprop": lambda params: torch.optim.RMSprop(params, lr=0.01, momentum=0.9, centered=True),
    "adadelta": torch.optim.Adadelta,
    "adamax": torch.optim.Adamax,
    "nadam": torch.optim.NAdam,
    "radam": torch.optim.RAdam,
    "rprop": torch.optim.Rprop,
    "asgd": torch.optim.ASGD,
    "lion": Lion,
}
"""torch's optimizers that treat each element alone."""

RULES = {
    "renamed": "rename prefix '' -> 'net.'",
    "reordered": "order like ft\nrename text '.' -> '_'",
    "dropped": "drop b.weight",
    "transposed": "set {p:a|b|c}.weight = transpose",
    "fused": "merge a.weight as a, b.weight as b, c.weight as c -> fused.weight = cat(a, b, c)",
    "stacked": "merge a.weight as a, b.weight as b -> s = stack(b, a, dim=1)",
    "split": "split a.weight -> {p:q|k|v}.weight = chunk(3)",
    "unstacked": "split d.weight over e -> d.{e} = unstack",
    "pieces": "split a.weight -> q, k = sections([2, 4], dim=0)\nset q = flip(0) | roll(1, dims=1)",
    "rope": "set a.weight = rearrange('(h two) c -> (two h) c', two=2)",
    "sliced": "set a.weight = it[1:, ::2]",
    "chosen": "set a.weight = index_select(0, [5, 0, 3])",
    "reshaped": "set d.weight = permute(2, 0, 1) | reshape(6, -1)",
    "flat": "set d.weight = flatten(1) | unsqueeze(0)",
    "twice": "add e.weight = clone(a.weight)",
    "expanded": "set a.bias = unsqueeze(0) | expand(3, -1)",
}  # fmt: skip


def parameters(seed: int) -> State:
    torch.manual_seed(seed)
    shapes = {"a.weight": (6, 4), "a.bias": (6,), "b.weight": (6, 4), "c.weight": (6, 4), "d.weight": (3, 2, 4)}
    return OrderedDict((key, torch.randn(shape)) for key, shape in shapes.items())


def optimizer_of(state: State, make: Make) -> torch.optim.Optimizer:
    return make([torch.nn.Parameter(tensor.clone()) for tensor in state.values()])


def stepped(optimizer: torch.optim.Optimizer, grads: Sequence[State]) -> list[torch.Tensor]:
    """Return the parameters after steps with these gradients."""
    found = [p for group in optimizer.param_groups for p in group["params"]]
    for grad in grads:
        for p, g in zip(found, grad.values(), strict=True):
            p.grad = g.clone()
        optimizer.step()
    return [p.detach().clone() for p in found]


def exchanged(rules: str, make: Make, applied: Callable[[str, Any], Any]) -> None:
    """Hold that the rules after a step give what a step after the rules gives, in bits."""
    state = parameters(0)
    old = optimizer_of(state, make)
    now = dict(zip(state, stepped(old, [parameters(seed) for seed in (1, 2, 3)]), strict=True))
    converted = applied(rules, {"model": now, "optimizer": deepcopy(old.state_dict())})
    new = optimizer_of(converted["model"], make)
    new.load_state_dict(converted["optimizer"])
    last = [parameters(seed) for seed in (4, 5)]
    after = dict(zip(state, stepped(old, last), strict=True))
    wanted = applied(rules, {"model": after, "optimizer": {}})["model"]
    made = stepped(new, [applied(rules, {"model": one, "optimizer": {}})["model"] for one in last])
    for (key, tensor), other in zip(wanted.items(), made, strict=True):
        assert torch.equal(tensor, other), key


def in_memory(rules: str, checkpoint: State) -> State:
    ft = OrderedDict(reversed(parameters(9).items()))
    given = {"ft": ft} if "ft" in rules else {}
    text = "input ft\n" * bool(given) + rules + "\ndrop ft::**" * bool(given)
    found: State = statex.compile(text).apply(checkpoint, root="model", inputs=given)
    return found


@pytest.mark.parametrize("rules", RULES.values(), ids=list(RULES))
@pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=list(OPTIMIZERS))
def test_rules_and_steps_can_be_exchanged(make: Make, rules: str) -> None:
    exchanged(rules, make, in_memory)


@pytest.mark.parametrize("make", [OPTIMIZERS[name] for name in ("momentum", "adam", "amsgrad", "adagrad", "lion")])
def test_a_sign_is_that_of_the_gradient(make: Make) -> None:
    exchanged("set a.weight, d.weight = -it", make, in_memory)
