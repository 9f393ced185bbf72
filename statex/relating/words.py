"""The words of keys, as those who name modules use them: `wq`, `q_proj` and `query` are one."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping

from statex.core.numerals import NUMBERED

_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")

_MEANT = (
    "q query queries", "k key keys", "v value values", "o out output",
    "embed embedding embeddings emb embedder", "tok token tokens word words", "pos position positions",
    "norm ln layernorm rmsnorm batchnorm bn groupnorm", "attn attention mha",
    "mlp ffn ff feedforward intermediate", "layers layer blocks block h resblocks", "conv convolution",
    "head classifier lm", "weight gamma kernel scale", "bias beta", "up fc", "gate router",
    "proj projection project dense linear", "post after", "pre before input in", "expert experts",
    "enc encoder", "dec decoder", "cross encdec", "final last", "downsample shortcut",
)  # fmt: skip
"""Words that stand for one another, each line by its first one."""
_SAME = {word: line.split()[0] for line in _MEANT for word in line.split()}
_WHOLE = {
    "wte": ("tok", "embed"), "wpe": ("pos", "embed"), "wqkv": ("qkv",), "wq": ("q",), "wk": ("k",), "wv": ("v",),
    "wo": ("o",), "fc1": ("up",), "fc2": ("down",), "w1": ("gate",), "w2": ("down",), "w3": ("up",),
    "ln1": ("norm", "1"), "lin1": ("up",), "lin2": ("down",), "linear1": ("up",), "linear2": ("down",),
    "ln_f": ("final", "norm"), "lm_head": ("head",), "feed_forward": ("mlp",), "tok_embeddings": ("tok", "embed"),
    "self_attn": ("attn",), "self_attention": ("attn",), "selfattention": ("attn",), "c_attn": ("attn", "qkv"),
    "c_fc": ("up",), "c_proj": ("down", "o"), "in_proj_weight": ("qkv", "weight"), "in_proj_bias": ("qkv", "bias"),
    "in_proj": ("qkv",), "out_proj": ("o", "proj"), "query_key_value": ("qkv",), "gate_up_proj": ("gate", "up"),
    "dense_h_to_4h": ("up",), "dense_4h_to_h": ("down",), "post_attention_layernorm": ("norm", "2"),
    "input_layernorm": ("norm", "1"), "attention_norm": ("norm", "1"), "ffn_norm": ("norm", "2"),
    "encdecattention": ("cross", "attn"), "encoder_attn": ("cross", "attn"), "crossattention": ("cross", "attn"),
}  # fmt: skip
"""Segments that are read as a whole."""


def class_of(key: str) -> str:
    """Return a key with `#` for the numbers that are whole segments."""
    return NUMBERED.sub("#", key)


def numbers_in(key: str) -> tuple[int, ...]:
    """Return the numbers of a key that are whole segments."""
    return tuple(map(int, NUMBERED.findall(key)))


def between_numbers(key: str) -> list[str]:
    """Return the texts before, between and behind the numbers of a key that are whole segments."""
    return NUMBERED.split(key)


def words_of(name: str) -> tuple[str, ...]:
    """Return the words of a class of keys, each as the one that stands for all of its meaning."""
    found: list[str] = []
    for segment in name.split("."):
        whole = _WHOLE.get(segment.lower())
        words = whole if whole is not None else [word.lower() for word in _WORD.findall(segment)]
        found += [_SAME.get(word, word) for word in words]
    return tuple(found)


class WordWeights:
    """How much words say: the fewer classes have one, the more."""

    def __init__(self, classes: Iterable[str]) -> None:
        self._words = {name: Counter(words_of(name)) for name in classes}
        seen = Counter(word for words in self._words.values() for word in words)
        self._weights = {word: math.log(1 + len(self._words) / count) for word, count in seen.items()}
        self._norms = {name: math.sqrt(self._dot(words, words)) or 1.0 for name, words in self._words.items()}

    def _dot(self, one: Mapping[str, int], other: Mapping[str, int]) -> float:
        few, many = (one, other) if len(one) <= len(other) else (other, one)
        return sum(self._weights[word] ** 2 * min(count, many[word]) for word, count in few.items() if word in many)

    def alike(self, one: str, other: str) -> float:
        """Return how alike the words of two classes are, from 0 to 1."""
        return self._dot(self._words[one], self._words[other]) / (self._norms[one] * self._norms[other])
