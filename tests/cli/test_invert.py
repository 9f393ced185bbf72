"""`statex invert` and `statex plan --lossless` on files."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from tests.cli.conftest import Run


def state() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return {
        "embed.weight": torch.randn(10, 4),
        "h.0.qkv.weight": torch.randn(6, 4),
        "h.1.qkv.weight": torch.randn(6, 4),
    }


RULES = "rename part h -> layers\nsplit **.qkv.weight -> **.{p:q|k|v}.weight = chunk(3)\nset embed.weight = transpose\n"


def test_an_inverse_written_to_a_file_is_carried_out(run: Run) -> None:
    save_file(state(), "in.safetensors")
    Path("rules.sx").write_text(RULES)
    done = run("invert", "rules.sx", "in.safetensors", "-o", "back.sx", "--prove")
    assert (done.exit_code, done.err) == (0, "")
    assert done.out.splitlines() == [
        "on the header: 3 of 3 tensors come back",
        "proved: 3 of 3 tensors come back equal in bits",
    ]
    assert run("apply", "rules.sx", "in.safetensors", "out.safetensors").exit_code == 0
    assert run("apply", "back.sx", "out.safetensors", "again.safetensors").exit_code == 0
    again = load_file("again.safetensors")
    assert again.keys() == state().keys()
    assert all(torch.equal(again[key], value) for key, value in state().items())
    assert {path.name for path in Path().glob("*.safetensors")} == {
        "in.safetensors",
        "out.safetensors",
        "again.safetensors",
    }


def test_an_existing_file_is_kept(run: Run) -> None:
    save_file(state(), "in.safetensors")
    Path("back.sx").write_text("# mine\n")
    done = run("invert", "-e", "drop? x", "in.safetensors", "-o", "back.sx")
    assert done.exit_code == 3
    assert "SX610" in done.err
    assert Path("back.sx").read_text() == "# mine\n"
    assert run("invert", "-e", "drop? x", "in.safetensors", "-o", "back.sx", "--force").exit_code == 0


def test_rules_that_lose_something_are_an_error_that_names_it(run: Run) -> None:
    save_file(state(), "in.safetensors")
    Path("rules.sx").write_text(RULES + "set embed.weight = it[:, 2:]\n")
    done = run("invert", "rules.sx", "in.safetensors")
    assert done.exit_code == 1
    assert "error[SX333]: 1 of 3 tensors cannot be had back from what these rules make" in done.err
    assert "rules.sx:4 it[:, 2:] drops columns ..1 of embed.weight" in done.err
    partial = run("invert", "rules.sx", "in.safetensors", "--partial", "--prove", "--json").json
    assert (partial["lost"], partial["proof"]["equal"], partial["proof"]["tensors"]) == (["embed.weight"], 2, 2)


def test_a_plan_says_whether_it_is_lossless(run: Run) -> None:
    save_file(state(), "in.safetensors")
    Path("rules.sx").write_text(RULES)
    done = run("plan", "rules.sx", "in.safetensors", "--lossless")
    assert (done.exit_code, done.out) == (0, "lossless: 3 of 3 tensors come back\n")
    lossy = run("plan", "rules.sx", "-e", "drop embed.weight", "in.safetensors", "--lossless", "--json")
    assert lossy.exit_code == 1
    assert [one["key"] for one in lossy.json["lost"]] == ["embed.weight"]
    assert [one["loses"] for one in lossy.json["statements"]] == [[], [], [], ["embed.weight"]]


def test_what_stands_around_the_state(run: Run) -> None:
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2))
    torch.save({"model": model.state_dict(), "epoch": 3}, "in.pth")
    Path("rules.sx").write_text("root 'model' -> 'state_dict'\nrename prefix '' -> 'net.'\nset value('epoch') = 0\n")
    done = run("invert", "rules.sx", "in.pth", "-o", "back.sx", "--prove")
    assert "proved: 7 of 7 tensors come back equal in bits" in done.out
    assert "not undone" not in done.out
    assert run("apply", "rules.sx", "in.pth", "out.pth").exit_code == 0
    assert run("apply", "back.sx", "out.pth", "again.pth").exit_code == 0
    again = torch.load("again.pth", weights_only=False)
    assert again["model"].keys() == model.state_dict().keys()
    assert again["model"]._metadata == model.state_dict()._metadata
    assert again["epoch"] == 3


def test_what_is_lost_is_kept_in_a_file(run: Run) -> None:
    torch.save({"model": state() | {"gone": torch.arange(3)}, "epoch": 1}, "in.pth")
    Path("rules.sx").write_text(RULES + "set embed.weight = it[:, 2:]\ndrop gone\n")
    done = run("invert", "rules.sx", "in.pth", "-o", "back.sx", "--keep", "lost.safetensors", "--prove")
    assert (done.exit_code, done.err) == (0, "")
    assert done.out.splitlines()[:3] == [
        "on the header: 4 of 4 tensors come back",
        "  2 of these come from the input `lost`, 1 of them in part: 56 B of 184 B",
        "proved: 4 of 4 tensors come back equal in bits",
    ]
    lost = load_file("lost.safetensors")
    assert lost.keys() == {"embed.weight", "gone"}
    assert torch.equal(lost["embed.weight"], state()["embed.weight"].T[:, :2])
    assert run("apply", "rules.sx", "in.pth", "out.pth").exit_code == 0
    assert run("apply", "back.sx", "out.pth", "again.pth", "--in", "lost=lost.safetensors").exit_code == 0
    again = torch.load("again.pth", weights_only=True)["model"]
    assert all(torch.equal(again[key], value) for key, value in state().items())
    assert torch.equal(again["gone"], torch.arange(3))
    assert run("invert", "rules.sx", "in.pth", "--keep", "lost.safetensors").exit_code == 3


def test_a_proof_that_fails_is_not_called_one(run: Run) -> None:
    # A signalling NaN, which a cast makes a quiet one.
    bits = torch.tensor([0x7FA1, 0x3F80], dtype=torch.int16)
    torch.save({"w": bits.view(torch.bfloat16)}, "in.pth")
    done = run("invert", "-e", "set w = cast(f32)", "in.pth", "-o", "back.sx", "--prove")
    assert done.exit_code == 1
    assert done.out.splitlines() == [
        "on the header: 1 of 1 tensor comes back",
        "not proved: 0 of 1 tensor come back equal in bits",
        "  w differs",
        "  1 tensor is computed back: a NaN stays a NaN, and may get another payload or sign",
    ]
    found = run("invert", "-e", "set w = cast(f32)", "in.pth", "--json").json
    assert (found["nan_payloads"], found["proof"]) == (["w"], None)


def test_casts_of_integers_say_nothing_of_nans(run: Run) -> None:
    torch.save({"w": torch.arange(3, dtype=torch.int32), "x": torch.ones(2)}, "in.pth")
    done = run("invert", "-e", "set w = cast(i64)", "-e", "set x = cast(f32)", "in.pth", "-o", "back.sx", "--prove")
    assert (done.exit_code, done.out.splitlines()) == (0, [
        "on the header: 2 of 2 tensors come back",
        "proved: 2 of 2 tensors come back equal in bits",
    ])  # fmt: skip


def test_what_is_no_tensor_is_not_counted_as_one(run: Run) -> None:
    torch.save({"w": torch.ones(2), "v": torch.zeros(3), "layer._extra_state": {"scale": 1}}, "in.pth")
    kept = run("plan", "-e", "set w = flip(0)", "in.pth", "--lossless")
    assert kept.out == "lossless: 2 of 2 tensors and 1 of 1 other entry come back\n"
    lost = run("plan", "-e", "drop layer._extra_state", "in.pth", "--lossless")
    assert lost.out.splitlines()[-1] == "not lossless: 2 of 2 tensors and 0 of 1 other entry come back"
    refused = run("invert", "-e", "drop layer._extra_state", "in.pth")
    assert "error[SX333]: 1 of 1 other entry cannot be had back from what these rules make" in refused.err
    both = run("invert", "-e", "drop layer._extra_state, w", "in.pth")
    assert "error[SX333]: 1 of 2 tensors and 1 of 1 other entry cannot be had back" in both.err


def test_the_whole_text_is_proved(run: Run) -> None:
    torch.save({"model": {"w": torch.randn(4, 3)}, "epoch": 1}, "in.pth")
    Path("rules.sx").write_text(
        "root 'model' -> 'net'\nparam rows: int\n# the top\nset w = rearrange('(a b) c -> (b a) c', a=rows)  # beside\n"
    )
    done = run("invert", "rules.sx", "in.pth", "-D", "rows=2", "-o", "back.sx", "--prove")
    assert done.exit_code == 0, done.err
    assert Path("back.sx").read_text() == (
        "root 'net' -> 'model'\nparam rows: int = 2\n\n# the top\n"
        "set w = rearrange('(b a) c -> (a b) c', a=rows)  # beside\n"
    )


def test_what_only_the_data_tell_is_undone_where_they_do(run: Run) -> None:
    held = {
        "rounds": torch.randn(4),
        "fits": torch.randn(4).bfloat16().float(),
        "small": torch.tensor([2.0**-149, 1.0]),
        "large": torch.tensor([3e38, 1.0]),
        "plain": torch.randn(3),
        "ints": torch.tensor([1, 2**31], dtype=torch.int64),
    }
    torch.save(held, "in.pth")
    Path("rules.sx").write_text(
        "set rounds, fits = cast(bf16)\nset small, plain = it / 4\nset large = 8 * it\nset ints = cast(i32)\n"
    )
    alone = run("invert", "rules.sx", "in.pth")
    assert alone.exit_code == 1
    assert "6 of 6 tensors cannot be had back" in alone.err
    assert "`--prove` finds out on the data whether rounding and scaling lose anything here" in alone.err
    refused = run("invert", "rules.sx", "in.pth", "--prove")
    assert refused.exit_code == 1
    assert "4 of 6 tensors cannot be had back" in refused.err
    assert "rules.sx:1 cast(bf16) rounds rounds\n" in refused.err
    assert "fits" not in refused.err.partition("-->")[0]
    done = run("invert", "rules.sx", "in.pth", "--prove", "--keep", "lost.safetensors", "-o", "back.sx")
    assert done.exit_code == 0, done.err
    assert done.out.splitlines() == [
        "on the header: 4 of 6 tensors come back",
        "  4 of these come from the input `lost`: 48 B",
        "proved: 6 of 6 tensors come back equal in bits",
    ]
    assert load_file("lost.safetensors").keys() == {"rounds", "small", "large", "ints"}
    assert "set fits = cast(f32)\n" in Path("back.sx").read_text()
    run("apply", "rules.sx", "in.pth", "out.pth")
    assert run("apply", "back.sx", "out.pth", "again.pth", "--in", "lost=lost.safetensors").exit_code == 0
    again = torch.load("again.pth", weights_only=True)
    assert all(torch.equal(again[key].view(torch.uint8), value.view(torch.uint8)) for key, value in held.items())


def test_what_an_optimizer_keeps_of_lost_tensors_is_said(run: Run) -> None:
    """It follows the rules and their inverse, and a further input has nothing of it."""
    model = torch.nn.ModuleDict({name: torch.nn.Linear(3, 4) for name in "ab"})
    optimizer = torch.optim.AdamW(model.parameters())
    for p in model.parameters():
        p.grad = torch.ones_like(p)
    optimizer.step()
    state = {"model": {**model.state_dict(), "mask": torch.ones(7)}, "optimizer": optimizer.state_dict()}
    torch.save(state, "in.pth")
    cut = ["-e", "set a.weight = it[:2]", "-e", "drop b.bias, mask", "in.pth"]
    planned = run("plan", *cut, "--lossless")
    line = "what `optimizer` keeps of `a.weight` and `b.bias` is lost as well, and no further input has it"
    assert line in planned.out.splitlines()
    data = json.loads(run("plan", *cut, "--lossless", "--json").out)
    assert data["beside"] == [{"path": ["optimizer"], "file": None, "keys": ["a.weight", "b.bias"]}]
    said = "  not undone: what `optimizer` keeps of tensors that come from the input `lost`"
    kept = run("invert", *cut, "--keep", "lost.safetensors", "-o", "back.sx")
    assert said in kept.out.splitlines()
    assert said in run("apply", *cut, "out.pth", "--reversible").out.splitlines()
    mask = run("apply", "-e", "drop mask", "-e", "set a.weight = transpose", "in.pth", "mask.pth", "--reversible")
    assert "`optimizer` keeps" not in mask.out
