"""A small GPT-2 of transformers, and the same with nn.Linear in place of Conv1D."""

from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel
from transformers.pytorch_utils import Conv1D


def gpt2() -> GPT2LMHeadModel:
    """Return an untrained GPT-2 of the size of this example."""
    config = GPT2Config(vocab_size=50, n_embd=16, n_layer=2, n_head=2, n_positions=32, bos_token_id=0, eos_token_id=0)
    return GPT2LMHeadModel(config)


def linear_gpt2() -> GPT2LMHeadModel:
    """Return the same model with every Conv1D replaced by a Linear of the same shape."""
    model = gpt2()
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, Conv1D):
                setattr(module, name, nn.Linear(child.weight.shape[0], child.weight.shape[1]))
    return model
