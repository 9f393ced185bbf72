"""Means of an old tensor and those of further inputs, the last of two with a weight."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from statex.grammar import factory as make
from statex.grammar import tree
from statex.inferring.evidence import Evidence
from statex.inferring.explanations.weights import rounding, weights_of
from statex.inferring.formulas import Formula, ReadTensor, slot
from statex.inferring.sides import CheckpointSide


def averages(evidence: Evidence, key: str) -> Iterator[Formula]:
    """Yield means with the tensors of inputs that have the name of the old one, or of the new one."""
    for base in evidence.bases(key) if evidence.inputs else ():
        first = ReadTensor(base)
        keys = {name: _named_alike(side, base, key, evidence) for name, side in evidence.inputs.items()}
        others = [ReadTensor(one, name) for name, one in keys.items() if one is not None]
        if others:
            yield Formula(_mean(len(others) + 1), (first, *others))
        for other in others:
            if len(others) > 1:
                yield Formula(_mean(2), (first, other))
            for value in _weighted(evidence.tensor(first), evidence.tensor(other), evidence.wanted(key)):
                yield Formula(value, (first, other))


def _mean(count: int) -> tree.Expr:
    total: tree.Expr = slot(0)
    for number in range(1, count):
        total = make.binary(total, "+", slot(number))
    return make.binary(total, "/", make.number(count))


def _weighted(first: Any, other: Any, wanted: Any) -> Iterator[tree.Expr]:
    if first.shape != wanted.shape:
        return
    for weight in weights_of(wanted - first, other - first, rounding(wanted, wanted.dtype)):
        if 0 < weight < 1:
            step = make.binary(make.binary(slot(1), "-", slot(0)), "*", make.number(weight))
            yield make.binary(slot(0), "+", step)
            parts: Sequence[tree.Expr] = [
                make.binary(slot(at), "*", make.number(own)) for at, own in enumerate((1 - weight, weight))
            ]
            yield make.binary(parts[0], "+", parts[1])


def _named_alike(side: CheckpointSide, base: str, key: str, evidence: Evidence) -> str | None:
    """Return the key of an input that is that of an old or of a new tensor, or has the same end as the old one."""
    kind = evidence.old.kinds[base]
    same = next((one for one in (base, key) if side.kinds.get(one) == kind), None)
    if same is not None:
        return same
    segments = base.split(".")
    for start in range(1, len(segments)):
        end = ".".join(segments[start:])
        near = [one for one, own in side.kinds.items() if own == kind and f".{one}".endswith(f".{end}")]
        if near:
            return near[0] if len(near) == 1 else None
    return None
