"""Changes around the state there and back: values and texts of the metadata, as torch and safetensors read them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

import statex

AROUND = {
    "epoch": 3, "lr": 0.1, "done": False, "name": "it's", "none": None, "steps": [1, [2.5, "a"]], "pair": (1, 2),
    "args": {"a.b": -4, "deep": {"x": 1}}, "inf": float("inf"),
}  # fmt: skip


def there_and_back(folder: Path, rules: str) -> tuple[Any, Any, Any]:
    """Return what stood around the state, what does after the rules and their inverse, and the inverse."""
    torch.save({"model": {"w": torch.ones(2)}, **AROUND}, folder / "in.pth")
    done = statex.convert(folder / "in.pth", folder / "out.pth", rules, reversible=True)
    assert done.reversal is not None
    statex.convert(folder / "out.pth", folder / "back.pth", folder / "out.back.sx")
    before, after = (torch.load(folder / name, weights_only=True) for name in ("in.pth", "back.pth"))
    assert torch.load(folder / "out.pth", weights_only=True).keys() != before.keys() or "set" in rules
    assert torch.equal(before.pop("model")["w"], after.pop("model")["w"])
    return before, after, done.reversal.inverse


@pytest.mark.parametrize(
    "rules",
    [
        "set value('epoch') = 4",
        "set value('epoch') = 4; set value('epoch') = 'five'",
        "set value('done'), value('none'), value('name') = 0",
        "set value('steps') = none",
        "set value('lr') = 1\nset w = flip(0)",
        "add value('new') = [1, [2]]",
        "add value('new.a') = 1; add value('new.b.c') = 2; drop value('args.deep.x')",
        "add value('new') = 1; set value('new') = 2; drop value('new'); drop value('epoch')",
        "drop value('epoch'), value('lr'), value('steps'), value('none'), value('name')",
        "set value(['args', 'a.b']) = 5; drop value('args.deep.x'); add value('args.deep.y') = 2",
    ],
)
def test_plain_values_come_back(rules: str, tmp_path: Path) -> None:
    before, after, found = there_and_back(tmp_path, rules)
    assert found.around == ()
    assert after == before
    assert {key: type(value) for key, value in after.items()} == {key: type(value) for key, value in before.items()}


@pytest.mark.parametrize(
    ("rules", "named"),
    [
        ("set value('pair') = 4; set value('epoch') = 4", "value('pair')"),
        ("drop value('args')", "value('args')"),
        ("set value('inf') = 1", "value('inf')"),
        ("set value(['steps', 0]) = 7", "value('steps.0')"),
    ],
)
def test_what_rules_cannot_write_is_named(rules: str, named: str, tmp_path: Path) -> None:
    before, after, found = there_and_back(tmp_path, rules)
    assert found.around == (named,)
    other = {key for key in before if key not in after or after[key] != before[key]}
    assert other == {named.partition("'")[2].partition("'")[0].partition(".")[0]}


def test_what_a_state_is_taken_out_of_is_named(tmp_path: Path) -> None:
    torch.save({"model": {"w": torch.ones(2)}, "epoch": 3}, tmp_path / "in.pth")
    done = statex.convert(tmp_path / "in.pth", tmp_path / "out.pth", "root 'model' -> ''", reversible=True)
    assert done.reversal is not None
    assert done.reversal.inverse.around == ("epoch",)


@pytest.mark.parametrize(
    ("root", "rules"),
    [
        ("root 'model' -> 'net'", "set value('epoch') = 7; drop value('lr'); add value('new') = 1"),
        ("root 'model' -> 'net.inner'", "set value('args.deep.x') = 7; drop value(['args', 'a.b'])"),
        ("root 'model' -> 'args.net'", "set value('args.deep.x') = 7; rename w -> v"),
    ],
)
def test_values_come_back_where_the_state_moves(root: str, rules: str, tmp_path: Path) -> None:
    before, after, found = there_and_back(tmp_path, f"{root}; {rules}")
    assert found.around == ()
    assert after == before


def test_values_beside_a_state_that_was_put_into_a_file_go_with_it(tmp_path: Path) -> None:
    torch.save({"w": torch.ones(2)}, tmp_path / "in.pth")
    rules = "root '' -> 'model'; add value('epoch') = 1"
    done = statex.convert(tmp_path / "in.pth", tmp_path / "out.pth", rules, reversible=True)
    assert done.reversal is not None
    assert (done.reversal.inverse.text, done.reversal.inverse.around) == ("root 'model' -> ''\n", ())
    statex.convert(tmp_path / "out.pth", tmp_path / "back.pth", tmp_path / "out.back.sx")
    assert torch.load(tmp_path / "back.pth").keys() == {"w"}


def test_what_is_left_out_around_a_bare_state_is_named_once(tmp_path: Path) -> None:
    torch.save({"model": {"w": torch.ones(2)}, "epoch": 3, "best": 0.5}, tmp_path / "in.pth")
    found = statex.convert(
        tmp_path / "in.pth", tmp_path / "out.pth", "root 'model' -> ''; drop? value('best')", reversible=True
    ).reversal
    assert found is not None
    assert found.inverse.around == ("epoch", "best")


def test_texts_of_the_metadata_come_back(tmp_path: Path) -> None:
    texts = {"title": "a 'b' \n c", "ss_epoch": "3", "ss_lr": "", "format": "pt"}
    save_file({"w": torch.ones(2)}, tmp_path / "in.safetensors", metadata=texts)
    rules = "set metadata('title') = 'x'; drop metadata(/ss_.*/); add metadata('new') = 'y'"
    done = statex.convert(tmp_path / "in.safetensors", tmp_path / "out.safetensors", rules, reversible=True)
    assert done.reversal is not None
    assert done.reversal.inverse.around == ()
    back = tmp_path / "back.safetensors"
    statex.convert(tmp_path / "out.safetensors", back, tmp_path / "out.back.sx")
    with safe_open(back, "pt") as found:
        assert found.metadata() == texts
