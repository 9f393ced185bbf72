"""The memory layout of results: as a file would hold them, for all later computations."""

from __future__ import annotations

from typing import Any

from statex.core.header import contiguous

_ALIGNED = 64
"""Bytes; libraries of linear algebra sum up in another order where a tensor begins elsewhere."""


def laid_out(tensor: Any) -> Any:
    """Return a tensor whose elements lie one after the other, from where memory may begin, with plain strides.

    It is the same tensor, or another view of it, where they do so already; else a copy.
    """
    import torch

    plain = tensor.resolve_conj().resolve_neg().contiguous()
    if plain.storage_offset() * plain.element_size() % _ALIGNED:
        plain = plain.clone(memory_format=torch.contiguous_format)
    strides = contiguous(tuple(plain.shape))
    # Where a length is 1, torch takes any stride for contiguous, and some operations do not.
    return plain if plain.stride() == strides else plain.as_strided(plain.shape, strides, plain.storage_offset())
