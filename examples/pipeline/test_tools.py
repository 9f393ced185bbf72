"""The example under the tools themselves, where they are installed: DVC, pre-commit, check-jsonschema.

`make test-pipelines` installs them.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from conftest import PATH, assert_same_state, shell
from pipeline import models
from pipeline.test_pipeline import HERE, copied, expected, sharded

Shell = Callable[..., str]

UNCHANGED = "Stage 'convert' didn't change, skipping"


def needs(tool: str) -> pytest.MarkDecorator:
    missing = shutil.which(tool, path=PATH) is None
    return pytest.mark.skipif(missing, reason=f"{tool} is not installed; `make test-pipelines` installs it")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A git repository with the example and its data."""
    folder = tmp_path / "project"
    copied(folder)
    models.save(folder)
    (folder / ".gitignore").write_text("__pycache__/\n")
    return folder


@pytest.fixture
def sh(project: Path, tmp_path: Path) -> Shell:
    """Run a command in the repository, with no settings but its own."""
    home = tmp_path / "home"
    home.mkdir()
    settings = {
        name: str(home) for name in ("HOME", "DVC_GLOBAL_CONFIG_DIR", "DVC_SYSTEM_CONFIG_DIR", "PRE_COMMIT_HOME")
    }
    settings |= {"DVC_SITE_CACHE_DIR": str(home / "site"), "DVC_NO_ANALYTICS": "true", "GIT_CONFIG_NOSYSTEM": "1"}
    for who in ("AUTHOR", "COMMITTER"):
        settings |= {f"GIT_{who}_NAME": "someone", f"GIT_{who}_EMAIL": "someone@example.org"}

    def run(command: str, *, exit_code: int = 0) -> str:
        return shell(command, project, exit_code=exit_code, **settings)

    run("git init -q")
    return run


def set_w(folder: Path, w: float) -> None:
    recipe = folder / "recipe.yaml"
    recipe.write_text(re.sub(r"w: [\d.]+$", f"w: {w}", recipe.read_text(), flags=re.M))


def assert_result(folder: Path, w: float) -> None:
    assert_same_state(sharded(folder / "out" / "model"), expected(folder, w))


def cached_files(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in (folder / ".dvc" / "cache" / "files").rglob("*") if path.is_file()}


@needs("dvc")
@pytest.mark.parametrize("links", ["copy", "hardlink"])
def test_dvc(links: str, project: Path, sh: Shell) -> None:
    sh(f"dvc init -q && dvc config cache.type {links} && dvc add -q base runs head.pth")
    assert "full: wrote out/model" in sh("dvc repro")
    assert_result(project, 0.5)
    second = sh("dvc repro")
    assert UNCHANGED in second
    assert "statex run" not in second
    sh("git add -A && git commit -qm 'half'")
    kept = cached_files(project)

    # A parameter changes: statex replaces what it wrote, whoever has put it there since.
    set_w(project, 0.25)
    assert "w" in sh("dvc params diff")
    assert "full: wrote out/model" in sh("dvc repro")
    assert_result(project, 0.25)
    assert UNCHANGED in sh("dvc repro")
    sh("git add -A && git commit -qm 'a quarter'")

    # Back to the first commit: outputs and report come from the cache, and both tools know them.
    sh("git checkout -q HEAD~1 && dvc checkout -q")
    assert_result(project, 0.5)
    assert UNCHANGED in sh("dvc repro")
    assert "nothing to do" in sh("statex run recipe.yaml --allow-import")
    assert "up to date" in sh("dvc status")

    # And on from there.
    set_w(project, 0.75)
    assert "full: wrote out/model" in sh("dvc repro")
    assert_result(project, 0.75)
    assert cached_files(project).items() >= kept.items(), "the cache was written into"


@needs("dvc")
def test_dvc_brings_back_lost_outputs(project: Path, sh: Shell) -> None:
    sh("dvc init -q && dvc repro -q")
    shutil.rmtree(project / "out" / "model")
    sh("dvc checkout -q")
    assert_result(project, 0.5)
    assert "nothing to do" in sh("statex run recipe.yaml --allow-import")


@needs("dvc")
def test_a_failing_stage_leaves_the_last_outputs(project: Path, sh: Shell) -> None:
    sh("dvc init -q && dvc repro -q")
    (project / "rules" / "soup.sx").write_text("rename nothing.like.this -> x\n")
    assert "SX301" in sh("dvc repro", exit_code=255)
    assert_result(project, 0.5)


@needs("pre-commit")
def test_pre_commit(project: Path, sh: Shell) -> None:
    sh("git add -A")
    sh(f"pre-commit validate-manifest '{HERE.parent.parent / '.pre-commit-hooks.yaml'}'")
    sh("pre-commit validate-config .pre-commit-config.yaml")
    said = sh("pre-commit run --all-files")
    assert re.search(r"statex check\.+Passed", said)
    assert re.search(r"statex fmt\.+Passed", said)
    (project / "rules" / "soup.sx").write_text("rename a ->\n")
    sh("git add -A")
    said = sh("pre-commit run", exit_code=1)
    assert "Failed" in said
    assert "rules/soup.sx:1:" in said


@needs("check-jsonschema")
def test_the_workflow_by_its_schema(sh: Shell) -> None:
    sh("check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/convert.yml")


@needs("check-jsonschema")
def test_the_recipe_by_the_schema_that_its_first_line_names(project: Path, sh: Shell) -> None:
    sh("make recipe.schema.json")
    first = (project / "recipe.yaml").read_text().splitlines()[0]
    schema = first.removeprefix("# yaml-language-server: $schema=")
    sh(f"check-jsonschema --schemafile {schema} recipe.yaml")
    found = yaml.safe_load((project / "recipe.yaml").read_text())
    (project / "wrong.yaml").write_text(yaml.safe_dump({**found, "polcy": {}}))
    assert "polcy" in sh(f"check-jsonschema --schemafile {schema} wrong.yaml", exit_code=1)
