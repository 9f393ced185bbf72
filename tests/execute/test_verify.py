"""Verification: what is given is not changed, and every module can be a target."""

from __future__ import annotations

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


def test_torch_s_own_words_are_readable() -> None:
    class Odd(nn.Module):
        def state_dict(self, *args: object, **kwargs: object) -> dict[str, torch.Tensor]:  # type: ignore[override]
            return {"more": torch.ones(1)}

    message = refusal({"more": torch.ones(1)}, Odd())
    assert 'Unexpected key(s) in state_dict: "more"' in message
    assert "\\x09" not in message
