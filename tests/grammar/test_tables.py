"""The parser from tables, those of an install and those computed in memory, reads what lark's own parser reads."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import lark
import pytest
from lark import TextSlice, Tree, UnexpectedInput, lexer

from statex.core.source import Source, Span
from statex.diagnostics import StatexError
from statex.grammar import lalr, parse_text, tables
from statex.grammar.parser import parse_field
from statex.grammar.postlex import Newlines
from statex.grammar.terminals import grammar_text
from tests.grammar.test_strict import BLOCKS, FORMS, Kept
from tests.messages.corpus import cases

ROOT = Path(__file__).parent.parent.parent
FILES = [path.read_text() for folder in ("examples", "tests") for path in sorted((ROOT / folder).rglob("*.sx"))]
WRONG = [case.text for case in cases()]
WHOLE = [*FILES, *FORMS, *(text for text, _ in BLOCKS.values())]
FIELDS = ["i", "i + 1", "i + 1:02", "f(i, a=2)[0]", "", "i +", "i:", "i:02 x", "(i", "i ]", "$x", "'a", "drop a"]


def damaged(texts: list[str]) -> Iterator[str]:
    """Yield texts that end early, lack a character, or have one too many."""
    chance = random.Random(1)
    for text in texts:
        for _ in range(3):
            at = chance.randrange(len(text))
            yield text[:at]
            yield text[:at] + text[at + 1 :]
            yield text[:at] + chance.choice("{}()[],;:=|->?'\"/*. \n@$") + text[at:]


class Ours(Kept):
    """The same newlines as `lalr.parse` leaves out, for a parser of lark's own."""

    def __init__(self) -> None:
        self.newlines = Newlines()

    def process(self, stream: Iterator[lark.Token]) -> Iterator[lark.Token]:
        return self.newlines.process(stream)


@cache
def whole_lark(start: str) -> lark.Lark:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lexer, "has_interegular", False)  # comparing all terminals takes seconds
        return lark.Lark(
            grammar_text(),
            parser="lalr",
            start=start,
            propagate_positions=True,
            postlex=Ours(),  # type: ignore[arg-type]
        )


@cache
def automaton(start: str, *, packed: bool) -> lalr.Automaton:
    return lalr.Automaton(json.loads(tables.packed()) if packed else tables.compute(start), start)


def by_lark(start: str, text: str) -> Any:
    whole = whole_lark(start)
    assert isinstance(whole.options.postlex, Ours)
    whole.options.postlex.newlines.source = Source("", text)
    return outcome(lambda: whole.parse(TextSlice(text, 0, len(text))))


def by_tables(start: str, text: str, *, packed: bool) -> Any:
    newlines = Newlines()
    newlines.source = Source("", text)
    return outcome(lambda: lalr.parse(automaton(start, packed=packed), TextSlice(text, 0, len(text)), newlines))


def outcome(parse: Any) -> Any:
    """Return a tree with the places of its nodes, or an error with its place and the tokens that could stand there."""
    try:
        found = parse()
    except UnexpectedInput as error:
        expected = getattr(error, "expected", None) or getattr(error, "allowed", None)
        accepts = error.state.parse_conf.states[error.state.position].keys()
        return type(error), error.pos_in_stream, frozenset(expected or ()), frozenset(map(str, accepts))
    except StatexError as error:
        return str(error)
    return places(found)


def places(node: Any) -> Any:
    if isinstance(node, Tree):
        at = None if node.meta.empty else (node.meta.start_pos, node.meta.end_pos)
        return str(node.data), at, tuple(map(places, node.children))
    return None if node is None else (node.type, str(node), node.start_pos)


@pytest.mark.parametrize("packed", [True, False])
def test_reads_what_lark_reads(packed: bool) -> None:
    assert len(FILES) > 10
    assert len(WRONG) > 100
    for text in [*WHOLE, *WRONG, *damaged([*FORMS, *BLOCKS])]:
        assert by_tables("start", text, packed=packed) == by_lark("start", text), text


@pytest.mark.parametrize("packed", [True, False])
def test_reads_what_lark_reads_between_braces(packed: bool) -> None:
    for text in FIELDS:
        assert by_tables("field", text, packed=packed) == by_lark("field", text), text


def test_the_texts_are_right_and_wrong() -> None:
    found = [by_lark("start", text) for text in damaged(list(FORMS))]
    failed = [one for one in found if isinstance(one[0], type)]
    assert 20 < len(failed) < len(found) - 20


# --- where tables come from -------------------------------------------------------------------------------------


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """The start rules that tables are computed for."""
    asked: list[tuple[str, ...]] = []
    compute = tables.compute
    monkeypatch.setattr(tables, "compute", lambda *starts: (asked.append(starts), compute(*starts))[1])
    return asked


def pack(monkeypatch: pytest.MonkeyPatch, text: str | None) -> list[str]:
    """Let the package have a text for its tables, or none, and return the files that are read from now on."""
    read: list[str] = []

    def get(package: str, name: str) -> bytes:
        read.append(name)
        if text is None:
            raise FileNotFoundError(name)
        return text.encode()

    monkeypatch.setattr(tables, "get_data", get)
    monkeypatch.setattr(tables, "packaged", cache(tables.packaged.__wrapped__))
    return read


def test_what_the_package_has_is_taken(monkeypatch: pytest.MonkeyPatch, computed: list[tuple[str, ...]]) -> None:
    text = tables.packed()
    computed.clear()
    read = pack(monkeypatch, text)
    assert tables.tables("start") == tables.tables("field") == json.loads(text)
    assert not computed
    assert read == [tables.FILE]  # once for both


def test_a_package_without_them_computes_them(monkeypatch: pytest.MonkeyPatch, computed: list[tuple[str, ...]]) -> None:
    pack(monkeypatch, None)
    assert list(tables.tables("start")["starts"]) == ["start"]
    assert computed == [("start",)]


@pytest.mark.parametrize("what", ["grammar", "lark"])
def test_tables_of_another_grammar_or_lark_are_not_taken(
    monkeypatch: pytest.MonkeyPatch, computed: list[tuple[str, ...]], what: str
) -> None:
    pack(monkeypatch, tables.packed())
    computed.clear()
    if what == "lark":
        monkeypatch.setattr(lark, "__version__", "1.0.0")
    else:
        changed = grammar_text().replace('"rename"', '"rename_"')
        monkeypatch.setattr(tables, "grammar_text", lambda: changed)
    assert list(tables.tables("start")["starts"]) == ["start"]
    assert computed == [("start",)]


def test_tables_are_the_same_each_time() -> None:
    program = "from statex.grammar import tables; print(tables.packed())"
    run = [sys.executable, "-c", program]
    one, other = (
        subprocess.run(run, cwd=ROOT, env={"PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)}, capture_output=True)
        for seed in ("1", "2")
    )
    assert one.returncode == other.returncode == 0
    assert one.stdout == other.stdout


def test_threads_share_tables() -> None:
    assert lalr.automaton("start") is lalr.automaton("start")
    source = Source("", "i + 1")
    parse_text("drop a")
    assert parse_field(Span(source, 0, 5)).span.text == "i + 1"


def test_a_wheel_of_a_source_distribution_has_them(tmp_path: Path) -> None:
    for name in ("pyproject.toml", "README.md", "LICENSE", ".gitignore", "hatch_build.py"):
        shutil.copy(ROOT / name, tmp_path)
    shutil.copytree(ROOT / "statex", tmp_path / "statex", ignore=shutil.ignore_patterns("__pycache__", tables.FILE))
    (sources,) = built(tmp_path, "sdist", "*.tar.gz")
    with tarfile.open(sources) as archive:
        archive.extractall(tmp_path, filter="data")
    (wheel,) = built(tmp_path / sources.name.removesuffix(".tar.gz"), "wheel", "*.whl")
    with ZipFile(wheel) as archive:
        assert archive.read("statex/grammar/tables.json").decode() == tables.packed()


def built(folder: Path, target: str, ending: str) -> list[Path]:
    run = [sys.executable, "-m", "hatchling", "build", "-t", target, "-d", "out"]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(run, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return list((folder / "out").glob(ending))
