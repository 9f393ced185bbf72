"""`statex plan --keys`: changes and tensors that differ in numbers alone are one line, and `--all` lists each."""

from __future__ import annotations

import pytest
import torch

from tests.cli.conftest import Run


def rows(run: Run, rules: str, *options: str) -> list[str]:
    ended = run("plan", "-e", rules, "in.pth", *options)
    assert (ended.exit_code, ended.err) == (0, "")
    return ended.out.splitlines()


@pytest.fixture(autouse=True)
def saved(run: Run) -> None:
    torch.save({f"layers.{i}.{p}": torch.ones(2) for i in range(12) for p in "qk"}, "in.pth")


def test_changes_and_fates_are_folded(run: Run) -> None:
    shown = rows(run, "rename layers.{i}.q -> blocks.{i}.query; drop layers.*.k", "--keys")
    assert shown[1] == "      layers.{0..11}.q -> blocks.{0..11}.query  x 12"
    assert shown[3] == "      - layers.{0..11}.k  x 12"
    assert shown[6:8] == [
        "    layers.{0..11}.q  f32[2]  -> blocks.{0..11}.query  x 12",
        "    layers.{0..11}.k  f32[2]  dropped by <-e>:1        x 12",
    ]


def test_numbers_that_change_differently_are_told_apart(run: Run) -> None:
    shown = rows(run, "drop layers.*.k; drop layers.{i:int}.q where i in [3, 7]; renumber layers.{i:int}", "--keys")
    changes = [line.strip() for line in shown if line.startswith("      layers")]
    assert changes == ["layers.{4..6}.q -> layers.{3..5}.q  x 3", "layers.{8..11}.q -> layers.{6..9}.q  x 4"]
    shown = rows(run, "rename { layers.0.q -> layers.1.q\nlayers.1.q -> layers.0.q }", "--keys")
    assert [line.strip() for line in shown[1:3]] == ["layers.0.q -> layers.1.q", "layers.1.q -> layers.0.q"]


def test_many_sources_are_folded(run: Run) -> None:
    shown = rows(run, "merge layers.{i:int}.{p:q|k} over i -> all.{p} = stack", "--keys")
    assert shown[1] == "      layers.{0..11}.q -> all.q"


def test_every_key(run: Run) -> None:
    shown = rows(run, "rename prefix '' -> 'x.'", "--all")
    assert shown[1:3] == ["      layers.0.q -> x.layers.0.q", "      layers.0.k -> x.layers.0.k"]
    assert sum("-> x.layers" in line for line in shown) == 48
    assert run("plan", "-e", "", "in.pth", "--json", "--keys").json == run("plan", "-e", "", "in.pth", "--json").json
