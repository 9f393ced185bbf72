"""What the documents show is run: rules are parsed and checked, consoles repeated, Python executed."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import statex
from statex.dsl.ops import OPERATIONS, QUERIES
from statex.grammar.messages import VERBS

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
LANGUAGE = (ROOT / "docs" / "language.md").read_text()


def blocks(text: str, language: str) -> list[str]:
    """Return the fenced blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.M | re.S)


@pytest.mark.parametrize("rules", blocks(README, "sx") + blocks(LANGUAGE, "sx"))
def test_rules_are_right(rules: str) -> None:
    statex.compile(rules).check()


def test_the_blocks_are_found() -> None:
    assert len(blocks(README, "sx")) == 3
    assert len(blocks(LANGUAGE, "sx")) >= 6
    assert len(blocks(README, "console")) == 2


def without_comments(rules: str) -> list[str]:
    lines = (re.sub(r"(^|\s)#.*", "", line).rstrip() for line in rules.splitlines())
    return [line for line in lines if line]


@pytest.mark.parametrize(("block", "file"), [(0, "examples/card/rules.sx"), (1, "examples/llama/rules.sx")])
def test_the_rules_are_those_of_the_examples(block: int, file: str) -> None:
    assert without_comments(blocks(README, "sx")[block]) == without_comments((ROOT / file).read_text())


def test_consoles_are_what_the_tool_prints(tmp_path: Path) -> None:
    for name in ("rules.sx", "models.py"):
        shutil.copy(ROOT / "examples" / "card" / name, tmp_path)
    subprocess.run([sys.executable, "models.py", "in.pth"], cwd=tmp_path, check=True, timeout=120)
    for console in blocks(README, "console"):
        for command, expected in re.findall(r"^\$ statex (.*)\n((?:(?!\$ ).*\n)*)", console, re.M):
            done = subprocess.run(
                [sys.executable, "-m", "statex", *shlex.split(command)],
                cwd=tmp_path,
                capture_output=True,
                text=True,
                timeout=120,
            )
            assert done.stdout + done.stderr == expected
    assert sorted(p.name for p in tmp_path.glob("*.pth")) == ["in.pth", "out.pth"]
    assert torch.equal(torch.load(tmp_path / "out.pth", weights_only=True)["dslinear.weight"], torch.ones(5, 10))


def test_python_runs() -> None:
    (program,) = blocks(README, "python")
    exec(compile(program, "README.md", "exec"), {"__name__": "readme"})


def test_the_two_commands_are_targets_of_make() -> None:
    named = re.findall(r"^    make (\w+)", README, re.M)
    assert named == ["demo", "test"]
    for target in named:
        assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.M)


def test_the_demo_runs(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "examples" / "card", tmp_path / "card", ignore=shutil.ignore_patterns("out"))
    folder = str(Path(sys.executable).parent)
    path = f"{folder}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "demo.sh"], cwd=tmp_path / "card", env={**os.environ, "PATH": path}, capture_output=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert b"error[SX501]" in done.stderr


def test_links_lead_somewhere() -> None:
    for path in (ROOT / "README.md", ROOT / "docs" / "language.md", *ROOT.glob("examples/*/README.md")):
        for link in re.findall(r"\]\((?!http|#)([^)#]+)", path.read_text()):
            assert (path.parent / link).exists(), f"{path.name}: {link}"


def test_every_statement_and_question_is_documented() -> None:
    for word in (*VERBS, *(q.name for q in QUERIES)):
        assert re.search(rf"`{word}\b", LANGUAGE), word


def test_operations_named_in_the_language_exist() -> None:
    known = {*OPERATIONS, *(q.name for q in QUERIES)}
    for name in re.findall(
        r"`(chunk|sections|unstack|cat|stack|cast|transpose|squeeze|resize|mean|min|max)\b", LANGUAGE
    ):
        assert name in known
