"""Arguments that are left out are what torch's own functions take them for."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

import statex

A = torch.arange(24.0).reshape(2, 3, 4) - 7
FORMS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "flatten": torch.flatten, "squeeze": torch.squeeze, "it[0] | transpose": lambda x: x[0].t(),
    "clone": torch.clone, "sum": torch.sum, "mean": torch.mean, "abs": torch.abs,
    "sqrt(abs(it))": lambda x: x.abs().sqrt(),
    "cat([it, it])": lambda x: torch.cat([x, x]), "stack([it, it])": lambda x: torch.stack([x, x]),
    "pad([1, 2])": lambda x: torch.nn.functional.pad(x, [1, 2]), "clamp(min=0)": lambda x: x.clamp(min=0),
    "clamp(max=0)": lambda x: x.clamp(max=0), "zeros_like": torch.zeros_like, "ones_like": torch.ones_like,
    "zeros([2])": lambda x: torch.zeros(2), "ones([2])": lambda x: torch.ones(2), "eye(3)": lambda x: torch.eye(3),
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_defaults_are_those_of_torch(form: str) -> None:
    found = statex.compile(f"set a = {form}").apply({"a": A.clone()})["a"]
    wanted = FORMS[form](A)
    assert found.dtype == wanted.dtype
    assert torch.equal(found, wanted)


@pytest.mark.parametrize(
    ("form", "wanted"),
    [("chunk(2)", A.chunk(2)), ("sections([1, 1])", A.split([1, 1])), ("unstack", A.unbind())],
)
def test_pieces_are_of_the_first_dim_unless_told(form: str, wanted: tuple[torch.Tensor, ...]) -> None:
    found = statex.compile(f"split a -> x, y = {form}").apply({"a": A.clone()})
    assert all(torch.equal(found[key], piece) for key, piece in zip(("x", "y"), wanted, strict=True))
