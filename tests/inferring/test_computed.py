"""New tensors that torch computed: pruned, weight-normed, folded, resampled; and some that were not quite so."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from torch import nn
from torch.nn.utils import fusion, parametrizations, parametrize, prune

import statex
from tests.inferring.models import State, randomised
from tests.inferring.test_corpus import equal


def taken(module: nn.Module) -> State:
    """Return the state of a module as it is now."""
    return {key: tensor.detach().clone() for key, tensor in module.state_dict().items()}


def proved(old: State, new: State) -> str:
    """Return the rules for what a state has become: they are proved, and `apply` makes the same of it."""
    found = statex.infer(old, new)
    assert found.proved, (found.rules, found.errors, found.unexplained)
    assert equal(statex.compile(found.rules).apply(old), new)
    return found.rules


def not_proved(old: State, new: State, *keys: str) -> statex.Inferred:
    """Return what is found for a state that nothing explains wholly: these keys are left."""
    found = statex.infer(old, new)
    assert (found.proved, sorted(found.unexplained)) == (False, sorted(keys)), found.rules
    return found


def flipped(tensor: torch.Tensor) -> torch.Tensor:
    """Return a tensor with another last bit of its first number that is not 0."""
    found = tensor.clone()
    flat = found.view(-1)
    at = int(flat.nonzero()[0])
    flat.view(torch.int32)[at] ^= 1
    return found


def layers(make: Callable[[], nn.Module], count: int = 3, seed: int = 0) -> nn.Sequential:
    """Return several modules with numbers of their own."""
    found = nn.Sequential(*[make() for _ in range(count)])
    found.load_state_dict(randomised(found.state_dict(), seed))
    return found


# --- masks -------------------------------------------------------------------------------------------------------


def pruned() -> nn.Sequential:
    """Return a network as torch.nn.utils.prune leaves it, with masks beside the weights; one masks nothing."""
    torch.manual_seed(0)
    module = layers(lambda: nn.Sequential(nn.Linear(8, 12), nn.ReLU(), nn.Linear(12, 8)))
    for number, linear in enumerate(one for one in module.modules() if isinstance(one, nn.Linear)):
        prune.random_unstructured(linear, "weight", 0.4 if number else 0.0)
    return module


def test_masks_of_pruning_are_multiplied_in() -> None:
    module = pruned()
    old = taken(module)
    for linear in module.modules():
        if isinstance(linear, nn.Linear):
            prune.remove(linear, "weight")
    new = taken(module)
    merge = "merge {m:**}.weight_orig as w, {m}.weight_mask as mask -> {m}.weight = w * mask  # 6 keys\n"
    assert proved(old, new) == merge
    renamed = {f"encoder.{key}": tensor for key, tensor in new.items()}
    assert proved(old, renamed).startswith(merge)


def test_masks_that_stay_are_not_used_up() -> None:
    module = pruned()
    old = taken(module)
    masks = {key: tensor for key, tensor in old.items() if key.endswith("mask")}
    new = {key.replace("_orig", ""): old[key] for key in old if key not in masks} | masks
    new |= {
        key.replace("_orig", ""): tensor * old[key.replace("orig", "mask")]
        for key, tensor in old.items()
        if key.endswith("_orig")
    }
    assert "set {m:**}.weight_orig = it * {m}.weight_mask  # 6 keys" in proved(old, new)


def test_masks_of_bools() -> None:
    torch.manual_seed(0)
    module = layers(lambda: nn.Linear(5, 6))
    old = taken(module)
    masks = {f"{i}.weight_keep": torch.rand(6, 5) > 0.5 for i in range(3)}
    new = old | {f"{i}.weight": old[f"{i}.weight"] * masks[f"{i}.weight_keep"] for i in range(3)}
    assert "w * cast(mask, f32)" in proved(old | masks, new)


def test_a_mask_that_was_changed_afterwards_proves_nothing() -> None:
    module = pruned()
    old = taken(module)
    new = {key.replace("_orig", ""): tensor.clone() for key, tensor in old.items() if "mask" not in key}
    for key in [key for key in old if key.endswith("_orig")]:
        new[key.replace("_orig", "")] *= old[key.replace("orig", "mask")]
    new["1.2.weight"] = flipped(new["1.2.weight"])
    not_proved(old, new, "1.2.weight")


# --- weight norm -------------------------------------------------------------------------------------------------


def with_dims(norm: Callable[..., nn.Module]) -> nn.Sequential:
    def make() -> nn.Module:
        return nn.Sequential(
            norm(nn.Conv1d(4, 6, 3)), norm(nn.Linear(6, 6), dim=1), norm(nn.ConvTranspose1d(6, 4, 3), dim=1)
        )

    return layers(make)


def old_style(module: nn.Module) -> None:
    torch.nn.utils.remove_weight_norm(module)


def new_style(module: nn.Module) -> None:
    parametrize.remove_parametrizations(module, "weight")


@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
@pytest.mark.parametrize(
    ("norm", "removed", "names"),
    [
        (torch.nn.utils.weight_norm, old_style, ("weight_g", "weight_v")),
        (
            parametrizations.weight_norm,
            new_style,
            ("parametrizations.weight.original0", "parametrizations.weight.original1"),
        ),
    ],
)
def test_weight_norms_are_removed(
    norm: Callable[..., nn.Module], removed: Callable[[nn.Module], None], names: tuple[str, str]
) -> None:
    module = with_dims(norm)
    old = taken(module)
    for part in module:
        for one in part:  # type: ignore[attr-defined]
            removed(one)
    new = taken(module)
    rules = proved(old, new)
    assert "weight_norm(v, g)" in rules
    assert "weight_norm(v, g, dim=1)" in rules
    assert "v * (g / reshape(norm(flatten(transpose(v, 0, 1), 1), dim=1), [1, -1, 1]))" in rules
    assert all(name in rules for name in names)
    new["1.0.weight"] = flipped(new["1.0.weight"])
    not_proved(old, new, "1.0.weight")


def test_a_length_of_another_module_is_not_taken() -> None:
    module = with_dims(parametrizations.weight_norm)
    old = taken(module)
    new = {key: tensor for key, tensor in old.items() if "parametrizations" not in key}
    v, g = (old[f"{i}.0.parametrizations.weight.original{n}"] for i, n in ((0, 1), (1, 0)))
    new["0.0.weight"] = torch._weight_norm(v, g, 0)
    not_proved(old, new, "0.0.weight")


# --- norms that are folded ---------------------------------------------------------------------------------------


class Block(nn.Module):
    """A block of a residual network, with a shortcut."""

    def __init__(self, affine: bool = True) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(4, 8, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(8, affine=affine)
        self.conv2 = nn.Conv2d(8, 8, 3)
        self.bn2 = nn.BatchNorm2d(8, eps=1e-3, affine=affine)
        self.downsample = nn.Sequential(nn.Conv2d(4, 8, 1, bias=False), nn.BatchNorm2d(8, affine=affine))


def network(affine: bool = True) -> nn.Sequential:
    """Return blocks whose norms have seen something."""
    found = layers(lambda: Block(affine)).eval()
    for one in found.modules():
        if isinstance(one, nn.BatchNorm2d):
            one.running_var.abs_().add_(0.1)  # type: ignore[union-attr, operator]
    return found


def folded(module: nn.Sequential) -> State:
    """Return the state of blocks whose norms are folded into their convolutions by torch."""
    for block in module:
        assert isinstance(block, Block)
        for n in ("1", "2"):
            conv, norm = getattr(block, f"conv{n}"), getattr(block, f"bn{n}")
            setattr(block, f"conv{n}", fusion.fuse_conv_bn_eval(conv, norm))
            delattr(block, f"bn{n}")
        block.downsample = nn.Sequential(fusion.fuse_conv_bn_eval(*block.downsample))  # type: ignore[arg-type]
    return taken(module)


@pytest.mark.parametrize("affine", [True, False])
def test_norms_are_folded_into_convolutions_by_torch(affine: bool) -> None:
    module = network(affine)
    old = taken(module)
    new = folded(module)
    rules = proved(old, new)
    assert "rsqrt" in rules
    assert "+ 0.001" in rules
    assert "only seen here" not in rules
    # One bit of one weight, and nothing else is explained.
    new["1.conv2.weight"] = flipped(new["1.conv2.weight"])
    not_proved(old, new, "1.conv2.weight")


def test_the_statistics_of_another_norm_prove_nothing() -> None:
    module = network()
    old = taken(module)
    new = folded(module)
    moved = old | {key: tensor + 0.5 for key, tensor in old.items() if key.endswith("running_var")}
    not_proved(moved, new, *new)


def test_norms_that_were_folded_by_hand() -> None:
    """As in re-parametrised networks: `gamma / sqrt(var + eps)`."""
    module = network()
    old = taken(module)
    new: State = {}
    for i in range(3):
        for conv, norm, eps in (
            ("conv1", "bn1", 1e-5), ("conv2", "bn2", 1e-3), ("downsample.0", "downsample.1", 1e-5)
        ):  # fmt: skip
            gamma, beta, mean, var = (old[f"{i}.{norm}.{t}"] for t in ("weight", "bias", "running_mean", "running_var"))
            std = (var + eps).sqrt()
            new[f"{i}.{conv}.weight"] = old[f"{i}.{conv}.weight"] * (gamma / std).reshape(-1, 1, 1, 1)
            if f"{i}.{conv}.bias" in old:
                new[f"{i}.{conv}.bias"] = (old[f"{i}.{conv}.bias"] - mean) * (gamma / std) + beta
            else:
                new[f"{i}.{conv}.bias"] = beta - mean * gamma / std
    rules = proved(old, new)
    assert "beta - mu * gamma / sqrt(var + 1e-05)" in rules


def test_norms_are_folded_into_linear_layers_and_transposed_convolutions() -> None:
    def make() -> nn.Module:
        linear, conv = nn.Linear(6, 8), nn.ConvTranspose2d(8, 6, 2)
        return nn.ModuleDict({"fc": linear, "norm": nn.BatchNorm1d(8), "up": conv, "out": nn.BatchNorm2d(6)})

    module = layers(make).eval()
    for one in module.modules():
        if isinstance(one, nn.BatchNorm1d | nn.BatchNorm2d):
            one.running_var.abs_().add_(0.1)  # type: ignore[union-attr, operator]
    old = taken(module)
    new: State = {}
    for i, part in enumerate(module):
        parts = part._modules
        fc = fusion.fuse_linear_bn_eval(parts["fc"], parts["norm"])  # type: ignore[type-var]
        up = fusion.fuse_conv_bn_eval(parts["up"], parts["out"], transpose=True)  # type: ignore[type-var]
        new |= {f"{i}.fc.{key}": tensor for key, tensor in taken(fc).items()}
        new |= {f"{i}.up.{key}": tensor for key, tensor in taken(up).items()}
    rules = proved(old, new)
    assert "[1, -1, 1, 1]" in rules
    assert "[-1, 1]" in rules


@pytest.mark.parametrize("seed", [1, 2])
def test_forms_that_hold_by_chance_are_not_mixed(seed: int) -> None:
    """Of two channels each, sums in several orders are often equal: the one that holds for all is meant."""
    module = layers(lambda: nn.ModuleDict({"conv": nn.Conv2d(2, 2, 1), "bn": nn.BatchNorm2d(2)}), 6, seed).eval()
    for one in module.modules():
        if isinstance(one, nn.BatchNorm2d):
            one.running_var.abs_().add_(0.1)  # type: ignore[union-attr, operator]
    old = taken(module)
    new: State = {}
    for i, part in enumerate(module):
        fused = fusion.fuse_conv_bn_eval(*part._modules.values())  # type: ignore[arg-type]
        new |= {f"{i}.conv.{key}": tensor for key, tensor in taken(fused).items()}
    rules = proved(old, new)
    assert (rules.count("set "), rules.count("merge ")) == (1, 1), rules


# --- grids -------------------------------------------------------------------------------------------------------


def as_timm_does(embedding: torch.Tensor, size: int, prefix: int, mode: str, antialias: bool) -> torch.Tensor:
    """Return position embeddings as `timm.layers.resample_abs_pos_embed` resamples them."""
    before, grid = embedding[:, :prefix], embedding[:, prefix:]
    side = int(grid.shape[1] ** 0.5)
    grid = grid.float().reshape(1, side, side, -1).permute(0, 3, 1, 2)
    grid = nn.functional.interpolate(grid, size=(size, size), mode=mode, antialias=antialias)
    grid = grid.permute(0, 2, 3, 1).reshape(1, -1, embedding.shape[-1]).to(embedding.dtype)
    return torch.cat([before, grid], dim=1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    ("prefix", "mode", "antialias", "size"),
    [(1, "bicubic", True, 9), (0, "bilinear", False, 5), (2, "bicubic", False, 10)],
)
def test_position_embeddings_are_resampled(
    prefix: int, mode: str, antialias: bool, size: int, dtype: torch.dtype
) -> None:
    torch.manual_seed(0)
    old = {
        "cls": torch.randn(8),
        "pos_embed": torch.randn(1, prefix + 49, 8).to(dtype),
        "head.weight": torch.randn(3, 8),
    }
    new = {f"vit.{key}": tensor for key, tensor in old.items()}
    new["vit.pos_embed"] = as_timm_does(old["pos_embed"], size, prefix, mode, antialias)
    rules = proved(old, new)
    assert f"interpolate([{size}, {size}], mode={mode}" in rules
    new["vit.pos_embed"][0, -1, -1] *= 1.01
    not_proved(old, new, "vit.pos_embed")


def test_tables_of_relative_positions_are_resampled_together() -> None:
    """As Swin's checkpoints are taken to another window: `[(2 h - 1) ** 2, heads]`."""
    torch.manual_seed(0)
    name = "layers.{}.attn.relative_position_bias_table"
    old = {name.format(i): torch.randn(49, 4) for i in range(3)}
    new = {
        key: nn.functional.interpolate(table.T.view(1, 4, 7, 7), size=(11, 11), mode="bicubic").view(4, 121).T
        for key, table in old.items()
    }
    rules = proved(old, {key: table.contiguous() for key, table in new.items()})
    assert len(rules.splitlines()) < 8
    assert rules.count("set") == 1


def test_grids_that_are_not_square_and_grids_as_they_are() -> None:
    torch.manual_seed(0)
    old = {"pos": torch.randn(1, 1 + 6 * 8, 8), "grid": torch.randn(1, 8, 6, 8), "last": torch.randn(1, 5, 5, 8)}
    sample = nn.functional.interpolate
    grid = sample(old["pos"][:, 1:].reshape(1, 6, 8, 8).permute(0, 3, 1, 2), (9, 12), mode="bilinear")
    new = {
        "pos": torch.cat([old["pos"][:, :1], grid.flatten(2).transpose(1, 2)], 1),
        "grid": sample(old["grid"], (12, 16), mode="bicubic", align_corners=True),
        "last": sample(old["last"].permute(0, 3, 1, 2), (7, 7), mode="bicubic").permute(0, 2, 3, 1).contiguous(),
    }
    assert proved(old, new).count("interpolate") == 3


# --- models of transformers --------------------------------------------------------------------------------------


def test_a_residual_network_of_transformers_is_folded() -> None:
    import transformers

    config = transformers.ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 12], depths=[2, 2], layer_type="basic", num_labels=3
    )
    module = transformers.ResNetForImageClassification(config).eval()
    module.load_state_dict(randomised(module.state_dict()))
    for one in module.modules():
        if isinstance(one, nn.BatchNorm2d):
            one.running_var.abs_().add_(0.1)  # type: ignore[union-attr, operator]
    old = taken(module)
    for one in list(module.modules()):
        if isinstance(getattr(one, "normalization", None), nn.BatchNorm2d):
            one.convolution = fusion.fuse_conv_bn_eval(one.convolution, one.normalization)  # type: ignore[type-var]
            one.normalization = nn.Identity()
    rules = proved(old, taken(module))
    assert (rules.count("set "), rules.count("merge ")) == (1, 1), rules
    assert "{m:**}.convolution.weight" in rules


def test_position_embeddings_of_transformers_for_another_size() -> None:
    from tests.inferring.models import model, random

    module = model("ViT")
    old = random("ViT")()
    module.load_state_dict(old)
    embeddings = module.embeddings
    patches = torch.empty(1, 1 + 8 * 6, 32)
    with torch.no_grad():
        positions = embeddings.interpolate_pos_encoding(patches, 32, 24)  # type: ignore[operator, union-attr]
    new = old | {"embeddings.position_embeddings": positions.contiguous()}
    rules = proved(old, new)
    assert "interpolate([8, 6], mode=bicubic)" in rules
    assert "it[:, :1]" in rules


def test_the_weight_norm_of_a_speech_model() -> None:
    import transformers

    small = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    convs = {"conv_dim": [8], "conv_kernel": [4], "conv_stride": [2], "num_feat_extract_layers": 1}
    positions = {"num_conv_pos_embeddings": 4, "num_conv_pos_embedding_groups": 2}
    module = transformers.Wav2Vec2Model(transformers.Wav2Vec2Config(**small, **convs, **positions))
    module.load_state_dict(randomised(module.state_dict()))
    old = taken(module)
    parametrize.remove_parametrizations(module.encoder.pos_conv_embed.conv, "weight")
    assert "weight_norm(v, g, dim=2)" in proved(old, taken(module))


# --- whatever it is ----------------------------------------------------------------------------------------------


def test_what_is_proved_is_equal_and_a_bit_too_many_is_not() -> None:
    seen: Counter[bool] = Counter()

    @settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(st.integers(0, 2**31), st.sampled_from((1, 3, 8)), st.sampled_from(("masks", "norms")), st.booleans())
    def holds(seed: int, count: int, what: str, is_changed: bool) -> None:
        torch.manual_seed(seed)
        if what == "masks":
            module = layers(lambda: nn.Linear(5, 9), count, seed)
            for linear in module:
                prune.random_unstructured(linear, "weight", 0.5)
            old = taken(module)
            for linear in module:
                prune.remove(linear, "weight")
        else:
            module = layers(lambda: parametrizations.weight_norm(nn.Linear(5, 9)), count, seed)
            old = taken(module)
            for linear in module:
                parametrize.remove_parametrizations(linear, "weight")
        new = taken(module)
        if is_changed:
            key = f"{seed % count}.weight"
            new[key] = flipped(new[key])
            not_proved(old, new, key)
        else:
            proved(old, new)
        seen[is_changed] += 1

    holds()
    assert min(seen[True], seen[False]) > 1
