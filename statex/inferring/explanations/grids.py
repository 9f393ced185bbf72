"""Position embeddings and the like, resampled for another size: tokens of a grid, with those before it kept."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from math import isqrt

from statex.core.record import record
from statex.grammar import factory as make
from statex.grammar import tree
from statex.inferring.evidence import Evidence
from statex.inferring.formulas import Formula, ReadTensor, same_bits, slot

_PREFIXES = (1, 2, 0)
"""So many tokens stand before those of the grid: of the class, of the distillation."""
_MODES = ("bicubic", "bilinear")
_MOST_ASPECT = 4
_MOST_GRIDS = 12
_WIDE = "f32"
_WIDE_BYTES = 4

Grid = tuple[int, int]


@record
class _Tokens:
    """Where a grid is in a tensor: its tokens in one dim, behind some others, or its sides in two.

    `apart` and `together` are the patterns that take them to where they are resampled, and back.
    """

    dim: int
    prefix: int
    apart: str
    together: str


def resampled(evidence: Evidence, key: str) -> Iterator[Formula]:
    """Yield old tensors of as many channels, resampled from one grid to another as torch's `interpolate` does."""
    new = evidence.new.kinds[key].shape
    for shape in evidence.shapes:
        if len(shape) != len(new) or shape == new:
            continue
        for base in evidence.bases(key, shape):
            found = [
                Formula(value, (ReadTensor(base),), compute)
                for tokens, old_grid, grid in _grids(evidence, key, base, shape, new)
                for value, compute in _values(tokens, old_grid, grid, evidence.old.kinds[base].dtype.itemsize)
            ]
            yield from evidence.by_use(found)


def _grids(
    evidence: Evidence, key: str, base: str, old: tuple[int, ...], new: tuple[int, ...]
) -> Iterator[tuple[_Tokens, Grid | None, Grid]]:
    """Yield where grids may be in two tensors, and their sides, the old ones where the pattern has to be told."""
    if len(new) == 4 and new[0] == old[0] == 1:
        if new[1] == old[1]:
            yield _Tokens(2, 0, "", ""), None, (new[2], new[3])
        if new[3] == old[3]:
            yield _Tokens(1, 0, "1 h w c -> 1 c h w", "1 c h w -> 1 h w c"), None, (new[1], new[2])
    if len(new) not in (2, 3) or new[-1] != old[-1] or new[:-2] != old[:-2] or new[:-2] not in ((), (1,)):
        return
    dim = len(new) - 2
    one = "1 " if dim else ""
    apart, together = f"{one}(h w) c -> 1 c h w", f"1 c h w -> {one}(h w) c"
    for prefix in _PREFIXES:
        if min(old[dim], new[dim]) > prefix and _same_start(evidence, key, base, dim, prefix):
            tokens = _Tokens(dim, prefix, apart, together)
            sides = product(_sides(old[dim] - prefix), _sides(new[dim] - prefix))
            for grid, other in sorted(sides, key=_uneven)[:_MOST_GRIDS]:
                yield tokens, grid, other


def _same_start(evidence: Evidence, key: str, base: str, dim: int, prefix: int) -> bool:
    one, other = evidence.tensor(ReadTensor(base)), evidence.wanted(key)
    return same_bits(one.narrow(dim, 0, prefix), other.narrow(dim, 0, prefix).to(one.dtype))


def _sides(count: int) -> list[Grid]:
    """Return the grids of so many tokens that are not too long; a square is the only one."""
    side = isqrt(count)
    if side * side == count:
        return [(side, side)]
    return [(h, count // h) for h in range(2, count) if not count % h and _aspect((h, count // h)) <= _MOST_ASPECT]


def _aspect(grid: Grid) -> float:
    return max(grid) / min(grid)


def _uneven(grids: tuple[Grid, Grid]) -> float:
    (h, w), (y, x) = grids
    return abs(h * x - w * y) / (h * y)


def _values(tokens: _Tokens, old: Grid | None, new: Grid, itemsize: int) -> Iterator[tuple[tree.Expr, str | None]]:
    """Yield expressions, each with the dtype that it is computed in, `None` for the tensor's own."""
    for mode in _MODES:
        for options in ((), ("antialias",), ("align_corners",)):
            value = _value(tokens, old, _sampled(new, mode, options))
            if itemsize < _WIDE_BYTES:
                yield value, _WIDE
            yield value, None


def _sampled(new: Grid, mode: str, options: Sequence[str]) -> tree.Call:
    size = tree.ListExpr(make.NOWHERE, tuple(map(make.number, new)))
    return make.call("interpolate", size, mode=make.name(mode), **{one: make.name("true") for one in options})


def _value(tokens: _Tokens, old: Grid | None, sampled: tree.Call) -> tree.Expr:
    sides = {"h": make.number(old[0])} if old is not None else {}
    stages = [make.call("rearrange", make.string(tokens.apart), **sides)] if tokens.apart else []
    stages.append(sampled)
    if tokens.together:
        stages.append(make.call("rearrange", make.string(tokens.together)))
    if not tokens.prefix:
        return _piped(None, stages)
    before = _part(tokens.dim, None, tokens.prefix)
    grid = _piped(_part(tokens.dim, tokens.prefix, None), stages)
    named = {"dim": make.number(tokens.dim)} if tokens.dim else {}
    return make.call("cat", before, grid, **named)


def _piped(value: tree.Expr | None, stages: Sequence[tree.Call]) -> tree.Expr:
    for stage in stages:
        value = stage if value is None else make.pipe(value, stage)
    assert value is not None
    return value


def _part(dim: int, start: int | None, stop: int | None) -> tree.Expr:
    ends = [make.number(one) if one is not None else None for one in (start, stop)]
    whole = [tree.Slice(make.NOWHERE, None, None, None)] * dim
    return tree.Subscript(make.NOWHERE, slot(0), (*whole, tree.Slice(make.NOWHERE, ends[0], ends[1], None)))
