"""`.pre-commit-hooks.yaml`, and what pre-commit runs by it: commands with all rule files of a commit at once."""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import shell

from statex.cli import main

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
RULES = sorted((ROOT / "examples").rglob("*.sx"))

# Parameters, inputs, `let`s and macros of the same names as in other files, and errors of their own.
FURTHER = {
    "family.sx": "input head[]\nparam heads: float = 1.5\nlet k = 3\nset ** = it * heads * k + mean(head::{key})",
    "single.sx": "input head root 'model'\nparam heads: list\nlet k = 'a'\n"
    "copy head::{n} -> {n}.{$k}\nexpect 2 in heads",
    "macro.sx": "macro f(a) { drop {$a} }\nuse f('x')",
    "other_macro.sx": "root 'a'\nmacro f(a, b) { rename {$a} -> {$b} }\nuse f('x', 'y')",
    "undefined.sx": "set ** = it * k",
    "unknown.sx": "set ** = frobnicate(it)",
    "syntax.sx": "rename a ->",
}


def hooks() -> dict[str, dict[str, Any]]:
    """Return the hooks by their ids."""
    return {one["id"]: one for one in yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())}


def checked(capsys: pytest.CaptureFixture[str], *files: Path) -> tuple[int, set[str]]:
    """Return the exit code and the lines that `statex check` prints of errors."""
    with pytest.raises(SystemExit) as ended:
        main(["check", "--concise", "-q", *map(str, files)])
    text = capsys.readouterr()
    assert text.out == ""
    return int(ended.value.code or 0), set(text.err.splitlines())


@pytest.mark.parametrize(("name", "entry"), [("statex-check", "statex check"), ("statex-fmt", "statex fmt")])
def test_a_hook(name: str, entry: str) -> None:
    hook = hooks()[name]
    assert (hook["entry"], hook["language"]) == (entry, "python")
    assert all(re.search(hook["files"], str(path)) for path in RULES)
    assert not re.search(hook["files"], "rules.sx.orig")


def test_the_local_hooks_are_these() -> None:
    (repo,) = yaml.safe_load((HERE / ".pre-commit-config.yaml").read_text())["repos"]
    assert [one["id"] for one in repo["hooks"]] == [*hooks()]
    for local in repo["hooks"]:
        assert {**hooks()[local["id"]], **local, "language": "python"} == hooks()[local["id"]]


def test_files_checked_together_are_judged_as_each_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, rules in FURTHER.items():
        (tmp_path / name).write_text(rules)
    files = [*RULES, *(tmp_path / name for name in FURTHER)]
    alone = {path: checked(capsys, path) for path in files}
    assert [path.name for path, (code, _) in alone.items() if code] == ["undefined.sx", "unknown.sx", "syntax.sx"]
    for pair in itertools.permutations(files, 2):
        code, said = checked(capsys, *pair)
        assert code == max(alone[path][0] for path in pair), pair
        if tmp_path / "syntax.sx" not in pair:
            assert said == alone[pair[0]][1] | alone[pair[1]][1], pair
    right = [path for path, (code, _) in alone.items() if code == 0]
    assert checked(capsys, *right) == (0, set())


def test_the_entries_run(tmp_path: Path) -> None:
    check, fmt = hooks()["statex-check"]["entry"], hooks()["statex-fmt"]["entry"]
    names = []
    for path in RULES:  # where they stand, as one may include another
        names.append(path.relative_to(ROOT).as_posix())
        (tmp_path / names[-1]).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / names[-1]).write_bytes(path.read_bytes())
    assert shell(f"{check} {' '.join(names)}", tmp_path).endswith(": no errors\n")
    assert shell(f"{fmt} {' '.join(names)}", tmp_path) == f"{len(names)} files left as they are\n"
    (tmp_path / names[0]).write_text("rename a ->\n")
    assert f" --> {names[0]}:1:" in shell(f"{check} {' '.join(names)}", tmp_path, exit_code=1)
