"""`metadata(…)`: the texts beside the tensors of safetensors files, read back by the library itself."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import statex
from statex import StatexError

TEXTS = {"format": "pt", "ss_seed": "42", "ss_tag": "a", "title": "old", "modelspec.author": "me"}


def texts_of(path: Path) -> dict[str, str]:
    """Return the texts of a file as its library has them."""
    with safe_open(path, framework="pt") as found:
        return found.metadata()  # type: ignore[no-any-return]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    save_file({"a.w": torch.ones(2), "b.w": torch.zeros(3)}, tmp_path / "in.safetensors", metadata=TEXTS)
    return tmp_path / "in.safetensors"


@pytest.mark.parametrize(
    ("rules", "changes"),
    [
        ("", {}),
        ("set metadata('title') = 'new'", {"title": "new"}),
        ("set metadata('title') = \"new {x} ü\"", {"title": "new {x} ü"}),
        ("set metadata('title') = metadata('title') + ' (bf16)'", {"title": "old (bf16)"}),
        ("set metadata('title'), metadata('ss_tag') = ''", {"title": "", "ss_tag": ""}),
        ("add metadata('license') = 'mit'", {"license": "mit"}),
        ("add metadata('license') = metadata('nothing', default='none')", {"license": "none"}),
        ("param n: str = 'x'; add metadata('n') = n; set metadata('title') = metadata('n')", {"n": "x", "title": "x"}),
        ("drop metadata('title')", {"title": None}),
        ("drop metadata(/ss_.*/)", {"ss_seed": None, "ss_tag": None}),
        ("drop metadata(/.*/)", dict.fromkeys(["ss_seed", "ss_tag", "title", "modelspec.author"])),
        ("drop metadata('title'), metadata(/modelspec\\..*/)", {"title": None, "modelspec.author": None}),
        ("drop? metadata(/nothing/), metadata('nothing')", {}),
        ("drop metadata('title'); add metadata('title') = 'again'", {"title": "again"}),
        ("if metadata('ss_seed') == '42' { set metadata('title') = 'yes' }", {"title": "yes"}),
        ("drop metadata(/title/), metadata('title')", {"title": None}),
    ],
)  # fmt: skip
def test_texts_in_files(rules: str, changes: dict[str, str | None], source: Path, tmp_path: Path) -> None:
    statex.convert(source, tmp_path / "out.safetensors", rules, verify_written=True)
    expected = {name: text for name, text in {**TEXTS, **changes}.items() if text is not None}
    assert texts_of(tmp_path / "out.safetensors") == expected
    before, after = load_file(source), load_file(tmp_path / "out.safetensors")
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)


@pytest.mark.parametrize(
    ("rules", "code", "said"),
    [
        ("set metadata('titel') = 'x'", "SX221", "did you mean `metadata('title')`?"),
        ("drop metadata('titel')", "SX221", "did you mean `metadata('title')`?"),
        ("drop metadata(/ss_/)", "SX221", "no text in the metadata matches /ss_/"),
        ("drop metadata(/ss_/)", "SX221", "whole names, and this is found inside 2 names: `/ss_.*/`"),
        ("let n = metadata('titel')", "SX221", "has no text `titel` in its metadata"),
        ("drop metadata('title'); let n = metadata('title')", "SX221", "has no text `title`"),
        ("add metadata('title') = 'x'", "SX330", "`set metadata('title') = …` gives it a new value"),
        ("set metadata('title') = 3", "SX331", "write '3'"),
        ("set metadata('title') = true", "SX331", "write 'true'"),
        ("set metadata('title') = 0.5", "SX331", "write '0.5'"),
        ("set metadata('title') = none", "SX331", "metadata holds text only, and this is none"),
        ("set metadata('title') = a.w", "SX331", "metadata holds text only, and this is a tensor"),
        ("set metadata('title') = bf16", "SX331", "write 'bfloat16'"),
        ("set metadata('format') = 'pt'", "SX332", "`format` is always `pt`"),
        ("add metadata('statex') = '{}'", "SX332", "`statex` keeps versions of layouts"),
        ("drop metadata('format')", "SX332", "`format` is always `pt`"),
        ("drop metadata(/(/)", "SX153", ""),
        ("if false { drop metadata(/(/) }", "SX153", ""),
        ("set metadata(/ss_.*/) = 'x'", "SX101", "quoted text"),
        ("within a { drop metadata('title') }", "SX216", ""),
        ("let n = metadata(3)", "SX207", "`metadata` takes the name of a text"),
        ("add value('epoch') = 1", "SX332", "`root '' -> 'model'`"),
    ],
)
def test_what_cannot_be(rules: str, code: str, said: str, source: Path) -> None:
    with pytest.raises(StatexError) as error:
        statex.compile(rules).plan(source)
    assert [one.code.id for one in error.value.diagnostics] == [code]
    assert said in str(error.value)


def test_a_text_without_bytes_in_utf_8(source: Path) -> None:
    for rules in ("set metadata('title') = t", "param n: str = 'x'; add metadata('\ud800') = n"):
        with pytest.raises(StatexError, match="SX331"):
            statex.compile(f"param t: str; {rules}").plan(source, t="\ud800")


def test_every_shard_has_them(source: Path, tmp_path: Path) -> None:
    rules = "set metadata('title') = 'new'; drop metadata(/ss_.*/)"
    statex.convert(source, f"{tmp_path}/set/", rules, shard_size=1)
    shards = sorted((tmp_path / "set").glob("*.safetensors"))
    assert len(shards) == 2
    expected = {"format": "pt", "title": "new", "modelspec.author": "me"}
    assert [texts_of(one) for one in shards] == [expected, expected]
    statex.convert(tmp_path / "set", tmp_path / "one.safetensors", "add metadata('n') = '1'")
    assert texts_of(tmp_path / "one.safetensors") == {**expected, "n": "1"}


def test_a_torch_file_gets_texts_when_it_becomes_safetensors(tmp_path: Path) -> None:
    torch.save({"a.w": torch.ones(2)}, tmp_path / "in.pth")
    done = statex.convert(tmp_path / "in.pth", tmp_path / "out.safetensors", "add metadata('title') = 'x'")
    assert texts_of(tmp_path / "out.safetensors") == {"format": "pt", "title": "x"}
    assert not done.warnings
    statex.convert({"a.w": torch.ones(2)}, tmp_path / "memory.safetensors", "add metadata('title') = 'x'")
    assert texts_of(tmp_path / "memory.safetensors") == {"format": "pt", "title": "x"}


@pytest.mark.parametrize(
    ("rules", "said"),
    [
        ("add metadata('title2') = 'x'", "the metadata of `in.safetensors` has no place"),
        ("drop metadata(/.*/)", ""),
        ("drop metadata(/.*/); add metadata('title2') = 'x'", "metadata has no place in this format: `title2`"),
    ],
)
@pytest.mark.parametrize("format", ["torch", "dcp"])
def test_formats_without_texts_lose_them_with_a_warning(
    rules: str, said: str, format: str, source: Path, tmp_path: Path
) -> None:
    planned = statex.compile(rules).plan(source, format=format).warnings
    done = statex.convert(source, tmp_path / "out", rules, format=format).warnings
    for found in (planned, done):
        assert [one.code.id for one in found] == (["SX905"] if said else [])
        assert not said or said in found[0].headline


def test_a_state_in_memory_has_no_place_for_them(source: Path) -> None:
    rules = statex.compile("add metadata('license') = 'mit'")
    with pytest.warns(statex.StatexWarning, match=r"(?s)SX905.*a state in memory: `license`"):
        rules.apply({"w": torch.ones(1)})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        statex.compile("drop metadata('title')").apply(source)


def test_plans_say_what_is_changed(source: Path) -> None:
    rules = "set metadata('title') = 'new'; add metadata('n') = '1'; drop metadata(/ss_.*/); drop metadata('n')"
    plan = statex.compile(rules).plan(source)
    said = str(plan)
    assert "1 text set" in said
    assert "2 left out" in said
    left, changed = said.splitlines()[-2:]
    assert left in ("left out of the metadata: ss_seed, ss_tag", "left out of the metadata: ss_tag, ss_seed")
    assert changed == "set in the metadata: title = 'new'"
    assert plan.left_around == ()
    assert dict(plan.metadata_texts) == {"format": "pt", "title": "new", "modelspec.author": "me"}
    data: Any = json.loads(json.dumps(plan.to_dict()))
    assert data["around"][0] == {
        "of": "metadata", "change": "set", "path": ["title"], "step": 0, "value": "new",
    }  # fmt: skip
    assert data["steps"][2]["changes"] == [
        {"kind": "left out", "before": [], "after": ["metadata('ss_seed')"]},
        {"kind": "left out", "before": [], "after": ["metadata('ss_tag')"]},
    ]


def test_versions_of_layouts_stay(tmp_path: Path) -> None:
    stamp = json.dumps({"": {"scheme": 1, "version": 3, "digests": [], "params": {}}})
    save_file({"w": torch.ones(1)}, tmp_path / "in.safetensors", metadata={"statex": stamp, "x": "y"})
    statex.convert(tmp_path / "in.safetensors", tmp_path / "out.safetensors", "drop metadata(/.*/)")
    found = texts_of(tmp_path / "out.safetensors")
    assert set(found) == {"format", "statex"}
    assert json.loads(found["statex"]) == json.loads(stamp)


def test_metadata_is_still_a_key() -> None:
    state = {"metadata": torch.ones(1), "a.metadata": torch.ones(1)}
    assert list(statex.compile("drop metadata").apply(state)) == ["a.metadata"]
    assert statex.compile("set metadata = it * 2").apply(state)["metadata"].item() == 2
