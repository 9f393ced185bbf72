"""Recipes carried out in this process, in a scratch folder."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.cli.conftest import Ended, Run, run

__all__ = ["Bench", "bench", "run"]

RECIPE = """statex: 1
inputs: {main: in.pth}
params: {scale: 2.0}
rules:
  - {file: rules/main.sx, with: {by: {param: scale}}}
outputs:
  all: {path: out/all.safetensors}
  body: {path: out/body.pth, keep: '**.weight'}
policy: {unchanged: skip}
report: out/report.json
"""
RULES = """param by: float
include 'names.sx'
set **.weight = it * by
"""


def loaded(folder: Path) -> dict[str, torch.Tensor]:
    """Read a folder of torch.distributed.checkpoint by torch."""
    import torch.distributed.checkpoint as dcp

    metadata = dcp.FileSystemReader(folder).read_metadata().state_dict_metadata
    state = {key: torch.empty(one.size, dtype=one.properties.dtype) for key, one in metadata.items()}
    dcp.load(state, storage_reader=dcp.FileSystemReader(folder), no_dist=True)
    return state


@dataclass
class Bench:
    """A folder with a recipe; what is run there, and what is in it."""

    folder: Path
    call: Run

    def write(self, name: str, text: str) -> Path:
        """Write a text file; folders are made."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def save(self, name: str, state: Mapping[str, Any]) -> Path:
        """Write a checkpoint in the format of its name."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if name.endswith(".safetensors"):
            save_file(dict(state), path)
        else:
            torch.save(state, path)
        return path

    def load(self, name: str) -> dict[str, torch.Tensor]:
        """Read a checkpoint: by torch and safetensors themselves where it is one file."""
        path = self.folder / name
        if (path / ".metadata").exists():
            return loaded(path)
        files = [path] if path.is_file() else [one for one in sorted(path.iterdir()) if one.suffix != ".json"]
        state: dict[str, torch.Tensor] = {}
        for one in files:
            state |= load_file(one) if one.suffix == ".safetensors" else torch.load(one, weights_only=True)
        return state

    def __call__(self, *arguments: object, code: int = 0, recipe: str = "recipe.yaml", command: str = "run") -> Ended:
        """Run the recipe."""
        ended = self.call(command, recipe, *arguments)
        assert ended.exit_code == code, ended.out + ended.err
        return ended

    def refused(self, *arguments: object, code: int, **named: Any) -> list[dict[str, Any]]:
        """Run the recipe, which has to be refused; return the diagnostics."""
        return self(*arguments, "--json", code=code, **named).json["diagnostics"]  # type: ignore[no-any-return]

    def codes(self, *arguments: object, code: int, **named: Any) -> list[str]:
        """Run the recipe, which has to be refused; return the codes."""
        return [one["code"] for one in self.refused(*arguments, code=code, **named)]

    @property
    def report(self) -> Any:
        """The report of the last run."""
        return json.loads((self.folder / "out/report.json").read_bytes())

    def files(self) -> dict[str, tuple[int, int]]:
        """Return all that is in the folder, with inodes and times of change."""
        found = {}
        for path in sorted(self.folder.rglob("*")):
            if "__pycache__" not in path.parts:
                said = os.lstat(path)
                found[path.relative_to(self.folder).as_posix()] = (said.st_ino, said.st_mtime_ns)
        return found

    @property
    def leftovers(self) -> list[str]:
        """What statex has left under names of its own."""
        return [name for name in self.files() if ".statex-" in name]


STATE = {
    "a.weight": torch.arange(6.0).reshape(2, 3),
    "a.bias": torch.arange(3.0),
    "b.weight": torch.linspace(-1, 1, 8),
    "steps": torch.tensor(3),
}


@pytest.fixture
def bench(tmp_path: Path, run: Run) -> Bench:
    """A folder with a recipe of two outputs and a report: `a` and `b` become `x.a` and `x.b`, weights are scaled."""
    made = Bench(tmp_path, run)
    made.save("in.pth", STATE)
    made.write("rules/main.sx", RULES)
    made.write("rules/names.sx", "rename prefix '' -> 'x.'\n")
    made.write("recipe.yaml", RECIPE)
    return made
