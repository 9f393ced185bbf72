"""Files of parameters: what readers of JSON and YAML take in silence is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from statex import StatexError
from statex.paramfiles import read_params


def refused(tmp_path: Path, name: str, text: str) -> str:
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(StatexError) as caught:
        read_params(path)
    (found,) = caught.value.diagnostics
    assert found.code.id == "SX223"
    return found.headline.replace(str(path), name)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("config.json", '{"heads": 8, "scaling": {"factor": 2.0}, "layers": [1, 2], "none": null}'),
        ("config.yaml", "heads: 8\nscaling: {factor: 2.0}\nlayers: [1, 2]\nnone: ~\n"),
    ],
)
def test_names_and_values(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    assert read_params(tmp_path / name) == {"heads": 8, "scaling": {"factor": 2.0}, "layers": [1, 2], "none": None}


BOMB = "a: &a [x, x]\n" + "".join(f"{b}: &{b} [*{a}, *{a}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True))


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.json", '{"heads": 8, "heads": 16}', "`a.json` names `heads` twice"),
        ("a.json", '{"inner": {"n": 1, "n": 2}}', "`a.json` names `n` twice"),
        ("a.json", "[1, 2]", "`a.json` holds no mapping of names to values"),
        ("a.json", "[" * 100_000, "`a.json` is nested too deeply"),
        ("a.yml", "heads: 8\nheads: 16\n", "`a.yml` names `heads` twice"),
        ("a.yml", "list: [{n: 1, n: 2}]\n", "`a.yml` names `n` twice"),
        ("a.yml", BOMB, "`a.yml` has the alias `*a` in line 2, and aliases are not read"),
        ("a.yml", "x: {<<: {n: 1}}\n", "`a.yml` has a merge key in line 1, and merge keys are not read"),
        ("a.yml", "[" * 1000, "`a.yml` is nested too deeply"),
        ("a.yml", "", "`a.yml` holds no mapping of names to values"),
    ],
)
def test_what_is_refused(tmp_path: Path, name: str, text: str, said: str) -> None:
    assert refused(tmp_path, name, text) == said


@pytest.mark.parametrize(("name", "text"), [("a.json", "{"), ("a.yaml", "a: [")])
def test_broken_files(tmp_path: Path, name: str, text: str) -> None:
    assert refused(tmp_path, name, text).startswith(f"`{name}` is no {name[2:].upper()}: ")
