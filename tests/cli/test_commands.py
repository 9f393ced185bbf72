"""Each command on a small checkpoint: what it prints, what it writes, how it ends."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

import statex
from statex.diagnostics import diagnostic
from statex.diagnostics.codes import lints
from tests.cli.conftest import Run


class Net(nn.Module):
    """The same as `models:Net`."""

    def __init__(self, width: int = 5) -> None:
        super().__init__()
        self.linear = nn.Linear(10, width)
        self.bn = nn.BatchNorm1d(width)


@pytest.fixture
def net(tmp_path: Path) -> Net:
    torch.manual_seed(0)
    model = Net()
    torch.save(model.state_dict(), tmp_path / "net.pth")
    return model


def read(path: str | Path) -> OrderedDict[str, torch.Tensor]:
    loaded: OrderedDict[str, torch.Tensor] = torch.load(path, weights_only=True)
    return loaded


class TestApply:
    def test_it_says_what_it_did(self, run: Run, net: Net) -> None:
        ended = run("apply", "-e", "set linear.weight = ones_like", "net.pth", "out.pth", "--target", "models:Net")
        assert (ended.exit_code, ended.err) == (0, "")
        assert ended.out.splitlines() == [
            "7 keys in, 7 out (308 B): 1 computed, 0 moved, 6 untouched, 0 dropped, 1 replaced",
            "verified against Net: all 7 keys agree",
            "wrote out.pth",
        ]
        state = read("out.pth")
        assert str(net.load_state_dict(state)) == "<All keys matched successfully>"
        assert torch.equal(state["linear.weight"], torch.ones(5, 10))

    def test_quiet(self, run: Run, net: Net) -> None:
        ended = run("apply", "-q", "-e", "drop bn.**", "net.pth", "out.pth")
        assert (ended.exit_code, ended.out, ended.err) == (0, "", "")
        assert list(read("out.pth")) == ["linear.weight", "linear.bias"]

    def test_dry_run_writes_nothing(self, run: Run, net: Net) -> None:
        ended = run("apply", "--dry-run", "-e", "drop bn.**", "net.pth", "out.pth")
        assert ended.exit_code == 0
        assert ended.out.splitlines()[-1] == "dry run: out.pth was not written"
        assert not Path("out.pth").exists()

    def test_dry_run_checks_the_target(self, run: Run, net: Net) -> None:
        arguments = ["apply", "--dry-run", "-e", "drop bn.**", "net.pth", "out.pth", "--target", "models:Net"]
        assert run(*arguments).exit_code == 1

    def test_statements_in_order(self, run: Run, net: Net) -> None:
        run("apply", "-e", "drop bn.**", "-e", "rename prefix 'linear.' -> ''", "net.pth", "out.pth")
        assert list(read("out.pth")) == ["weight", "bias"]

    def test_parameters(self, run: Run, net: Net) -> None:
        Path("config.json").write_text(json.dumps({"n": 2, "name": "unused", "rope": None}))
        Path("rules.sx").write_text(
            "param n: int\nparam p: str = 'x'\nset linear.weight = it * n\nadd {$p}.s = zeros(n)"
        )
        assert run("apply", "rules.sx", "net.pth", "a.pth", "--params", "config.json").exit_code == 0
        assert run("apply", "rules.sx", "net.pth", "b.pth", "--params", "config.json", "-D", "n=3", "-D", "p=y").out
        weight = net.linear.weight.detach()
        assert torch.equal(read("a.pth")["linear.weight"], weight * 2)
        assert read("a.pth")["x.s"].shape == (2,)
        assert torch.equal(read("b.pth")["linear.weight"], weight * 3)
        assert read("b.pth")["y.s"].shape == (3,)

    def test_target_arguments(self, run: Run, net: Net) -> None:
        rules = "set ** = cat(it, it) where ndim == 1\nset linear.weight = cat(it, it)"
        arguments = ["apply", "-e", rules, "net.pth", "out.pth", "--target", "models:Net"]
        assert run(*arguments).exit_code == 1
        assert run(*arguments, "--target-arg", "width=10").exit_code == 0
        Net(10).load_state_dict(read("out.pth"))

    def test_further_inputs(self, run: Run, net: Net) -> None:
        torch.save({k: v + 2 for k, v in net.state_dict().items()}, "ft.pth")
        rules = "input ft\nset ** = (it + ft::{key}) / 2 where is_floating_point(it)\ndrop ft::bn.num_batches_tracked"
        ended = run("apply", "-e", rules, "net.pth", "out.pth", "--in", "ft=ft.pth")
        assert (ended.exit_code, ended.err) == (0, "")
        expected = (net.linear.weight + (net.linear.weight + 2)) / 2
        assert torch.equal(read("out.pth")["linear.weight"], expected.detach())

    def test_a_family_of_inputs(self, run: Run) -> None:
        whole = torch.randn(6, 4)
        for rank in range(3):
            torch.save({"w.weight": whole[2 * rank : 2 * rank + 2].clone()}, f"{rank}.pth")
        arguments = ["--in", "rank=1.pth", "--in", "rank=2.pth"]
        ended = run("apply", "-e", "input rank[]\nset ** = cat(it, rank::{key})", "0.pth", "out.pth", *arguments)
        assert (ended.exit_code, ended.err) == (0, "")
        assert torch.equal(read("out.pth")["w.weight"], whole)

    def test_formats_by_ending_and_by_option(self, run: Run, net: Net) -> None:
        assert run("apply", "-e", "", "net.pth", "out.safetensors").exit_code == 0
        assert run("apply", "-e", "", "out.safetensors", "back.pth").exit_code == 0
        assert run("apply", "-e", "", "net.pth", "named", "--format", "safetensors").exit_code == 0
        for state in (load_file("out.safetensors"), read("back.pth"), load_file("named")):
            assert set(state) == set(net.state_dict())
            assert all(torch.equal(state[k], v) for k, v in net.state_dict().items())

    def test_a_nested_state_keeps_what_is_around(self, run: Run, net: Net) -> None:
        whole = {"epoch": 3, "model": net.state_dict(), "optimizer": {"lr": 0.1}, "tag": "x"}
        torch.save(whole, "nested.pth")
        assert run("apply", "-e", "rename prefix '' -> 'm.'", "nested.pth", "a.pth").exit_code == 0
        kept = torch.load("a.pth", weights_only=True)
        assert list(kept) == list(whole)
        assert (kept["epoch"], kept["optimizer"], kept["tag"]) == (3, {"lr": 0.1}, "x")
        assert list(kept["model"]) == [f"m.{k}" for k in net.state_dict()]
        ended = run("apply", "-e", "root 'model' -> ''", "nested.pth", "b.pth")
        assert "left out around the state: epoch, optimizer, tag" in ended.out
        assert list(read("b.pth")) == list(net.state_dict())

    def test_an_ambiguous_root_is_named(self, run: Run, net: Net) -> None:
        torch.save({"model": net.state_dict(), "ema": net.state_dict()}, "two.pth")
        ended = run("apply", "-e", "drop bn.**", "two.pth", "out.pth")
        assert ended.exit_code == 2
        assert ended.err.splitlines()[1:3] == ["    model  7 tensors", "    ema    7 tensors"]
        assert "--root model" in ended.err
        assert run("apply", "-e", "drop bn.**", "two.pth", "out.pth", "--root", "ema").exit_code == 0
        both = torch.load("out.pth", weights_only=True)
        assert list(both["ema"]) == ["linear.weight", "linear.bias"]
        assert list(both["model"]) == list(net.state_dict())

    def test_force_replaces_and_keeps_the_mode(self, run: Run, net: Net) -> None:
        Path("out.pth").write_text("old")
        Path("out.pth").chmod(0o640)
        assert run("apply", "--force", "-e", "drop bn.**", "net.pth", "out.pth").exit_code == 0
        assert list(read("out.pth")) == ["linear.weight", "linear.bias"]
        assert Path("out.pth").stat().st_mode & 0o777 == 0o640

    def test_the_help_for_a_tie_can_be_pasted(self, run: Run, net: Net) -> None:
        torch.save({**net.state_dict(), "linear.tied": net.linear.weight}, "tied.pth")
        Path("tying.py").write_text(
            "import models\ndef build():\n    net = models.Net()\n"
            "    net.linear.tied = net.linear.weight\n    return net\n"
        )
        arguments = ["tied.pth", "out.safetensors", "--target", "tying:build"]
        ended = run("apply", "-e", "", *arguments)
        meant = "drop linear.tied; allow missing linear.tied"
        assert ended.exit_code == 0
        assert f"help: if the model ties them itself: {meant}\n" in ended.err
        ended = run("apply", "--force", "-e", meant, *arguments)
        assert (ended.exit_code, ended.err) == (0, "")

    def test_warnings_do_not_stop_it(self, run: Run, net: Net) -> None:
        ended = run("apply", "-e", "set ** = cast(f16)", "net.pth", "out.pth")
        assert ended.exit_code == 0
        assert "warning[SX902]" in ended.err
        assert "bn.num_batches_tracked: i64[] -> f16[]" in ended.err


class TestFolders:
    @pytest.fixture(autouse=True)
    def folder(self, run: Run) -> None:
        Path("in").mkdir()
        save_file({"a": torch.ones(2)}, "in/model.safetensors")
        Path("in/config.json").write_text("{}")
        Path("in/vocab.txt").write_text("a b c")

    def test_what_is_not_weights_is_said(self, run: Run) -> None:
        ended = run("apply", "-e", "", "in", "out/")
        assert ended.exit_code == 0
        assert ended.out.splitlines()[1:] == [
            "not copied: config.json and vocab.txt (--copy-files)",
            "wrote out",
        ]
        assert [path.name for path in Path("out").iterdir()] == ["model.safetensors"]
        taken = run("apply", "-e", "", "in", "out", "--copy-files", "--force")
        assert "not copied" not in taken.out
        assert Path("out/config.json").read_bytes() == Path("in/config.json").read_bytes()
        lost = run("apply", "-e", "", "in", "out", "--force")
        assert lost.exit_code == 3
        assert "holds files that would be lost: config.json and vocab.txt" in lost.err

    def test_folders_are_not_taken_along_and_that_is_said(self, run: Run) -> None:
        Path("in/1_Pooling").mkdir()
        Path("in/.cache").mkdir()
        taken = run("apply", "-e", "", "in", "out/", "--copy-files")
        assert "\nnot copied: 1_Pooling/\n" in taken.out
        left = run("apply", "-e", "", "in", "other/")
        names = "config.json, vocab.txt and 1_Pooling/"
        assert f"\nnot copied: {names} (--copy-files copies config.json and vocab.txt)\n" in left.out

    def test_weights_and_hidden_files_beside_the_checkpoint_stay_and_are_named(self, run: Run) -> None:
        for name in (".hidden", "training_args.bin", "optimizer.pt", "pytorch_model.bin", "model.fp16.safetensors"):
            Path("in", name).write_bytes(b"x")
        taken = run("apply", "-e", "", "in", "out/", "--copy-files")
        assert "\nnot copied: .hidden, model.fp16.safetensors, optimizer.pt and 1 more\n" in taken.out
        assert sorted(os.listdir("out")) == ["config.json", "model.safetensors", "vocab.txt"]
        left = run("apply", "-e", "", "in", "other/")
        assert "not copied: config.json, vocab.txt, .hidden and 3 more (--copy-files copies config.json and" in left.out

    def test_broken_links_are_not_copied(self, run: Run) -> None:
        Path("in/gone.json").symlink_to("nowhere.json")
        ended = run("apply", "-e", "", "in", "out/", "--copy-files")
        assert ended.err == "warning[SX908]: `gone.json` is a broken link, and is not copied\n"

    def test_links_to_outside_are_not_taken_along_and_that_is_a_warning(self, run: Run) -> None:
        Path("real.json").write_text("{}")
        Path("in/config.json").unlink()
        Path("in/config.json").symlink_to("../real.json")
        ended = run("apply", "-e", "", "in", "out/", "--copy-files")
        assert ended.exit_code == 0
        assert ended.err.startswith(
            "warning[SX908]: `config.json` is a link out of the input's folder, and is not copied"
        )
        assert "afterwards: cp -rL in/config.json out/\n" in ended.err
        assert "\nnot copied: config.json@\n" in ended.out
        ended = run("apply", "-e", "", "in", "other/", "--copy-files", "-W", "error")
        assert (ended.exit_code, ended.out, Path("other").exists()) == (1, "", False)
        assert run("apply", "-e", "", "in", "third/").err == ""

    def test_files_are_not_taken_along_into_a_file(self, run: Run) -> None:
        ended = run("apply", "-e", "", "in", "out.pth", "--copy-files")
        assert (ended.exit_code, ended.out) == (2, "")
        assert ended.err.startswith("error[SX618]")
        assert not Path("out.pth").exists()

    def test_the_dtype_of_a_config_that_is_copied_follows(self, run: Run) -> None:
        Path("in/config.json").write_text('{"dtype": "float32"}')
        arguments = ["apply", "-e", "set a = cast(f16)", "in", "out/", "--copy-files"]
        line = "config.json: dtype float32 -> float16"
        assert line in run(*arguments, "--dry-run").out.splitlines()
        updated = {"file": "config.json", "key": "dtype", "before": "float32", "after": "float16"}
        assert run(*arguments, "--json").json["updated"] == [updated]
        assert Path("out/config.json").read_text() == '{"dtype": "float16"}'
        kept = run(*arguments, "--force", "--no-update-config")
        assert (kept.err, line in kept.out) == ("", False)
        assert Path("out/config.json").read_text() == '{"dtype": "float32"}'

    def test_files_of_the_output_are_named_as_those_of_the_input_or_after_a_stem(self, run: Run) -> None:
        Path("in/model.safetensors").rename("in/adapter_model.safetensors")
        run("apply", "-e", "", "in", "out/")
        assert [path.name for path in Path("out").iterdir()] == ["adapter_model.safetensors"]
        run("apply", "-e", "", "in", "named/", "--stem", "diffusion_pytorch_model.fp16", "--format", "torch")
        assert [path.name for path in Path("named").iterdir()] == ["diffusion_pytorch_model.fp16.bin"]
        refused = run("apply", "-e", "", "in", "third/", "--stem", "a/model.bin")
        assert (refused.exit_code, refused.out, Path("third").exists()) == (2, "", False)
        assert refused.err == (
            "error[SX645]: files cannot be named after the stem `a/model.bin`\n"
            "  = help: a stem has no ending and no number: `model`\n"
        )

    def test_messages_name_the_folder(self, run: Run) -> None:
        assert run("show", "in").out.splitlines()[-1] == "1 tensor, 8 B: in"


class TestPlan:
    def test_what_around_the_state_is_left_out(self, run: Run, net: Net) -> None:
        torch.save({"epoch": 3, "model": net.state_dict()}, "nested.pth")
        arguments = ["-e", "root 'model' -> ''", "nested.pth"]
        assert run("plan", *arguments).out.endswith("\nleft out around the state: epoch\n")
        assert run("apply", "--dry-run", *arguments, "b.pth").out.count("left out around the state: epoch\n") == 1
        for command in (["plan", *arguments], ["apply", *arguments, "b.pth"]):
            assert run(*command, "--json").json["left_around"] == ["epoch"]
        assert run("plan", "-e", "", "nested.pth", "--json").json["left_around"] == []

    def test_what_rules_change_around_the_state(self, run: Run, net: Net) -> None:
        torch.save({"epoch": 3, "args": 1, "model": net.state_dict()}, "nested.pth")
        rules = "set value('epoch') = value('epoch') + 1; add value('run.id') = 'x'; drop value('args')"
        said = (
            "left out around the state: args\n"
            "set around the state: epoch = 4\n"
            "added around the state: run.id = 'x'\n"
        )  # fmt: skip
        assert said in run("plan", "-e", rules, "nested.pth").out
        keys = run("plan", "--keys", "-e", rules, "nested.pth").out
        assert all(
            line in keys for line in ("  value('epoch') = 4\n", "  + value('run.id') = 'x'\n", "  - value('args')\n")
        )
        assert run("check", "-e", rules, "nested.pth").exit_code == 0
        done = run("apply", "-e", rules, "nested.pth", "out.pth")
        assert said in done.out
        found = torch.load("out.pth", weights_only=True)
        assert (found["epoch"], found["run"], "args" in found) == (4, {"id": "x"}, False)
        around = run("apply", "-e", rules, "nested.pth", "b.pth", "--json").json["around"]
        assert [(one["of"], one["change"], one["path"], one.get("value")) for one in around] == [
            ("value", "set", ["epoch"], 4),
            ("value", "added", ["run", "id"], "x"),
            ("value", "left out", ["args"], None),
        ]
        shown = run("show", "out.pth").out
        assert "  epoch = 4\n" in shown
        assert "  run.id = 'x'\n" in shown

    @pytest.mark.parametrize("command", ["check", "plan"])
    def test_what_cannot_be_changed_is_said_by_check_too(self, run: Run, net: Net, command: str) -> None:
        torch.save({"epoch": 3, "model": net.state_dict()}, "nested.pth")
        for rules, code in [
            ("set value('epoc') = 1", "SX221"),
            ("add value('epoch') = 1", "SX330"),
            ("set value('epoch') = linear.weight", "SX331"),
            ("drop value('model')", "SX332"),
            ("drop value('epoch'); let n = value('epoch')", "SX221"),
        ]:
            ended = run(command, "-e", rules, "nested.pth")
            assert (ended.exit_code, ended.out) == (1, "")
            assert f"error[{code}]" in ended.err
        assert run("check", "-e", "set value('epoch') = nothing").exit_code == 1
        assert run("check", "-e", "set value('epoch') = value('other') + 1").exit_code == 0

    def test_a_format_that_cannot_hold_what_is_around_the_state(self, run: Run, net: Net) -> None:
        torch.save({"epoch": 3, "model": net.state_dict()}, "nested.pth")
        ended = run("plan", "-e", "", "nested.pth", "--format", "safetensors")
        assert (ended.exit_code, ended.out) == (3, "")
        assert "SX614" in ended.err
        assert run("plan", "-e", "root 'model' -> ''", "nested.pth", "--format", "safetensors").exit_code == 0

    def test_a_value_that_takes_only_the_shape(self, run: Run, net: Net) -> None:
        ended = run("plan", "--keys", "-e", "set linear.weight = ones_like", "net.pth")
        assert re.search(r"linear\.weight +f32\[5, 10\] +replaced by <-e>:1", ended.out)
        assert "reads 108 B, copies 108 B, computes 200 B, writes 308 B" in ended.out

    @pytest.mark.parametrize(
        ("rule", "maybe"),
        [
            ("keep x.y", "keep?"),
            ("drop x.y", "drop?"),
            ("rename x.y -> z", "rename?"),
            ("rename { x.y -> z\n bn.weight -> w }", "->?"),
            ("rename prefix 'x' -> 'z'", "rename?"),
            ("renumber x.{i:int}", "renumber?"),
            ("copy x.y -> z", "copy?"),
            ("set x.y = zeros_like", "set?"),
            ("add z = it for x.y", "add?"),
            ("split x.y -> z.{p:a|b} = chunk(2)", "split?"),
            ("merge x.{p:a|b} over p -> z = cat", "merge?"),
        ],
    )
    def test_what_may_be_absent_is_said_in_the_statements_words(
        self, run: Run, net: Net, rule: str, maybe: str
    ) -> None:
        ended = run("plan", "-e", rule, "net.pth")
        assert ended.exit_code == 1
        assert f"if it may be absent: `{maybe}`" in ended.err
        optional = rule.replace(" -> z\n", " ->? z\n") if maybe == "->?" else rule.replace(maybe[:-1], maybe, 1)
        assert run("plan", "-e", optional, "net.pth").exit_code == 0

    def test_of_another_format(self, run: Run) -> None:
        weight = torch.ones(4, 4)
        torch.save({"a": weight, "b": weight}, "tied.pth")
        ended = run("plan", "-e", "rename a -> c", "tied.pth", "--format", "safetensors")
        assert ended.exit_code == 0
        assert "writes 128 B" in ended.out
        assert "`c` and `b` are one tensor, and safetensors holds each in full" in ended.err
        plain = run("plan", "-e", "rename a -> c", "tied.pth")
        assert "writes 64 B" in plain.out
        assert plain.err == ""
        assert run("plan", "-e", "rename a -> c", "tied.pth", "--format", "onnx").exit_code == 2

    def test_statements_with_counts_and_totals(self, run: Run, net: Net) -> None:
        ended = run("plan", "-e", "rename prefix '' -> 'ds'", "-e", "drop dsbn.**", "net.pth")
        assert (ended.exit_code, ended.err) == (0, "")
        lines = ended.out.splitlines()
        assert re.match(r"  <-e 1>:1  rename prefix '' -> 'ds' +7 renamed$", lines[0])
        assert re.match(r"  <-e 2>:1  drop dsbn\.\*\* +5 dropped$", lines[1])
        assert lines[2].split(", with")[0] == "  reads 220 B, copies 220 B, computes 0 B, writes 220 B"
        assert lines[3:] == ["7 keys in, 2 out (220 B): 0 computed, 2 moved, 0 untouched, 5 dropped"]

    def test_keys(self, run: Run, net: Net) -> None:
        text = run("plan", "--keys", "-e", "rename prefix '' -> 'ds'", "net.pth").out
        for key in net.state_dict():
            assert f"{key} -> ds{key}" in text

    def test_json_accounts_for_every_tensor(self, run: Run, net: Net) -> None:
        found = run("plan", "--json", "-e", "drop bn.**\nset linear.bias = it * 2", "net.pth").json
        assert {k: v["fate"] for k, v in found["account"].items()} == {
            "linear.weight": "untouched", "linear.bias": "used", "bn.weight": "dropped", "bn.bias": "dropped",
            "bn.running_mean": "dropped", "bn.running_var": "dropped", "bn.num_batches_tracked": "dropped",
        }  # fmt: skip
        assert found["outputs"]["linear.bias"] == {
            "dtype": "float32", "shape": [5], "step": 1, "operation": "mul", "sources": ["linear.bias"],
        }  # fmt: skip

    def test_numbers_add_up_and_are_those_of_the_account(self, run: Run, net: Net) -> None:
        rules = "drop bn.running_*\nset linear.bias = it * 2\nset bn.bias = zeros_like\ncopy bn.weight -> c"
        line = run("plan", "-e", rules, "net.pth").out.splitlines()[-1]
        said = "2 computed, 0 moved, 3 untouched, 2 dropped, 1 replaced, 1 used, 1 copied"
        assert line == f"7 keys in, 6 out (288 B): {said}"
        found = run("plan", "--json", "-e", rules, "net.pth").json
        totals = found["totals"]
        assert totals == {
            "keys_in": 7, "keys_out": 6, "untouched": 3, "moved": 0, "used": 1, "dropped": 2, "replaced": 1,
            "computed": 2, "copied": 1, "taken": 0,
        }  # fmt: skip
        for kind in ("untouched", "used", "dropped", "replaced"):
            assert totals[kind] == sum(one["fate"] == kind for one in found["account"].values())

    def test_the_account_names_further_inputs_and_members_of_a_family(self, run: Run, net: Net) -> None:
        for name in "ab":
            torch.save({"x": torch.ones(5)}, f"{name}.pth")
        inputs = ["--in", "rank=a.pth", "--in", "rank=b.pth", "--in", "ft=a.pth"]
        rules = "input rank[]\ninput ft\ncopy ft::x -> y\nadd z = rank::x[1] * 2\ncopy y -> y2"
        ended = run("plan", "--keys", "-e", rules, "net.pth", *inputs)
        assert re.search(r"rank\[1\]::x +f32\[5\] +used by z$", ended.out, re.M)
        assert re.search(r"ft::x +f32\[5\] +-> y, y2$", ended.out, re.M)
        assert ended.out.splitlines()[-1].endswith(": 1 computed, 0 moved, 7 untouched, 0 dropped, 2 taken from inputs")
        found = run("plan", "--json", "-e", rules, "net.pth", *inputs).json
        assert found["account"]["rank[0]::x"]["fate"] == "unread"
        assert (found["outputs"]["z"]["sources"], found["outputs"]["y"]["from"]) == (["rank[1]::x"], "ft::x")

    def test_against_a_checkpoint(self, run: Run, net: Net) -> None:
        save_file({"linear.weight": torch.ones(5, 10), "linear.bias": torch.ones(6)}, "like.safetensors")
        ended = run("plan", "-e", "drop bn.**", "net.pth", "--like", "like.safetensors")
        assert ended.exit_code == 1
        assert re.search(r"shape +linear\.bias +f32\[5\] +needs f32\[6\]", ended.err)


class TestCheck:
    def test_without_a_checkpoint(self, run: Run) -> None:
        Path("rules.sx").write_text("if false {\n  set x.y = onez_like\n}\nmacro f(a) { set b.c = transpoze() }\n")
        ended = run("check", "rules.sx")
        assert ended.exit_code == 1
        assert re.findall(r"rules\.sx:(\d+)", ended.err) == ["2", "4"]
        Path("rules.sx").write_text("drop x.y\ndrop a.b\n")
        ended = run("check", "rules.sx")
        assert (ended.exit_code, ended.out) == (0, "2 statements: no errors\n")

    def test_what_nothing_uses(self, run: Run) -> None:
        rules = ["-e", "param scale = 2", "-e", "rename a.{i}.{p} -> b.{p}"]
        ended = run("check", *rules)
        assert (ended.exit_code, ended.out) == (0, "2 statements: no errors\n")
        assert re.findall(r"warning\[(\w+)\]: (.*)", ended.err) == [
            ("SX926", "the capture `{i}` is never used"),
            ("SX925", "the parameter `scale` is never used"),
        ]
        assert [one["code"] for one in run("check", *rules, "--json").json["warnings"]] == ["SX926", "SX925"]
        ended = run("check", *rules, "-W", "error", "-W", "SX925=ignore")
        assert (ended.exit_code, ended.out) == (1, "")
        assert re.findall(r"error\[(\w+)\]", ended.err) == ["SX926"]

    def test_with_a_checkpoint_and_a_target(self, run: Run, net: Net) -> None:
        assert run("check", "-e", "", "net.pth", "--target", "models:Net").exit_code == 0
        assert run("check", "-e", "drop bn.**", "net.pth").exit_code == 0
        assert run("check", "-e", "drop bn.**", "net.pth", "--target", "models:Net").exit_code == 1


class TestVerify:
    def test_model_and_checkpoint(self, run: Run, net: Net) -> None:
        assert (
            run("verify", "net.pth", "--target", "models:Net").out
            == "net.pth fits Net: all 7 keys, shapes and dtypes agree\n"
        )
        save_file(net.state_dict(), "net.safetensors")
        assert run("verify", "net.safetensors", "--like", "net.pth").exit_code == 0

    def test_a_dtype_that_torch_would_cast_without_a_word(self, run: Run, net: Net) -> None:
        torch.save({k: v.double() if v.is_floating_point() else v for k, v in net.state_dict().items()}, "f64.pth")
        assert str(net.load_state_dict(read("f64.pth"))) == "<All keys matched successfully>"
        ended = run("verify", "f64.pth", "--target", "models:Net")
        assert ended.exit_code == 1
        assert re.search(r"dtype +linear\.weight +f64\[5, 10\] +needs f32\[5, 10\]", ended.err)

    def test_json(self, run: Run, net: Net) -> None:
        found = run("verify", "net.pth", "--target", "models:Net", "--json").json
        assert found == {"ok": True, "target": "Net", "keys": 7, "values": False, "warnings": []}

    def test_what_a_model_prints_is_not_in_the_report(self, run: Run, net: Net) -> None:
        Path("loud.py").write_text(
            "from models import Net\nprint('hello')\ndef build():\n    print('!')\n    return Net()"
        )
        ended = run("verify", "net.pth", "--target", "loud:build", "--json")
        assert (ended.json["ok"], ended.err) == (True, "hello\n!\n")


class TestShow:
    def test_numbered_modules_are_one_line(self, run: Run, state: dict[str, torch.Tensor]) -> None:
        text = run("show", "in.pth").out
        assert re.search(r"layers\.\{0\.\.2\}\.q\.weight +f32\[4, 4\] +192 B +x 3", text)
        assert text.endswith("11 tensors, 696 B (f32 688 B, bf16 8 B): in.pth\n")

    def test_parameters_and_buffers(self, run: Run, net: Net) -> None:
        text = run("show", "--keys", "net.pth", "--target", "models:Net").out
        for key, _ in net.named_parameters():
            assert re.search(rf"{re.escape(key)} .* parameter$", text, re.M)
        for key, _ in net.named_buffers():
            assert re.search(rf"{re.escape(key)} .* buffer$", text, re.M)

    def test_ties_and_values(self, run: Run) -> None:
        shared = torch.ones(3, 3)
        torch.save({"step": 7, "model": {"a.w": shared, "b.w": shared}}, "tied.pth")
        text = run("show", "tied.pth").out
        assert re.search(r"b\.w .* tied to a\.w", text)
        assert "step = 7" in text

    def test_json(self, run: Run, net: Net) -> None:
        found = run("show", "--json", "net.pth").json["entries"]
        assert found["linear.weight"] == {"dtype": "float32", "shape": [5, 10], "bytes": 200, "parameter": False}

    def test_json_has_no_numbers_that_json_does_not_have(self, run: Run) -> None:
        torch.save({"model": {"a": torch.ones(1)}, "best": float("-inf"), "seen": [1.5, float("nan")]}, "best.pth")
        values = run("show", "best.pth", "--json").json["values"]
        assert values == {"best": "-inf", "seen": [1.5, "nan"]}
        assert run("plan", "-e", "param p", "best.pth", "-D", "p=NaN", "--json").json["parameters"] == {"p": "nan"}

    def test_quiet(self, run: Run, net: Net) -> None:
        ended = run("show", "-q", "net.pth")
        assert (ended.exit_code, ended.out, ended.err) == (0, "", "")
        assert run("show", "-q", "none.pth").exit_code == 3

    def test_what_was_interrupted_is_said_once(self, run: Run, net: Net, monkeypatch: pytest.MonkeyPatch) -> None:
        found = diagnostic(lints.RECOVERED, "a run was finished")
        monkeypatch.setattr("statex.session.settling.settle", lambda paths: (found,))
        ended = run("show", "net.pth", "--json")
        assert ended.err == ""
        assert [one["code"] for one in ended.json["warnings"]] == ["SX907"]
        assert run("show", "net.pth", "-q").err.startswith("warning[SX907]: a run was finished")
        assert run("show", "net.pth", "-W", "SX907=ignore").err == ""
        ended = run("show", "net.pth", "-W", "error")  # it is news, and nothing to be fixed
        assert (ended.exit_code, ended.err[:15]) == (0, "warning[SX907]:")
        ended = run("show", "net.pth", "-W", "SX907=error")
        assert (ended.exit_code, ended.out) == (1, "")
        assert ended.err.startswith("error[SX907]")

    def test_wide_characters_keep_columns(self, run: Run) -> None:
        torch.save({"模型.w": torch.ones(1), "abcdef": torch.ones(1)}, "wide.pth")
        first, second, _ = run("show", "wide.pth").out.splitlines()
        assert first == "  模型.w  f32[1]  4 B"
        assert second == "  abcdef  f32[1]  4 B"


class TestReference:
    def test_ops(self, run: Run) -> None:
        listed = run("ops").out
        for name in ("zeros", "transpose", "rearrange", "chunk", "cat", "weight_norm", "exists"):
            assert re.search(rf"\b{name}\(", listed)
        assert run("ops", "chunk").out.startswith("chunk(x, chunks, dim=0)\n")

    def test_explain(self, run: Run) -> None:
        assert run("explain", "SX301").out.startswith("SX301: pattern matches no key\n")
        assert "SX501" in run("explain").out
        one = json.loads(run("explain", "SX301", "--json").out)
        assert (one["id"], one["title"], one["exit"]) == ("SX301", "pattern matches no key", 1)
        assert one in json.loads(run("explain", "--json").out)

    def test_control_characters_in_names_of_files_are_escaped(self, run: Run, net: Net) -> None:
        torch.save(net.state_dict(), "in\x1b[2J.pth")
        for command in (
            ["apply", "-e", "", "in\x1b[2J.pth", "o\x1b[2J.pth", "--dry-run"],
            ["check", "-e", "", "in\x1b[2J.pth"],
        ):
            ended = run(*command)
            assert ended.exit_code == 0
            assert "\x1b" not in ended.out
            assert r"\x1b[2J.pth" in ended.out

    @pytest.mark.parametrize(
        ("command", "said"),
        [
            (["apply", "in.pth"], "1 path was given; this takes RULES IN OUT, or beside -e: IN OUT"),
            (["check"], "0 paths were given; this takes RULES [IN], or beside -e: [IN]"),
            (["plan", "-e", "", "a", "b"], "2 paths were given; beside -e this takes IN"),
        ],
    )
    def test_the_number_of_paths(self, run: Run, command: list[str], said: str) -> None:
        ended = run(*command)
        assert ended.exit_code == 2
        assert said in ended.err

    def test_what_a_target_prints_is_no_part_of_the_report(self, run: Run, net: Net) -> None:
        Path("noisy.py").write_text(
            "from models import Net as Quiet\ndef Net():\n    print('noise')\n    return Quiet()\n"
        )
        ended = run("verify", "net.pth", "--target", "noisy:Net", "--json")
        assert ended.json["ok"] is True
        assert ended.err == "noise\n"

    def test_check_ignores_no_option(self, run: Run) -> None:
        for option in (
            ["--target", "models:Net"],
            ["-D", "n=1"],
            ["--like", "net.pth"],
            ["--in", "a=b"],
            ["--root", ""],
        ):
            ended = run("check", "-e", "", *option)
            assert ended.exit_code == 2
            assert "name IN as well" in ended.err

    def test_version(self, run: Run) -> None:
        assert run("--version").out == f"statex {statex.__version__}\n"

    @pytest.mark.parametrize("command", ["apply", "plan", "check", "verify", "show"])
    def test_help_has_an_example(self, run: Run, command: str) -> None:
        ended = run(command, "--help")
        assert ended.exit_code == 0
        assert re.search(rf"^ +statex {command} .*\.(sx|pth|safetensors|ckpt)", ended.out, re.M)

    def test_as_a_module(self) -> None:
        done = subprocess.run([sys.executable, "-m", "statex", "--version"], capture_output=True, text=True, timeout=60)
        assert done.stdout == f"statex {statex.__version__}\n"


def test_torch_stays_unimported(tmp_path: Path) -> None:
    """Parse, check and plan over a safetensors header, further input and target header included."""
    save_file({"a.weight": torch.ones(4, 4), "b.weight": torch.ones(2, 4)}, tmp_path / "in.safetensors")
    program = """
import sys
from statex.cli import main

RULES = "input more\\nset a.weight = transpose | cast(bf16)\\nadd c.w = cat(a.weight | cast(f32), more::b.weight)"
FURTHER = ["--in", "more=in.safetensors", "--like", "in.safetensors"]
for arguments in (
    ["check", "-e", RULES],
    ["plan", "-e", RULES, "in.safetensors", "--in", "more=in.safetensors"],
    ["check", "-e", RULES, "in.safetensors", "--in", "more=in.safetensors"],
    ["plan", "-e", "", "in.safetensors", "--like", "in.safetensors"],
    ["plan", "-e", "", "in.safetensors", "--json"],
    ["plan", "-e", "drop lost.weight", "in.safetensors"],
    ["show", "in.safetensors"],
    ["verify", "in.safetensors", "--like", "in.safetensors"],
    ["ops", "chunk"],
    ["explain", "SX301"],
):
    try:
        main(arguments)
    except SystemExit as ended:
        print(ended.code or 0)
    loaded = {"torch", "numpy", "pydantic", "safetensors", "transformers"} & set(sys.modules)
    assert not loaded, (arguments, loaded)
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    codes = [line for line in done.stdout.splitlines() if line in ("0", "1", "2", "3")]
    assert codes == ["0"] * 5 + ["1"] + ["0"] * 4, done.stdout + done.stderr


class TestReports:
    """How errors and reports are printed."""

    def test_concise(self, run: Run, net: Net) -> None:
        Path("bad.sx").write_text("drop zzz\nrename nothing.x -> y\n")
        ended = run("check", "bad.sx", "net.pth", "--concise")
        assert ended.exit_code == 1
        assert ended.err.splitlines() == [
            "bad.sx:1:6: error[SX301]: pattern matches no key",
            "bad.sx:2:8: error[SX301]: pattern matches no key",
        ]

    def test_usage_as_json(self, run: Run) -> None:
        ended = run("apply", "one", "--json")
        assert ended.exit_code == 2
        assert ended.json["ok"] is False
        assert "1 path was given" in ended.json["usage"]

    def test_a_reader_that_goes_away(self, run: Run) -> None:
        torch.save({f"layer{n}.weight": torch.zeros(1) for n in range(20_000)}, "long.pth")
        statex = [sys.executable, "-m", "statex", "show", "long.pth", "--keys"]
        with subprocess.Popen(statex, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            assert b"layer0.weight" in process.stdout.readline()
            process.stdout.close()
            assert process.stderr.read() == b""
        assert process.returncode == 141

    @pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no device that is always full")
    def test_a_report_that_cannot_be_printed(self) -> None:
        with open("/dev/full", "w") as full:
            ended = subprocess.run([sys.executable, "-m", "statex", "explain"], stdout=full, stderr=subprocess.PIPE)
        assert ended.returncode == 3
        assert ended.stderr == b"error[SX612]: the report cannot be printed: No space left on device\n"


class TestAroundTheState:
    """Nested checkpoints: what stands around the state is shown, and a root in the rules is found at its place."""

    @pytest.fixture
    def nested(self, run: Run, net: Net) -> None:
        torch.save(
            {
                "epoch": 3,
                "state_dict": net.state_dict(),
                "optimizer_states": [{"lr": [torch.ones(2)]}],
                "schedules": [{"step": 3}],
            },
            "nested.ckpt",
        )

    def test_show(self, run: Run, nested: None) -> None:
        ended = run("show", "nested.ckpt")
        assert "  epoch = 3\n  around the state: optimizer_states (list of 1; 1 tensor, 8 B)\n" in ended.out
        assert run("show", "nested.ckpt", "--json").json["around"] == ["epoch", "optimizer_states", "schedules"]

    @pytest.mark.parametrize(
        ("root", "said"),
        [
            ("schedules", "`nested.ckpt` has no dict of names at `schedules`, but a list"),
            ("state", "`nested.ckpt` has no dict of names at `state`"),
        ],
    )
    def test_a_root_that_is_none(self, run: Run, nested: None, root: str, said: str) -> None:
        ended = run("plan", "-e", f"root '{root}'", "nested.ckpt", "--json")
        assert ended.exit_code == 2
        (found,) = ended.json["diagnostics"]
        assert (found["code"], found["headline"]) == ("SX607", said)
        assert [label["column"] for label in found["labels"]] == [6]

    def test_what_json_says_of_a_conversion(self, run: Run, net: Net) -> None:
        done = run("apply", "-e", "", "net.pth", "out.pth", "--target", "models:Net", "--json").json
        assert done["output"] == "out.pth"
        assert done["verified"] == {"target": "Net", "keys": 7}
        assert done["left"] == []


def test_what_took_a_missing_tensor_is_said(run: Run, net: Net) -> None:
    rules = ["-e", "drop bn.bias", "-e", "split linear.weight -> a.w, b.w = sections([2, 3])"]
    ended = run("plan", *rules, "net.pth", "--target", "models:Net")
    assert ended.exit_code == 1
    rows = [line.split() for line in ended.err.splitlines() if line.startswith("  missing")]
    assert [(row[1], " ".join(row[-4:])) for row in rows] == [
        ("linear.weight", "used by <-e 2>:1"),
        ("bn.bias", "dropped by <-e 1>:1"),
    ]


def test_what_allow_forgives_is_said(run: Run, net: Net) -> None:
    rules = "drop bn.bias; add extra.w = ones([2]); allow missing bn.bias; allow unexpected extra.**"
    ended = run("apply", "-e", rules, "net.pth", "out.pth", "--target", "models:Net")
    assert ended.exit_code == 0
    assert "verified against Net: 6 of 7 keys agree, `allow` forgives 2\n" in ended.out


def test_keep_of_nothing_is_not_drop_of_everything(run: Run, net: Net) -> None:
    ended = run("apply", "-e", "keep? zz.x", "net.pth", "out.pth")
    assert ended.exit_code == 0
    assert len(read("out.pth")) == 7


def test_what_is_unknown_after_an_error_is_not_called_anything(run: Run, net: Net) -> None:
    ended = run(
        "plan",
        "-e",
        "set linear.weight = it + nope.z",
        "-e",
        "rename linear.weight -> linear.bias",
        "net.pth",
        "--json",
    )
    assert [found["code"] for found in ended.json["diagnostics"]] == ["SX304", "SX302"]
    assert ended.json["diagnostics"][1]["values"] == ["linear.bias: f32[5]"]


@pytest.mark.parametrize(
    ("rules", "warned"),
    [
        ("set linear.weight = zeros([5, 10])", ["SX906"]),
        ("set linear.weight = zeros([5, 10], dtype=f32)", []),
        ("set linear.weight = zeros([5, 10]) | cast(dtype)", []),
        ("set linear.weight = zeros_like", []),
        ("set linear.weight = bn.weight[:, none] | expand([5, 10])", ["SX906"]),
    ],
)
def test_a_dtype_that_changes_without_a_word_is_said(run: Run, net: Net, rules: str, warned: list[str]) -> None:
    state = {key: t.half() if key == "linear.weight" else t for key, t in net.state_dict().items()}
    torch.save(state, "half.pth")
    ended = run("plan", "-e", rules, "half.pth", "--json")
    assert [found["code"] for found in ended.json["warnings"]] == warned
    assert ended.exit_code == 0


def test_a_link_to_nowhere_is_no_output(run: Run, net: Net) -> None:
    Path("dl.pth").symlink_to("nowhere/x.pth")
    ended = run("apply", "-e", "", "net.pth", "dl.pth", "--force")
    assert ended.exit_code == 3
    assert "`dl.pth` is a link into" in ended.err


def test_an_index_that_is_an_int(run: Run, net: Net) -> None:
    ended = run("apply", "-e", "set linear.weight = getitem(it, 0)", "net.pth", "out.pth")
    assert ended.exit_code == 0
    assert read("out.pth")["linear.weight"].shape == (10,)


class TestDistributed:
    def test_files_are_taken_along_in_both_directions(self, run: Run, net: Net) -> None:
        assert run("apply", "-e", "", "net.pth", "in/", "--format", "safetensors").exit_code == 0
        Path("in/config.json").write_text("{}")
        assert run("apply", "-e", "", "in", "dcp", "--format", "dcp", "--copy-files").exit_code == 0
        assert sorted(os.listdir("dcp")) == [".metadata", "__0_0.distcp", "config.json"]
        again = run("apply", "-e", "", "dcp", "dcp", "--format", "dcp", "--copy-files", "--force")
        assert (again.exit_code, again.err) == (0, "")
        assert run("apply", "-e", "", "dcp", "out/", "--format", "safetensors", "--copy-files").exit_code == 0
        assert sorted(os.listdir("out")) == ["config.json", "model.safetensors"]

    def test_it_has_no_shards(self, run: Run, net: Net) -> None:
        ended = run("apply", "-e", "", "net.pth", "dcp", "--format", "dcp", "--shard-size", "1MB")
        assert ended.exit_code == 2
        assert not Path("dcp").exists()


def test_notes_of_all_shards_are_kept(run: Run) -> None:
    Path("set").mkdir()
    save_file({"a": torch.ones(1)}, "set/one.safetensors", metadata={"format": "tf"})
    save_file({"b": torch.ones(1)}, "set/two.safetensors", metadata={"format": "tf", "quant": "xyz"})
    index = {"weight_map": {"a": "one.safetensors", "b": "two.safetensors"}}
    Path("set/model.safetensors.index.json").write_text(json.dumps(index))
    assert run("apply", "-e", "", "set", "out.safetensors").exit_code == 0
    with safe_open("out.safetensors", framework="pt") as file:
        assert file.metadata() == {"format": "pt", "quant": "xyz"}
