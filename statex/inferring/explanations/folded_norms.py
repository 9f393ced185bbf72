"""Batch norms folded into the convolution or linear layer before them, as torch.nn.utils.fusion does and others do."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from statex.core.record import record
from statex.grammar import factory as make
from statex.grammar import tree
from statex.inferring.evidence import Evidence
from statex.inferring.formulas import Formula, ReadTensor, slot

_EPS = (1e-5, 1e-3, 1e-6, 1e-4, 1e-2, 1e-7, 1e-8, 1e-12)
"""What is added to variances."""
_NEAR = 1e-2
"""How far, of their size, numbers may be from what another norm or another eps gives, to be computed to the bit."""
_ENDS = ("weight", "bias", "running_mean", "running_var")


@record
class _Norm:
    """A batch norm of the old checkpoint: its tensors by `_ENDS`, `None` for those that it lacks."""

    weight: str | None
    bias: str | None
    mean: str
    var: str


def folded_norms(evidence: Evidence, key: str) -> Iterator[Formula]:
    """Yield a weight times the scales of a norm, or a bias as it is behind a norm.

    The norms of as many channels are told apart by their numbers; what is near is computed as
    `torch.nn.utils.fusion.fuse_conv_bn_weights` and `fuse_linear_bn_weights` do, and by `sqrt`.
    """
    shape = evidence.new.kinds[key].shape
    if len(shape) > 1:
        for base in evidence.bases(key):
            for dim in (0, 1):
                yield from _weights(evidence, key, base, dim)
    elif shape:
        yield from _biases(evidence, key, shape[0])


def _norms(evidence: Evidence) -> Mapping[int, Sequence[_Norm]]:
    """Return the batch norms of the old checkpoint, by their numbers of channels."""
    kinds = evidence.old.kinds
    found: defaultdict[int, list[_Norm]] = defaultdict(list)
    for key, kind in kinds.items():
        module, dot, end = key.rpartition(".")
        if end == _ENDS[3] and kind.ndim == 1 and (mean := f"{module}{dot}{_ENDS[2]}") in kinds:
            weight, bias = (own if (own := f"{module}{dot}{name}") in kinds else None for name in _ENDS[:2])
            found[kind.shape[0]].append(_Norm(weight, bias, mean, key))
    return found


def _number(evidence: Evidence, key: str | None, otherwise: float) -> Any:
    """Return a tensor with digits to spare, or a number where there is none."""
    import torch

    return otherwise if key is None else evidence.tensor(ReadTensor(key)).to(torch.float64)


def _near(one: Any, other: Any) -> bool:
    return bool((one - other).norm() <= _NEAR * other.norm())


# --- weights -----------------------------------------------------------------------------------------------------


def _weights(evidence: Evidence, key: str, base: str, dim: int) -> Iterator[Formula]:
    """Yield a weight times scales along a dim: of a convolution, or with 1 of a transposed one."""
    channels = evidence.old.kinds[base].shape[dim]
    if channels not in evidence.once(_norms):
        return
    scales = _scales(evidence, key, base, dim)
    real = scales.isfinite()  # the channels that are not all zeros
    for norm in evidence.once(_norms)[channels]:
        read = [ReadTensor(base), *(ReadTensor(one) for one in (norm.var, norm.weight) if one is not None)]
        own = _number(evidence, norm.weight, 1.0)
        var = _number(evidence, norm.var, 1.0)
        for eps in _EPS:
            if _near((own / (var + eps).sqrt())[real], scales[real]):
                for scale in _scale(slot(1), slot(2) if norm.weight is not None else None, eps):
                    yield Formula(_scaled(scale, dim, len(evidence.old.kinds[base].shape)), tuple(read))


def _scales(evidence: Evidence, key: str, base: str, dim: int) -> Any:
    """Return by how much each channel of a new tensor is larger than that of an old one."""
    import torch

    one, other = (
        tensor.to(torch.float64).movedim(dim, 0).flatten(1)
        for tensor in (evidence.tensor(ReadTensor(base)), evidence.wanted(key))
    )
    return (one * other).sum(1) / (one * one).sum(1)


def _scale(var: tree.Expr, weight: tree.Expr | None, eps: float) -> Iterator[tree.Expr]:
    """Yield the ways in which a weight is divided by the root of a variance."""
    total = make.binary(var, "+", make.number(eps))
    inverse = make.call("rsqrt", total)
    yield inverse if weight is None else make.binary(weight, "*", inverse)
    yield make.binary(make.number(1) if weight is None else weight, "/", make.call("sqrt", total))


def _scaled(scale: tree.Expr, dim: int, ndim: int) -> tree.Expr:
    lengths = [make.number(1) for _ in range(ndim)]
    all_of_it = tree.Unary(make.NOWHERE, "-", make.number(1))
    shape = tree.ListExpr(make.NOWHERE, (*lengths[:dim], all_of_it, *lengths[dim + 1 :]))
    return make.binary(slot(0), "*", make.call("reshape", scale, shape))


# --- biases ------------------------------------------------------------------------------------------------------


def _biases(evidence: Evidence, key: str, channels: int) -> Iterator[Formula]:
    """Yield biases behind a norm, which is used up: of the old bias of this name, and of none."""
    wanted = _number_of(evidence.wanted(key))
    bases = [one for one in evidence.bases(key) if one.rpartition(".")[2] == key.rpartition(".")[2]]
    for norm in evidence.once(_norms).get(channels, ()):
        weight, bias = _number(evidence, norm.weight, 1.0), _number(evidence, norm.bias, 0.0)
        mean, var = _number(evidence, norm.mean, 0.0), _number(evidence, norm.var, 1.0)
        for base in (None, *bases):
            own = _number(evidence, base, 0.0)
            for eps in _EPS:
                if _near((own - mean) * weight / (var + eps).sqrt() + bias, wanted):
                    yield from _behind(evidence, norm, base, key, eps)


def _number_of(tensor: Any) -> Any:
    import torch

    return tensor.to(torch.float64)


_NAMES = ("b", "gamma", "beta", "mu", "var")


def _behind(evidence: Evidence, norm: _Norm, base: str | None, key: str, eps: float) -> Iterator[Formula]:
    keys = (base, norm.weight, norm.bias, norm.mean, norm.var)
    there = [(name, one) for name, one in zip(_NAMES, keys, strict=True) if one is not None]
    names = tuple([name for name, _ in there])
    slots = {name: slot(at) for at, name in enumerate(names)}
    read = tuple([ReadTensor(one) for _, one in there])
    for value in _values(slots, eps):
        yield Formula(value, read, names=names, merged=base or _beside_weight(evidence, norm, key))


def _beside_weight(evidence: Evidence, norm: _Norm, key: str) -> str:
    """Return the key of a bias that is new: where the weight of the layer is, whose name the new one has."""
    weight = ".".join([*key.split(".")[:-1], _ENDS[0]])
    found = evidence.origins.get(weight, weight)
    return ".".join([*found.split(".")[:-1], key.rpartition(".")[2]])


def _values(read: dict[str, tree.Name], eps: float) -> Iterator[tree.Expr]:
    """Yield a bias behind a norm in the orders that are usual."""
    weight, beta = read.get("gamma"), read.get("beta")
    shifted = make.binary(read.get("b", make.number(0)), "-", read["mu"])
    for scale in _scale(read["var"], weight, eps):
        yield _plus(make.binary(shifted, "*", scale), beta)
    root = make.call("rsqrt", make.binary(read["var"], "+", make.number(eps)))
    if weight is not None:
        yield _plus(make.binary(make.binary(shifted, "*", root), "*", weight), beta)
    if beta is not None and weight is not None and "b" not in read:
        divisor = make.call("sqrt", make.binary(read["var"], "+", make.number(eps)))
        yield make.binary(beta, "-", make.binary(make.binary(read["mu"], "*", weight), "/", divisor))


def _plus(value: tree.Expr, beta: tree.Expr | None) -> tree.Expr:
    return value if beta is None else make.binary(value, "+", beta)
