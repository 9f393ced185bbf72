"""Layouts that einops made are found again, whatever dims it split, joined and exchanged."""

from __future__ import annotations

from itertools import pairwise

import einops
import hypothesis.strategies as st
import torch
from hypothesis import given, settings

import statex
from tests.effort import examples
from tests.inferring.test_corpus import same_bits


@st.composite
def layouts(draw: st.DrawFn) -> tuple[tuple[int, ...], str, dict[str, int]]:
    """Give a shape and a pattern over it: dims in up to three factors, put into any order, joined to one to three."""
    names = iter("abcdefghi")
    left, sizes, letters = [], {}, []
    shape = []
    for _ in range(draw(st.integers(1, 2))):
        factors = [draw(st.sampled_from((2, 3, 4, 5))) for _ in range(draw(st.integers(1, 3)))]
        own = [next(names) for _ in factors]
        sizes |= dict(zip(own, factors, strict=True))
        letters += own
        left.append(f"({' '.join(own)})")
        length = 1
        for factor in factors:
            length *= factor
        shape.append(length)
    shape.append(17)
    left.append("z")
    order = draw(st.permutations(letters))
    cuts = sorted({draw(st.integers(0, len(order))) for _ in range(draw(st.integers(0, 2)))} | {0, len(order)})
    groups = [order[a:b] for a, b in pairwise(cuts) if a < b]
    right = [f"({' '.join(group)})" for group in groups]
    right.insert(draw(st.integers(0, len(right))), "z")
    return tuple(shape), f"{' '.join(left)} -> {' '.join(right)}", sizes


@settings(max_examples=examples(150), deadline=None)
@given(layouts(), st.sampled_from((torch.float32, torch.bfloat16)))
def test_what_einops_made(layout: tuple[tuple[int, ...], str, dict[str, int]], dtype: torch.dtype) -> None:
    shape, pattern, sizes = layout
    old = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(dtype)
    new = einops.rearrange(old, pattern, **sizes).contiguous()
    found = statex.infer({"a.weight": old}, {"b.weight": new})
    assert found.proved, (shape, pattern, sizes, found.rules)
    made = statex.compile(found.rules).apply({"a.weight": old})
    assert same_bits(made["b.weight"], new)
