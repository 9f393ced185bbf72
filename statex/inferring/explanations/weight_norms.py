"""Weights that torch.nn.utils.weight_norm, or the parametrization of this name, keeps as a length and a direction."""

from __future__ import annotations

from collections.abc import Iterator

from statex.grammar import factory as make
from statex.grammar import tree
from statex.inferring.evidence import Evidence
from statex.inferring.explanations.pairs import key_of_both
from statex.inferring.formulas import Formula, ReadTensor, slot


def weight_norms(evidence: Evidence, key: str) -> Iterator[Formula]:
    """Yield weight norms of an old tensor of the same shape, with lengths along one dim, or one, in the same module."""
    for base in evidence.bases(key):
        v = evidence.old.kinds[base]
        for other in evidence.beside(base):
            g = evidence.old.kinds[other]
            if g.dtype is v.dtype and v.ndim > 1:
                for value in _values(v.shape, g.shape):
                    operands = (ReadTensor(other), ReadTensor(base))
                    yield Formula(value, operands, names=("g", "v"), merged=key_of_both(base, other, key))


def _values(v: tuple[int, ...], g: tuple[int, ...]) -> Iterator[tree.Expr]:
    """Yield weight norms along the dims that lengths of this shape can be of."""
    last = len(v) - 1
    for dim in range(len(v)):
        if g != tuple(length if at == dim else 1 for at, length in enumerate(v)):
            continue
        if dim in (0, last):
            named = {"dim": make.number(dim)} if dim else {}
            yield make.call("weight_norm", slot(1), slot(0), **named)
        else:
            yield _by_norm(_norm_along(dim, len(v)))
    if g == ():
        yield _by_norm(make.call("norm", slot(1)))


def _norm_along(dim: int, ndim: int) -> tree.Expr:
    """Return norms along an inner dim, for which torch has no function of its own: of rows that it is moved to."""
    rows = make.call("flatten", make.call("transpose", slot(1), make.number(0), make.number(dim)), make.number(1))
    all_of_it = tree.Unary(make.NOWHERE, "-", make.number(1))
    shape = [all_of_it if at == dim else make.number(1) for at in range(ndim)]
    return make.call("reshape", make.call("norm", rows, dim=make.number(1)), tree.ListExpr(make.NOWHERE, tuple(shape)))


def _by_norm(norm: tree.Expr) -> tree.Expr:
    return make.binary(slot(1), "*", make.binary(slot(0), "/", norm))
