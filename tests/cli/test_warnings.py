"""What becomes of warnings: `-W` on every command that says any."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from statex.cli import requests
from statex.diagnostics.codes import all_codes
from statex.diagnostics.suggest import join_words
from tests.cli.conftest import Run

RULES = ["-e", "set ** = cast(f16)", "-e", "set b = zeros([2])"]
"""Warns of SX902 and SX906."""
RECIPE = """\
statex: 1
inputs: {main: net.pth}
rules: ["set ** = cast(f16)", "set b = zeros([2])"]
outputs: out.pth
"""


@pytest.fixture(autouse=True)
def checkpoint(run: Run) -> None:
    torch.save({"a": torch.arange(3), "b": torch.ones(2)}, "net.pth")
    Path("r.yaml").write_text(RECIPE)


COMMANDS = {
    "apply": ["apply", *RULES, "net.pth", "out.pth"],
    "plan": ["plan", *RULES, "net.pth"],
    "check": ["check", *RULES, "net.pth"],
    "run": ["run", "r.yaml"],
    "plan a recipe": ["plan", "r.yaml"],
    "check a recipe": ["check", "r.yaml"],
}


@pytest.fixture(params=COMMANDS)
def command(request: pytest.FixtureRequest) -> list[str]:
    return COMMANDS[str(request.param)]


LINTS = join_words([one.id for one in all_codes() if one.is_lint], limit=20)


def ways(*said: str) -> list[str]:
    return [text for one in said for text in ("-W", one)]


@pytest.mark.parametrize(
    ("said", "errors", "warnings"),
    [
        ([], [], ["SX902", "SX906"]),
        (["error"], ["SX902", "SX906"], []),
        (["SX902=error"], ["SX902"], []),
        (["sx906=error"], ["SX906"], []),
        (["SX902=ignore"], [], ["SX906"]),
        (["ignore"], [], []),
        (["ignore", "SX906=warn"], [], ["SX906"]),
        (["error", "SX902=ignore"], ["SX906"], []),
        (["SX902=ignore", "error"], ["SX906"], []),
        (["error", "SX902=ignore", "906=ignore"], [], []),
        (["SX902=error", "SX902=ignore"], [], ["SX906"]),
        (["error", "warn"], [], ["SX902", "SX906"]),
        (["SX901=error"], [], ["SX902", "SX906"]),
    ],
)
def test_ways(
    run: Run, command: Sequence[str], said: Sequence[str], errors: Sequence[str], warnings: Sequence[str]
) -> None:
    ended = run(*command, *ways(*said), "--json")
    assert ended.err == ""
    assert ended.exit_code == (1 if errors else 0)
    found = ended.json["diagnostics"] if errors else ended.json["warnings"]
    assert ended.json["ok"] is not bool(errors)
    assert [(one["code"], one["severity"]) for one in found] == [
        *((code, "error") for code in errors),
        *((code, "warning") for code in warnings),
    ]
    assert Path("out.pth").exists() == (command[0] in ("apply", "run") and not errors)


def test_errors_are_printed_as_such_and_nothing_is_written(run: Run, command: Sequence[str]) -> None:
    before = sorted(Path().iterdir())
    ended = run(*command, *ways("error"))
    assert (ended.exit_code, ended.out) == (1, "")
    assert ended.err.count("error[SX90") == 2
    assert "warning[" not in ended.err
    assert ended.err.endswith("\n\n2 errors\n")
    assert sorted(Path().iterdir()) == before


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ("eror", "`-W eror` says neither error, warn nor ignore; did you mean `-W error`?"),
        ("SX902=ignored", "`-W SX902=ignored` says neither error, warn nor ignore; did you mean `-W SX902=ignore`?"),
        ("zzz", "`-W zzz` says neither error, warn nor ignore"),
        ("", "`-W ` says neither error, warn nor ignore"),
        ("sx902", "`-W sx902` does not say what becomes of SX902: SX902=error, =warn or =ignore"),
        ("SX301=error", "SX301 is an error, and only warnings (SX9xx) can be set"),
        ("SX999=error", f"there is no code `SX999`; warnings are {LINTS} (`statex explain`)"),
        ("=error", f"there is no code ``; warnings are {LINTS} (`statex explain`)"),
    ],
)
def test_what_is_none(run: Run, command: Sequence[str], said: str, message: str) -> None:
    ended = run(*command, "-W", said)
    assert (ended.exit_code, ended.out) == (2, "")
    assert ended.err.splitlines()[-1] == f"Error: Invalid value for -W: {message}"
    assert not Path("out.pth").exists()


@pytest.mark.parametrize(
    "command",
    [
        ["show", "net.pth"],
        ["verify", "net.pth", "--like", "net.pth"],
        ["check", "-e", ""],
        ["check", *RULES, "net.pth"],
    ],
)
def test_every_command_looks_at_it(run: Run, command: Sequence[str]) -> None:
    assert run(*command, "-W", "bogus").exit_code == 2
    assert run(*command, "-W", "error", "-W", "SX902=ignore", "-W", "SX906=ignore").exit_code == 0


@pytest.mark.parametrize("said", list(itertools.permutations(["error", "SX902=ignore", "SX906=warn"])))
def test_the_order_does_not_matter(said: Sequence[str]) -> None:
    assert requests.warnings(said) == {"*": "error", "SX902": "ignore", "SX906": "warn"}


def test_quiet_says_warnings(run: Run) -> None:
    ended = run("apply", "-q", *RULES, "net.pth", "out.pth")
    assert (ended.exit_code, ended.out) == (0, "")
    assert ended.err.count("warning[") == 2
    ended = run("apply", "-q", *RULES, "net.pth", "out.pth", "--force", "-W", "ignore")
    assert (ended.exit_code, ended.out, ended.err) == (0, "", "")
