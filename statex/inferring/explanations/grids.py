"""Position embeddings and the like, resampled for another size: tokens of a grid, with those before it kept."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from math import isqrt
from typing import Any

from statex.core.record import record
from statex.grammar import factory as make
from statex.grammar import tree
from statex.inferring.evidence import Evidence
from statex.inferring.formulas import Formula, ReadTensor, same_bits, slot

_PREFIXES = (1, 2, 0)
"""So many tokens stand before those of the grid: of the class, of the distillation."""
_MODES = ("bicubic", "bilinear")
_OPTIONS: tuple[tuple[str, ...], ...] = ((), ("antialias",), ("align_corners",))
_MOST_ASPECT = 4
_MOST_GRIDS = 8
_MOST_BASES = 2
_CHANNELS = 2
"""So many channels are resampled to see whether all of them are worth it."""
_NEAR = 1e-2
"""How far these may be from the new ones, of their size."""
_WIDE = "f32"
_WIDE_BYTES = 4

Grid = tuple[int, int]


@record
class _Resampling:
    """Where a grid is in a tensor, and its sides before and after: in one dim behind so many others, or in two.

    `apart` and `together` are the patterns that take it to where it is resampled, and back.
    """

    dim: int
    prefix: int
    old: Grid
    new: Grid
    apart: str = ""
    together: str = ""

    @property
    def is_joined(self) -> bool:
        """True where one dim has both sides."""
        return "(h w)" in self.apart

    def sample(self, tensor: Any, sides: Grid) -> Any:
        """Return a few channels of the grid in a tensor, as torch takes them."""
        if not self.apart:
            return tensor[:, :_CHANNELS].float()
        grid = tensor.narrow(self.dim, self.prefix, sides[0] * sides[1]) if self.is_joined else tensor
        return grid[..., :_CHANNELS].reshape(1, *sides, -1).permute(0, 3, 1, 2).float()


def resampled(evidence: Evidence, key: str) -> Iterator[Formula]:
    """Yield old tensors of as many channels, resampled from one grid to another as torch's `interpolate` does."""
    new = evidence.new.kinds[key].shape
    for shape in evidence.shapes:
        found = list(_resamplings(shape, new)) if shape != new and len(shape) == len(new) else []
        for base in evidence.bases(key, shape)[:_MOST_BASES] if found else ():
            own = [one for one in found if _same_start(evidence, key, base, one)]
            yield from evidence.by_use(one for each in own for one in _formulas(evidence, key, base, each))


def _resamplings(old: tuple[int, ...], new: tuple[int, ...]) -> Iterator[_Resampling]:
    """Yield where grids may be in tensors of two shapes."""
    if len(new) == 4 and new[0] == old[0] == 1:
        if new[1] == old[1]:
            yield _Resampling(2, 0, old[2:], new[2:])  # type: ignore[arg-type]
        if new[3] == old[3]:
            yield _Resampling(1, 0, old[1:3], new[1:3], "1 h w c -> 1 c h w", "1 c h w -> 1 h w c")  # type: ignore[arg-type]
    if len(new) not in (2, 3) or new[-1] != old[-1] or new[:-2] != old[:-2] or new[:-2] not in ((), (1,)):
        return
    dim = len(new) - 2
    one = "1 " if dim else ""
    for prefix in _PREFIXES:
        if min(old[dim], new[dim]) > prefix:
            sides = product(_sides(old[dim] - prefix), _sides(new[dim] - prefix))
            for grid, other in sorted(sides, key=_uneven)[:_MOST_GRIDS]:
                yield _Resampling(dim, prefix, grid, other, f"{one}(h w) c -> 1 c h w", f"1 c h w -> {one}(h w) c")


def _same_start(evidence: Evidence, key: str, base: str, found: _Resampling) -> bool:
    """Say whether the tokens before the grid are as they were."""
    one, other = evidence.tensor(ReadTensor(base)), evidence.wanted(key)
    dim, prefix = found.dim, found.prefix
    return not prefix or same_bits(one.narrow(dim, 0, prefix), other.narrow(dim, 0, prefix).to(one.dtype))


def _formulas(evidence: Evidence, key: str, base: str, found: _Resampling) -> Iterator[Formula]:
    """Yield formulas for the ways of resampling that give about the numbers of a new tensor."""
    import torch

    one, other = evidence.tensor(ReadTensor(base)), evidence.wanted(key)
    few, wanted = found.sample(one, found.old), found.sample(other, found.new)
    for mode in _MODES:
        for options in _OPTIONS:
            given = dict.fromkeys(options, True)
            near = torch.nn.functional.interpolate(few, found.new, mode=mode, **given)
            if not bool((near - wanted).norm() <= _NEAR * wanted.norm()):
                continue
            value = _value(found, _sampled(found.new, mode, options))
            if one.element_size() < _WIDE_BYTES:
                yield Formula(value, (ReadTensor(base),), _WIDE)
            yield Formula(value, (ReadTensor(base),))


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


def _sampled(new: Grid, mode: str, options: Sequence[str]) -> tree.Call:
    size = tree.ListExpr(make.NOWHERE, tuple(map(make.number, new)))
    return make.call("interpolate", size, mode=make.name(mode), **{one: make.name("true") for one in options})


def _value(found: _Resampling, sampled: tree.Call) -> tree.Expr:
    sides = {"h": make.number(found.old[0])} if found.is_joined else {}
    stages = [make.call("rearrange", make.string(found.apart), **sides)] if found.apart else []
    stages.append(sampled)
    if found.together:
        stages.append(make.call("rearrange", make.string(found.together)))
    if not found.prefix:
        return _piped(None, stages)
    before = _part(found.dim, None, found.prefix)
    grid = _piped(_part(found.dim, found.prefix, None), stages)
    named = {"dim": make.number(found.dim)} if found.dim else {}
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
