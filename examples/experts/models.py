"""A small Mixtral of transformers with twelve experts."""

from transformers import MixtralConfig, MixtralForCausalLM

EXPERTS, LAYERS = 12, 2


def mixtral() -> MixtralForCausalLM:
    """Return an untrained Mixtral of the size of this example."""
    return MixtralForCausalLM(
        MixtralConfig(
            vocab_size=50,
            hidden_size=16,
            intermediate_size=24,
            num_hidden_layers=LAYERS,
            num_attention_heads=4,
            num_key_value_heads=2,
            num_local_experts=EXPERTS,
            num_experts_per_tok=2,
        )
    )
