"""Verification: what is given is not changed, and every module can be a target."""

from __future__ import annotations

import threading

import pytest
import torch
from torch import nn

import statex
from statex import StatexError


def refusal(state: object, target: object) -> str:
    with pytest.raises(StatexError) as caught:
        statex.verify(state, target)  # type: ignore[arg-type]
    return str(caught.value)


@pytest.mark.parametrize("trained", [True, False])
def test_live_parameters_keep_what_they_require(trained: bool) -> None:
    model = nn.Linear(2, 2).requires_grad_(trained)
    state = model.state_dict(keep_vars=True)
    target = nn.Linear(2, 2).requires_grad_(not trained)
    statex.verify(state, target)
    assert statex.compile("").apply(state, target=target)["weight"] is model.weight
    assert model.weight.requires_grad is trained
    assert model.bias.requires_grad is trained


def test_a_module_that_keeps_what_it_computes_of_its_parameters() -> None:
    class Caching(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(2, 2)
            self.norms = self.linear.weight.norm(dim=1)

    model = Caching()
    assert statex.verify(model.state_dict(), model).agreeing == 2
    assert model.norms.requires_grad


def test_a_module_that_cannot_be_copied() -> None:
    model = nn.Linear(2, 2)
    model.lock = threading.Lock()  # type: ignore[assignment]
    message = refusal(model.state_dict(), model)
    assert message.startswith("error[SX503]: the module Linear cannot be copied without its data: TypeError: ")


@pytest.mark.parametrize(
    ("target", "said"), [(nn.ReLU, "the class ReLU"), (5, "of type int"), (lambda: nn.ReLU(), "of type function")]
)
def test_a_target_that_is_no_module(target: object, said: str) -> None:
    assert f"SX503]: a target is a module, and this is {said}\n" in refusal({"a": torch.ones(1)}, target)


def test_lazy_parameters() -> None:
    lazy = nn.LazyLinear(3)
    for state in (lazy.state_dict(), lazy.state_dict(keep_vars=True)):
        moved = statex.compile("rename weight -> w").apply(state)
        assert moved["w"] is state["weight"]
    assert statex.verify(nn.Linear(2, 3).state_dict(), lazy).agreeing == 2
    assert isinstance(lazy.weight, nn.UninitializedParameter)


def test_a_callable_that_needs_arguments() -> None:
    message = refusal({"a": torch.ones(1)}, "torch.nn:Linear")
    assert "missing 2 required positional arguments" in message
    assert "raised in" not in message


def test_torch_s_own_words_are_readable() -> None:
    class Odd(nn.Module):
        def state_dict(self, *args: object, **kwargs: object) -> dict[str, torch.Tensor]:  # type: ignore[override]
            return {"more": torch.ones(1)}

    message = refusal({"more": torch.ones(1)}, Odd())
    assert 'Unexpected key(s) in state_dict: "more"' in message
    assert "\\x09" not in message
