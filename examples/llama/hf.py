"""The target: a small Llama of transformers."""

from transformers import LlamaConfig, LlamaForCausalLM

HEADS, KV_HEADS, DIM, HIDDEN, LAYERS, VOCAB = 4, 2, 32, 48, 3, 61


def model() -> LlamaForCausalLM:
    """Return an untrained model of the size of this example."""
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=VOCAB,
            hidden_size=DIM,
            intermediate_size=HIDDEN,
            num_hidden_layers=LAYERS,
            num_attention_heads=HEADS,
            num_key_value_heads=KV_HEADS,
            max_position_embeddings=64,
            rms_norm_eps=1e-5,
            tie_word_embeddings=False,
            attn_implementation="eager",
        )
    )
