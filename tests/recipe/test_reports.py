"""What a report says; digests that are expected; what may be replaced."""

from __future__ import annotations

import hashlib
import json
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from statex.core.progress import Phases
from statex.session import conversion, records
from statex.session.digests import Digests
from tests.recipe.conftest import RECIPE, STATE, Bench
from tests.recipe.test_runs import grand, same_bits

__all__ = ["grand"]


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def listed(report: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every file that a report lists, by its path, and what it says of it."""
    for members in report["inputs"].values():
        for one in members:
            yield from one["files"].items()
    yield from report["further"]["files"].items()
    for one in report["outputs"].values():
        yield from one["files"].items()


def test_what_a_report_says(grand: Bench) -> None:
    grand("--allow-import")
    report = grand.report
    files = dict(listed(report))
    assert sorted(files) == sorted(
        [
            "base/model.safetensors", "runs/1.pth", "runs/2.pth", "runs/3.pth", "adapter.safetensors", "head.pth",
            "base/config.json", "models.py", "like.pth", "out/head.pth",
            *(f"out/full/{path.name}" for path in (grand.folder / "out/full").iterdir()),
        ]
    )  # fmt: skip
    for name, said in files.items():
        path = grand.folder / name
        found = os.stat(path)
        assert said["sha256"] == sha256(path), name
        assert (said["size"], said["mtime"], said["inode"]) == (found.st_size, found.st_mtime_ns, found.st_ino), name
    assert [one["path"] for one in report["inputs"]["runs"]] == ["runs/1.pth", "runs/2.pth", "runs/3.pth"]
    assert report["inputs"]["main"][0]["entry"] == "base/model.safetensors"
    assert report["copied"] == {"full": ["base/config.json"], "head": []}
    assert report["versions"]["torch"].partition("+")[0] == torch.__version__.partition("+")[0]
    assert report["outputs"]["full"]["verified"] == {"target": "Net", "keys": 12}
    assert report["outputs"]["head"]["verified"] == {"target": "like.pth", "keys": 2}
    assert (report["outputs"]["full"]["format"], report["outputs"]["head"]["keys"]) == ("safetensors", 2)
    assert report["outputs"]["head"]["bytes"] == 4 * (3 * 4 + 3)
    assert [one["file"] for one in report["request"]["rules"] if "file" in one] == [
        "rules/soup.sx", "rules/scale.sx", "rules/scale.sx", "rules/qkv.sx",
    ]  # fmt: skip
    assert report["request"]["rules"][1]["sha256"] == sha256(grand.folder / "rules/soup.sx")
    assert report["cost"]["read"] >= sum(files[name]["size"] for name in files if name.startswith(("base/m", "runs")))


def test_the_account_adds_up(grand: Bench) -> None:
    grand("--allow-import")
    report = grand.report
    account, totals = report["account"], report["totals"]
    assert len(account) == totals["keys_in"] + 3 * 6 + 4 + 2
    assert account["rope.inv_freq"] == {"fate": "dropped", "results": [], "step": 0}
    assert account["lora::layers.0.out.A"]["fate"] == "used"
    assert account["head::bias"]["results"] == ["head.bias"]
    assert sum(report["outputs"]["full"]["keys"] for _ in "1") == totals["keys_out"] == 12
    made = {key for one in account.values() for key in one["results"]}
    assert made == set(grand.load("out/full"))


def test_a_report_does_not_depend_on_where_it_was_made(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench()
    first = bench.report
    monkeypatch.chdir("/")
    bench.call("run", str(bench.folder / "recipe.yaml"), "--force")
    second = bench.report
    assert str(bench.folder) not in json.dumps([second[name] for name in ("inputs", "further", "outputs", "request")])
    assert first["request"]["inputs"] == second["request"]["inputs"]
    assert first["request"]["outputs"] == second["request"]["outputs"]


def test_names_that_are_not_text(bench: Bench) -> None:
    bench.write("recipe.yaml", RECIPE.replace("in.pth", "base/").replace("all.safetensors}", "all/, copy_files: true}"))
    bench.save("base/pytorch_model.bin", STATE)
    name = os.fsdecode(b"tok\xff\\udc80.json")
    (bench.folder / "base" / name).write_text("{}")
    bench()
    assert (bench.folder / "out/all" / name).exists()
    assert bench("--json").json["skipped"]
    bench.write("rules/names.sx", "rename prefix '' -> 'y.'\n")
    bench()
    assert "y.a.weight" in bench.load("out/body.pth")


def test_keys_that_are_not_text(bench: Bench) -> None:
    bench.save("in.pth", STATE | {"half\udc80.weight": torch.zeros(1)})
    bench.write("recipe.yaml", RECIPE.replace("all.safetensors", "all.pth"))
    bench()
    assert bench.report["account"]["half\\udc80.weight"]["results"] == ["x.half\\udc80.weight"]
    assert bench("--json").json["skipped"]


# --- digests -----------------------------------------------------------------------------------------------------


def expecting(bench: Bench, digest: str, path: str = "in.pth", more: str = "") -> None:
    text = RECIPE.replace("{main: in.pth}", f"\n  main: {{path: {path}, sha256: {digest}}}").replace(
        "policy: {unchanged: skip}\nreport: out/report.json\n", more
    )
    bench.write("recipe.yaml", text)


@pytest.mark.parametrize("more", ["", "report: out/report.json\n", "policy: {digests: none}\n"])
def test_an_expected_digest(bench: Bench, more: str) -> None:
    digest = sha256(bench.folder / "in.pth")
    expecting(bench, "0" * 64, more=more)
    before = bench.files()
    (found,) = bench.refused(code=3)
    assert (found["code"], found["headline"]) == ("SX633", "`in.pth` does not have the expected SHA-256")
    assert found["values"] == [f"expected {'0' * 64}", f"found    {digest}"]
    assert found["labels"][0]["line"] == 3
    assert bench.files().keys() == before.keys()
    expecting(bench, digest.upper(), more=more)
    bench()


def test_digests_of_a_folder(bench: Bench) -> None:
    bench.save("base/a.safetensors", {"a.weight": STATE["a.weight"]})
    bench.save("base/b.safetensors", {"b.weight": STATE["b.weight"]})
    index = {"weight_map": {"a.weight": "a.safetensors", "b.weight": "b.safetensors"}}
    bench.write("base/model.safetensors.index.json", json.dumps(index))
    right = {path.name: sha256(path) for path in (bench.folder / "base").iterdir()}
    for change, said in (
        ({"a.safetensors": "0" * 64}, "`a.safetensors` does not have the expected SHA-256"),
        ({"c.safetensors": "0" * 64}, "`base` is not read from a file `c.safetensors`"),
    ):
        expecting(bench, json.dumps(right | change), "base/")
        (found,) = bench.refused(code=3)
        assert (found["code"], found["headline"]) == ("SX633", said)
    expecting(bench, json.dumps({name: one for name, one in right.items() if name != "a.safetensors"}), "base/")
    (found,) = bench.refused(code=3)
    assert found["headline"] == "no digest is given for `a.safetensors` of `base`"
    expecting(bench, right["a.safetensors"], "base/")
    (found,) = bench.refused(code=3)
    assert found["headline"] == "`base` is read from 3 files, and one digest is expected"
    expecting(bench, json.dumps(right), "base/")
    bench()


@pytest.mark.parametrize("command", ["check", "plan", "run"])
def test_digests_that_are_for_no_file_are_seen_before_any_is_taken(
    bench: Bench, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records, "Records", None)
    for name in "abc":
        bench.save(f"base/{name}.safetensors", {f"{name}.weight": STATE["a.weight"]})
    index = {"weight_map": {f"{name}.weight": f"{name}.safetensors" for name in "abc"}}
    bench.write("base/model.safetensors.index.json", json.dumps(index))
    expecting(bench, json.dumps({"b.safetensor": "0" * 64}), "base/")
    wrong, lacking = bench.refused(command=command, code=3)
    assert wrong["headline"] == "`base` is not read from a file `b.safetensor`"
    assert wrong["help"] == ["did you mean `b.safetensors`?"]
    assert (
        lacking["headline"]
        == "no digest is given for `a.safetensors`, `b.safetensors`, `c.safetensors` and 1 more of `base`"
    )
    assert (wrong["labels"][0]["line"], wrong["labels"][0]["column"]) == (3, 31)
    expecting(bench, "0" * 64, "base/")
    (found,) = bench.refused(command=command, code=3)
    assert found["headline"] == "`base` is read from 4 files, and one digest is expected"


def test_an_expected_digest_of_another_input_is_not_asked_for(bench: Bench) -> None:
    expecting(bench, "0" * 64)
    bench.save("other.pth", STATE)
    bench("--in", "main=other.pth")


def test_no_digests(bench: Bench) -> None:
    bench.write("recipe.yaml", RECIPE.replace("unchanged: skip", "digests: none"))
    bench()
    report = bench.report
    assert dict(listed(report)) == dict.fromkeys(["in.pth", "out/all.safetensors", "out/body.pth"])
    found = bench.refused(code=3)
    assert [one["code"] for one in found] == ["SX610", "SX610"]
    assert found[0]["notes"] == [
        "the last run wrote it without taking its digest, and nothing else tells whether it has changed since"
    ]
    bench("--force")
    assert bench("--dry-run", "--force", "--json").json["cost"]["read"] < report["cost"]["written"] * 10


def test_digests_are_priced(bench: Bench) -> None:
    with_digests = bench("--json", command="plan").json["cost"]["read"]
    bench.write("recipe.yaml", RECIPE.replace("unchanged: skip", "digests: none"))
    without = bench("--json", command="plan").json["cost"]["read"]
    written = bench("--json", command="plan").json["cost"]["written"]
    assert with_digests - without == (bench.folder / "in.pth").stat().st_size + written


def test_an_expected_digest_is_priced(bench: Bench) -> None:
    digest = hashlib.sha256((bench.folder / "in.pth").read_bytes()).hexdigest()
    text = "statex: 1\ninputs: {main: in.pth}\noutputs: out.pth\n"
    bench.write("recipe.yaml", text)
    without = bench("--json", command="plan").json["cost"]["read"]
    bench.write("recipe.yaml", text.replace("in.pth", f"{{path: in.pth, sha256: {digest}}}"))
    assert bench("--json", command="plan").json["cost"]["read"] - without == (bench.folder / "in.pth").stat().st_size


def test_digests_end_when_nobody_wants_them_any_more(tmp_path: Path) -> None:
    with open(tmp_path / "sparse", "wb") as file:
        file.truncate(1 << 38)
    began = time.monotonic()
    with Digests() as digests:
        digests.take(tmp_path / "sparse")
        digests.take(tmp_path / "sparse2")
    assert time.monotonic() - began < 5
    assert not any("ThreadPool" in thread.name for thread in threading.enumerate())


def test_a_file_that_changes_while_it_is_copied_along(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.save("base/model.safetensors", STATE)
    config = bench.write("base/config.json", "{}")
    bench.write("recipe.yaml", RECIPE.replace("in.pth", "base/").replace("all.safetensors}", "all/, copy_files: true}"))
    original = records.Records.__init__

    def late(self: records.Records, *given: Any) -> None:
        original(self, *given)
        given[1].taken(Phases(None))
        config.write_text("[]")

    monkeypatch.setattr(records.Records, "__init__", late)
    assert bench.codes(code=3) == ["SX609"]
    assert not (bench.folder / "out").exists()


def test_an_input_that_changes_while_it_is_read(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    original = records.Records.check_expected

    def check(self: records.Records, prints: Any) -> None:
        bench.save("in.pth", STATE | {"a.bias": torch.ones(3)})
        original(self, prints)

    monkeypatch.setattr(records.Records, "check_expected", check)
    assert bench.codes(code=3) == ["SX609"]
    assert not (bench.folder / "out").exists()


# --- what may be replaced ----------------------------------------------------------------------------------------


def replacing(bench: Bench, how: str) -> None:
    bench.write("recipe.yaml", RECIPE.replace("unchanged: skip", f"replace: {how}"))


def test_never(bench: Bench) -> None:
    replacing(bench, "never")
    bench()
    before = bench.files()
    found = bench.refused(code=3)
    assert [(one["code"], one["notes"]) for one in found] == [("SX610", []), ("SX610", [])]
    assert bench.files() == before
    bench("--force")
    assert bench.files() != before


def test_own(bench: Bench) -> None:
    replacing(bench, "own")
    bench()
    for _ in range(2):
        before = bench.files()
        bench("-D", "scale=3")
        assert bench.files() != before
    same_bits({"w": bench.load("out/body.pth")["x.a.weight"]}, {"w": STATE["a.weight"] * 3})


def test_a_foreign_output_is_not_replaced(bench: Bench) -> None:
    replacing(bench, "own")
    foreign = bench.save("out/body.pth", {"mine": torch.ones(2)})
    data = foreign.read_bytes()
    (found,) = bench.refused(code=3)
    assert (found["code"], found["labels"][0]["line"]) == ("SX610", 8)
    assert found["notes"] == ["only what the last run wrote may be replaced, and there is no report to tell"]
    foreign.unlink()
    bench()
    foreign.write_bytes(data)
    (found,) = bench.refused(code=3)
    assert found["notes"] == ["the last run wrote it, and it has been changed since"]
    (found,) = bench.refused("--out", "all=in.pth", "--out", "body=out/none.pth", code=3)
    assert found["code"] == "SX611"
    bench.save("other.safetensors", STATE)
    foreign.unlink()
    (found,) = bench.refused("--out", "all=other.safetensors", code=3)
    assert found["notes"] == ["the last run did not write it"]
    assert foreign.exists() is False


def test_without_a_report_nothing_is_its_own(bench: Bench) -> None:
    bench.write("recipe.yaml", RECIPE.partition("policy")[0])
    bench()
    found = bench.refused(code=3)
    assert found[0]["notes"] == ["a run knows its own outputs by its report, and this recipe has none"]


def test_always(bench: Bench) -> None:
    replacing(bench, "always")
    bench.save("out/body.pth", {"mine": torch.ones(2)})
    bench.write("out/report.json", "mine")
    bench()
    assert bench.report["statex_report"] == 1


@pytest.mark.parametrize("content", ["mine", "", "{}", '{"statex_report": "x"}', "[1]"])
def test_a_report_replaces_reports_alone(bench: Bench, content: str) -> None:
    replacing(bench, "own")
    path = bench.write("out/report.json", content)
    (found,) = bench.refused(code=3)
    assert (found["code"], path.read_text()) == ("SX610", content)
    assert found["notes"] == ["it is not a report of statex, and would be replaced by one"]
    path.write_text('{"statex_report": 7}')
    bench()
    assert bench.report["statex_report"] == 1


def test_a_report_that_is_a_folder_or_a_link(bench: Bench) -> None:
    (bench.folder / "out/report.json").mkdir(parents=True)
    assert bench.codes(code=3) == ["SX612"]
    (bench.folder / "out/report.json").rmdir()
    (bench.folder / "out/report.json").symlink_to("../real.json")
    assert bench.codes(code=3) == ["SX610"]
    bench.write("real.json", '{"statex_report": 1}')
    bench()
    assert json.loads((bench.folder / "real.json").read_bytes())["totals"]["keys_in"] == 4
    assert (bench.folder / "out/report.json").is_symlink()


def test_a_report_that_appears_meanwhile_is_not_replaced(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    original = conversion.make_report

    def make_report(*given: Any) -> bytes:
        made = original(*given)
        bench.write("out/report.json", "mine")
        return made

    monkeypatch.setattr(conversion, "make_report", make_report)
    assert bench.codes(code=3) == ["SX610"]
    assert [name for name in bench.files() if name.startswith("out/")] == ["out/report.json"]
    assert (bench.folder / "out/report.json").read_text() == "mine"
