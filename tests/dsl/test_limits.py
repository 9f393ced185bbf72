"""What a stranger's rule file may not do: fill the memory with a key, or wait for a pipe."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import statex
from statex import StatexError
from statex.dsl import bounds
from statex.grammar.rulefiles import LARGEST

STATE = {"l.0.w": torch.zeros(1), "l.1.w": torch.ones(1)}


def codes(rules: str, **params: object) -> list[str]:
    with pytest.raises(StatexError) as caught:
        statex.compile(rules).plan(STATE, params=params)
    return [found.code.id for found in caught.value.diagnostics]


@pytest.mark.parametrize(
    "statement",
    ["rename {m:**} -> {m}{m}", "rename text w -> 'ww'", "rename part w -> w.w"],
)
def test_keys_do_not_grow_without_end(statement: str) -> None:
    assert set(codes("\n".join([statement] * 30))) == {"SX322"}


def test_new_keys_do_not_either() -> None:
    assert codes("let a = 'xxxxxxxxxx'\n" + 'add "' + "{$a}" * 1001 + '" = zeros([1])') == ["SX322"]


def test_a_pipe_is_not_included(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.sx")
    with pytest.raises(StatexError) as caught:
        statex.compile("include 'pipe.sx'", folder=tmp_path).check()
    assert "is not a file" in caught.value.diagnostics[0].headline


@pytest.mark.parametrize(("name", "matches"), [("1", True), ("[01]", False), (".", False), ("(", False)])
def test_a_parameter_in_a_regular_expression_is_text(name: str, matches: bool) -> None:
    rules = statex.compile('param n: str\nrename? /l\\.{$n}\\.(.*)/ -> "m.{1}"')
    assert set(rules.apply(STATE, n=name)) == ({"l.0.w", "m.w"} if matches else set(STATE))


def test_a_parameter_that_is_not_declared() -> None:
    with pytest.raises(StatexError) as caught:
        statex.compile(r"drop /l\.{$n}\.w/").check()
    (found,) = caught.value.diagnostics
    assert found.headline == "there is no parameter `n`"
    assert found.span is not None
    assert found.span.text == "{$n}"


# --- programs without end ---------------------------------------------------------------------------------------


def doubling(count: int) -> str:
    macros = [f"macro m{i}() {{ use m{i - 1}(); use m{i - 1}() }}" for i in range(1, count + 1)]
    return "\n".join(["macro m0() { order natural }", *macros, f"use m{count}()"])


def chained(count: int) -> str:
    macros = [f"macro m{i}() {{ use m{i - 1}() }}" for i in range(1, count + 1)]
    return "\n".join(["macro m0() { drop l.0.w }", *macros, f"use m{count}()"])


def files(folder: Path, count: int, times: int) -> None:
    (folder / "f0.sx").write_text("drop? l.0.w")
    for i in range(1, count + 1):
        (folder / f"f{i}.sx").write_text(f"include 'f{i - 1}.sx'\n" * times)


def found(rules: str, folder: Path = Path(), *, check: bool = False) -> list[tuple[str, str]]:
    program = statex.compile(rules, folder=folder)
    with pytest.raises(StatexError) as caught:
        program.check() if check else program.plan(STATE)
    return [(one.code.id, one.headline) for one in caught.value.diagnostics]


END = [("SX225", "the program has carried out 5,000 statements and is not done")]
DEEP = [("SX225", "blocks, macros and included files are nested more than 100 deep")]


def test_a_program_carries_out_so_many_statements(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert bounds.STATEMENTS == 1_000_000
    monkeypatch.setattr(bounds, "STATEMENTS", 5_000)
    files(tmp_path, 40, 2)
    assert found(doubling(40)) == END
    assert found("include 'f40.sx'", tmp_path) == END
    assert found("include 'f40.sx'\n" + doubling(40) + "\ndrop nothing", tmp_path) == END
    # Without a checkpoint nothing is carried out, and each file is looked at once.
    statex.compile(doubling(40)).check()
    statex.compile("include 'f40.sx'", folder=tmp_path).check()


def test_the_last_statement_is_carried_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "STATEMENTS", 5_000)
    rules = "macro m() {" + "order natural;" * 497 + "}\n" + "use m();" * 10
    assert statex.compile(f"{rules}\n" + "order natural;" * 19).plan(STATE).steps
    assert found(f"{rules}\n" + "order natural;" * 20) == END


@pytest.mark.parametrize("check", [True, False])
def test_macros_blocks_and_files_are_nested_so_deep(tmp_path: Path, check: bool) -> None:
    files(tmp_path, 2_000, 1)
    assert found("include 'f2000.sx'", tmp_path, check=check) == DEEP
    assert found("include 'f100.sx'", tmp_path, check=check) == DEEP
    blocks = "if true {\n" * 60 + "include 'f40.sx'\n" + "}\n" * 60
    assert found(blocks, tmp_path, check=check) == DEEP
    statex.compile("include 'f99.sx'", folder=tmp_path).plan(STATE)
    statex.compile(blocks.replace("f40", "f39"), folder=tmp_path).plan(STATE)
    if not check:
        assert found(chained(5_000)) == DEEP
        assert found(chained(100)) == DEEP
    assert list(statex.compile(chained(99)).apply(STATE)) == ["l.1.w"]


def test_the_deepest_program_has_room_for_the_deepest_expression(tmp_path: Path) -> None:
    files(tmp_path, 99, 1)
    (tmp_path / "f0.sx").write_text("set l.0.w = " + "-" * 140 + "it\ndrop l.1.w where " + "not " * 140 + "true")
    assert list(statex.compile("include 'f99.sx'", folder=tmp_path).apply(STATE)) == ["l.0.w"]


def test_a_file_that_is_included_twice_is_known_in_both_places(tmp_path: Path) -> None:
    (tmp_path / "ft.sx").write_text("input ft\nmacro take(k) { set {$k} = ft::{$k} }")
    (tmp_path / "one.sx").write_text("include 'ft.sx'\nuse take('l.0.w')")
    (tmp_path / "two.sx").write_text("include 'ft.sx'\nuse take('l.1.w')")
    rules = statex.compile([tmp_path / "one.sx", tmp_path / "two.sx"])
    ft = {key: tensor + 5 for key, tensor in STATE.items()}
    assert {key: one.item() for key, one in rules.apply(STATE, inputs={"ft": ft}).items()} == {"l.0.w": 5, "l.1.w": 6}
    # What may not stand in a block is said of the one that is in a block.
    (tmp_path / "n.sx").write_text("param n: int = 1")
    assert found("include 'n.sx'\nwithin l { include 'n.sx' }", tmp_path, check=True)[0][0] == "SX216"


# --- large texts ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["drop " + "a.b, " * 500_000, "#" * (LARGEST + 1), "\n" * 5_000_000])
def test_a_text_is_not_parsed_however_large_it_is(text: str) -> None:
    with pytest.raises(StatexError) as caught:
        statex.compile(text)
    (one,) = caught.value.diagnostics
    assert (one.code.id, one.span.start if one.span else 0) == ("SX115", LARGEST)


def test_a_file_is_not_read_however_large_it_is(tmp_path: Path) -> None:
    large = tmp_path / "large.sx"
    with large.open("wb") as file:
        file.truncate(100 << 30)
    for rules, code in ((large, "SX222"), ("include 'large.sx'", "SX215")):
        with pytest.raises(StatexError) as caught:
            statex.compile(rules, folder=tmp_path).check() if code == "SX215" else statex.load(large)
        assert [one.code.id for one in caught.value.diagnostics] == [code]
        assert "too large to be a rule file" in caught.value.diagnostics[0].headline
    large.write_text("#" * LARGEST)
    statex.load(large).check()


MEMORY = """
import resource, sys
from statex.grammar import parse
from statex.core.source import Source
parse(Source("warm", "drop a"))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
first, again, last = sys.argv[1:]
parse(Source("large", first + again * ((1 << 18) // len(again)) + last))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.parametrize("text", [("drop ", "a.b, ", "z"), ("set a = cat(", "it, ", "it)"), ("drop ", "a", "")])
def test_parsing_takes_some_hundred_times_the_memory(text: tuple[str, str, str]) -> None:
    done = subprocess.run([sys.executable, "-c", MEMORY, *text], capture_output=True, text=True, check=True)
    assert int(done.stdout) << 10 < 700 << 18
