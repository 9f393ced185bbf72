"""What outputs keep: patterns over the result, and nothing that would be passed over in silence."""

from __future__ import annotations

from typing import Any

import pytest
import torch

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
    ("text", "said", "marked"),
    [
        ("a.*; drop b.weight", "`keep` takes patterns alone, and another statement follows", "drop b.weight"),
        ("a.* where ndim(it) == 2", "`keep` takes patterns alone, without a condition", "ndim(it) == 2"),
        ("? a.*", "`keep` takes patterns alone, each of which has to match a key", "? a.*"),
        ("target::a.*", "`keep` takes keys, and `target::a.*` is a pattern over an input", "target::a.*"),
        ("zz::a.*", "`keep` takes keys, and `zz::a.*` is a pattern over an input", "zz::a.*"),
    ],
)
def test_patterns_alone_are_kept(bench: Bench, text: str, said: str, marked: str) -> None:
    (one,) = kept(bench, text, code=2)
    (label,) = one["labels"]
    line = (bench.folder / "recipe.yaml").read_text().splitlines()[label["line"] - 1]
    assert (one["code"], one["headline"]) == ("SX704", said)
    assert line[label["column"] - 1 : label["end_column"] - 1] == marked


def test_all_that_is_wrong_is_said(bench: Bench) -> None:
    found = kept(bench, "a.*; drop b", "c.*", "d.* -> e", code=2)
    assert [(one["code"], one["labels"][0]["line"]) for one in found] == [("SX704", 8), ("SX301", 9), ("SX101", 10)]


def several(bench: Bench, outputs: str, code: int) -> dict[str, Any]:
    bench.write("recipe.yaml", f"statex: 1\ninputs: {{main: nested.pth}}\noutputs:\n{outputs}")
    (found,) = bench.refused(code=code)
    return found


def test_what_is_wrong_with_one_of_several_outputs_shows_it(bench: Bench) -> None:
    bench.save("nested.pth", {"epoch": 3, "model": {"a.weight": torch.ones(2), "b.weight": torch.ones(2)}})
    bench.save("like.pth", {"a.weight": torch.ones(2), "b.weight": torch.ones(2)})
    first = "  a: {path: a.pth}\n"
    found = several(bench, f"{first}  b: {{path: b.pth, keep: 'a.*', target: {{like: like.pth}}}}\n", 1)
    assert (found["code"], found["labels"][0]["line"], len(found["rows"])) == ("SX501", 5, 1)
    found = several(bench, f"{first}  b: {{path: b.safetensors}}\n", 3)
    assert (found["code"], found["labels"][0]["line"]) == ("SX614", 5)
    assert found["help"] == ["take the bare state: root 'model' -> ''"]
    found = several(bench, f"{first}  b: {{path: b.out}}\n", 2)
    assert (found["code"], found["labels"][0]["line"]) == ("SX613", 5)
    assert found["help"][0].endswith("or use a `format`")


def test_an_output_of_a_part_of_a_list(bench: Bench) -> None:
    bench.save("nested.pth", {"l": [torch.ones(2), torch.zeros(2), torch.ones(1)], "x": torch.ones(2)})
    outputs = "  a: {path: a.pth, keep: ['l.0', 'l.2']}\n  b: {path: b.pth, keep: ['l.1', x]}\n"
    found = several(bench, outputs, 1)
    assert (found["code"], found["labels"][0]["line"]) == ("SX327", 4)
    assert found["headline"] == "`l` is a list, and its place 1 is empty"
    text = (bench.folder / "recipe.yaml").read_text()
    bench.write("recipe.yaml", text.replace("'l.2'", "'l.1'").replace("'l.1', x", "'l.*', x"))
    bench()
    assert [tensor.tolist() for tensor in bench.load("a.pth")["l"]] == [[1, 1], [0, 0]]
    bench.write("recipe.yaml", text.replace("outputs:", "rules: [\"root '' flat\"]\noutputs:"))
    bench("--force")
    assert set(bench.load("a.pth")) == {"l.0", "l.2"}


def test_an_optimizer_beside_some_of_the_keys_is_that_of_these(bench: Bench) -> None:
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2))
    state = {"model": model.state_dict(), "optimizer": torch.optim.SGD(model.parameters()).state_dict()}
    bench.save("all.pth", state)
    head = "statex: 1\ninputs: {main: {path: all.pth, root: model}}\noutputs:\n  whole: {path: whole.pth}\n"
    bench.write("recipe.yaml", head)
    assert "SX916" not in bench().err
    bench.write("recipe.yaml", head + "  head: {path: head.pth, keep: '1.**'}\n")
    assert "SX916" not in bench("--force").err
    assert bench.load("head.pth")["optimizer"]["param_groups"][0]["params"] == [0, 1]
    assert bench.load("whole.pth")["optimizer"]["param_groups"][0]["params"] == [0, 1, 2, 3]


def test_averages_beside_some_of_the_keys_are_warned_of(bench: Bench) -> None:
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2))
    bench.save("all.pth", {"model": model.state_dict(), "ema": model.state_dict()})
    head = "statex: 1\ninputs: {main: {path: all.pth, root: model}}\noutputs:\n  whole: {path: whole.pth}\n"
    bench.write("recipe.yaml", head + "  head: {path: head.pth, keep: '1.**'}\n")
    assert bench().err.count("warning[SX916]: the averaged model in `ema` stays as it is") == 1
