"""Folders that diffusers saved: converted, they are found and loaded by it again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch

import statex

CAST = "set ** = cast(bf16) where is_floating_point(it)"


def unet() -> Any:
    torch.manual_seed(0)
    return diffusers.UNet2DModel(
        sample_size=8,
        in_channels=1,
        out_channels=1,
        layers_per_block=1,
        block_out_channels=(8, 8),
        norm_num_groups=4,
        down_block_types=("DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D"),
    ).eval()


def vae() -> Any:
    torch.manual_seed(0)
    return diffusers.AutoencoderKL(block_out_channels=(8,), norm_num_groups=4, latent_channels=2, sample_size=8).eval()


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.mark.parametrize("build", [unet, vae])
@pytest.mark.parametrize("variant", [None, "fp16"])
@pytest.mark.parametrize("size", ["1GB", "20KB"])
def test_a_model_keeps_its_names_and_loads(tmp_path: Path, build: Any, variant: str | None, size: str) -> None:
    model = build()
    model.save_pretrained(tmp_path / "in", variant=variant, max_shard_size=size)
    limit = 5_000 if size == "20KB" else None
    done = statex.convert(tmp_path / "in", f"{tmp_path}/out/", CAST, shard_size=limit, copy_files=True)
    assert done.warnings == ()
    saved, written = names(tmp_path / "in"), names(tmp_path / "out")
    if size == "1GB":
        assert written == saved
    index = f"diffusion_pytorch_model.safetensors.index{f'.{variant}' if variant else ''}.json"
    assert (index in saved, index in written) == ((True, True) if size == "20KB" else (False, False))
    if size == "20KB":
        said = json.loads((tmp_path / "out" / index).read_text())
        assert set(said["weight_map"].values()) == written - {index, "config.json"}
        assert said["metadata"]["total_size"] == sum(t.numel() * 2 for t in model.state_dict().values())
    again = type(model).from_pretrained(tmp_path / "out", variant=variant, torch_dtype=torch.bfloat16)
    assert again.dtype == torch.bfloat16
    wanted = model.to(torch.bfloat16).state_dict()
    assert all(torch.equal(tensor, wanted[key]) for key, tensor in again.state_dict().items())
    assert again.state_dict().keys() == wanted.keys()


def test_torch_files_become_safetensors_and_back(tmp_path: Path) -> None:
    model = unet()
    model.save_pretrained(tmp_path / "in", safe_serialization=False)
    assert names(tmp_path / "in") == {"config.json", "diffusion_pytorch_model.bin"}
    statex.convert(tmp_path / "in", f"{tmp_path}/out/", "", format="safetensors", copy_files=True)
    assert names(tmp_path / "out") == {"config.json", "diffusion_pytorch_model.safetensors"}
    statex.convert(tmp_path / "out", f"{tmp_path}/back/", "", format="torch", copy_files=True)
    assert names(tmp_path / "back") == names(tmp_path / "in")
    for folder in ("out", "back"):
        again = diffusers.UNet2DModel.from_pretrained(tmp_path / folder, use_safetensors=folder == "out")
        assert all(torch.equal(tensor, model.state_dict()[key]) for key, tensor in again.state_dict().items())
