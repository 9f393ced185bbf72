"""`statex show`: rows that are folded, cut, summed up and sorted; several states; statistics as torch has them."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from statex.cli.output import room
from tests.cli.conftest import Run


def lines(run: Run, *arguments: object) -> list[str]:
    ended = run("show", *arguments)
    assert (ended.exit_code, ended.err) == (0, "")
    return ended.out.splitlines()


@pytest.fixture
def moe(tmp_path: Path) -> None:
    state = {f"layers.{i}.experts.{e}.w": torch.ones(2, 3) for i in range(3) for e in range(12)}
    state |= {f"layers.{i}.norm": torch.ones(3) for i in range(3)}
    state |= {f"table_{i}_.w": torch.ones(4, dtype=torch.bfloat16) for i in range(11)}
    torch.save(state, tmp_path / "moe.pth")


def test_folded_rows_have_the_sum(run: Run, moe: None) -> None:
    assert lines(run, "moe.pth") == [
        "  layers.{0..2}.experts.{0..11}.w  f32[2, 3]  864 B  x 36",
        "  layers.{0..2}.norm               f32[3]     36 B   x 3",
        "  table_{0..10}_.w                 bf16[4]    88 B   x 11",
        "50 tensors, 988 B (f32 900 B, bf16 88 B): moe.pth",
    ]


def test_every_key(run: Run, moe: None) -> None:
    assert len(lines(run, "moe.pth", "--all")) == 51
    assert lines(run, "moe.pth", "--keys") == lines(run, "moe.pth", "--all")


def test_depth(run: Run, moe: None) -> None:
    assert lines(run, "moe.pth", "--depth", "2")[:2] == [
        "  layers.{0..2}.**  f32      900 B  x 3, 13 keys each",
        "  table_{0..10}_.w  bf16[4]  88 B   x 11",
    ]
    assert lines(run, "moe.pth", "--depth", "1")[0] == "  layers.**          f32   900 B  39 keys"
    assert lines(run, "moe.pth", "--depth", "9") == lines(run, "moe.pth")
    for wrong in ("0", "-1", "two", "²"):
        ended = run("show", "moe.pth", f"--depth={wrong}")
        assert (ended.exit_code, "takes a number from 1 on" in ended.err) == (2, True)


def test_sort(run: Run) -> None:
    torch.save({"l.10": torch.ones(9), "l.9": torch.ones(8), "a": torch.ones(1), "b": torch.ones(20)}, "s.pth")

    def order(*arguments: str) -> list[str]:
        return [line.split()[0] for line in lines(run, "s.pth", "--all", *arguments)[:-1]]

    assert order() == order("--sort", "order") == ["l.10", "l.9", "a", "b"]
    assert order("--sort", "name") == ["a", "b", "l.9", "l.10"]
    assert order("--sort", "size") == ["b", "l.10", "l.9", "a"]
    assert list(run("show", "s.pth", "--json", "--sort=name").json["entries"]) == ["a", "b", "l.9", "l.10"]
    assert list(run("show", "s.pth", "--json", "--sort=size").json["entries"]) == ["b", "l.10", "l.9", "a"]
    assert "takes order, name, size, and got `bytes`" in run("show", "s.pth", "--sort", "bytes").err


def test_patterns(run: Run, moe: None) -> None:
    assert lines(run, "moe.pth", "layers.1.**", "'table_3_.w'") == [
        "  layers.1.experts.{0..11}.w  f32[2, 3]  288 B  x 12",
        "  layers.1.norm               f32[3]     12 B",
        "  table_3_.w                  bf16[4]    8 B",
        "14 tensors, 308 B (f32 300 B, bf16 8 B): moe.pth",
    ]
    assert len(run("show", "moe.pth", "**.norm", "--json").json["entries"]) == 3


@pytest.mark.parametrize(
    ("pattern", "code", "said"),
    [
        ("layers.*.norn", "SX301", "did you mean `layers.*.norm`?"),
        ("layers.[", "SX1", "layers.["),
        ("** where ndim == 2", "SX704", "takes patterns alone"),
        ("**\ndrop a", "SX704", "takes patterns alone"),
    ],
)
def test_patterns_that_are_none(run: Run, moe: None, pattern: str, code: str, said: str) -> None:
    ended = run("show", "moe.pth", pattern)
    assert ended.exit_code in (1, 2)
    assert ended.err.startswith(f"error[{code}")
    assert said in ended.err


def test_ties_are_folded_and_counted(run: Run) -> None:
    state = {f"layers.{i}.w": torch.ones(2) for i in range(3)} | {"n": torch.ones(2)}
    torch.save(state | {f"copies.{i}.w": state[f"layers.{i}.w"] for i in range(3)}, "tied.pth")
    shown = lines(run, "tied.pth")
    assert shown[-2] == "  copies.{0..2}.w  f32[2]  24 B  x 3, tied to layers.{0..2}.w"
    assert shown[-1] == "7 tensors, 56 B, all f32, 3 of them tied: tied.pth"


def test_all_states_of_a_file(run: Run) -> None:
    nets: dict[str, Any] = {"generator": {"w": torch.ones(2)}, "critic": {"v": torch.ones(3)}}
    torch.save(nets | {"step": 7, "optimizer": [torch.ones(4)]}, "gan.pth")
    assert lines(run, "gan.pth") == [
        "  w  f32[2]  8 B",
        "1 tensor, 8 B: gan.pth, --root generator",
        "  v  f32[3]  12 B",
        "1 tensor, 12 B: gan.pth, --root critic",
        "  step = 7",
        "  around the state: optimizer (list of 1; 1 tensor, 16 B)",
    ]
    assert lines(run, "gan.pth", "v")[0] == "  v  f32[3]  12 B"
    assert lines(run, "gan.pth", "--root", "critic")[-1] == "1 tensor, 12 B: gan.pth"
    found = run("show", "gan.pth", "--json").json
    assert list(found["states"]) == ["generator", "critic"]
    assert list(found["states"]["critic"]["entries"]) == ["v"]
    assert (found["values"], found["around"]) == ({"step": 7}, ["step", "optimizer"])
    assert run("show", "gan.pth", "--json", "--root", "critic").json["root"] == "critic"


def test_scalars_beside_several_states(run: Run) -> None:
    torch.save({"model": {"w": torch.ones(2)}, "ema": {"w": torch.ones(2)}, "loss": torch.tensor(0.5)}, "two.pth")
    shown = lines(run, "two.pth")
    assert [line for line in shown if "--root" in line] == [
        "1 tensor, 8 B: two.pth, --root model",
        "1 tensor, 8 B: two.pth, --root ema",
        "  another root: 3 tensors, 20 B: --root ''",
    ]
    assert "  around the state: loss (f32[], 4 B)" in shown


def test_a_lightning_checkpoint(run: Run) -> None:
    callbacks = {"ModelCheckpoint{'mode': 'min'}": {"best_model_score": torch.tensor(0.5)}}
    torch.save({"epoch": 3, "state_dict": {"w": torch.ones(2)}, "callbacks": callbacks}, "l.ckpt")
    assert lines(run, "l.ckpt")[0] == "  w  f32[2]  8 B"
    assert "  another root: 1 tensor, 4 B: --root \"callbacks.ModelCheckpoint{'mode': 'min'}\"" in lines(run, "l.ckpt")
    root = "callbacks.ModelCheckpoint{'mode': 'min'}"
    assert lines(run, "l.ckpt", "--root", root)[0] == "  best_model_score  f32[]  4 B"


def test_roots_that_only_a_list_names(run: Run) -> None:
    odd = {"a.b": [{"c": {"w": torch.ones(2)}}], "a": {"b": [{"c": {"v": torch.ones(3)}}]}}
    torch.save(odd, "odd.pth")
    shown = lines(run, "odd.pth", "--stats")
    assert shown[2] == "1 tensor, 8 B: odd.pth, --root \"['a.b', 0, 'c']\""
    assert lines(run, "odd.pth", "--root", "['a', 'b', 0, 'c']")[0] == "  v  f32[3]  12 B"
    assert list(run("show", "odd.pth", "--json").json["states"]) == ["['a.b', 0, 'c']", "['a', 'b', 0, 'c']"]
    assert "SX626" in run("show", "odd.pth", "--root", "a.b.0.c").err
    for command in (["show", "odd.pth"], ["diff", "odd.pth", "odd.pth"], ["plan", "-e", "", "odd.pth"]):
        ended = run(*command, "--root", "['a")
        assert (ended.exit_code, "dotted path or a list" in ended.err) == (2, True)
    ended = run("diff", "odd.pth", "odd.pth", "--root", "['a.b', 0, 'c']", "--root-b", "['a', 'b', 0, 'c']")
    assert ended.exit_code == 1
    assert "only in odd.pth" in ended.out


def test_further_states(run: Run) -> None:
    net = torch.nn.Linear(2, 2)
    torch.save({"model": net.state_dict(), "ema": {"w": torch.ones(5)}}, "m.pth")
    assert lines(run, "m.pth")[-2:] == [
        "  another root: 1 tensor, 20 B: --root ema",
        "2 tensors, 24 B, all f32: m.pth",
    ]
    assert run("show", "m.pth", "--json").json["further"] == ["ema"]
    torch.save({f"block{i}": {"w": torch.ones(1)} for i in range(9)}, "nested.pth")
    assert lines(run, "nested.pth")[0] == "  block{0..8}.w  f32[1]  36 B  x 9"
    torch.save({"w": torch.ones(1), "ema": {"w": torch.ones(1)}}, "inner.pth")
    assert [line.split()[0] for line in lines(run, "inner.pth")[:2]] == ["w", "ema.w"]
    assert lines(run, "inner.pth")[2] == "2 tensors, 8 B, all f32: inner.pth, --root ''"
    assert "  another root: 1 tensor, 4 B: --root ema" in lines(run, "inner.pth")


ZERO = {
    "base_optimizer_state": {"state": {0: {"step": 3, "exp_avg": torch.ones(8), "exp_avg_sq": torch.ones(8)}}},
    "single_partition_of_fp32_groups": [torch.ones(8)],
    "zero_stage": 2,
}


def test_show_and_plan_tell_the_same_roots(run: Run) -> None:
    for file, found in {
        "zero.pt": {"optimizer_state_dict": ZERO, "ds_version": "0.14"},
        "inner.pth": {"w": torch.ones(1), "ema": {"w": torch.ones(1)}},
        "two.pth": {"model": {"w": torch.ones(2)}, "ema": {"w": torch.ones(2)}},
    }.items():
        torch.save(found, file)
        shown = {
            line.rpartition("--root ")[2]: line.strip()
            .removeprefix("another root: ")
            .partition(",")[0]
            .partition(" and ")[0]
            for line in lines(run, file)
            if "--root" in line
        }
        rows = run("plan", "-e", "", file).err.splitlines()[1:]
        told = dict(row.split(maxsplit=1) for row in rows if " tensor" in row)
        assert len(told) == 2
        assert shown == told


def test_objects_are_named_by_their_classes(run: Run) -> None:
    around = {"dtype": torch.float32, "size": torch.Size([2]), "device": torch.device("cpu"), "n": Counter("ab")}
    torch.save({"model": {"w": torch.ones(1)}, **around}, "objects.pth")
    shown = [line for line in lines(run, "objects.pth") if "around" in line]
    assert shown == [
        "  around the state: dtype (torch.float32)",
        "  around the state: size (torch.Size)",
        "  around the state: device (torch.device)",
        "  around the state: n (collections.Counter)",
    ]
    entries = run("show", "objects.pth", "--root", "", "--json").json["entries"]
    assert [entries[name]["kind"] for name in around] == [
        "torch.float32", "torch.Size", "torch.device", "collections.Counter",
    ]  # fmt: skip


def test_texts_of_the_metadata(run: Run) -> None:
    texts = {"format": "pt", "a": "it's", "b": "x" * 500, **{f"ss_{number}": "1" for number in range(40)}}
    save_file({"w": torch.ones(2)}, "texts.safetensors", metadata=texts)
    _, first, second, third, *_, more, _ = lines(run, "texts.safetensors")
    assert [first, third, more] == ['  metadata: a = "it\'s"', "  metadata: ss_0 = '1'", "  and 22 more texts"]
    assert second == "  metadata: b = '" + "x" * 58 + "…"
    assert run("show", "texts.safetensors", "--json").json["metadata"] == texts


def test_values_and_things_are_cut(run: Run) -> None:
    torch.save({"model": {"w": torch.ones(1)}, "text": "x" * 900, **{f"v{i}": i for i in range(40)}}, "v.pth")
    shown = lines(run, "v.pth")
    assert shown[1] == "  text = '" + "x" * 58 + "…"
    assert shown[21:] == ["  and 21 more values", "1 tensor, 4 B: v.pth"]


def test_a_long_key_does_not_widen_the_others(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    long = ".".join(["segment"] * 625)
    torch.save({"a.weight": torch.ones(2), long: torch.ones(2, 2), "b.weight": torch.ones(3)}, "long.pth")
    first, second, third, _ = lines(run, "long.pth")
    assert (first, third) == ("  a.weight  f32[2]     8 B", "  b.weight  f32[3]     12 B")
    assert second == f"  {long}  f32[2, 2]  16 B"
    monkeypatch.setattr("statex.cli.commands.show.room", lambda: 60)
    for line in lines(run, "long.pth"):
        assert len(line) <= 60


def test_sixty_columns_are_enough(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = [f"model.language_model.layers.{i}.self_attn.{p}_proj.weight" for i in range(3) for p in "qk"]
    torch.save({key: torch.ones(1000, 100) for key in keys}, "wide.pth")
    monkeypatch.setattr("statex.cli.commands.show.room", lambda: 60)
    first, second, _ = lines(run, "wide.pth")
    assert len(first) <= 60
    assert first.startswith("  model.lan")
    assert "attn.q_proj.weight  f32[1000, 100]  1.1 MiB  x 3" in first
    assert "k_proj.weight" in second


DTYPES = [
    torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2,
    torch.float8_e4m3fnuz, torch.float8_e5m2fnuz, torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8,
    torch.uint16, torch.uint32, torch.uint64, torch.bool, torch.complex64, torch.complex128, torch.complex32,
]  # fmt: skip


@pytest.mark.filterwarnings("ignore:ComplexHalf support is experimental")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("numel", [0, 1, 2, 65_537, 300_001])
def test_statistics_are_those_of_torch(run: Run, dtype: torch.dtype, numel: int) -> None:
    torch.manual_seed(numel)
    made = torch.randn(numel, dtype=torch.complex64 if dtype.is_complex else torch.float32) * 7 + 3
    tensor = (made.abs() if str(dtype).startswith("torch.uint") else made).to(dtype)
    floating = dtype.is_floating_point and "fnuz" not in str(dtype)
    if floating and numel > 2:
        tensor[torch.tensor([5, 70])] = torch.tensor([float("nan")] * 2).to(dtype)
    if numel > 2 and dtype in (torch.float64, torch.float32, torch.float16, torch.bfloat16):
        tensor[numel - 1] = float("-inf")
    torch.save({"t": tensor}, "t.pth")
    found = run("show", "t.pth", "--stats", "--json").json["entries"]["t"]["statistics"]
    wide = tensor.to(torch.complex128).abs() if dtype.is_complex else tensor.double()
    finite = wide[wide.isfinite()]
    assert found["nan"] == wide.isnan().sum().item()
    assert found["inf"] == wide.isinf().sum().item()
    assert found["finite"] == len(finite)
    if not len(finite):
        assert (found["least"], found["most"], found["mean"], found["std"]) == (None, None, None, None)
        return
    assert found["least"] == pytest.approx(finite.min().item(), rel=1e-15)
    assert found["most"] == pytest.approx(finite.max().item(), rel=1e-15)
    assert found["mean"] == pytest.approx(finite.mean().item(), rel=1e-12, abs=1e-14)
    std = finite.std().item() if len(finite) > 1 else None
    assert found["std"] == (std if std is None else pytest.approx(std, rel=1e-12))


def test_statistics_are_stable_and_exact(run: Run) -> None:
    torch.manual_seed(0)
    far = torch.randn(300_000, dtype=torch.float64) + 1e9
    torch.save({"far": far, "big": torch.tensor([2**60 + 1, 2**60])}, "far.pth")
    entries = run("show", "far.pth", "--stats", "--json").json["entries"]
    assert entries["far"]["statistics"]["std"] == pytest.approx((far - 1e9).std().item(), rel=1e-6)
    assert entries["big"]["statistics"]["least"] == 2**60
    assert entries["big"]["statistics"]["most"] == 2**60 + 1


def test_statistics_of_folded_rows(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = torch.tensor([1.0, 2.0, float("nan")]), torch.tensor([3.0, float("inf"), 7.0])
    torch.save({"l.0.w": one, "l.1.w": other, "s": torch.ones(2, 2).t(), "e": torch.ones(0)}, "f.pth")
    shown = [line.split() for line in lines(run, "f.pth", "--stats")]
    assert shown[0] == ["min", "max", "mean", "std"]
    std = torch.tensor([1.0, 2.0, 3.0, 7.0]).std().item()
    assert shown[1][4:8] == ["1", "7", "3.25", f"{std:.3g}"]
    assert " ".join(shown[1][8:]) == "x 2, 1 NaN, 1 inf"
    assert shown[2][5:] == ["1", "1", "1", "0"]
    assert shown[3][-4:] == ["-", "-", "-", "-"]
    monkeypatch.setattr("statex.cli.commands.show.room", lambda: 60)
    assert all(len(line) <= 60 for line in lines(run, "f.pth", "--stats"))


def test_a_hundred_thousand_keys(run: Run) -> None:
    keys = [f"layers.{i}.experts.{e}.w{k}.weight" for i in range(100) for e in range(250) for k in range(1, 5)]
    from safetensors.torch import save_file

    save_file({key: torch.ones(1) for key in keys}, "many.safetensors")
    started = time.process_time()
    shown = lines(run, "many.safetensors")
    assert shown[0] == "  layers.{0..99}.experts.{0..249}.w{1..4}.weight  f32[1]  390.6 KiB  x 100000"
    assert len(shown) == 2
    assert time.process_time() - started < 10


def test_what_is_not_a_terminal_is_not_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "70")
    assert room() is None
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert room() == 70
    monkeypatch.setenv("COLUMNS", "3")
    assert room() == 40


@pytest.mark.parametrize(
    ("variables", "coloured"),
    [
        ({}, False),
        ({"FORCE_COLOR": "1"}, True),
        ({"FORCE_COLOR": "0"}, False),
        ({"FORCE_COLOR": ""}, False),
        ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, False),
        ({"FORCE_COLOR": "1", "NO_COLOR": ""}, True),
        ({"FORCE_COLOR": "3", "TERM": "dumb"}, True),
    ],
)
def test_colour(tmp_path: Path, variables: dict[str, str], coloured: bool) -> None:
    environment = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "FORCE_COLOR")} | variables
    command = [sys.executable, "-m", "statex", "show", str(tmp_path / "none.pth")]
    ended = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert (ended.returncode, "\x1b[" in ended.stderr) == (3, coloured)
