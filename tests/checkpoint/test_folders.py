"""Folders as Hugging Face saves them: in, out, and loaded again by transformers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from transformers import GPT2Config, GPT2LMHeadModel

import statex
from statex import StatexError

SOME = torch.arange(12).reshape(2, 6)


@pytest.fixture(scope="module")
def model() -> GPT2LMHeadModel:
    torch.manual_seed(0)
    config = GPT2Config(n_embd=32, n_layer=2, n_head=2, vocab_size=50, n_positions=16, tie_word_embeddings=True)
    return GPT2LMHeadModel(config).eval()


@pytest.mark.parametrize("size", ["1GB", "20KB"])
@pytest.mark.parametrize("format", ["safetensors", "torch"])
def test_a_folder_goes_in_and_comes_out(model: GPT2LMHeadModel, tmp_path: Path, size: str, format: str) -> None:
    model.save_pretrained(tmp_path / "in", max_shard_size=size)
    rules = statex.compile("set **.ln_1.bias = it + 1")
    limit = 20_000 if size == "20KB" else None
    statex.convert(
        tmp_path / "in",
        f"{tmp_path}/out/",
        rules,
        format=format,
        shard_size=limit,
        copy_files=True,
        verify_written=True,
    )
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"config.json", "generation_config.json"} <= names
    assert any(name.endswith(".index.json") for name in names) == (size == "20KB")
    again = GPT2LMHeadModel.from_pretrained(tmp_path / "out").eval()
    wanted = GPT2LMHeadModel.from_pretrained(tmp_path / "in").eval()
    with torch.no_grad():
        for block in wanted.transformer.h:
            block.ln_1.bias += 1
        assert torch.equal(again(SOME).logits, wanted(SOME).logits)


@pytest.mark.parametrize("names", [["model-00001-of-00002", "model-00002-of-00002"], ["model-00001-of-00002"]])
def test_shards_without_their_index_are_no_checkpoints_of_their_own(tmp_path: Path, names: list[str]) -> None:
    for name in names:
        save_file({"x": SOME}, tmp_path / f"{name}.safetensors")
    with pytest.raises(StatexError, match=r"SX602(.|\n)*fetch model\.safetensors\.index\.json as well"):
        statex.compile("").plan(tmp_path)


def test_one_shard_that_is_all_needs_no_index(tmp_path: Path) -> None:
    save_file({"x": SOME}, tmp_path / "model-00001-of-00001.safetensors")
    assert list(statex.compile("").plan(tmp_path).outputs) == ["x"]


def test_a_folder_of_many_checkpoints_says_how_many_more_there_are(tmp_path: Path) -> None:
    for number in range(14):
        save_file({"x": SOME}, tmp_path / f"{number:02}.safetensors")
    with pytest.raises(StatexError, match=r"11\.safetensors\n +and 2 more\n"):
        statex.compile("").plan(tmp_path)


def test_the_current_folder_is_not_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.save({"a": torch.ones(2)}, tmp_path / "in.pth")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(StatexError, match="is the current folder"):
        statex.convert(tmp_path / "in.pth", ".", statex.compile(""))
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize("size", [None, 100])
def test_ties_do_not_change_the_order(tmp_path: Path, size: int | None) -> None:
    tied = torch.randn(4, 4)
    state = {"a": tied, "b": torch.randn(3), "c": tied, "d": torch.ones(30)}
    torch.save(state, tmp_path / "in.pth")
    rules = statex.compile("")
    statex.convert(tmp_path / "in.pth", tmp_path / "set", rules, format="torch", shard_size=size or 10**9,
                   verify_written=True)  # fmt: skip
    assert list(statex.read_header(tmp_path / "set").entries) == list(state)
    statex.convert(tmp_path / "set", tmp_path / "out.pth", rules)
    found = torch.load(tmp_path / "out.pth")
    assert found["a"].data_ptr() == found["c"].data_ptr()


def test_computed_ties_count_in_each_file_that_holds_them(tmp_path: Path) -> None:
    tied = torch.randn(250)
    torch.save({"a": tied, "b": tied}, tmp_path / "in.pth")
    rules = statex.compile("set a, b = exp(it)")
    statex.convert(tmp_path / "in.pth", tmp_path / "set", rules, format="safetensors", shard_size=1000)
    assert len(list((tmp_path / "set").glob("*.safetensors"))) == 2


@pytest.mark.parametrize("format", ["safetensors", "torch"])
def test_keys_that_are_no_text(tmp_path: Path, format: str) -> None:
    torch.save({"a\ud800": torch.ones(3), "b": torch.ones(3)}, tmp_path / "in.pth")
    with pytest.raises(StatexError) as caught:
        statex.convert(tmp_path / "in.pth", tmp_path / "set", statex.compile(""), format=format, shard_size=1)
    assert [d.code.id for d in caught.value.diagnostics] == ["SX614"]
    statex.convert(tmp_path / "in.pth", tmp_path / "out.pth", statex.compile(""))
    assert "a\ud800" in torch.load(tmp_path / "out.pth")


@pytest.mark.parametrize("format", ["safetensors", "torch"])
def test_what_an_index_says_besides_is_kept(model: GPT2LMHeadModel, tmp_path: Path, format: str) -> None:
    model.save_pretrained(tmp_path / "in", max_shard_size="20KB")
    index = tmp_path / "in" / "model.safetensors.index.json"
    said = json.loads(index.read_text())
    said["metadata"] |= {"made_by": {"name": "a trainer", "runs": [1, 2]}, "total_parameters": 7}
    index.write_text(json.dumps(said))
    statex.convert(
        tmp_path / "in", f"{tmp_path}/out/", statex.compile("set ** = cast(f16)"), format=format, shard_size=20_000
    )
    (written,) = (tmp_path / "out").glob("*.index.json")
    found = json.loads(written.read_text())["metadata"]
    count = sum(tensor.numel() for tensor in model.state_dict().values()) - model.lm_head.weight.numel()
    assert found == said["metadata"] | {"total_parameters": count, "total_size": 2 * count}


def test_an_index_whose_metadata_is_none(tmp_path: Path) -> None:
    save_file({"a": torch.ones(2)}, tmp_path / "x.safetensors")
    index = tmp_path / "model.safetensors.index.json"
    index.write_text('{"metadata": 3, "weight_map": {"a": "x.safetensors"}}')
    with pytest.raises(StatexError, match="its `metadata` is not a mapping"):
        statex.read_header(tmp_path)
    index.write_text('{"metadata": null, "weight_map": {"a": "x.safetensors"}}')
    assert list(statex.read_header(tmp_path).entries) == ["a"]


@pytest.mark.parametrize("there", ["folder", "file", "nothing"])
def test_a_link_is_not_replaced_by_a_folder(tmp_path: Path, there: str) -> None:
    torch.save({"w": torch.ones(2)}, tmp_path / "in.pth")
    real, link = tmp_path / "real", tmp_path / "link"
    if there == "folder":
        real.mkdir()
    elif there == "file":
        real.write_bytes(b"kept")
    link.symlink_to("real")
    with pytest.raises(StatexError) as caught:
        statex.convert(tmp_path / "in.pth", f"{link}/", "rename w -> v", force=True)
    assert [found.code.id for found in caught.value.diagnostics] == ["SX612"]
    assert link.is_symlink()
    assert list(real.iterdir()) == [] if there == "folder" else real.exists() is (there == "file")
