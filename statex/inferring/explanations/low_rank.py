"""Low-rank updates that adapters hold: `it + (b @ a) * k`, in the dtypes and layouts that libraries merge them in."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from statex.core.dtypes import DType, Kind
from statex.core.record import record
from statex.grammar import factory as make
from statex.grammar import tree
from statex.inferring.evidence import Evidence
from statex.inferring.explanations.weights import weights_of
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
    pairs = [pair for name, side in evidence.inputs.items() for pair in _pairs(name, side, kind.shape)]
    near = sorted(pairs, key=lambda one: -evidence.alike(one.down.key, key))[:_TRIED]
    for base in evidence.bases(key) if near else ():
        for pair in near:
            yield from _updates(evidence, key, ReadTensor(base), pair)


def _pairs(name: str, side: CheckpointSide, shape: tuple[int, ...]) -> Iterator[_Pair]:
    """Yield the factors of products of a shape."""
    for key, kind in side.kinds.items():
        for down, up in _DOWN_UP:
            other = key.replace(down, up)
            if other == key or other not in side.kinds or not kind.ndim == side.kinds[other].ndim == 2:
                continue
            made = (side.kinds[other].shape[0], kind.shape[1])
            if kind.shape[0] == side.kinds[other].shape[1] and shape in (made, made[::-1]):
                yield _Pair(ReadTensor(key, name), ReadTensor(other, name), made != shape)
                if made == shape == made[::-1]:
                    yield _Pair(ReadTensor(key, name), ReadTensor(other, name), turned=True)


def _updates(evidence: Evidence, key: str, base: ReadTensor, pair: _Pair) -> Iterator[Formula]:
    first, down, up, wanted = *map(evidence.tensor, (base, pair.down, pair.up)), evidence.wanted(key)
    product = _wide(up) @ _wide(down)
    rank = down.shape[0]
    config = evidence.configs.get(str(pair.down.input))
    operands = (base, pair.down, pair.up)
    for factor in weights_of(_wide(wanted) - _wide(first), product.T if pair.turned else product, wanted):
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
    if all(one.kind is Kind.FLOAT and one.itemsize <= _BYTES for one in (base, *factors)):
        if any(one.itemsize < _BYTES for one in (base, *factors)):
            yield make.binary(slot(0), "+", product), _WIDE
        yield from ((value, None) for value in _rounded_first(base, factors, scale, turned))


_BYTES = 4


def _rounded_first(base: DType, factors: list[DType], scale: tree.Expr | None, turned: bool) -> Iterator[tree.Expr]:
    """Yield updates whose product is computed in f32, and rounded before it is added."""
    if base.itemsize < _BYTES or any(one is not base for one in factors):
        down, up = (
            slot(at) if one.itemsize == _BYTES else make.call("cast", slot(at), make.name(_WIDE))
            for at, one in enumerate(factors, 1)
        )
        product = _product(down, up, scale, turned)
        rounded = product if base.itemsize == _BYTES else make.call("cast", product, make.name(base.short))
        yield make.binary(slot(0), "+", rounded)


def _product(down: tree.Expr, up: tree.Expr, scale: tree.Expr | None, turned: bool) -> tree.Expr:
    product: tree.Expr = make.binary(up, "@", down)
    product = make.call("transpose", product) if turned else product
    return product if scale is None else make.binary(product, "*", scale)


def _number(value: float) -> tree.Expr:
    return make.number(value) if value >= 0 else tree.Unary(make.NOWHERE, "-", make.number(-value))
