"""What each command imports: only what it needs, as each library takes a part of a short command's time."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

PROGRAM = """
import json, sys
from statex.cli import main
try:
    main(json.loads(sys.argv[1]))
except SystemExit as ended:
    assert not ended.code, ended.code
print("\\nIMPORTED", *sys.modules)
"""
LIBRARIES = ("torch", "numpy", "yaml", "msgspec", "rich", "pydantic", "einops", "transformers", "safetensors")
RECIPE = """\
statex: 1
inputs: {main: in.safetensors}
rules: ["drop b"]
outputs: out.safetensors
policy: {unchanged: skip, replace: own}
report: report.json
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    save_file({"a": torch.ones(2), "b": torch.ones(2)}, "in.safetensors")
    Path("r.yaml").write_text(RECIPE)
    Path("rules.sx").write_text("param n: int = 1\ndrop b\n")
    Path("migrations").mkdir()
    Path("migrations/0001_drop_b.sx").write_text("drop b\n")
    Path("p.json").write_text('{"n": 2}')
    Path("p.yaml").write_text("n: 2")


def imported(*arguments: str) -> set[str]:
    """Return the modules that a process has imported when a command is done."""
    run = [sys.executable, "-W", "error", "-c", PROGRAM, json.dumps(arguments)]
    done = subprocess.run(run, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.rpartition("\nIMPORTED ")[2].split())


@pytest.mark.parametrize(
    ("arguments", "needs"),
    [
        (["plan", "rules.sx", "in.safetensors", "-D", "n=2"], set()),
        (["plan", "-e", "", "in.safetensors", "--json", "--like", "in.safetensors", "-W", "error"], set()),
        (["plan", "rules.sx", "in.safetensors", "--params", "p.json"], set()),
        (["plan", "rules.sx", "in.safetensors", "--params", "p.yaml"], {"yaml"}),
        (["check", "rules.sx"], set()),
        (["check", "rules.sx", "in.safetensors"], set()),
        (["show", "in.safetensors"], set()),
        (["fmt", "rules.sx"], set()),
        (["verify", "in.safetensors", "--like", "in.safetensors"], set()),
        (["apply", "rules.sx", "in.safetensors", "o.safetensors"], set()),
        (["apply", "rules.sx", "in.safetensors", "o.safetensors", "--progress=json"], set()),
        (["migrate", "in.safetensors", "o.safetensors"], set()),
        (["migrate", "new", "drop a"], set()),
        (["explain", "SX301"], set()),
        (["ops", "chunk"], set()),
        (["--version"], set()),
        (["--help"], set()),
        (["run", "--help"], set()),
        (["plan", "r.yaml"], {"yaml", "msgspec"}),
        (["run", "r.yaml", "--dry-run"], {"yaml", "msgspec"}),
        (["schema"], {"msgspec"}),
    ],
)
def test_libraries(arguments: Sequence[str], needs: set[str]) -> None:
    found = imported(*arguments)
    assert set(LIBRARIES) & found <= needs


def test_a_skipped_run_imports_no_torch() -> None:
    imported("run", "r.yaml")
    written = Path("out.safetensors").stat()
    found = imported("run", "r.yaml")
    now = Path("out.safetensors").stat()
    assert (now.st_ino, now.st_mtime_ns) == (written.st_ino, written.st_mtime_ns)
    assert not found & {"torch", "numpy", "rich", "safetensors"}


@pytest.mark.parametrize(
    "arguments",
    [
        ["explain"], ["explain", "SX301"], ["explain", "SX301", "--json"], ["--version"], ["--help"],
        *([name, "--help"] for name in ("apply", "run", "plan", "check", "verify", "diff", "show", "schema", "fmt")),
    ],
)  # fmt: skip
def test_what_touches_no_checkpoint_imports_none_of_its_code(arguments: Sequence[str]) -> None:
    found = imported(*arguments)
    rooms = ("statex.checkpoint", "statex.execute", "statex.session", "statex.recipe", "statex.api", "lark")
    assert not [name for name in found if name.startswith(rooms)]


@pytest.mark.parametrize("arguments", [["diff", "in.safetensors", "in.safetensors"], ["show", "in.safetensors"]])
def test_what_has_no_rules_imports_none_of_the_language(arguments: Sequence[str]) -> None:
    found = imported(*arguments)
    rooms = ("lark", "regex", "statex.dsl", "statex.grammar", "statex.checkpoint.writer", "numpy")
    assert not [name for name in found if name.startswith(rooms)]


def test_only_what_prints_rules_imports_the_printer() -> None:
    assert not [name for name in imported("plan", "rules.sx", "in.safetensors") if "statex.grammar.printer" in name]
    assert "statex.grammar.printer" in imported("fmt", "rules.sx")


@pytest.mark.parametrize("given", [{}, {"OMP_WAIT_POLICY": "active"}])
def test_threads_of_torch_leave_their_cores_to_others(given: dict[str, str]) -> None:
    program = (
        "import atexit, os, sys\nsys.argv = ['statex', '--version']\n"
        "atexit.register(lambda: print(os.environ['OMP_WAIT_POLICY']))\nfrom statex.cli import main\nmain()"
    )
    kept = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=kept | given)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[-1] == given.get("OMP_WAIT_POLICY", "passive")


@pytest.mark.parametrize("command", ["apply", "plan", "check", "show", "verify"])
def test_recipes_are_imported_for_recipes_alone(command: str) -> None:
    more = {"apply": ["o.safetensors"], "verify": ["--like", "in.safetensors"]}.get(command, [])
    rules = ["rules.sx"] if command not in ("show", "verify") else []
    found = imported(command, *rules, "in.safetensors", *more)
    assert not [name for name in found if name.startswith("statex.recipe") or name == "statex.cli.recipes"]


@pytest.mark.parametrize(
    ("shell", "words", "offered"),
    [
        ("bash", {"COMP_WORDS": "statex ", "COMP_CWORD": "1"}, {"apply", "show", "diff"}),
        ("bash", {"COMP_WORDS": "statex show --st", "COMP_CWORD": "2"}, {"--stats"}),
        ("zsh", {"_TYPER_COMPLETE_ARGS": "statex show --st"}, {"--stats"}),
        (
            "fish",
            {"_TYPER_COMPLETE_ARGS": "statex show --st", "_TYPER_COMPLETE_FISH_ACTION": "get-args"},
            {"--stats"},
        ),
    ],
)
def test_completion(shell: str, words: dict[str, str], offered: set[str]) -> None:
    program = "import sys; sys.argv = ['statex']\nfrom statex.cli import main\nmain()"
    environment = os.environ | words | {"_STATEX_COMPLETE": f"complete_{shell}"}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment)
    assert (done.returncode, done.stderr) == (0, "")
    assert offered <= set(re.findall(r"[\w-]+", done.stdout))
