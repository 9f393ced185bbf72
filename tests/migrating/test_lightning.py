"""Lightning's loaders: `load_from_checkpoint`, and the `ckpt_path` of a Trainer that does not go on training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader, TensorDataset

import statex
from tests.migrating.nets import Net, X, same_forward, trained

pytestmark = pytest.mark.filterwarnings(
    r"ignore:`isinstance\(treespec, LeafSpec\)` is deprecated:FutureWarning",
    "ignore:.* does not have many workers",  # than the processors that there are
)


class Lit(pl.LightningModule):
    """A training run of a net, with hyperparameters in its checkpoint."""

    def __init__(self, layout: int = 3, rate: float = 0.0) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.net = Net(layout)

    def training_step(self, batch: Any, number: int) -> torch.Tensor:
        return self.net(batch[0]).square().sum()

    def predict_step(self, batch: Any, number: int) -> torch.Tensor:
        return self.net(batch[0])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), self.hparams.rate)


class Attached(Lit):
    chain: statex.Chain

    def __init__(self, layout: int = 3, rate: float = 0.0) -> None:
        super().__init__(3, rate)
        statex.attach(self.net, self.chain)


def trainer(folder: Path) -> pl.Trainer:
    return pl.Trainer(
        max_steps=1, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, default_root_dir=folder,
    )  # fmt: skip


def data() -> DataLoader[Any]:
    return DataLoader(TensorDataset(X), batch_size=len(X))


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Net, Path]]:
    """Return nets of all layouts that have been trained, with the checkpoints of the runs."""
    made = []
    for layout in range(4):
        folder = tmp_path_factory.mktemp("run")
        run, fitting = Lit(layout, rate=0.01), trainer(folder)
        trained(run)
        fitting.fit(run.train(), data())
        fitting.save_checkpoint(folder / "last.ckpt")
        made.append((run.net.eval(), folder / "last.ckpt"))
    return made


@pytest.fixture
def attached(chain: statex.Chain) -> type[Attached]:
    return type("Attached", (Attached,), {"chain": chain})


@pytest.mark.parametrize("layout", range(4))
def test_load_from_checkpoint(layout: int, runs: list[tuple[Net, Path]], attached: type[Attached]) -> None:
    old, path = runs[layout]
    new = attached.load_from_checkpoint(path, weights_only=True)
    assert same_forward(old, new.net)
    assert new.hparams.rate == 0.01


@pytest.mark.parametrize("layout", range(4))
def test_predictions_of_an_old_checkpoint(
    layout: int, runs: list[tuple[Net, Path]], attached: type[Attached], tmp_path: Path
) -> None:
    old, path = runs[layout]
    (found,) = trainer(tmp_path).predict(attached(), data(), ckpt_path=path, weights_only=True)
    with torch.no_grad():
        assert torch.allclose(found, old(X), atol=1e-6)


def test_checkpoints_carry_the_version(runs: list[tuple[Net, Path]], attached: type[Attached], tmp_path: Path) -> None:
    new, going_on = attached.load_from_checkpoint(runs[0][1], weights_only=True), trainer(tmp_path)
    going_on.fit(new.train(), data())
    going_on.save_checkpoint(tmp_path / "new.ckpt")
    saved = torch.load(tmp_path / "new.ckpt", weights_only=True)
    assert saved["state_dict"]._metadata["net"]["statex"]["version"] == 3
    assert same_forward(new.net, attached.load_from_checkpoint(tmp_path / "new.ckpt", weights_only=True).net)


def test_training_does_not_go_on_where_parameters_are_others(
    runs: list[tuple[Net, Path]], attached: type[Attached], tmp_path: Path
) -> None:
    """The optimizer's state is that of the old parameters: torch refuses it where their number differs."""
    with pytest.raises(ValueError, match="parameter group that doesn't match"):
        trainer(tmp_path).fit(attached(), data(), ckpt_path=runs[0][1], weights_only=True)
