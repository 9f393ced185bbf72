"""What outputs keep: patterns over the result, and nothing that would be passed over in silence."""

from __future__ import annotations

from typing import Any

import pytest

from tests.recipe.conftest import Bench, bench, run

__all__ = ["bench", "run"]


def kept(bench: Bench, *patterns: str, code: int = 1) -> list[dict[str, Any]]:
    items = "".join(f'      - "{pattern}"\n' for pattern in patterns)
    head = "statex: 1\ninputs: {main: in.pth}\noutputs:\n  all: {path: all.pth}\n  a:\n    path: a.pth\n    keep:\n"
    bench.write("recipe.yaml", head + items)
    found = bench.refused(code=code)
    assert not (bench.folder / "all.pth").exists()
    return found


@pytest.mark.parametrize(
    ("text", "code", "said", "marked"),
    [
        ("a.*; drop b.weight", "SX101", "what an output keeps has no further statements", "drop b.weight"),
        ("a.* where ndim(it) == 2", "SX101", "what an output keeps has no `where`", "ndim(it) == 2"),
        ("? a.*", "SX101", "what an output keeps has no `?`", "? "),
        (
            "target::a.*",
            "SX320",
            "an output holds keys of the result, and `target` is another checkpoint",
            "target::a.*",
        ),
        ("zz::a.*", "SX320", "an output holds keys of the result, and `zz` is another checkpoint", "zz::a.*"),
    ],
)
def test_patterns_alone_are_kept(bench: Bench, text: str, code: str, said: str, marked: str) -> None:
    (one,) = kept(bench, text)
    (label,) = one["labels"]
    line = (bench.folder / "recipe.yaml").read_text().splitlines()[label["line"] - 1]
    assert (one["code"], one["headline"]) == (code, said)
    assert line[label["column"] - 1 : label["end_column"] - 1] == marked


def test_all_that_is_wrong_is_said(bench: Bench) -> None:
    found = kept(bench, "a.*; drop b", "c.*", "d.* -> e")
    assert [(one["code"], one["labels"][0]["line"]) for one in found] == [("SX101", 8), ("SX301", 9), ("SX101", 10)]
