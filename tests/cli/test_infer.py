"""What `statex infer` prints, writes and returns, on files of both formats."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import statex
from tests.cli.conftest import Run
from tests.inferring.models import random, randomised


def test_rules_go_to_standard_output(run: Run, tmp_path: Path) -> None:
    old = random("OPT")()
    torch.save(old, tmp_path / "old.pth")
    save_file(
        {key.replace("model.decoder", "decoder"): t.clone() for key, t in old.items()}, tmp_path / "new.safetensors"
    )
    done = run("infer", "old.pth", "new.safetensors")
    assert done.exit_code == 0
    assert done.out == "rename prefix 'model.' -> ''  # 68 keys\n"
    assert done.err.splitlines()[0] == "proved: 69 of 69 tensors equal in bits"


def test_rules_are_written_and_do_what_they_say(run: Run, tmp_path: Path) -> None:
    old = random("OPT")()
    torch.save(old, tmp_path / "old.pth")
    torch.save({f"x.{key}": tensor for key, tensor in old.items()}, tmp_path / "new.pth")
    assert run("infer", "old.pth", "new.pth", "-o", "rules.sx").exit_code == 0
    assert run("apply", "rules.sx", "old.pth", "out.pth").exit_code == 0
    assert run("diff", "out.pth", "new.pth").exit_code == 0
    again = run("infer", "old.pth", "new.pth", "-o", "rules.sx")
    assert again.exit_code == 3
    assert "exists already" in again.err
    assert run("infer", "old.pth", "new.pth", "-o", "rules.sx", "--force").exit_code == 0
    assert run("fmt", "--check", "rules.sx").exit_code == 0


def test_what_is_unexplained_is_listed(run: Run, tmp_path: Path) -> None:
    torch.save({"fc.weight": torch.randn(3, 4), "fc.bias": torch.randn(3)}, tmp_path / "old.pth")
    old = torch.load(tmp_path / "old.pth")
    torch.save({"head.weight": old["fc.weight"], "head.bias": old["fc.bias"] * 2}, tmp_path / "new.pth")
    done = run("infer", "old.pth", "new.pth", "-o", "rules.sx")
    assert done.exit_code == 1
    assert "unexplained    head.bias  near fc.bias" in done.out
    assert (tmp_path / "rules.sx").read_text() == "rename fc.weight -> head.weight  # 1 key\n"
    as_json = run("infer", "old.pth", "new.pth", "--json")
    assert as_json.exit_code == 1
    assert as_json.json["unexplained"] == {"head.bias": "fc.bias"}
    assert (as_json.json["proved"], as_json.json["equal"]) == (False, 1)
    json.dumps(as_json.json)


def test_ties_are_seen_in_torch_files(tmp_path: Path) -> None:
    old = randomised({"embed.weight": torch.zeros(5, 4), "norm.weight": torch.zeros(4)})
    torch.save(old, tmp_path / "old.pth")
    torch.save(old | {"head.weight": old["embed.weight"]}, tmp_path / "tied.pth")
    torch.save(old | {"head.weight": old["embed.weight"].clone()}, tmp_path / "apart.pth")
    tied = statex.infer(tmp_path / "old.pth", tmp_path / "tied.pth")
    assert tied.rules == "copy embed.weight -> head.weight  # 1 key\n"
    assert tied.proof is not None
    assert tied.proof.also["ties"]
    apart = statex.infer(tmp_path / "old.pth", tmp_path / "apart.pth")
    assert apart.rules == "add head.weight = it for embed.weight  # 1 key\n"
    assert apart.proof is not None
    assert apart.proof.also["ties"]


def test_modules_and_their_metadata(tmp_path: Path) -> None:
    first = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.BatchNorm1d(4))
    torch.save(first.state_dict(), tmp_path / "old.pth")
    torch.save(torch.nn.ModuleDict({"net": first}).state_dict(), tmp_path / "new.pth")
    found = statex.infer(tmp_path / "old.pth", tmp_path / "new.pth")
    assert found.proved
    assert found.rules == "rename prefix '' -> 'net.'  # 7 keys\n"
    assert found.proof is not None
    assert "_metadata" in found.proof.also


def test_the_order_of_keys(tmp_path: Path) -> None:
    old = {f"h.{i}.{name}.weight": torch.randn(3) for name in ("norm", "fc") for i in range(11)}
    keys = [f"h.{i}.{name}.weight" for i in range(11) for name in ("fc", "norm")]
    found = statex.infer(old, {key: old[key] for key in keys})
    assert (found.proved, found.rules) == (True, "order natural\n")
    assert found.proof is not None
    assert found.proof.also["order"]
    other = statex.infer(old, {key: old[key] for key in reversed(keys)})
    assert (other.proved, other.rules) == (True, "")
    assert other.proof is not None
    assert not other.proof.also["order"]


def test_nested_checkpoints(run: Run, tmp_path: Path) -> None:
    state = {"fc.weight": torch.randn(3, 4)}
    torch.save({"a": state, "b": {"fc.weight": torch.randn(3, 4)}, "epoch": 3}, tmp_path / "old.pth")
    torch.save({"ema": {"head.weight": state["fc.weight"]}}, tmp_path / "new.pth")
    done = run("infer", "old.pth", "new.pth", "--root", "a")
    assert done.exit_code == 0, done.err
    assert done.out == "rename prefix 'fc.' -> 'head.'  # 1 key\n"
    assert "not the same: what stands around the state" in done.err


def test_files_that_are_not_there(run: Run) -> None:
    assert run("infer", "no.pth", "neither.pth").exit_code == 3


@pytest.mark.parametrize("quiet", [True, False])
def test_quiet(run: Run, tmp_path: Path, quiet: bool) -> None:
    torch.save({"a.weight": torch.randn(3, 4)}, tmp_path / "old.pth")
    done = run("infer", "old.pth", "old.pth", *(["--quiet"] if quiet else []))
    assert done.exit_code == 0
    assert (done.err == "") == quiet


def test_rules_for_a_model_are_guessed(run: Run, tmp_path: Path) -> None:
    old = {"fc.weight": torch.randn(5, 10), "fc.bias": torch.randn(5)}
    for name in ("weight", "bias", "running_mean", "running_var"):
        old[f"norm.{name}"] = torch.randn(5)
    old["norm.num_batches_tracked"] = torch.tensor(3)
    save_file(old, tmp_path / "old.safetensors")
    done = run("infer", "old.safetensors", "--target", "models:Net", "-o", "rules.sx")
    assert done.exit_code == 0, done.err
    text = (tmp_path / "rules.sx").read_text()
    assert text.count("# guess: ") == text.count("#") > 0
    assert done.out.splitlines()[0] == "guessed from names and shapes, not proved: 7 of 7 tensors"
    assert done.out.splitlines()[-1] == "the result fits in keys, shapes and dtypes"
    assert run("apply", "rules.sx", "old.safetensors", "out.pth", "--target", "models:Net").exit_code == 0
    made = torch.load(tmp_path / "out.pth")
    assert all(torch.equal(made[key.replace("fc", "linear").replace("norm", "bn")], one) for key, one in old.items())
    wider = run("infer", "old.safetensors", "--target", "models:Net", "--target-arg", "width=7", "--json")
    assert (wider.exit_code, wider.json["ok"], wider.json["proved"]) == (1, False, False)
    assert wider.json["misfit"] == "6 missing, 6 unexpected"
    assert set(wider.json["unexplained"]) == set(made) - {"bn.num_batches_tracked"}


def test_a_checkpoint_of_which_names_and_shapes_count(run: Run, tmp_path: Path) -> None:
    old = random("OPT")()
    torch.save(old, tmp_path / "old.pth")
    torch.save({f"x.{key}": torch.zeros_like(tensor) for key, tensor in old.items()}, tmp_path / "like.pth")
    done = run("infer", "old.pth", "--like", "like.pth")
    assert (done.exit_code, done.out) == (0, f"rename prefix '' -> 'x.'  # guess: {len(old)} keys\n")
    assert "\nproved" not in f"\n{done.err}"
    as_json = run("infer", "old.pth", "--like", "like.pth", "--json").json
    assert (as_json["ok"], as_json["proved"], as_json["new"], len(as_json["guesses"])) == (True, False, None, len(old))


@pytest.mark.parametrize("more", [[], ["new.pth", "--like", "new.pth"], ["new.pth", "--target", "models:Net"]])
def test_one_thing_says_what_is_new(run: Run, more: list[str]) -> None:
    torch.save({"a.weight": torch.randn(3)}, "old.pth")
    done = run("infer", "old.pth", *more)
    assert done.exit_code == 2
    assert "give NEW, or one of --like and --target" in " ".join(done.err.replace("│", "").split())


def test_further_inputs_and_a_program_to_go_on_with(run: Run, tmp_path: Path) -> None:
    old = random("OPT")()
    other = randomised(old, 1)
    save_file({key: tensor.clone() for key, tensor in old.items()}, tmp_path / "old.safetensors")
    save_file({key: tensor.clone() for key, tensor in other.items()}, tmp_path / "ft.safetensors")
    new = {f"x.{key}": (tensor + other[key]) / 2 for key, tensor in old.items()}
    save_file(new, tmp_path / "new.safetensors")
    (tmp_path / "begun.sx").write_text("# as before\nrename prefix '' -> 'x.'\n")
    arguments = ["old.safetensors", "new.safetensors", "--in", "ft=ft.safetensors"]
    done = run("infer", *arguments, "--from", "begun.sx", "-o", "rules.sx")
    assert (done.exit_code, done.out.splitlines()[0]) == (0, f"proved: {len(new)} of {len(new)} tensors equal in bits")
    text = (tmp_path / "rules.sx").read_text()
    assert text.startswith("# as before\nrename prefix '' -> 'x.'\n\ninput ft\n")
    again = run("apply", "rules.sx", "old.safetensors", "out.safetensors", "--in", "ft=ft.safetensors")
    assert again.exit_code == 0, again.err
    assert run("diff", "out.safetensors", "new.safetensors").exit_code == 0
    assert run("infer", "old.safetensors", "new.safetensors").exit_code == 1
    assert run("infer", *arguments, "--in", "ft=old.safetensors").exit_code == 2
    assert run("infer", "old.safetensors", "--like", "new.safetensors", "--from", "begun.sx").exit_code == 2


def test_sizes_are_found_in_a_configuration_in_the_configuration(run: Run, tmp_path: Path) -> None:
    def put(name: str, width: int) -> None:
        (tmp_path / name).mkdir()
        config = {"text_config": {"hidden_size": width, "num_attention_heads": 4}, "vision_config": {"hidden_size": 40}}
        (tmp_path / name / "config.json").write_text(json.dumps(config))
        state = {f"layers.{i}.q_proj.weight": torch.randn(width, width) for i in range(3)}
        save_file(state, tmp_path / name / "model.safetensors")

    rope = "set **.weight = rearrange('(h two d) c -> (h d two) c', h=4, two=2)"
    put("old", 64)
    put("wider", 96)
    assert run("apply", "-e", rope, "old", "new.safetensors").exit_code == 0
    assert run("infer", "old", "new.safetensors", "-o", "rules.sx").exit_code == 0
    rules = (tmp_path / "rules.sx").read_text()
    assert "param hidden_size: int from 'text_config.hidden_size' = 64  " in rules
    # The rules find the sizes of another checkpoint in its own file.
    assert run("apply", "-e", rope, "wider", "wanted.safetensors").exit_code == 0
    assert run("apply", "rules.sx", "wider", "out.safetensors", "--params", "wider/config.json").exit_code == 0
    assert run("diff", "out.safetensors", "wanted.safetensors").exit_code == 0
