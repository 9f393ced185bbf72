"""Weights that are pruned by a mask beside them: `weight_orig` and `weight_mask` of torch.nn.utils.prune."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from statex.grammar import factory as make
from statex.grammar import tree
from statex.inferring.evidence import Evidence
from statex.inferring.explanations.pairs import key_of_both
from statex.inferring.formulas import Formula, ReadTensor, slot


def masked(evidence: Evidence, key: str) -> Iterator[Formula]:
    """Yield products of an old tensor and a mask, of zeros and ones, in the same module.

    The mask is used up, unless it is a new tensor itself.
    """
    for base in evidence.bases(key):
        kind = evidence.old.kinds[base]
        for mask in evidence.beside(base):
            other = evidence.old.kinds[mask]
            if other.shape != kind.shape or not _is_mask(evidence.tensor(ReadTensor(mask))):
                continue
            value = _product(kind.dtype.short, other.dtype is kind.dtype)
            operands = (ReadTensor(base), ReadTensor(mask))
            if mask in evidence.free:
                yield Formula(value, operands, names=("w", "mask"), merged=key_of_both(base, mask, key))
            else:
                yield Formula(value, operands)


def _is_mask(tensor: Any) -> bool:
    import torch

    return tensor.dtype is torch.bool or bool(((tensor == 0) | (tensor == 1)).all())


def _product(dtype: str, same: bool) -> tree.Expr:
    mask = slot(1) if same else make.call("cast", slot(1), make.name(dtype))
    return make.binary(slot(0), "*", mask)
