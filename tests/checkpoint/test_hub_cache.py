"""Snapshots in the cache of the Hugging Face hub, which are links into a folder of blobs; and other links."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from transformers import GPT2Config, GPT2LMHeadModel

import statex
from statex import StatexError
from statex.checkpoint import copied_into, other_files

SOME = torch.arange(12).reshape(2, 6)
REVISION = "0123456789abcdef0123456789abcdef01234567"
NOTHING = ""


def cached(cache: Path, saved: Path, below: str = "", *, shared: bool = False) -> Path:
    """Move the files of a folder into a cache as the hub lays it out; return the snapshot's folder.

    With `shared`, blobs are links to a store that several models share, as files of the hub's Xet storage are.
    """
    model = cache / "models--org--tiny"
    blobs, snapshot = model / "blobs", model / "snapshots" / REVISION / below
    blobs.mkdir(parents=True)
    snapshot.mkdir(parents=True)
    (model / "refs").mkdir()
    (model / "refs" / "main").write_text(REVISION)
    for path in list(saved.iterdir()):
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        blob = blobs / digest[:40]
        if shared:
            store = cache / "blobs" / digest[:2] / digest
            store.parent.mkdir(parents=True, exist_ok=True)
            path.rename(store)
            blob.symlink_to(os.path.relpath(store, blobs))
        else:
            path.rename(blob)
        (snapshot / path.name).symlink_to(os.path.relpath(blob, snapshot))
    return snapshot


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    config = GPT2Config(n_embd=32, n_layer=2, n_head=2, vocab_size=50, n_positions=16, bos_token_id=0, eos_token_id=1)
    GPT2LMHeadModel(config).save_pretrained(tmp_path / "saved", max_shard_size="20KB")
    (tmp_path / "saved" / "tokenizer.json").write_text("{}")
    return tmp_path / "saved"


def small(folder: Path) -> Path:
    folder.mkdir()
    save_file({"a": torch.ones(2)}, folder / "model.safetensors")
    (folder / "config.json").write_text('{"a": 1}')
    return folder


@pytest.mark.parametrize("shared", [False, True])
def test_a_sharded_snapshot_is_converted_with_all_its_files(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shared: bool
) -> None:
    names = {path.name for path in saved.iterdir()}
    snapshot = cached(tmp_path / "hub", saved, shared=shared)
    # The cache is one: transformers loads the model from it by its name.
    wanted = GPT2LMHeadModel.from_pretrained("org/tiny", cache_dir=tmp_path / "hub", local_files_only=True).eval()
    done = statex.convert(snapshot, f"{tmp_path}/out/", "set **.ln_1.bias = it + 1", copy_files=True)
    assert done.left_files == ()
    assert done.warnings == ()
    out = {path.name for path in (tmp_path / "out").iterdir()}
    assert {name for name in names if not name.startswith("model")} <= out
    assert not any(path.is_symlink() for path in (tmp_path / "out").iterdir())
    again = GPT2LMHeadModel.from_pretrained(tmp_path / "out").eval()
    with torch.no_grad():
        for block in wanted.transformer.h:
            block.ln_1.bias += 1
        assert torch.equal(again(SOME).logits, wanted(SOME).logits)


def test_the_plan_lists_weights_that_are_read_through_links(saved: Path, tmp_path: Path) -> None:
    snapshot = cached(tmp_path / "hub", saved)
    plan = statex.compile(NOTHING).plan(snapshot)
    found = {one["path"]: one["from"] for one in plan.to_dict()["linked"]}
    read = [path for path in snapshot.iterdir() if path.name.startswith("model")]
    assert found == {str(path): os.path.realpath(path) for path in read}
    lines = [line for line in str(plan).splitlines() if line.startswith("  reads through a link")]
    assert len(lines) == 5
    first = f"{snapshot}/model.safetensors.index.json"
    assert lines[0] == f"  reads through a link: {first} -> {os.path.realpath(first)}"
    assert lines[-1] == f"  reads through a link: {len(found) - 4} more"


def test_links_within_a_folder_and_files_named_by_hand_are_not_listed(tmp_path: Path) -> None:
    folder = small(tmp_path / "in")
    (folder / "model.safetensors").rename(folder / "weights")
    (folder / "model.safetensors").symlink_to("weights")
    (tmp_path / "link.safetensors").symlink_to("in/weights")
    assert statex.compile(NOTHING).plan(folder).linked == {}
    assert statex.compile(NOTHING).plan(tmp_path / "link.safetensors").linked == {}
    further = statex.compile("input ft\nset a = it + ft::a").plan(folder, inputs={"ft": tmp_path / "in"})
    assert further.linked == {}


def test_further_inputs_are_listed_too(saved: Path, tmp_path: Path) -> None:
    snapshot = cached(tmp_path / "hub", small(tmp_path / "small"))
    plan = statex.compile("input ft\nset a = it + ft::a").plan({"a": torch.ones(2)}, inputs={"ft": snapshot})
    assert list(plan.linked) == [str(snapshot / "model.safetensors")]


def test_a_model_in_a_folder_of_a_snapshot(tmp_path: Path) -> None:
    snapshot = cached(tmp_path / "hub", small(tmp_path / "saved"), "unet")
    done = statex.convert(snapshot, f"{tmp_path}/out/", NOTHING, copy_files=True)
    assert done.left_files == ()
    assert (tmp_path / "out" / "config.json").read_text() == '{"a": 1}'


def test_shards_are_read_through_links_to_anywhere(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    save_file({"a": torch.ones(2)}, tmp_path / "elsewhere")
    (folder / "one.safetensors").symlink_to("../elsewhere")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": "one.safetensors"}}))
    statex.convert(folder, tmp_path / "out.safetensors", NOTHING)
    assert list(statex.read_header(tmp_path / "out.safetensors").entries) == ["a"]


# --- links that are not followed when files are copied ------------------------------------------------------------


def _outside(snapshot: Path, secret: Path) -> None:
    (snapshot / "extra.json").symlink_to(secret)


def _blob_is_a_link(snapshot: Path, secret: Path) -> None:
    (snapshot.parent.parent / "blobs" / "ff").symlink_to(secret)
    (snapshot / "extra.json").symlink_to("../../blobs/ff")


def _below_the_blobs(snapshot: Path, secret: Path) -> None:
    (snapshot.parent.parent / "blobs" / "more").mkdir()
    secret.rename(snapshot.parent.parent / "blobs" / "more" / "ff")
    (snapshot / "extra.json").symlink_to("../../blobs/more/ff")


def _blobs_are_elsewhere(snapshot: Path, secret: Path) -> None:
    blobs = snapshot.parent.parent / "blobs"
    for path in snapshot.iterdir():
        os.replace(os.path.realpath(path), path)
    blobs.rmdir()
    blobs.symlink_to(secret.parent)
    (snapshot / "extra.json").symlink_to(f"../../blobs/{secret.name}")


def _of_another_model(snapshot: Path, secret: Path) -> None:
    other = snapshot.parent.parent.parent / "models--org--private" / "blobs"
    other.mkdir(parents=True)
    secret.rename(other / "ff")
    (snapshot / "extra.json").symlink_to("../../../models--org--private/blobs/ff")


def _no_store(snapshot: Path, secret: Path) -> None:
    store = snapshot.parent.parent.parent / "blobs" / "ff"
    store.mkdir(parents=True)
    secret.rename(store / "id_rsa")
    (snapshot.parent.parent / "blobs" / "ff").symlink_to("../../blobs/ff/id_rsa")
    (snapshot / "extra.json").symlink_to("../../blobs/ff")


def _past_the_blobs(snapshot: Path, secret: Path) -> None:
    digest = "ab" * 32
    store = snapshot.parent.parent.parent / "blobs" / "ab"
    store.mkdir(parents=True)
    secret.rename(store / digest)
    (snapshot / "extra.json").symlink_to(f"../../../blobs/ab/{digest}")


def _a_pipe(snapshot: Path, secret: Path) -> None:
    os.mkfifo(snapshot.parent.parent / "blobs" / "ff")
    (snapshot / "extra.json").symlink_to("../../blobs/ff")


def _nowhere(snapshot: Path, secret: Path) -> None:
    (snapshot / "extra.json").symlink_to("../../blobs/none")


def _a_loop(snapshot: Path, secret: Path) -> None:
    (snapshot.parent.parent / "blobs" / "ff").symlink_to(f"../snapshots/{snapshot.name}/extra.json")
    (snapshot / "extra.json").symlink_to("../../blobs/ff")


@pytest.mark.parametrize(
    "plant",
    [
        _outside,
        _blob_is_a_link,
        _below_the_blobs,
        _blobs_are_elsewhere,
        _of_another_model,
        _no_store,
        _past_the_blobs,
        _a_pipe,
        _nowhere,
        _a_loop,
    ],
)
def test_links_to_anywhere_else_stay_behind(tmp_path: Path, plant: Callable[[Path, Path], None]) -> None:
    snapshot = cached(tmp_path / "hub", small(tmp_path / "saved"))
    secret = tmp_path / "home" / "secret"
    secret.parent.mkdir()
    secret.write_text("password")
    plant(snapshot, secret)
    done = statex.convert(snapshot, f"{tmp_path}/out/", NOTHING, copy_files=True)
    assert done.left_files == ("extra.json@",)
    assert [warning.code.id for warning in done.warnings] == ["SX908"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["config.json", "model.safetensors"]


@pytest.mark.parametrize("model", ["tiny", "models-tiny", "datasets--tiny"])
def test_links_of_folders_that_are_no_snapshots_stay_behind(tmp_path: Path, model: str) -> None:
    cached(tmp_path / "hub", small(tmp_path / "saved"))
    (tmp_path / "hub" / "models--org--tiny").rename(tmp_path / "hub" / model)
    done = statex.convert(
        tmp_path / "hub" / model / "snapshots" / REVISION, f"{tmp_path}/out/", NOTHING, copy_files=True
    )
    assert done.left_files == ("config.json@",)


def test_a_snapshot_that_is_reached_by_a_link(tmp_path: Path) -> None:
    snapshot = cached(tmp_path / "hub", small(tmp_path / "saved"))
    (tmp_path / "latest").symlink_to(snapshot)
    done = statex.convert(tmp_path / "latest", f"{tmp_path}/out/", NOTHING, copy_files=True)
    assert done.left_files == ()


def test_links_inside_a_folder_are_followed(tmp_path: Path) -> None:
    folder = small(tmp_path / "in")
    (folder / "sub").mkdir()
    (folder / "copy.json").symlink_to("config.json")
    (folder / "again").symlink_to("sub")
    (folder / "nothing.json").symlink_to("none.json")
    (folder / "loop.json").symlink_to("loop.json")
    os.mkfifo(folder / "pipe")
    done = statex.convert(folder, f"{tmp_path}/out/", NOTHING, copy_files=True)
    assert done.left_files == ("again/", "loop.json@", "nothing.json@", "sub/")
    assert (tmp_path / "out" / "copy.json").read_text() == '{"a": 1}'
    assert not (tmp_path / "out" / "copy.json").is_symlink()


# --- what changes between the look and the copy -------------------------------------------------------------------


def _becomes_a_link(blob: Path, secret: Path) -> None:
    blob.unlink()
    blob.symlink_to(secret)


def _becomes_another(blob: Path, secret: Path) -> None:
    secret.rename(blob)


def _grows(blob: Path, secret: Path) -> None:
    blob.write_text(blob.read_text() + " ")


def _goes(blob: Path, secret: Path) -> None:
    blob.unlink()


def _becomes_a_pipe(blob: Path, secret: Path) -> None:
    blob.unlink()
    os.mkfifo(blob)


@pytest.mark.parametrize("change", [_becomes_a_link, _becomes_another, _grows, _goes, _becomes_a_pipe])
def test_a_file_is_copied_only_if_it_is_the_one_that_was_looked_at(
    tmp_path: Path, change: Callable[[Path, Path], None]
) -> None:
    snapshot = cached(tmp_path / "hub", small(tmp_path / "saved"))
    (tmp_path / "secret").write_text("password")
    found, rest = other_files(snapshot)
    assert ([one.path.name for one in found], rest) == (["config.json"], [])
    change(Path(os.path.realpath(snapshot / "config.json")), tmp_path / "secret")
    (tmp_path / "out").mkdir()
    with pytest.raises(StatexError) as caught:
        copied_into(tmp_path / "out", found[0])
    assert [one.code.id for one in caught.value.diagnostics] == ["SX609"]
    assert not any(path.read_text() for path in (tmp_path / "out").iterdir())
