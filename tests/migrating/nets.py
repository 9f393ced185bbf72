"""A module that has had four layouts, and the chain that leads from each to the next."""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

STEPS = {
    "0001_rename_norm": "rename part bn -> norm",
    "0002_fuse_qk": "merge q.{t:weight|bias}, k.{t} -> qk.{t} = cat(dim=0)",
    "0003_scale_head": "param scale: float = 2\nset head.weight, head.bias = it * scale\nrename part head -> out.fc",
}
"""The last step is for parameters: the module of layout 3 divides by what its weights were multiplied with."""


class Out(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(6, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(x)


class Net(nn.Module):
    """The module at one of its layouts."""

    def __init__(self, layout: int = 3) -> None:
        super().__init__()
        self.layout = layout
        if layout < 1:
            self.bn = nn.BatchNorm1d(4)
        else:
            self.norm = nn.BatchNorm1d(4)
        if layout < 2:
            self.q, self.k = nn.Linear(4, 3), nn.Linear(4, 3)
        else:
            self.qk = nn.Linear(4, 6)
        if layout < 3:
            self.head = nn.Linear(6, 3)
        else:
            self.out = Out()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = (self.bn if self.layout < 1 else self.norm)(x)
        x = torch.cat([self.q(x), self.k(x)], dim=1) if self.layout < 2 else self.qk(x)
        return self.head(x) if self.layout < 3 else self.out(x) / 2


class Outer(nn.Module):
    """A larger module with the one in question inside."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.before = nn.Linear(4, 4)
        self.parts = nn.ModuleDict({"net": net})

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.parts["net"](self.before(x))


def trained(module: nn.Module, seed: int = 0) -> nn.Module:
    """Give every parameter and buffer a value of its own."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for tensor in module.state_dict().values():
            tensor.copy_(torch.rand(tensor.shape) + 0.5 if tensor.is_floating_point() else torch.tensor(7))
    return module.eval()


X = torch.linspace(-1, 1, 20).reshape(5, 4)


def same_forward(old: nn.Module, new: nn.Module) -> bool:
    """Say whether two modules compute the same."""
    with torch.no_grad():
        return torch.allclose(old.eval()(X), new.eval()(X), rtol=1e-6, atol=1e-6)


class Unchanged:
    """Checks that a state, its tensors and its `_metadata` are what they were, the very objects."""

    def __init__(self, state: Mapping[str, Any]) -> None:
        self.state = state
        self.items = list(state.items())
        self.copies = {key: value.clone() for key, value in state.items() if isinstance(value, torch.Tensor)}
        self.metadata = getattr(state, "_metadata", None)
        self.noted = copy.deepcopy(self.metadata)
        self.each = {path: id(one) for path, one in (self.metadata or {}).items()}

    def check(self) -> None:
        assert [key for key, _ in self.items] == list(self.state)
        assert all(self.state[key] is value for key, value in self.items)
        assert all(torch.equal(self.state[key], value) for key, value in self.copies.items())
        assert getattr(self.state, "_metadata", None) is self.metadata
        assert self.metadata == self.noted
        assert {path: id(one) for path, one in (self.metadata or {}).items()} == self.each


def unstamped(state: Mapping[str, Any]) -> OrderedDict[str, Any]:
    """Return a state as a module without a chain would have saved it."""
    result: OrderedDict[str, Any] = OrderedDict(state)
    result._metadata = OrderedDict(  # type: ignore[attr-defined]
        (path, {key: value for key, value in one.items() if key != "statex"})
        for path, one in state._metadata.items()  # type: ignore[attr-defined]
    )
    return result
