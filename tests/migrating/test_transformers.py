"""Models of transformers with a past: `from_pretrained` runs no hooks, and takes what `migrate_state` returns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from transformers import PretrainedConfig, PreTrainedModel

import statex
from tests.migrating.nets import Net, Unchanged, same_forward, trained


class Config(PretrainedConfig):
    model_type = "net"


class Model(PreTrainedModel):
    """A model as its library has it: the chain is attached where the module is made."""

    config_class = Config
    layout = 3
    chain: statex.Chain | None = None

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.net = Net(self.layout)
        if self.chain is not None:
            statex.attach(self.net, self.chain)
        self.post_init()


def library(layout: int, chain: statex.Chain | None = None) -> Any:
    """Return the model as a release of its library had it."""
    return type("Model", (Model,), {"layout": layout, "chain": chain, "config_class": Config})


@pytest.fixture
def released(tmp_path: Path) -> dict[int, tuple[Any, Path]]:
    """Return models of all layouts with the folders that `save_pretrained` has made of them."""
    made = {}
    for layout in range(4):
        made[layout] = (trained(library(layout)(Config())), tmp_path / str(layout))
        made[layout][0].save_pretrained(made[layout][1])
    return made


def test_from_pretrained_runs_no_hooks(released: dict[int, tuple[Any, Path]], chain: statex.Chain) -> None:
    """If this fails, transformers loads old layouts by itself: say so in docs/migrations.md."""
    _, folder = released[0]
    _, found = library(3, chain).from_pretrained(folder, output_loading_info=True)
    assert {"net.norm.weight", "net.qk.weight", "net.out.fc.weight"} < found["missing_keys"]
    assert {"net.bn.weight", "net.q.weight", "net.head.weight"} < found["unexpected_keys"]


@pytest.mark.parametrize("layout", range(4))
def test_a_migrated_state_is_loaded(
    layout: int, released: dict[int, tuple[Any, Path]], chain: statex.Chain, tmp_path: Path
) -> None:
    old, folder = released[layout]
    new = library(3, chain)
    config = Config.from_pretrained(folder)
    with torch.device("meta"):
        like = new(config)
    state = load_file(folder / "model.safetensors")
    before = Unchanged(state)
    migrated = statex.migrate_state(like, state)
    before.check()
    model, found = new.from_pretrained(None, config=config, state_dict=migrated, output_loading_info=True)
    assert not any(found.values()), found
    assert same_forward(old.net, model.net)
    # What it saves is of the present layout, with and without the chain.
    model.save_pretrained(tmp_path / "new")
    for kind in (new, library(3)):
        again, found = kind.from_pretrained(tmp_path / "new", output_loading_info=True)
        assert not any(found.values()), found
        assert same_forward(old.net, again.net)


def test_shards_are_migrated_together(
    released: dict[int, tuple[Any, Path]], chain: statex.Chain, tmp_path: Path
) -> None:
    old, _ = released[0]
    old.save_pretrained(tmp_path / "shards", max_shard_size=200)
    assert len(list((tmp_path / "shards").glob("*.safetensors"))) > 1
    new = library(3, chain)
    with statex.open(tmp_path / "shards") as checkpoint:
        migrated = statex.migrate_state(new(Config()), checkpoint)
    model = new.from_pretrained(None, config=Config(), state_dict=migrated)
    assert same_forward(old.net, model.net)


def test_load_state_dict_of_a_model_runs_them(released: dict[int, tuple[Any, Path]], chain: statex.Chain) -> None:
    for old, folder in released.values():
        new = library(3, chain)(Config())
        new.load_state_dict(load_file(folder / "model.safetensors"))
        assert same_forward(old.net, new.net)


class TiedConfig(PretrainedConfig):
    model_type = "tied"
    tie_word_embeddings = True


class TiedModel(PreTrainedModel):
    """A model whose head has the weight of its embedding; names are those of a layout."""

    config_class = TiedConfig
    names = ("head", "ln")

    def __init__(self, config: TiedConfig) -> None:
        super().__init__(config)
        head, norm = self.names
        self.embed = nn.Embedding(5, 3)
        self.add_module(head, nn.Linear(3, 5, bias=False))
        self.add_module(norm, nn.LayerNorm(3))
        if self.names == TiedNow.names:
            statex.attach(
                self, "rename? part head -> lm_head   # files lack it, where it is tied\nrename part ln -> norm"
            )
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        return self.embed

    def get_output_embeddings(self) -> nn.Module:
        return getattr(self, self.names[0])


class TiedThen(TiedModel):
    _tied_weights_keys = {"head.weight": "embed.weight"}  # noqa: RUF012


class TiedNow(TiedModel):
    names = ("lm_head", "norm")
    _tied_weights_keys = {"lm_head.weight": "embed.weight"}  # noqa: RUF012


@pytest.mark.parametrize("device", ["meta", "cpu"])
def test_the_layout_of_a_file_that_lacks_a_tied_weight_is_recognised(device: str, tmp_path: Path) -> None:
    old = trained(TiedThen(TiedConfig()))
    old.save_pretrained(tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    assert state.keys() == {"embed.weight", "ln.weight", "ln.bias"}
    with torch.device(device):
        like = TiedNow(TiedConfig())
    migrated = statex.migrate_state(like, state)
    model, found = TiedNow.from_pretrained(None, config=TiedConfig(), state_dict=migrated, output_loading_info=True)
    assert not any(found.values()), found
    assert model.lm_head.weight is model.embed.weight
    assert torch.equal(model.lm_head.weight, old.head.weight)
    assert torch.equal(model.norm.bias, old.ln.bias)
