"""Macros, blocks and included files: which names they see, and what they leave alone."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch

import statex
from statex import StatexError


def keys(program: str, *given: str, **more: object) -> list[str]:
    """Return the keys after a program on a state with these keys."""
    state = {key: torch.full((2, 2), float(number)) for number, key in enumerate(given)}
    return list(statex.compile(program).apply(state, **more))


def refused(program: str, *given: str, **more: object) -> list[tuple[str, str]]:
    """Return code and headline of all that a program is refused for."""
    with pytest.raises(StatexError) as caught:
        keys(program, *given, **more)
    return [(d.code.id, d.headline) for d in caught.value.diagnostics]


@pytest.mark.parametrize(
    ("program", "wanted"),
    [
        ('macro a(x) { drop {$x}.w }\nmacro b(x) { use a("{$x}.q") }\nuse b("l.{i}")', ["l.0.w"]),
        ('macro a(x, n) { drop {$x}.{$n} }\nmacro b(n, x) { use a("{$n}.q", x) }\nuse b("l.{i}", \'w\')', ["l.0.w"]),
    ],
)
def test_what_an_argument_splices_is_that_of_where_it_is_written(program: str, wanted: Sequence[str]) -> None:
    assert keys(program, "l.0.q.w", "l.1.q.w", "l.0.w") == wanted
