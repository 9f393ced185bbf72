"""What the documents show is run: rules are parsed and checked, consoles repeated, Python executed."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch
import yaml
from jsonschema import Draft202012Validator

import statex
from statex import StatexError
from statex.core.source import Source
from statex.dsl.ops import OPERATIONS, QUERIES
from statex.dsl.parts import Outside
from statex.dsl.resolve import resolve
from statex.grammar.messages import VERBS
from statex.grammar.rulefiles import read_include
from statex.recipe.read import parse_recipe
from statex.recipe.schema import schema_text

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
LANGUAGE = (ROOT / "docs" / "language.md").read_text()


def blocks(text: str, language: str) -> list[str]:
    """Return the fenced blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.M | re.S)


RECIPES = {
    **{str(path.relative_to(ROOT)): path.read_text() for path in ROOT.glob("examples/*/recipe.yaml")},
    **{
        f"{path.relative_to(ROOT)} {number}": block
        for path in (ROOT / "README.md", *ROOT.glob("docs/*.md"))
        for number, block in enumerate(blocks(path.read_text(), "yaml"), 1)
    },
}
"""All recipes of the examples and in documents."""


@pytest.mark.parametrize("rules", blocks(README, "sx") + blocks(LANGUAGE, "sx"))
def test_rules_are_right(rules: str) -> None:
    statex.compile(rules).check()


@pytest.mark.parametrize("rules", blocks(README, "sx") + blocks(LANGUAGE, "sx"))
def test_rules_use_what_they_name(rules: str) -> None:
    assert check(statex.compile(rules)) == ()


@pytest.mark.parametrize("file", sorted(ROOT.glob("examples/**/*.sx")), ids=lambda file: file.name)
def test_examples_use_what_they_name(file: Path) -> None:
    assert check(statex.load(file)) == ()


def check(rules: statex.Rules) -> tuple[statex.Diagnostic, ...]:
    """Return the warnings of rules without a checkpoint."""
    return resolve(rules.parts, read_include, Outside()).warnings


def test_the_blocks_are_found() -> None:
    assert len(blocks(README, "sx")) == 3
    assert len(blocks(LANGUAGE, "sx")) >= 6
    assert len(blocks(README, "console")) == 3
    assert len(blocks(README, "yaml")) == 1
    assert len(RECIPES) >= 4


def without_comments(rules: str) -> list[str]:
    lines = (re.sub(r"(^|\s)#.*", "", line).rstrip() for line in rules.splitlines())
    return [line for line in lines if line]


@pytest.mark.parametrize(("block", "file"), [(0, "examples/card/rules.sx"), (1, "examples/llama/rules.sx")])
def test_the_rules_are_those_of_the_examples(block: int, file: str) -> None:
    assert without_comments(blocks(README, "sx")[block]) == without_comments((ROOT / file).read_text())


def repeat(consoles: list[str], folder: Path) -> None:
    """Run the commands of consoles in a folder, and compare what they print with what is shown."""
    for console in consoles:
        for command, expected in re.findall(r"^\$ statex (.*)\n((?:(?!\$ ).*\n)*)", console, re.M):
            done = subprocess.run(
                [sys.executable, "-m", "statex", *shlex.split(command)],
                cwd=folder,
                capture_output=True,
                text=True,
                timeout=120,
            )
            assert done.stdout + done.stderr == expected


def test_consoles_are_what_the_tool_prints(tmp_path: Path) -> None:
    for name in ("rules.sx", "models.py"):
        shutil.copy(ROOT / "examples" / "card" / name, tmp_path)
    subprocess.run([sys.executable, "models.py", "in.pth"], cwd=tmp_path, check=True, timeout=120)
    repeat(blocks(README, "console")[:2], tmp_path)
    assert sorted(p.name for p in tmp_path.glob("*.pth")) == ["in.pth", "out.pth"]
    assert torch.equal(torch.load(tmp_path / "out.pth", weights_only=True)["dslinear.weight"], torch.ones(5, 10))


def test_the_recipe_does_what_is_shown(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(blocks(README, "yaml")[0])
    script = ROOT / "examples" / "lora" / "models.py"
    subprocess.run([sys.executable, script], cwd=tmp_path, check=True, capture_output=True, timeout=300)
    repeat(blocks(README, "console")[2:], tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == {"adapter", "base", "merged", "merged.json", "recipe.yaml"}


def test_the_recipe_is_that_of_the_example() -> None:
    assert blocks(README, "yaml")[0] == (ROOT / "examples" / "lora" / "recipe.yaml").read_text()


@pytest.mark.parametrize("where", RECIPES)
def test_recipes_are_right_by_the_schema_and_by_us(where: str) -> None:
    text = RECIPES[where]
    parse_recipe(Source(where, text))
    Draft202012Validator(json.loads(schema_text())).validate(yaml.safe_load(text))


@pytest.mark.parametrize("where", RECIPES)
def test_misspelt_recipes_are_wrong_by_both(where: str) -> None:
    text = RECIPES[where].replace("outputs:", "output:")
    assert text != RECIPES[where]
    with pytest.raises(StatexError):
        parse_recipe(Source(where, text))
    assert not Draft202012Validator(json.loads(schema_text())).is_valid(yaml.safe_load(text))


def test_examples_of_recipes_name_the_schema_beside_them() -> None:
    """Editors resolve the name beside the recipe, and `statex schema > recipe.schema.json` puts it there."""
    for path in ROOT.glob("examples/*/recipe.yaml"):
        assert path.read_text().startswith("# yaml-language-server: $schema=recipe.schema.json\n")


def test_python_runs() -> None:
    (program,) = blocks(README, "python")
    exec(compile(program, "README.md", "exec"), {"__name__": "readme"})


@pytest.mark.parametrize(("page", "count"), [("python.md", 7), ("migrations.md", 10), ("inverse.md", 2)])
def test_the_pages_on_python_run(page: str, count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "page"}
    text = (ROOT / "docs" / page).read_text()
    # Those of a list are indented.
    found = [textwrap.dedent(block) for block in re.findall(r"^ *```python\n(.*?)^ *```$", text, re.M | re.S)]
    assert len(found) >= count
    for block in found:
        exec(compile(block, page, "exec"), names)


def test_the_page_on_optimizers_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text = (ROOT / "docs" / "optimizer.md").read_text()
    before, after = blocks(text, "python")
    (rules,), names = blocks(text, "sx"), dict[str, object]({"__name__": "page"})
    Path("rules.sx").write_text(rules)
    exec(compile(before, "optimizer.md", "exec"), names)
    repeat(blocks(text, "console"), tmp_path)
    exec(compile(after, "optimizer.md", "exec"), names)


def test_consoles_of_the_inverse_are_what_the_tool_prints(tmp_path: Path) -> None:
    text = (ROOT / "docs" / "inverse.md").read_text()
    rules, crop = blocks(text, "sx")
    (tmp_path / "rules.sx").write_text(rules)
    (tmp_path / "crop.sx").write_text(crop)
    fused = {f"layers.{i}.qkv.weight": torch.randn(6, 4) for i in range(2)}
    torch.save({"embed.weight": torch.randn(10, 8), **fused}, tmp_path / "fused.pth")
    state = {"embed.weight": torch.randn(10, 8)}
    for i in range(2):
        state |= {f"encoder.{i}.attn.{p}.weight": torch.randn(8, 8) for p in ("query", "key")}
        state |= {f"layers.{i}.{p}.weight": torch.randn(8, 8) for p in ("gate", "up")}
    torch.save(state, tmp_path / "in.pth")
    repeat(blocks(text, "console"), tmp_path)


def test_consoles_of_migrations_are_what_the_tool_prints(tmp_path: Path) -> None:
    text = (ROOT / "docs" / "migrations.md").read_text()
    steps = re.findall(r'Path\("(migrations/000\d_\w+\.sx)"\)\.write_text\(\s*"(.*)\\n"', text)
    assert len(steps) == 2
    (tmp_path / "migrations").mkdir()
    for name, rules in steps:
        (tmp_path / name).write_text(f"{rules}\n")
    linear = torch.nn.Linear
    old = torch.nn.ModuleDict({"q": linear(4, 4), "k": linear(4, 4), "fc": linear(8, 2)})
    torch.save(old.state_dict(), tmp_path / "old.pth")
    (tmp_path / "mypkg.py").write_text(
        "from torch import nn\n\n\ndef Net():\n"
        "    return nn.ModuleDict({'qk': nn.Linear(4, 8), 'head': nn.Linear(8, 2)})\n"
    )
    (console,) = blocks(text, "console")
    repeat([console], tmp_path)
    assert torch.load(tmp_path / "new.pth", weights_only=True)._metadata[""]["statex"]["version"] == 2


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
    for path in (ROOT / "README.md", *ROOT.glob("docs/*.md"), *ROOT.glob("examples/*/README.md")):
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
