"""What is said of the values around the state, besides the proof of its tensors."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import statex

AROUND = "what stands around the state"


@pytest.mark.parametrize(
    ("rules", "epoch", "same"),
    [
        ("", 3, True), ("", 5, False), ("set value('epoch') = 5", 3, False), ("set value('epoch') = 5", 5, True),
        ("add value('seed') = 1", 3, False), ("root 'model' -> ''", 3, False),
        ("drop value('epoch')", 3, False), ("drop value('epoch'); add value('epoch') = 5", 5, True),
    ],
)  # fmt: skip
def test_it_is_said_of_the_result(rules: str, epoch: int, same: bool, tmp_path: Path) -> None:
    state = {"a.weight": torch.randn(2, 3), "b.weight": torch.randn(2, 3)}
    torch.save({"model": state, "epoch": 3}, tmp_path / "old.pth")
    new = {key.replace("a.", "z."): value for key, value in state.items()}
    torch.save({"model": new, "epoch": epoch}, tmp_path / "new.pth")
    found = statex.infer(tmp_path / "old.pth", tmp_path / "new.pth", start=rules)
    assert found.proof is not None
    assert (found.proved, found.proof.also[AROUND]) == (True, same)


def test_nothing_is_said_where_nothing_is_around(tmp_path: Path) -> None:
    torch.save({"model": {"a": torch.ones(2)}, "epoch": 3}, tmp_path / "old.pth")
    torch.save({"a": torch.ones(2)}, tmp_path / "new.pth")
    found = statex.infer(tmp_path / "old.pth", tmp_path / "new.pth", start="root 'model' -> ''")
    assert found.proof is not None
    assert AROUND not in found.proof.also
