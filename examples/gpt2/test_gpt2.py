"""transformers' GPT-2 is the source; equal outputs of the two models are the proof."""

from pathlib import Path

import torch
from conftest import Run
from gpt2.models import gpt2, linear_gpt2
from transformers.pytorch_utils import Conv1D

HERE = Path(__file__).parent


def test_transposed_and_equal_outputs(statex: Run, tmp_path: Path) -> None:
    torch.manual_seed(0)
    source = gpt2().eval()
    torch.save(source.state_dict(), tmp_path / "in.pth")
    statex("apply", HERE / "rules.sx", "in.pth", "out.pth", "--target", "models:linear_gpt2")
    state = torch.load(tmp_path / "out.pth", weights_only=True)
    before = source.state_dict()
    transposed = {f"{name}.weight" for name, module in source.named_modules() if isinstance(module, Conv1D)}
    assert len(transposed) == 8
    for key, tensor in state.items():
        assert torch.equal(tensor, before[key].T if key in transposed else before[key]), key
    assert state["lm_head.weight"].data_ptr() == state["transformer.wte.weight"].data_ptr()
    target = linear_gpt2().eval()
    assert str(target.load_state_dict(state)) == "<All keys matched successfully>"
    tokens = torch.randint(0, 50, (2, 11))
    with torch.no_grad():
        torch.testing.assert_close(target(tokens).logits, source(tokens).logits)
