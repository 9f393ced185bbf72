"""SX614: what a format of named tensors alone cannot hold, and rules that leave it out; followed, they work."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import statex

T = torch.ones(2, 2)
CASES = [
    (
        "the state stands in a dict",
        {"state_dict": {"a.w": T}, "epoch": 3},
        """
        error[SX614]: safetensors holds named tensors only, and cannot hold all of this
            state_dict  dict
            epoch       int
          = help: take the bare state: root 'state_dict' -> ''
        """,
    ),
    (
        "it has more than tensors",
        {"state_dict": {"a.w": T, "b._extra_state": {"x": 1}, "step": 3}, "epoch": 3},
        """
        error[SX614]: safetensors holds named tensors only, and cannot hold all of this
            state_dict  dict
            epoch       int
          = help: take the bare state: root 'state_dict' -> ''; drop b._extra_state, step
          = help: write a .pth
        """,
    ),
    (
        "the bare state has more than tensors",
        {"a.w": T, "b._extra_state": {"x": 1}, "my step": 3},
        """
        error[SX614]: safetensors holds named tensors only, and cannot hold all of this
            b._extra_state  dict
            my step         int
          = help: leave out what is not a tensor: drop b._extra_state, 'my step'
          = help: write a .pth
        """,
    ),
    (
        "numbers that the format cannot hold",
        {"a.w": T, "s": T.to_sparse()},
        """
        error[SX614]: safetensors holds named tensors only, and cannot hold all of this
            s  sparse_coo tensor
          = help: write a .pth
          = help: if it is not needed: drop s
        """,
    ),
]
SHARDED = [
    (
        "the state stands in a dict",
        {"model": {"a.w": T, "step": 3}, "epoch": 3},
        """
        error[SX614]: a sharded set holds named tensors only, and `model` is not one
          = help: take the bare state: root 'model' -> ''; drop step
          = help: write one file
        """,
    ),
    (
        "the bare state has more than tensors",
        {"a.w": T, "b._extra_state": {"x": 1}},
        """
        error[SX614]: a sharded set holds named tensors only, and `b._extra_state` is not one
          = help: leave out what is not a tensor: drop b._extra_state
          = help: write one file
        """,
    ),
]


def refused(state: dict[str, Any], rules: str, path: Path, **options: Any) -> statex.StatexError:
    with pytest.raises(statex.StatexError) as caught:
        statex.convert(state, path, rules, **options)
    return caught.value


def followed(error: statex.StatexError) -> str:
    """Return the rules of the help that has some."""
    (found,) = error.diagnostics
    helps = [note.text for note in found.notes if note.kind == "help"]
    return next(text.partition(": ")[2] for text in helps if ": " in text)


@pytest.mark.parametrize(("state", "said"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_a_file(state: dict[str, Any], said: str, tmp_path: Path) -> None:
    error = refused(state, "", tmp_path / "out.safetensors")
    assert str(error) == dedent(said).strip()
    statex.convert(state, tmp_path / "out.safetensors", followed(error))
    assert list(load_file(tmp_path / "out.safetensors")) == ["a.w"]


@pytest.mark.parametrize(("state", "said"), [case[1:] for case in SHARDED], ids=[case[0] for case in SHARDED])
def test_a_set(state: dict[str, Any], said: str, tmp_path: Path) -> None:
    error = refused(state, "", tmp_path / "out", shard_size=1000)
    assert str(error) == dedent(said).strip()
    statex.convert(state, tmp_path / "out", followed(error), shard_size=1000)
    assert list(statex.open(tmp_path / "out")) == ["a.w"]


def test_no_state_is_lost_for_another(tmp_path: Path) -> None:
    state = {"a.w": T, "step": 3, "sub": {"b.w": T}}
    error = refused(state, "root ''", tmp_path / "out.safetensors")
    assert (
        str(error)
        == dedent(
            """
        error[SX614]: safetensors holds named tensors only, and cannot hold all of this
            step  int
            sub   dict
          = help: write a .pth
        """
        ).strip()
    )


def test_what_is_bare_already_is_not_told_to_be(tmp_path: Path) -> None:
    state = {"model": {"a.w": T, "step": 3}}
    error = refused(state, "root 'model' -> ''", tmp_path / "out.safetensors")
    assert "root" not in str(error)
    assert followed(error) == "drop step"
