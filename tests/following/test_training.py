"""A run that goes on and one that was converted in between train alike: a transformer in f64, over fifty steps."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, layer_norm, linear, scaled_dot_product_attention

import statex

WIDTH, HEADS, WORDS, CLASSES = 8, 2, 11, 5


class Turned(nn.Module):
    """A linear layer whose weight lies the other way round, as GPT-2's does."""

    def __init__(self, into: int, out: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(into, out) / into**0.5)
        self.bias = nn.Parameter(torch.zeros(out))

    def forward(self, x: Tensor) -> Tensor:
        return linear(x, self.weight.t(), self.bias)


def attended(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    def heads(x: Tensor) -> Tensor:
        return x.unflatten(-1, (HEADS, -1)).transpose(1, 2)

    return scaled_dot_product_attention(heads(q), heads(k), heads(v)).transpose(1, 2).flatten(2)


class OldBlock(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(WIDTH)
        self.q, self.k, self.v, self.o = (nn.Linear(WIDTH, WIDTH) for _ in range(4))
        self.up, self.down = nn.Linear(WIDTH, 2 * WIDTH), nn.Linear(2 * WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(x)
        x = x + self.o(attended(self.q(h), self.k(h), self.v(h)))
        return x + self.down(self.up(x).relu())


class NewBlock(nn.Module):
    """The same function: q, k and v are one, the layers lie the other way, and all stands in another order."""

    def __init__(self) -> None:
        super().__init__()
        self.fc2, self.fc1 = Turned(2 * WIDTH, WIDTH), Turned(WIDTH, 2 * WIDTH)
        self.proj, self.qkv = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, 3 * WIDTH)
        self.ln = nn.LayerNorm(WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        h = layer_norm(x, (WIDTH,), self.ln.weight, self.ln.bias)
        x = x + self.proj(attended(*self.qkv(h).chunk(3, dim=-1)))
        return x + self.fc2(self.fc1(x).relu())


class Old(nn.Module):
    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(WORDS, WIDTH)
        self.layers = nn.ModuleList([OldBlock(), OldBlock()])
        self.head = nn.Linear(WIDTH, CLASSES)
        self.register_buffer("scale", torch.ones(*shape, WIDTH))

    def forward(self, words: Tensor) -> Tensor:
        x = self.embed(words) * self.scale
        for layer in self.layers:
            x = layer(x)
        return self.head(x).mean(1)


class New(nn.Module):
    def __init__(self, *shape: int, classes: int = CLASSES) -> None:
        super().__init__()
        self.register_buffer("scale", torch.ones(*shape, WIDTH))
        self.blocks = nn.ModuleList([NewBlock(), NewBlock()])
        self.head = nn.Linear(WIDTH, classes)
        self.tok = nn.Embedding(WORDS, WIDTH)

    def forward(self, words: Tensor) -> Tensor:
        x = self.tok(words) * self.scale
        for block in self.blocks:
            x = block(x)
        return self.head(x).mean(1)


RULES = """
rename {
  embed.weight               -> tok.weight
  layers.{i}.norm.{t}        -> blocks.{i}.ln.{t}
  layers.{i}.{p:o=proj}.{t}  -> blocks.{i}.{p}.{t}
  layers.{i}.{p:up=fc1|down=fc2}.{t} -> blocks.{i}.{p}.{t}
}
merge layers.{i}.q.{t} as q, layers.{i}.k.{t} as k, layers.{i}.v.{t} as v -> blocks.{i}.qkv.{t} = cat(q, k, v)
set blocks.{_}.fc{_}.weight = transpose
"""


def groups_of(model: nn.Module) -> list[dict[str, Any]]:
    """Return matrices, which decay, and all else, which does not."""
    found = [*model.parameters()]
    return [
        {"params": [p for p in found if p.ndim > 1], "weight_decay": 0.1},
        {"params": [p for p in found if p.ndim < 2], "weight_decay": 0.0},
    ]


MAKE: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "adamw": lambda params: torch.optim.AdamW(params, lr=1e-2),
    "momentum": lambda params: torch.optim.SGD(params, lr=1e-2, momentum=0.9),
    "rmsprop": lambda params: torch.optim.RMSprop(params, lr=1e-3),
}


def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: range) -> list[float]:
    losses = []
    for step in steps:
        random = torch.Generator().manual_seed(step)
        words = torch.randint(WORDS, (4, 6), generator=random)
        loss = cross_entropy(model(words), torch.randint(CLASSES, (4,), generator=random))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


@pytest.fixture(autouse=True)
def _double() -> Any:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("target", [False, True], ids=["by the keys", "by the target"])
@pytest.mark.parametrize(
    "make",
    [MAKE["adamw"], *(pytest.param(MAKE[one], marks=pytest.mark.nightly) for one in ("momentum", "rmsprop"))],
    ids=list(MAKE),
)
def test_fifty_steps(tmp_path: Path, make: Callable[[Any], torch.optim.Optimizer], target: bool) -> None:
    torch.manual_seed(0)
    # A buffer that has the shape of parameters is told apart by the target alone.
    shape = () if target else (1, 1)
    old = Old(*shape)
    going_on = make(groups_of(old))
    train(old, going_on, range(10))
    torch.save({"model": old.state_dict(), "optimizer": going_on.state_dict()}, tmp_path / "in.pt")
    new = New(*shape)
    given: dict[str, Any] = {"target": new} if target else {"inputs": {"shape": new.state_dict()}}
    rules = RULES if target else f"input shape\n{RULES}order like shape\ndrop shape::**"
    done = statex.convert(tmp_path / "in.pt", tmp_path / "out.pt", statex.compile(rules), **given)
    assert not done.warnings
    converted = torch.load(tmp_path / "out.pt")
    new.load_state_dict(converted["model"])
    taken = make(groups_of(new))
    fresh = deepcopy(new)
    taken.load_state_dict(converted["optimizer"])
    wanted = train(old, going_on, range(10, 60))
    made = train(new, taken, range(10, 60))
    assert max(abs(a - b) for a, b in zip(wanted, made, strict=True)) < 1e-12
    others = train(fresh, make(groups_of(fresh)), range(10, 60))
    assert max(abs(a - b) for a, b in zip(wanted, others, strict=True)) > 1e-3


def test_a_new_head_begins_with_nothing(tmp_path: Path) -> None:
    """The rest goes on as it was; torch makes what it keeps of the new head at its first step."""
    torch.manual_seed(0)
    old = Old()
    optimizer = MAKE["adamw"](old.parameters())
    train(old, optimizer, range(10))
    torch.save({"model": old.state_dict(), "optimizer": optimizer.state_dict()}, tmp_path / "in.pt")
    new = New(classes=7)
    rules = f"{RULES}set head.weight = zeros([7, 8], dtype=f64)\nset head.bias = zeros([7], dtype=f64)"
    done = statex.convert(tmp_path / "in.pt", tmp_path / "out.pt", statex.compile(rules), target=new)
    assert done.plan is not None
    account, head = done.plan.followed[0].account, ("head.weight", "head.bias")
    assert (account.followed, account.new, account.dropped) == (21, head, head)
    converted = torch.load(tmp_path / "out.pt")
    new.load_state_dict(converted["model"])
    taken = MAKE["adamw"](new.parameters())
    taken.load_state_dict(converted["optimizer"])
    names = dict(new.named_parameters())
    assert names["head.weight"] not in taken.state
    assert taken.state[names["tok.weight"]]["step"] == 10
    train(new, taken, range(10, 12))
    assert taken.state[names["head.weight"]]["step"] == 2
    assert taken.state[names["tok.weight"]]["step"] == 12
