"""A small Llama of transformers, as it is trained."""

from transformers import LlamaConfig, LlamaForCausalLM

VOCAB, SERVED = 61, 56


def llama() -> LlamaForCausalLM:
    """Return an untrained model of the size of this example."""
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=VOCAB,
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=3,
            num_attention_heads=4,
            num_key_value_heads=2,
            tie_word_embeddings=False,
        )
    )
