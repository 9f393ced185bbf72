"""Low-rank updates that adapters hold: `it + (b @ a) * k`, in the dtypes and layouts that libraries merge them in."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from statex.core.dtypes import DType
from statex.core.record import record
from statex.grammar import factory as make
from statex.grammar import tree
from statex.inferring.evidence import Evidence
from statex.inferring.explanations.weights import rounding, weights_of
from statex.inferring.formulas import Formula, ReadTensor, slot
from statex.inferring.sides import CheckpointSide

_DOWN_UP = (
    ("lora_A", "lora_B"),
    ("lora_down", "lora_up"),
    ("lora.down", "lora.up"),
    ("lora_embedding_A", "lora_embedding_B"),
)
"""What the two factors of a low-rank update are called: the one that is applied first, and the other."""
_TRIED = 4
"""So many pairs of factors, the most alike in names, are tried."""


@record
class _Pair:
    """Two factors: that which is applied first, and the other; `turned` if their product is to be transposed."""

    down: ReadTensor
    up: ReadTensor
    turned: bool = False


def low_rank_updates(evidence: Evidence, key: str) -> Iterator[Formula]:
    """Yield updates by the products of two matrices of an input that are named as adapters name them."""
    kind = evidence.new.kinds[key]
    if kind.ndim != 2 or not evidence.inputs:
        return
    pairs = evidence.once(_pairs).get(kind.shape, ())
    near = sorted(pairs, key=lambda one: -evidence.alike(one.down.key, key))[:_TRIED]
    for base in evidence.bases(key) if near else ():
        for pair in near:
            yield from _updates(evidence, key, ReadTensor(base), pair)


def _pairs(evidence: Evidence) -> Mapping[tuple[int, ...], Sequence[_Pair]]:
    """Return the factors of products of matrices by the shapes of these, also of those that are transposed."""
    found: defaultdict[tuple[int, ...], list[_Pair]] = defaultdict(list)
    for name, side in evidence.inputs.items():
        for key, other in _factors(side):
            made = side.kinds[other].shape[0], side.kinds[key].shape[1]
            found[made].append(_Pair(ReadTensor(key, name), ReadTensor(other, name)))
            found[made[::-1]].append(_Pair(ReadTensor(key, name), ReadTensor(other, name), turned=True))
    return found


def _factors(side: CheckpointSide) -> Iterator[tuple[str, str]]:
    """Yield the keys of matrices whose product is a low-rank update: the one that is applied first, and the other."""
    for key, kind in side.kinds.items():
        for down, up in _DOWN_UP:
            other = key.replace(down, up)
            two = other != key and other in side.kinds and kind.ndim == side.kinds[other].ndim == 2
            if two and kind.shape[0] == side.kinds[other].shape[1]:
                yield key, other


def _updates(evidence: Evidence, key: str, base: ReadTensor, pair: _Pair) -> Iterator[Formula]:
    first, down, up, wanted = *map(evidence.tensor, (base, pair.down, pair.up)), evidence.wanted(key)
    product = _wide(up) @ _wide(down)
    product, difference = product.T if pair.turned else product, _wide(wanted) - _wide(first)
    rank = down.shape[0]
    config = evidence.configs.get(str(pair.down.input))
    operands = (base, pair.down, pair.up)
    if not product.any():
        # It says nothing of the scale, which is that of the others.
        yield from (replace(one, operands=operands) for one in evidence.known.values() if one.each)
    for factor in weights_of(difference, product, rounding(wanted, wanted.dtype) + rounding(difference, down.dtype)):
        for number in dict.fromkeys((factor, round(factor * rank) / rank)):
            if config is not None and abs(config.scale(rank) - number) <= 1e-3 * abs(number):
                scale = config.written(make.call("size", slot(1), make.number(0)))
                for value, compute in _forms(evidence, operands, scale, pair.turned):
                    yield Formula(value, operands, compute, each=True, parameters=config.parameters)
            for value, compute in _forms(evidence, operands, None if number == 1 else _number(number), pair.turned):
                yield Formula(value, operands, compute, each=True)


def _wide(tensor: Any) -> Any:
    """Return a tensor in a dtype that products are near enough in."""
    import torch

    return tensor if tensor.dtype in (torch.float32, torch.float64) else tensor.to(torch.float32)


_WIDE = "f32"


def _forms(
    evidence: Evidence, operands: tuple[ReadTensor, ...], scale: tree.Expr | None, turned: bool
) -> Iterator[tuple[tree.Expr, str | None]]:
    """Yield expressions of an update, each with the dtype that it is computed in, `None` for that of the tensors."""
    base, *factors = (evidence.kind(one).dtype for one in operands)
    product = _product(slot(1), slot(2), scale, turned)
    if all(one is base for one in factors):
        yield make.binary(slot(0), "+", product), None
    widths = {one.itemsize for one in (base, *factors)}
    if max(widths) <= _BYTES and min(widths) < _BYTES:
        yield make.binary(slot(0), "+", product), _WIDE
        yield make.binary(slot(0), "+", _rounded(base, factors, scale, turned)), None


_BYTES = 4


def _rounded(base: DType, factors: list[DType], scale: tree.Expr | None, turned: bool) -> tree.Expr:
    """Return a product that is computed in f32, and rounded before it is added: to the dtype of its factors."""
    down, up = (_cast(slot(at), one, _WIDE) for at, one in enumerate(factors, 1))
    product = _product(down, up, scale, turned)
    if factors[1].itemsize < _BYTES:
        product = make.call("cast", product, make.name(factors[1].short))
    return _cast(product, factors[1] if factors[1].itemsize < _BYTES else None, base.short)


def _cast(value: tree.Expr, dtype: DType | None, to: str) -> tree.Expr:
    """Return a value of a dtype, `None` for f32, in another one."""
    return value if (dtype.short if dtype is not None else _WIDE) == to else make.call("cast", value, make.name(to))


def _product(down: tree.Expr, up: tree.Expr, scale: tree.Expr | None, turned: bool) -> tree.Expr:
    product: tree.Expr = make.binary(up, "@", down)
    product = make.call("transpose", product) if turned else product
    return product if scale is None else make.binary(product, "*", scale)


def _number(value: float) -> tree.Expr:
    return make.number(value) if value >= 0 else tree.Unary(make.NOWHERE, "-", make.number(-value))
