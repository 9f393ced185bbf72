"""What `allow` forgives: keys of its kind that its pattern matches, of the part of a state that the program is for."""

from __future__ import annotations

import pytest

from statex.dsl.plan.plan import Allowed
from tests.dsl.keys.test_patterns import pattern_of


@pytest.mark.parametrize(
    ("kind", "key", "forgiven"),
    [
        ("missing", "m.w", True), ("missing", "m.x.w", False), ("missing", "m.v", False), ("missing", "n.w", False),
        ("missing", "w", False), ("unexpected", "m.w", False),
    ],
)  # fmt: skip
def test_what_is_forgiven(kind: str, key: str, forgiven: bool) -> None:
    assert Allowed("missing", pattern_of("w"), "m.").forgives(kind, key) is forgiven
