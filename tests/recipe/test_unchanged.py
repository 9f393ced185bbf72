"""A run is skipped where nothing has changed since the last one, and in no other case."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from statex.session import digests, identity, report
from tests.recipe.conftest import RECIPE, STATE, Bench

SKIPPED = "nothing has changed since the last run: nothing to do\n"
CODE = """
import torch
class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.x = torch.nn.Module()
        self.x.a = torch.nn.Linear(3, 2)
        self.x.a.bias = torch.nn.Parameter(torch.zeros(3))
        self.x.b = torch.nn.Module()
        self.x.b.weight = torch.nn.Parameter(torch.zeros(8))
        self.x.register_buffer('steps', torch.tensor(0))
"""


def skips(bench: Bench, *arguments: object, **named: Any) -> bool:
    """Run again; say whether that did nothing, which it then also says."""
    before = bench.files()
    ended = bench(*arguments, "--json", **named)
    skipped: bool = ended.json["skipped"]
    assert (bench.files() == before) == skipped
    return skipped


def flip(path: Path, at: int = -1) -> None:
    """Change a byte of a file, and put its times back."""
    before = os.stat(path)
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    with open(path, "r+b") as file:
        file.write(data)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (os.stat(path).st_size, os.stat(path).st_mtime_ns) == (before.st_size, before.st_mtime_ns)


def reweigh(path: Path) -> None:
    """Change one value of a checkpoint of torch such that it still loads, its size and times as they were."""
    before = os.stat(path)
    state = torch.load(path)
    state["a.bias"][1] += 1
    torch.save(state, path)
    assert os.stat(path).st_size == before.st_size
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.fixture
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no file count as changed too shortly before its digest: a second passes in no time."""
    monkeypatch.setattr(digests, "_RACY", 0)


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files whose digests are taken to see whether they have changed."""
    seen: list[str] = []
    original = digests.file_print

    def file_print(path: Path, *rest: Any, **named: Any) -> digests.FilePrint:
        seen.append(path.name)
        return original(path, *rest, **named)

    monkeypatch.setattr(digests, "file_print", file_print)
    return seen


def test_nothing_to_do(bench: Bench) -> None:
    bench()
    before = bench.files()
    ended = bench()
    assert (ended.out, ended.err) == (SKIPPED, "")
    assert bench.files() == before
    assert bench("--json").json == {"ok": True, "skipped": True, "report": str(Path("out/report.json")), "warnings": []}
    assert bench("--quiet").out == ""


def test_a_glance_is_enough(bench: Bench, hashed: list[str], unhurried: None) -> None:
    bench()
    hashed.clear()
    assert skips(bench)
    assert hashed == []
    assert skips(bench, "--rehash")
    assert sorted(hashed) == ["all.safetensors", "body.pth", "in.pth"]


def test_what_was_changed_shortly_before_is_read_again(bench: Bench, hashed: list[str]) -> None:
    bench()
    hashed.clear()
    assert skips(bench)
    assert sorted(hashed) == ["all.safetensors", "body.pth", "in.pth"]


def test_touched_inputs_are_read_and_skipped(bench: Bench, hashed: list[str], unhurried: None) -> None:
    bench()
    hashed.clear()
    os.utime(bench.folder / "in.pth")
    assert skips(bench)
    assert hashed == ["in.pth"]


def test_from_another_folder(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench()
    (bench.folder / "elsewhere").mkdir()
    monkeypatch.chdir(bench.folder / "elsewhere")
    assert skips(bench, recipe="../recipe.yaml")
    monkeypatch.chdir("/")
    assert skips(bench, recipe=str(bench.folder / "recipe.yaml"))


def test_a_moved_folder(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inner = tmp_path / "inner"
    inner.mkdir()
    for name in ("in.pth", "rules", "recipe.yaml"):
        os.rename(tmp_path / name, inner / name)
    bench(recipe="inner/recipe.yaml")
    os.rename(inner, tmp_path / "moved")
    assert skips(bench, recipe="moved/recipe.yaml")


def test_if_changed(bench: Bench) -> None:
    bench.write("recipe.yaml", RECIPE.replace("policy: {unchanged: skip}\n", ""))
    bench()
    assert skips(bench, "--if-changed")
    assert not skips(bench)


def test_a_skip_needs_a_report(bench: Bench) -> None:
    bench.write("recipe.yaml", RECIPE.replace("report: out/report.json\n", ""))
    (found,) = bench.refused(code=2)
    assert (found["code"], found["labels"][0]["line"]) == ("SX713", 9)
    bench.write("recipe.yaml", RECIPE.replace("unchanged: skip", "unchanged: skip, digests: none"))
    assert bench.codes(code=2) == ["SX713"]
    bench.write("recipe.yaml", RECIPE.replace("policy: {unchanged: skip}\nreport: out/report.json\n", ""))
    assert bench.codes("--if-changed", code=2) == ["SX713"]


def rewrite(name: str, old: str, new: str) -> Callable[[Bench], None]:
    def change(bench: Bench) -> None:
        path = bench.folder / name
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))

    return change


def other_versions(module: str) -> Callable[[Bench, pytest.MonkeyPatch], None]:
    def change(bench: Bench, patch: pytest.MonkeyPatch) -> None:
        patch.setattr("statex.session.unchanged.fingerprint", identity.fingerprint)
        now = identity.versions()
        patch.setattr(identity, "versions", lambda: now | {module: "0.0.1"})

    return change


CHANGES: dict[str, Callable[[Bench], None]] = {
    "a parameter": rewrite("recipe.yaml", "scale: 2.0", "scale: 3.0"),
    "a byte of an input": lambda bench: reweigh(bench.folder / "in.pth"),
    "a rule file": rewrite("rules/main.sx", "it * by", "it * by * 1"),
    "an included file": rewrite("rules/names.sx", "'x.'", "'y.'"),
    "the policy": rewrite("recipe.yaml", "unchanged: skip", "unchanged: skip, verify_written: true"),
    "what warnings do": rewrite("recipe.yaml", "unchanged: skip", "unchanged: skip, warnings: error"),
    "a byte of an output": lambda bench: flip(bench.folder / "out/body.pth"),
    "a missing output": lambda bench: (bench.folder / "out/all.safetensors").unlink(),
    "no report": lambda bench: (bench.folder / "out/report.json").unlink(),
    "an output's format": rewrite("recipe.yaml", "keep: '**.weight'", "keep: '**.weight', format: safetensors"),
    "an output's keys": rewrite("recipe.yaml", "keep: '**.weight'", "keep: '**.bias'"),
    "an output's place": rewrite("recipe.yaml", "out/all.s", "out/whole.s"),
    "a target": rewrite("recipe.yaml", "rules:", "target: {like: like.safetensors}\nrules:"),
}


@pytest.mark.parametrize("glance", [True, False])
@pytest.mark.parametrize("name", CHANGES)
def test_what_makes_it_run_again(bench: Bench, name: str, glance: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if glance:
        monkeypatch.setattr(digests, "_RACY", 0)
    bench()
    bench.save("like.safetensors", bench.load("out/all.safetensors"))
    assert skips(bench)
    CHANGES[name](bench)
    assert not skips(bench, "--force") if name == "no report" or "byte of an out" in name else not skips(bench)
    if name not in ("no report", "a byte of an output"):
        assert skips(bench)


def test_an_output_that_was_changed_is_not_skipped_and_not_replaced(bench: Bench) -> None:
    bench()
    flip(bench.folder / "out/body.pth")
    (found,) = bench.refused(code=3)
    assert found["code"] == "SX610"
    assert found["notes"][0] == "the last run wrote it, and it has been changed since"


@pytest.mark.parametrize("what", ["statex", "torch"])
def test_other_versions(bench: Bench, what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    bench()
    now = identity.versions()
    monkeypatch.setattr(identity, "versions", lambda: now | {what: "0.0.1"})
    assert not skips(bench)
    assert skips(bench)


@pytest.mark.parametrize(
    "option",
    [("-D", "scale=3"), ("-D", "main.by=3"), ("-W", "SX902=ignore"), ("--max-memory", "1GB"),
     ("--in", "main=other.pth"), ("--params", "params.json")],
)  # fmt: skip
def test_an_override(bench: Bench, option: tuple[str, ...]) -> None:
    bench.save("other.pth", STATE)
    bench.write("params.json", '{"scale": 4.0}')
    bench()
    assert not skips(bench, *option)
    assert skips(bench, *option)
    assert not skips(bench)


def test_what_is_forced_runs_and_is_not_run_again(bench: Bench) -> None:
    bench()
    assert not skips(bench, "--force")
    assert not skips(bench, "--force")
    assert skips(bench)
    assert skips(bench, "--force", "--if-changed")


def test_the_same_value_from_outside_is_no_change(bench: Bench) -> None:
    bench("-D", "scale=3.0")
    assert skips(bench, "-D", "scale=3.0")
    bench.write("recipe.yaml", "# a comment\n" + RECIPE)
    assert not skips(bench, "-D", "scale=2.0")


def test_parameters_from_a_file(bench: Bench) -> None:
    bench.write("config.json", json.dumps({"net": {"scale": 2.0, "heads": 4}}))
    bench.write("recipe.yaml", RECIPE.replace("scale: 2.0", "scale: {file: config.json, from: net.scale}"))
    bench()
    assert skips(bench)
    rewrite("config.json", "2.0", "3.0")(bench)
    assert not skips(bench)
    assert skips(bench)
    rewrite("config.json", '"heads": 4', '"heads": 5')(bench)
    assert not skips(bench)
    assert skips(bench)


def test_a_file_of_parameters_from_outside(bench: Bench) -> None:
    bench.write("more.json", json.dumps({"scale": 2.0, "unused": 1}))
    bench("--params", "more.json")
    assert skips(bench, "--params", "more.json")
    rewrite("more.json", '"unused": 1', '"unused": 2')(bench)
    assert not skips(bench, "--params", "more.json")


SET = RECIPE.replace("in.pth", "base/").replace(
    "all: {path: out/all.safetensors}", "all: {path: out/all/, copy_files: true, format: safetensors, shard_size: 30B}"
)


@pytest.fixture
def sharded(bench: Bench) -> Bench:
    """A folder with two other files as input, a folder of shards as output."""
    bench.save("base/model.safetensors", STATE)
    bench.write("base/config.json", "{}")
    bench.write("base/tokenizer.txt", "a b")
    bench.write("recipe.yaml", SET)
    bench()
    return bench


def copied(bench: Bench) -> list[str]:
    return sorted(path.name for path in (bench.folder / "out/all").iterdir() if "model" not in path.name)


def test_files_that_are_copied_along(sharded: Bench) -> None:
    assert skips(sharded)
    assert copied(sharded) == ["config.json", "tokenizer.txt"]
    flip(sharded.folder / "base/config.json", 0)
    assert not skips(sharded)
    assert (sharded.folder / "out/all/config.json").read_bytes() == b"z}"
    sharded.write("base/more.txt", "more")
    assert not skips(sharded)
    (sharded.folder / "base/tokenizer.txt").unlink()
    assert not skips(sharded)
    assert copied(sharded) == ["config.json", "more.txt"]
    assert skips(sharded)


def test_a_folder_with_more_or_less_in_it(sharded: Bench) -> None:
    extra = sharded.write("out/all/notes.txt", "mine")
    (found,) = sharded.refused(code=3)
    assert (found["code"], extra.read_text()) == ("SX610", "mine")
    extra.unlink()
    assert skips(sharded)
    shard = next((sharded.folder / "out/all").glob("*-00001-of-*"))
    os.rename(shard, shard.with_name("gone"))
    assert sharded.codes(code=3) == ["SX610"]
    assert sharded.codes("--force", code=3) == ["SX610"]
    os.rename(shard.with_name("gone"), shard)
    assert skips(sharded)
    flip(shard)
    assert sharded.codes(code=3) == ["SX610"]
    sharded("--force")
    assert skips(sharded)


def test_another_file_of_weights_in_an_inputs_folder(sharded: Bench) -> None:
    os.rename(sharded.folder / "base/model.safetensors", sharded.folder / "base/model-00001-of-00001.safetensors")
    sharded.write(
        "base/model.safetensors.index.json",
        json.dumps({"weight_map": dict.fromkeys(STATE, "model-00001-of-00001.safetensors")}),
    )
    assert not skips(sharded)
    assert [Path(name).name for name in sharded.report["inputs"]["main"][0]["files"]] == [
        "model.safetensors.index.json",
        "model-00001-of-00001.safetensors",
    ]
    assert skips(sharded)
    flip(sharded.folder / "base/model-00001-of-00001.safetensors")
    assert not skips(sharded)


def test_a_target_that_is_a_checkpoint(bench: Bench) -> None:
    bench()
    like = bench.save("like.safetensors", bench.load("out/all.safetensors"))
    rewrite("recipe.yaml", "rules:", "target: {like: like.safetensors}\nrules:")(bench)
    assert not skips(bench)
    assert skips(bench)
    flip(like)
    assert not skips(bench)


@pytest.fixture
def coded(bench: Bench) -> Bench:
    """A recipe with a target in code."""
    bench.write("models.py", CODE)
    rewrite("recipe.yaml", "rules:", "target: {model: 'models:Net'}\nrules:")(bench)
    bench("--allow-import")
    return bench


def test_a_target_that_is_code(coded: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.dont_write_bytecode", True)
    assert skips(coded, "--allow-import")
    said = "(of models:Net only its own source file was compared, not what that imports)\n"
    assert coded("--allow-import").out == SKIPPED + said
    assert coded.codes(code=2) == ["SX507"]
    coded.write("models.py", CODE + "\n# other code\n")
    assert not skips(coded, "--allow-import")
    assert skips(coded, "--allow-import")
    assert list(coded.report["further"]["files"]) == ["models.py"]


def test_a_target_whose_code_is_found_elsewhere_now(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    (bench.folder / "models.py").unlink()
    bench.write("lib/models.py", CODE)
    monkeypatch.syspath_prepend(bench.folder / "lib")
    rewrite("recipe.yaml", "rules:", "target: {model: 'models:Net'}\nrules:")(bench)
    bench("--allow-import")
    assert skips(bench, "--allow-import")
    bench.write("models.py", "raise SystemExit(3)")
    monkeypatch.delitem(__import__("sys").modules, "models")
    assert bench.codes("--allow-import", code=2) == ["SX502"]


# --- what a report says cannot be relied on --------------------------------------------------------------------


def sealed(content: dict[str, Any]) -> dict[str, Any]:
    """Return a report as one would write it who wants it to be believed."""
    names = ("statex_report", "fingerprint", "inputs", "further", "copied", "included", "outputs", "made_at")
    kept = {name: content[name] for name in names} | {"seal": ""}
    kept["outputs"] = {
        name: {"path": one["path"], "files": one["files"], "entry": one.get("entry", "")}
        for name, one in content["outputs"].items()
    }
    return content | {"seal": hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()}


def test_a_seal_made_here_is_one(bench: Bench) -> None:
    bench()
    assert sealed(bench.report) == bench.report


def _without_inputs(content: dict[str, Any]) -> None:
    content["inputs"] = {}


def _without_files(content: dict[str, Any]) -> None:
    content["inputs"]["main"][0]["files"] = {}


def _without_outputs(content: dict[str, Any]) -> None:
    content["outputs"]["all"]["files"] = {}


def _odd_name(content: dict[str, Any]) -> None:
    content["inputs"]["main"][0]["files"]["in\0.pth"] = content["inputs"]["main"][0]["files"]["in.pth"]


def _a_device(content: dict[str, Any]) -> None:
    content["inputs"]["main"][0]["files"]["../../../../../../../dev/zero"] = content["inputs"]["main"][0]["files"][
        "in.pth"
    ]


def _no_print(content: dict[str, Any]) -> None:
    content["inputs"]["main"][0]["files"]["in.pth"] = None


def _huge_numbers(content: dict[str, Any]) -> None:
    content["inputs"]["main"][0]["files"]["in.pth"]["size"] = 10**40


@pytest.mark.parametrize(
    "forge",
    [_without_inputs, _without_files, _without_outputs, _odd_name, _a_device, _no_print, _huge_numbers],
)
def test_a_forged_report(bench: Bench, forge: Callable[[dict[str, Any]], None]) -> None:
    bench()
    content = bench.report
    forge(content)
    bench.write("out/report.json", json.dumps(sealed(content)))
    ended = bench("--json", "--force")
    assert not ended.json["skipped"]
    bench.write("out/report.json", json.dumps(sealed(content)))
    again = bench.call("run", "recipe.yaml", "--json")
    assert again.exit_code in (0, 3)
    assert not again.json.get("skipped", False)


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "cut": lambda data: data[: len(data) // 2],
    "empty": lambda data: b"",
    "a changed digest": lambda data: data.replace(b'"sha256": "', b'"sha256": "0', 1),
    "another type": lambda data: data.replace(b'"inputs": {', b'"inputs": 3, "inputs_": {', 1),
    "of another version": lambda data: data.replace(b'"statex_report": 1', b'"statex_report": 2'),
    "deep": lambda data: b'{"statex_report": 1, "x": ' + b"[" * 10**6 + b"]" * 10**6 + b"}",
    "not text": lambda data: bytes(range(256)),
    "a number": lambda data: b"9" * 10**5,
    "somebody else's": lambda data: b'{"metrics": {"loss": 0.1}}',
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_report_that_cannot_be_relied_on(bench: Bench, name: str) -> None:
    bench()
    path = bench.folder / "out/report.json"
    damaged = DAMAGE[name](path.read_bytes())
    assert damaged != path.read_bytes()
    path.write_bytes(damaged)
    found = bench.refused(code=3)
    assert {one["code"] for one in found} == {"SX610"}
    assert path.read_bytes() == damaged
    assert not skips(bench, "--force")
    assert bench.report["statex_report"] == 1


def test_a_huge_report_is_not_read(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench()
    path = bench.folder / "out/report.json"
    os.truncate(path, report._LARGEST + 1)
    began = time.process_time()
    assert set(bench.codes(code=3)) == {"SX610"}
    assert time.process_time() - began < 1


def test_a_report_that_is_a_pipe(bench: Bench) -> None:
    (bench.folder / "out").mkdir()
    os.mkfifo(bench.folder / "out/report.json")
    assert bench.codes(code=3) == ["SX612"]


def test_times_of_the_report_do_not_vouch_for_outputs(bench: Bench, unhurried: None) -> None:
    bench()
    time.sleep(2.1)
    flip(bench.folder / "out/body.pth")
    os.utime(bench.folder / "out/report.json")
    assert bench.codes(code=3) == ["SX610"]
