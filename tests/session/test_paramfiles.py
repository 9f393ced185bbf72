"""Files of parameters: what readers of JSON and YAML take in silence is refused."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from statex import StatexError
from statex.session.paramfiles import read_params


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
        ("a.json", '{"heads": 8, "heads": 16}', "`a.json` cannot be read: the key `heads` is given twice"),
        ("a.json", '{"inner": {"n": 1, "n": 2}}', "`a.json` cannot be read: the key `n` is given twice"),
        ("a.json", "[1, 2]", "`a.json` is not a mapping of names to values"),
        ("a.json", "[" * 100_000, "`a.json` is nested too deeply"),
        ("a.yml", "heads: 8\nheads: 16\n", "`a.yml` cannot be read: line 2, column 1: the key `heads` is given twice"),
        ("a.yml", "x: {1: a, '1': b}", "`a.yml` cannot be read: line 1, column 11: the key `1` is given twice"),
        ("a.yml", "list: [{n: 1, n: 2}]", "`a.yml` cannot be read: line 1, column 15: the key `n` is given twice"),
        ("a.yml", BOMB, "`a.yml` cannot be read: line 1, column 4: anchors (`&name`) are not read"),
        ("a.yml", "a: *x", "`a.yml` cannot be read: line 1, column 4: aliases (`*name`) are not read"),
        ("a.yml", "x: {<<: {n: 1}}", "`a.yml` cannot be read: line 1, column 5: merge keys (`<<`) are not read"),
        ("a.yml", "[" * 1000, "`a.yml` cannot be read: line 1, column 51: this is nested more than 50 deep"),
        ("a.yml", "a: [secret", "`a.yml` cannot be read: line 1, column 11: this is not valid YAML"),
        ("a.yml", "", "`a.yml` is not a mapping of names to values"),
        (
            "a.yml",
            "a: @secret",
            "`a.yml` cannot be read: line 1, column 4: a plain text cannot begin with this character",
        ),
    ],
)
def test_what_is_refused(tmp_path: Path, name: str, text: str, said: str) -> None:
    found = refused(tmp_path, name, text)
    assert found.startswith(said) if said.endswith("valid YAML") else found == said
    assert "secret" not in found


def test_broken_json(tmp_path: Path) -> None:
    assert refused(tmp_path, "a.json", "{").startswith("`a.json` is not JSON: ")


def test_yaml_is_read_by_its_core_schema(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("no: off\nid2label: {0: 012, 1: 0x10}\nat: 12:30:00\neps: 1e-5\n")
    found = read_params(tmp_path / "a.yaml")
    assert found == {"no": "off", "id2label": {"0": "012", "1": 16}, "at": "12:30:00", "eps": 1e-5}


@pytest.mark.parametrize("name", ["a.json", "a.yaml"])
def test_a_pipe_is_read_unless_a_recipe_names_it(tmp_path: Path, name: str) -> None:
    pipe = tmp_path / name
    os.mkfifo(pipe)
    with pytest.raises(StatexError) as caught:
        read_params(pipe, special=False)
    assert caught.value.diagnostics[0].headline == f"`{pipe}` is not a regular file"
    with ThreadPoolExecutor() as threads:
        writing = threads.submit(pipe.write_text, '{"heads": 8}')
        assert read_params(pipe) == {"heads": 8}
        writing.result()
