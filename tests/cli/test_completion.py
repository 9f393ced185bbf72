"""What shells complete: names of commands at no cost, and keys of the checkpoint at hand, a segment at a time."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from statex.cli import app
from statex.cli.command import Commands
from statex.cli.completion import continued, in_pattern, in_rule

STATE = {
    **{f"model.layers.{i}.{m}.weight": torch.ones(1) for i in range(12) for m in ("q", "k")},
    "model.norm.weight": torch.ones(1),
    "lm_head.weight": torch.ones(1),
    "odd key": torch.ones(1),
}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("COMP_WORDS", "COMP_CWORD"):
        monkeypatch.delenv(name, raising=False)
    torch.save(STATE, "in.pth")
    save_file({"lora.a.weight": torch.ones(1), "lora.b.weight": torch.ones(1)}, "lora.safetensors")
    Path("rules.sx").write_text("")
    Path("r.yaml").write_text("")
    Path("torn.pth").write_bytes(Path("in.pth").read_bytes()[:300])
    return tmp_path


def context(command: str, *arguments: str) -> Any:
    return Commands({})[command].make_context(command, list(arguments), resilient_parsing=True)


@pytest.mark.parametrize(
    ("prefix", "offered"),
    [
        ("", ["model.", "lm_head.", "odd key"]),
        ("m", ["model.layers.", "model.norm."]),  # the dot after `model` is the only way
        ("model.", ["model.layers.", "model.norm."]),
        ("model.layers.1", ["model.layers.1.", "model.layers.10.", "model.layers.11."]),
        ("model.layers.1.", ["model.layers.1.q.", "model.layers.1.k."]),
        ("model.layers.1.q", ["model.layers.1.q.weight"]),
        ("model.norm.weight", ["model.norm.weight"]),
        ("zz", []),
    ],
)
def test_segments(prefix: str, offered: Sequence[str]) -> None:
    assert continued(STATE, prefix) == offered


def test_odd_dots() -> None:
    assert continued(["a..b.", "a..c"], "a") == ["a..b.", "a..c"]
    assert continued(["a."], "") == ["a."]
    assert continued(["a", "a.b.c"], "a") == ["a", "a."]


def test_patterns_of_show(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert in_pattern(context("show", "in.pth"), "") == ["model.", "lm_head."]  # `odd key` needs quotes
    assert in_pattern(context("show", "in.pth", "lm_head.**"), "model.n") == ["model.norm.weight"]
    torch.save({"epoch": 3, "state": STATE, "optim": {"w": torch.ones(1)}}, "nested.pth")
    assert in_pattern(context("show", "nested.pth"), "") == ["model.", "lm_head.", "w"]
    assert in_pattern(context("show", "nested.pth", "--root", "optim"), "") == ["w"]
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.setenv("WHERE", str(folder))
    assert in_pattern(context("show", "~/in.pth"), "l") == ["lm_head.weight"]
    assert in_pattern(context("show", "$WHERE/in.pth"), "l") == ["lm_head.weight"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["in.pth", "-e"],
        ["in.pth", "out.pth", "-e"],
        ["rules.sx", "in.pth", "-e", "drop x", "-e"],
        ["-D", "n=2", "rules.sx", "in.pth", "-e"],
        ["r.yaml", "missing.pth", "in.pth", "-e"],
    ],
)
@pytest.mark.parametrize(
    ("rule", "offered"),
    [
        ("rename model.l", ["rename model.layers." + str(i) + "." for i in range(12)]),
        ("rename lm", ["rename lm_head.weight"]),
        ("drop lm_head.weight, model.n", ["drop lm_head.weight, model.norm.weight"]),
        ("drop model.norm.weight; set x = lm", ["drop model.norm.weight; set x = lm_head.weight"]),
        ("rename a -> model.norm.", ["rename a -> model.norm.weight"]),
        ("rename ", ["rename model.", "rename lm_head."]),
        ("ren", []),
        ("", []),
        ("drop x; ren", []),
        ("drop model.*.n", []),
        ("rename model.layers.{i}.", []),
    ],
)
def test_rules(arguments: Sequence[str], rule: str, offered: Sequence[str]) -> None:
    for command in ("apply", "plan", "check"):
        assert in_rule(context(command, *arguments), rule) == offered


def test_keys_of_further_inputs() -> None:
    ctx = context("apply", "in.pth", "--in", "other=missing.pth", "--in", "lora=lora.safetensors", "-e")
    assert in_rule(ctx, "set a = lora::lo") == ["set a = lora::lora.a.", "set a = lora::lora.b."]
    assert in_rule(ctx, "set a = b::lo") == []
    assert in_rule(ctx, "set a = other::lo") == []


@pytest.mark.parametrize("words", ["statex\napply\n-e\n'drop lm'\nin.pth\nout.pth", "statex apply -e 'drop lm' in.pth"])
def test_a_checkpoint_behind_the_rule(monkeypatch: pytest.MonkeyPatch, words: str) -> None:
    """As bash tells when the cursor goes back into a rule."""
    monkeypatch.setenv("COMP_WORDS", words)
    monkeypatch.setenv("COMP_CWORD", "3")
    assert in_rule(context("apply", "-e"), "drop lm") == ["drop lm_head.weight"]


@pytest.mark.parametrize("words", ["statex apply -e 'drop lm in.pth", "statex apply -e 'drop lm'", ""])
@pytest.mark.parametrize("number", ["3", "many"])
def test_no_checkpoint_behind_the_rule(monkeypatch: pytest.MonkeyPatch, words: str, number: str) -> None:
    monkeypatch.setenv("COMP_WORDS", words)
    monkeypatch.setenv("COMP_CWORD", number)
    assert in_rule(context("apply", "-e"), "drop lm") == []


@pytest.mark.parametrize("path", ["torn.pth", "missing.pth", "rules.sx", ".", "/dev/zero", "a\0b"])
def test_what_cannot_be_read_has_no_keys(path: str) -> None:
    assert in_pattern(context("show", path), "") == []
    assert in_rule(context("apply", path, "-e"), "drop ") == []


def answered(shell: str, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
    """Ask as the scripts of shells do that typer installs."""
    program = "import sys; sys.argv = ['statex']\nfrom statex.cli import main\nmain()"
    line = " ".join(words)
    asked = {
        "bash": {"COMP_WORDS": "\n".join(words), "COMP_CWORD": str(len(words) - 1)},
        "zsh": {"_TYPER_COMPLETE_ARGS": line},
        "fish": {"_TYPER_COMPLETE_ARGS": line, "_TYPER_COMPLETE_FISH_ACTION": "get-args"},
    }[shell]
    environment = os.environ | asked | {"_STATEX_COMPLETE": f"complete_{shell}"} | more
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment)


@pytest.mark.parametrize(
    ("shell", "form"),
    [
        ("bash", "{0}model.layers.1.q.\n{0}model.layers.1.k.\n"),
        ("zsh", '_arguments \'*: :(("{0}model.layers.1.q."\n"{0}model.layers.1.k."))\'\n'),
        ("fish", "{0}model.layers.1.q.\n{0}model.layers.1.k.\n"),
    ],
)
def test_shells(shell: str, form: str) -> None:
    done = answered(shell, "statex", "show", "in.pth", "model.layers.1.")
    assert (done.stdout, done.stderr, done.returncode) == (form.format(""), "", 0)
    done = answered(shell, "statex", "apply", "in.pth", "-e", "'rename model.layers.1.")
    assert (done.stdout, done.stderr, done.returncode) == (form.format("rename "), "", 0)


@pytest.mark.parametrize("words", [("show", "torn.pth", "m"), ("nothing", "q"), ("apply", "-e", "'drop m")])
def test_silence(words: Sequence[str]) -> None:
    done = answered("bash", "statex", *words)
    assert (done.stdout.strip(), done.stderr) == ("", "")


def test_a_shell_that_nobody_knows() -> None:
    done = answered("bash", "statex", "show", "in.pth", "m", _STATEX_COMPLETE="complete_nothing")
    assert (done.stdout, done.stderr, done.returncode) == ("", "", 1)


def test_names_of_commands_import_none_of_them() -> None:
    program = "import sys; sys.argv = ['statex']\nfrom statex.cli import main\ntry:\n    main()\nfinally:\n    "
    program += "print('IMPORTED', *sys.modules)"
    asked = {"COMP_WORDS": "statex ", "COMP_CWORD": "1", "_STATEX_COMPLETE": "complete_bash"}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=os.environ | asked)
    names, _, imported = done.stdout.partition("IMPORTED ")
    assert names.split() == [name for name in app.CommandGroup.summaries if " " not in name]
    rooms = ("statex.cli.commands", "statex.checkpoint", "statex.session", "statex.dsl", "lark", "rich")
    assert not [name for name in imported.split() if name.startswith(rooms)]
