"""The files of a folder keep the names that transformers, diffusers and peft look for; `stem` gives others."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from huggingface_hub import split_torch_state_dict_into_shards
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import GPT2Config, GPT2LMHeadModel

import statex
from statex import StatexError

SOME = torch.arange(12).reshape(2, 6)
NOTHING = ""
STATE = {"a.weight": torch.arange(30.0), "b.weight": torch.arange(12.0)}


def gpt2() -> GPT2LMHeadModel:
    torch.manual_seed(0)
    config = GPT2Config(n_embd=32, n_layer=2, n_head=2, vocab_size=50, n_positions=16, bos_token_id=0, eos_token_id=1)
    return GPT2LMHeadModel(config).eval()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def saved(folder: Path, name: str) -> Path:
    """Save STATE under a name in a folder of its own, in the format that the name's ending means."""
    folder.mkdir()
    if name.endswith(".safetensors"):
        save_file(STATE, folder / name)
    else:
        torch.save(STATE, folder / name)
    return folder


@pytest.mark.parametrize("variant", [None, "fp16"])
@pytest.mark.parametrize("size", ["1GB", "20KB"])
def test_what_transformers_saves_has_the_same_names_again_and_loads(
    tmp_path: Path, variant: str | None, size: str
) -> None:
    model = gpt2()
    model.save_pretrained(tmp_path / "in", variant=variant, max_shard_size=size)
    limit = 20_000 if size == "20KB" else None
    done = statex.convert(tmp_path / "in", f"{tmp_path}/out/", NOTHING, shard_size=limit, copy_files=True)
    assert done.left_files == ()
    index = {name for name in names(tmp_path / "out") if "index" in name}
    assert index == {name for name in names(tmp_path / "in") if "index" in name}
    assert len(index) == (size == "20KB")
    if size == "1GB":
        assert names(tmp_path / "out") == names(tmp_path / "in")
    again = GPT2LMHeadModel.from_pretrained(tmp_path / "out", variant=variant).eval()
    with torch.no_grad():
        assert torch.equal(again(SOME).logits, model(SOME).logits)


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
@pytest.mark.parametrize("format", ["safetensors", "torch"])
def test_an_adapter_of_peft_keeps_its_name_and_loads(tmp_path: Path, format: str) -> None:
    torch.manual_seed(1)
    config = LoraConfig(r=2, target_modules=["c_attn"], fan_in_fan_out=True, init_lora_weights=False)
    adapted = get_peft_model(gpt2(), config).eval()
    adapted.save_pretrained(tmp_path / "in")
    statex.convert(tmp_path / "in", f"{tmp_path}/out/", NOTHING, format=format, copy_files=True)
    ending = ".safetensors" if format == "safetensors" else ".bin"
    assert [name for name in names(tmp_path / "out") if "model" in name] == [f"adapter_model{ending}"]
    again = PeftModel.from_pretrained(gpt2(), tmp_path / "out").eval()
    with torch.no_grad():
        assert torch.equal(again(SOME).logits, adapted(SOME).logits)


@pytest.mark.parametrize(
    ("read", "format", "written"),
    [
        ("diffusion_pytorch_model.safetensors", "safetensors", "diffusion_pytorch_model.safetensors"),
        ("diffusion_pytorch_model.safetensors", "torch", "diffusion_pytorch_model.bin"),
        ("diffusion_pytorch_model.fp16.safetensors", "safetensors", "diffusion_pytorch_model.fp16.safetensors"),
        ("diffusion_pytorch_model.fp16.safetensors", "torch", "diffusion_pytorch_model.fp16.bin"),
        ("diffusion_pytorch_model.bin", "safetensors", "diffusion_pytorch_model.safetensors"),
        ("adapter_model.bin", "safetensors", "adapter_model.safetensors"),
        ("adapter_model.safetensors", "torch", "adapter_model.bin"),
        ("model.safetensors", "torch", "pytorch_model.bin"),
        ("pytorch_model.bin", "safetensors", "model.safetensors"),
        ("pytorch_model.fp16.bin", "safetensors", "model.fp16.safetensors"),
        ("model.fp16.safetensors", "torch", "pytorch_model.fp16.bin"),
        ("pytorch_model.bin", None, "pytorch_model.bin"),
        ("model.pt", None, "model.pt"),
        ("model.pt", "safetensors", "model.safetensors"),
        ("consolidated.00.pth", None, "consolidated.00.pth"),
        ("consolidated.00.pth", "safetensors", "consolidated.00.safetensors"),
        ("model-00001-of-00001.safetensors", None, "model.safetensors"),
        ("open_clip_pytorch_model.bin", "safetensors", "open_clip_pytorch_model.safetensors"),
    ],
)
def test_the_stem_that_was_read_is_the_stem_that_is_written(
    tmp_path: Path, read: str, format: str | None, written: str
) -> None:
    statex.convert(saved(tmp_path / "in", read), f"{tmp_path}/out/", NOTHING, format=format)
    assert names(tmp_path / "out") == [written]
    assert list(statex.read_header(tmp_path / "out").entries) == list(STATE)


@pytest.mark.parametrize("read", ["model", "model.fp16", "diffusion_pytorch_model.bf16", "adapter_model", "my.model"])
def test_shards_are_named_as_the_library_names_them(tmp_path: Path, read: str) -> None:
    statex.convert(saved(tmp_path / "in", f"{read}.safetensors"), f"{tmp_path}/out/", NOTHING, shard_size=150)
    split = split_torch_state_dict_into_shards(
        STATE, filename_pattern=f"{read}{{suffix}}.safetensors", max_shard_size=150
    )
    shards = [name for name in names(tmp_path / "out") if name.endswith(".safetensors")]
    assert shards == sorted(split.filename_to_tensors)
    (index,) = set(names(tmp_path / "out")) - set(shards)
    stem, _, variant = read.partition(".") if read != "my.model" else (read, "", "")
    assert index == f"{stem}.safetensors.index{'.' * bool(variant)}{variant}.json"
    # And from shards to one file, and to shards again.
    statex.convert(tmp_path / "out", f"{tmp_path}/whole/", NOTHING)
    assert names(tmp_path / "whole") == [f"{read}.safetensors"]
    statex.convert(tmp_path / "out" / index, f"{tmp_path}/again/", NOTHING, shard_size=150)
    assert names(tmp_path / "again") == names(tmp_path / "out")


def test_an_index_says_what_is_the_variant_of_an_unknown_stem(tmp_path: Path) -> None:
    saved(tmp_path / "in", "net.a.b-00001-of-00001.safetensors")
    index = '{"weight_map": {"a.weight": "%(x)s", "b.weight": "%(x)s"}}'
    (tmp_path / "in" / "net.safetensors.index.a.b.json").write_text(index % {"x": "net.a.b-00001-of-00001.safetensors"})
    statex.convert(tmp_path / "in", f"{tmp_path}/out/", NOTHING, shard_size=150)
    assert names(tmp_path / "out") == [
        "net.a.b-00001-of-00002.safetensors",
        "net.a.b-00002-of-00002.safetensors",
        "net.safetensors.index.a.b.json",
    ]


@pytest.mark.parametrize(
    ("file", "written"),
    [
        ("in.safetensors", "model.safetensors"),
        ("in.pth", "pytorch_model.bin"),
        ("adapter_model.bin", "adapter_model.bin"),
    ],
)
def test_a_file_without_a_folder_gets_the_usual_name_unless_it_has_a_known_one(
    tmp_path: Path, file: str, written: str
) -> None:
    statex.convert(saved(tmp_path / "in", file) / file, f"{tmp_path}/out/", NOTHING)
    assert names(tmp_path / "out") == [written]


def test_the_variant_of_a_folder_is_read_by_its_name(tmp_path: Path) -> None:
    saved(tmp_path / "in", "model.safetensors")
    save_file({"a.weight": torch.ones(2).half()}, tmp_path / "in" / "model.fp16.safetensors")
    assert len(statex.read_header(tmp_path / "in").entries) == 2
    (tmp_path / "in" / "vocab.txt").write_text("a b")
    fp16 = tmp_path / "in" / "model.fp16.safetensors"
    statex.convert(fp16, f"{tmp_path}/out/", NOTHING, copy_files=True)
    assert names(tmp_path / "out") == ["model.fp16.safetensors", "vocab.txt"]


@pytest.mark.parametrize("known", ["diffusion_pytorch_model", "adapter_model"])
def test_the_known_file_of_a_folder_is_read_where_others_are_beside_it(tmp_path: Path, known: str) -> None:
    folder = saved(tmp_path / "in", f"{known}.safetensors")
    torch.save({"x": torch.ones(1)}, folder / f"{known}.bin")
    torch.save({"x": torch.ones(1)}, folder / "optimizer.pt")
    save_file({"x": torch.ones(1)}, folder / f"{known}.fp16.safetensors")
    assert list(statex.read_header(folder).entries) == list(STATE)


def test_two_variants_are_several_checkpoints(tmp_path: Path) -> None:
    folder = saved(tmp_path / "in", "model.fp16.safetensors")
    statex.convert(folder, f"{tmp_path}/out/", NOTHING, shard_size=150, stem="model.bf16")
    for path in (tmp_path / "out").iterdir():
        path.rename(folder / path.name)
    with pytest.raises(StatexError, match=r"SX602(.|\n)*model\.fp16\.safetensors(.|\n)*index\.bf16\.json"):
        statex.read_header(folder)


# --- another stem ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stem", "size", "written"),
    [
        ("model", None, ["model.safetensors"]),
        ("pytorch_model", None, ["pytorch_model.safetensors"]),
        ("model.fp16", None, ["model.fp16.safetensors"]),
        (
            "model.fp16",
            150,
            [
                "model.fp16-00001-of-00002.safetensors",
                "model.fp16-00002-of-00002.safetensors",
                "model.safetensors.index.fp16.json",
            ],
        ),
    ],
)
def test_another_stem(tmp_path: Path, stem: str, size: int | None, written: list[str]) -> None:
    folder = saved(tmp_path / "in", "consolidated.00.safetensors")
    statex.convert(folder, f"{tmp_path}/out/", NOTHING, stem=stem, shard_size=size)
    assert names(tmp_path / "out") == written
    assert torch.equal(load_file(tmp_path / "out" / written[0])["a.weight"], STATE["a.weight"])


@pytest.mark.parametrize(
    "stem", ["", "a/b", ".hidden", "..", "a\0b", "model.safetensors", "model-00001-of-00002", "model.bin.index"]
)
def test_stems_that_cannot_be_one(tmp_path: Path, stem: str) -> None:
    folder = saved(tmp_path / "in", "model.safetensors")
    with pytest.raises(StatexError, match="SX645"):
        statex.convert(folder, f"{tmp_path}/out/", NOTHING, stem=stem)
    assert names(tmp_path) == ["in"]


def test_a_stem_is_of_a_folder(tmp_path: Path) -> None:
    folder = saved(tmp_path / "in", "model.safetensors")
    with pytest.raises(StatexError, match="SX618"):
        statex.convert(folder, tmp_path / "out.pth", NOTHING, stem="model")
    with pytest.raises(StatexError, match="SX613"):
        statex.convert(folder, f"{tmp_path}/out/", NOTHING, stem="model", format="dcp")


# --- what may be replaced ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("stem", ["model", "diffusion_pytorch_model.fp16", "my.model"])
@pytest.mark.parametrize("sizes", [(None, 150), (150, None), (150, 60)])
def test_a_set_of_the_same_stem_is_replaced(tmp_path: Path, stem: str, sizes: tuple[int | None, int | None]) -> None:
    folder = saved(tmp_path / "in", f"{stem}.safetensors")
    statex.convert(folder, f"{tmp_path}/out/", NOTHING, shard_size=sizes[0])
    statex.convert(folder, f"{tmp_path}/out/", "drop b.weight", shard_size=sizes[1], force=True)
    assert list(statex.read_header(tmp_path / "out").entries) == ["a.weight"]
    assert names(tmp_path / "out") == [f"{stem}.safetensors"]


def test_a_set_in_the_other_format_is_replaced(tmp_path: Path) -> None:
    folder = saved(tmp_path / "in", "model.safetensors")
    statex.convert(folder, f"{tmp_path}/out/", NOTHING, format="torch", shard_size=150)
    statex.convert(folder, f"{tmp_path}/out/", NOTHING, force=True)
    assert names(tmp_path / "out") == ["model.safetensors"]


@pytest.mark.parametrize(
    "other",
    [
        "model.fp16.safetensors",
        "adapter_model.safetensors",
        "model.fp16-00001-of-00002.safetensors",
        "text-00001-of-00002.safetensors",
        "model.safetensors.index.fp16.json",
    ],
)
def test_a_set_of_another_stem_is_not_lost(tmp_path: Path, other: str) -> None:
    folder = saved(tmp_path / "in", "model.safetensors")
    statex.convert(folder, f"{tmp_path}/out/", NOTHING)
    (tmp_path / "out" / other).write_bytes(b"mine")
    with pytest.raises(StatexError) as caught:
        statex.convert(folder, f"{tmp_path}/out/", NOTHING, force=True)
    assert caught.value.diagnostics[0].code.id == "SX610"
    assert other in str(caught.value)
    assert (tmp_path / "out" / other).read_bytes() == b"mine"


@pytest.mark.parametrize(
    "others",
    [
        ["pytorch_model.bin"],
        ["pytorch_model-00001-of-00002.bin", "pytorch_model-00002-of-00002.bin", "pytorch_model.bin.index.json"],
        ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"],
        [".metadata", "__0_0.distcp"],
    ],
)
@pytest.mark.parametrize("format", [None, "torch"])
@pytest.mark.parametrize("in_place", [True, False])
def test_a_second_set_of_the_same_stem_is_not_lost(
    tmp_path: Path, others: list[str], format: str | None, in_place: bool
) -> None:
    folder = saved(tmp_path / "in", "model.safetensors")
    source = folder if in_place else saved(tmp_path / "other", "model.safetensors")
    for other in others:
        (folder / other).write_bytes(b"mine")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(StatexError) as caught:
        statex.convert(source, f"{folder}/", "rename a.weight -> c", force=True, copy_files=True, format=format)
    assert caught.value.diagnostics[0].code.id == "SX610"
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_of_two_sets_the_one_that_is_not_written_is_named(tmp_path: Path) -> None:
    folder = saved(tmp_path / "in", "model.safetensors")
    torch.save({"a.weight": torch.ones(2)}, folder / "pytorch_model.bin")
    with pytest.raises(StatexError, match=r"would be lost: pytorch_model\.bin\n"):
        statex.convert(folder, f"{folder}/", NOTHING, force=True)
    with pytest.raises(StatexError, match=r"would be lost: model\.safetensors\n"):
        statex.convert(folder / "pytorch_model.bin", f"{folder}/", NOTHING, force=True)


def test_an_index_over_the_only_file_goes_with_it(tmp_path: Path) -> None:
    folder = saved(tmp_path / "in", "model.safetensors")
    weights = dict.fromkeys(STATE, "model.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weights}))
    statex.convert(folder, f"{folder}/", "drop b.weight", force=True)
    assert names(folder) == ["model.safetensors"]
