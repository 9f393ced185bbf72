"""`statex diff`: what it prints, and how it ends."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from statex.diagnostics.folding import folded
from tests.cli.conftest import Run


@pytest.fixture
def pair(tmp_path: Path) -> None:
    torch.manual_seed(0)
    one = {f"layers.{i}.w": torch.randn(4, 4) for i in range(12)} | {"n": torch.tensor(3), "h": torch.ones(4)}
    other = {key: value.clone() for key, value in one.items()}
    for i in range(3, 9):
        other[f"layers.{i}.w"][0, 0] = one[f"layers.{i}.w"][0, 0] + 0.5
    del other["n"]
    other["extra"] = torch.ones(2)
    other["h"] = other["h"].bfloat16()
    torch.save(one, tmp_path / "a.pth")
    save_file(other, tmp_path / "b.safetensors")


def test_everything_that_differs(run: Run, pair: None) -> None:
    ended = run("diff", "a.pth", "b.safetensors")
    assert (ended.exit_code, ended.err) == (1, "")
    rows = [line.split() for line in ended.out.splitlines()]
    assert rows[0] == ["only", "in", "a.pth", "n", "i64[]"]
    assert rows[1] == ["only", "in", "b.safetensors", "extra", "f32[2]"]
    assert rows[2] == ["type", "h", "f32[4]", "and", "bf16[4]"]
    assert rows[3][:4] == ["values", "layers.{3..8}.w", "max", "abs"]
    assert rows[3][-2:] == ["x", "6"]
    assert ended.out.splitlines()[-1] == "1 only in a.pth, 1 only in b.safetensors, 7 differ, 6 equal"


def test_equal_files(run: Run, pair: None) -> None:
    ended = run("diff", "a.pth", "a.pth")
    assert (ended.exit_code, ended.out) == (0, "a.pth and a.pth: 14 keys, all equal in bits\n")
    ended = run("diff", "a.pth", "a.pth", "--no-values")
    assert ended.out == "a.pth and a.pth: 14 keys, shapes and dtypes agree, values not compared\n"


def test_what_rules_make_of_it(run: Run, pair: None) -> None:
    Path("r.sx").write_text("param k: float = 0.0\nset layers.*.w = it + k\nrename h -> g")
    run("apply", "r.sx", "a.pth", "c.pth", "-D", "k=2.0")
    assert run("diff", "a.pth", "c.pth").exit_code == 1
    ended = run("diff", "a.pth", "c.pth", "--rules", "r.sx", "-D", "k=2.0")
    assert (ended.exit_code, ended.out) == (0, "a.pth and c.pth: 14 keys, all equal in bits\n")


def test_tolerances(run: Run, pair: None) -> None:
    torch.save({"w": torch.tensor([1.0, 2.0])}, "x.pth")
    torch.save({"w": torch.tensor([1.0, 2.001])}, "y.pth")
    assert run("diff", "x.pth", "y.pth").exit_code == 1
    ended = run("diff", "x.pth", "y.pth", "--rtol", "1e-3")
    assert (ended.exit_code, ended.out) == (0, "1 within the tolerance\n")
    found = run("diff", "x.pth", "y.pth", "--rtol", "1e-3", "--json").json
    assert (found["agree"], found["equal"], found["values"]["w"]["within"]) == (True, 0, 1)
    assert run("diff", "x.pth", "y.pth", "--atol", "1e-4").exit_code == 1
    assert "takes a number from 0 on" in run("diff", "x.pth", "y.pth", "--atol", "-1").err


def test_what_is_within_the_tolerance_is_not_called_equal(run: Run, pair: None) -> None:
    torch.save({"w": torch.tensor([1.0, 2.0]), "v": torch.ones(2)}, "x.pth")
    torch.save({"w": torch.tensor([1.0, 2.001]), "v": torch.ones(2)}, "y.pth")
    ended = run("diff", "x.pth", "y.pth", "--atol", "1")
    assert ended.exit_code == 0
    assert ended.out == "1 within the tolerance, 1 equal\n"
    assert run("diff", "x.pth", "y.pth", "--atol", "1", "--json").json["equal"] == 1


def test_entries_that_are_no_tensors_are_not_called_equal(run: Run, pair: None) -> None:
    for name, number in (("x.pth", 5), ("y.pth", 6)):
        torch.save({"w": torch.ones(2), "n._extra_state": number, "m._extra_state": number}, name)
    ended = run("diff", "x.pth", "y.pth")
    said = "x.pth and y.pth: 1 key, all equal in bits; 2 entries that are not dense tensors were not compared\n"
    assert (ended.exit_code, ended.out) == (0, said)
    found = run("diff", "x.pth", "y.pth", "--json").json
    assert (found["equal"], found["uncompared"]) == (1, ["n._extra_state", "m._extra_state"])


def test_json(run: Run, pair: None) -> None:
    found = run("diff", "a.pth", "b.safetensors", "--json").json
    assert (found["agree"], found["equal"]) == (False, 6)
    assert found["only_first"] == {"n": "i64[]"}
    assert found["values"]["layers.3.w"]["elements"] == 1


def test_keys_are_folded() -> None:
    keys = ["a.0.w", "a.1.w", "a.2.w", "t_3_.x", "t_4_.x", "b.1.q.7", "b.1.q.9", "z", "c.0.0", "c.9.0", "v01"]
    shown = [group.key for group in folded(keys, lambda key: key, lambda key: "")]
    assert shown == ["a.{0..2}.w", "t_{3..4}_.x", "b.1.q.{7,9}", "z", "c.{0,9}.0", "v01"]
