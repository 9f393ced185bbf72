"""transformers' LlamaForCausalLM is the reference for names and outputs."""

from pathlib import Path

import pytest
import torch
from conftest import Run, assert_same_state
from llama import hf
from llama.meta_llama import Transformer
from safetensors.torch import load_file

HERE = Path(__file__).parent
SIZES = ("-D", f"heads={hf.HEADS}", "-D", f"kv_heads={hf.KV_HEADS}")


def permute(weight: torch.Tensor, heads: int) -> torch.Tensor:
    """Re-order as transformers' conversion of Llama does, in torch."""
    rows, columns = weight.shape
    return weight.view(heads, rows // heads // 2, 2, columns).transpose(1, 2).reshape(rows, columns)


@pytest.fixture
def source(tmp_path: Path) -> Transformer:
    torch.manual_seed(0)
    model = Transformer(hf.VOCAB, hf.DIM, hf.HIDDEN, hf.LAYERS, hf.HEADS, hf.KV_HEADS).eval()
    # Meta's files hold the frequencies too, which no model loads.
    torch.save({**model.state_dict(), "rope.freqs": torch.ones(4)}, tmp_path / "in.pth")
    return model


def test_names_bits_and_outputs(source: Transformer, statex: Run, tmp_path: Path) -> None:
    statex("apply", HERE / "rules.sx", "in.pth", "out.safetensors", *SIZES, "--target", "hf:model")
    state = load_file(tmp_path / "out.safetensors")
    meta = source.state_dict()
    for layer in range(hf.LAYERS):
        ours, theirs = f"model.layers.{layer}.self_attn", f"layers.{layer}.attention"
        assert torch.equal(state[f"{ours}.q_proj.weight"], permute(meta[f"{theirs}.wq.weight"], hf.HEADS))
        assert torch.equal(state[f"{ours}.k_proj.weight"], permute(meta[f"{theirs}.wk.weight"], hf.KV_HEADS))
        assert torch.equal(state[f"{ours}.v_proj.weight"], meta[f"{theirs}.wv.weight"])
    target = hf.model().eval()
    assert str(target.load_state_dict(state)) == "<All keys matched successfully>"
    assert_same_state(target.state_dict(), state)
    tokens = torch.randint(0, hf.VOCAB, (2, 17))
    with torch.no_grad():
        torch.testing.assert_close(target(tokens).logits, source(tokens))


def test_the_wrong_number_of_key_heads_is_seen_in_the_outputs(source: Transformer, statex: Run, tmp_path: Path) -> None:
    statex("apply", HERE / "rules.sx", "in.pth", "out.safetensors", "-D", f"heads={hf.HEADS}", "--target", "hf:model")
    target = hf.model().eval()
    target.load_state_dict(load_file(tmp_path / "out.safetensors"))
    tokens = torch.randint(0, hf.VOCAB, (2, 17))
    with torch.no_grad():
        assert not torch.allclose(target(tokens).logits, source(tokens), atol=1e-3)
