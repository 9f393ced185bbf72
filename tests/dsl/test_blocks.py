"""Macros, blocks and included files: which names they see, and what they leave alone."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

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


@pytest.mark.parametrize(
    ("program", "wanted"),
    [
        ("within m.{p:query=q|key=k} { rename w -> {p}.w }", ["m.query.q.w", "m.key.k.w", "l.3.w"]),
        ("within m.{p:query=q|key=k} { drop ** where key == 'w' and p == 'k' }", ["m.query.w", "l.3.w"]),
        ("within {p:l=layers} { renumber {i:int} }", ["m.query.w", "m.key.w", "l.0.w"]),
        ('macro f(x) { within {$x} { rename w -> {p} } }\nuse f("m.{p:query=q|key=k}")',
         ["m.query.q", "m.key.k", "l.3.w"]),
    ],
)  # fmt: skip
def test_the_prefix_of_a_block_stays_whatever_its_choices_stand_for(program: str, wanted: Sequence[str]) -> None:
    assert keys(program, "m.query.w", "m.key.w", "l.3.w") == wanted


def test_an_empty_prefix_takes_nothing_off() -> None:
    assert keys("within {m:**} { drop a.{x} where key == 'a.w' }", "a.w", "b.a.w", "a.b") == ["a.b"]


@pytest.mark.parametrize(
    ("program", "wanted"),
    [
        ("within l.{i:int} { rename part a -> a{i + 1} }", ["l.0.a1.w", "l.0.0.w", "l.3.a4.w", "l.3.b.w"]),
        ("within l.{i} { rename part {i} -> c }", ["l.0.a.w", "l.0.c.w", "l.3.a.w", "l.3.b.w"]),
        ("within l.* { rename part *.w -> v.* }", ["l.0.v.a", "l.0.v.0", "l.3.v.a", "l.3.v.b"]),
    ],
)  # fmt: skip
def test_the_captures_of_a_block_are_names_in_renames_of_parts(program: str, wanted: Sequence[str]) -> None:
    assert keys(program, "l.0.a.w", "l.0.0.w", "l.3.a.w", "l.3.b.w") == wanted


def test_the_captures_of_a_block_are_names_in_renames_of_text() -> None:
    assert keys('within l.{i} { rename text /a/ -> "{i}x" }', "l.0.a.w", "l.3.ba") == ["l.0.0x.w", "l.3.b3x"]


def test_numbers_are_closed_up_in_each_place_of_a_block() -> None:
    given = ("l.0.e.5", "l.3.e.6", "l.3.e.7")
    assert keys("within l.{j:int} { renumber e.{i:int} }", *given) == ["l.0.e.0", "l.3.e.0", "l.3.e.1"]
    assert refused("within l.{j:int} { renumber e.{j} }", "l.0.e.0")[0][0] == "SX315"


@pytest.mark.parametrize(
    ("program", "place"),
    [
        ("param n: int = 0\ndrop l.{n}.w", "{n}"),
        ("let i = 3\nrename l.{i:int}.w -> l.{i}.v", "{i:int}"),
        ("macro f(i) { drop l.{i}.w }\nuse f(4)", "{i}"),
        ("rename l.{key}.w -> {key}.v", "{key}"),
        ("rename /l.(?P<norm>.).w/ -> x.{norm}", "/l.(?P<norm>.).w/"),
        ("merge l.0.w as it -> b = it", "it"),
        ("merge l.0.w as x, l.1.w as x -> b = x", "x"),
        ("merge l.{x}.w as x -> {x} = x", "x"),
        ("param e = 1\nsplit l.0.w over e -> x.{e} = unstack", "e"),
    ],
)
def test_a_name_means_one_thing(program: str, place: str) -> None:
    with pytest.raises(StatexError) as caught:
        keys(program, "l.0.w", "l.1.w")
    assert [(d.code.id, d.span.text if d.span else "") for d in caught.value.diagnostics] == [("SX201", place)]


def test_a_capture_of_a_block_may_be_named_again_in_it() -> None:
    assert keys("within l.{i} { rename w.{i} -> {i} }", "l.3.w.3", "l.3.w.4") == ["l.3.3", "l.3.w.4"]


def test_what_is_wrong_with_an_include_is_said_where_it_stands(tmp_path: Path) -> None:
    (tmp_path / "part.sx").write_text("param n: int\n")
    for line, code, place in [
        ("include 'gone.sx'", "SX215", "'gone.sx'"),
        ("include 'part.sx' with n = 1, n = 2", "SX201", "n"),
    ]:
        (tmp_path / "rules.sx").write_text(f"{line}\n")
        with pytest.raises(StatexError) as caught:
            statex.load(tmp_path / "rules.sx").check()
        assert [(d.code.id, d.span.text if d.span else "") for d in caught.value.diagnostics] == [(code, place)]


def test_a_parameter_of_an_included_file_is_given_by_with(tmp_path: Path) -> None:
    (tmp_path / "part.sx").write_text("param n: int\n")
    (tmp_path / "rules.sx").write_text("include 'part.sx'\n")
    with pytest.raises(StatexError) as caught:
        statex.load(tmp_path / "rules.sx").plan({})
    assert "include 'part.sx' with n = …" in caught.value.diagnostics[0].notes[0].text


@pytest.mark.parametrize(
    ("program", "place"),
    [("macro f(x, x) { drop {$x} }", "x"), ("add b = cat(a.w, a.w, dim=0, dim=1)", "dim=1")],
)
def test_nothing_is_given_twice(program: str, place: str) -> None:
    with pytest.raises(StatexError) as caught:
        statex.compile(program).check()
    assert [(d.code.id, d.span.text if d.span else "") for d in caught.value.diagnostics] == [("SX201", place)]


def test_keys_of_further_inputs_are_written_whole_in_within() -> None:
    text = (Path(__file__).parents[2] / "docs" / "language.md").read_text()
    (rules,) = re.findall(r"```sx\n(input ft\nwithin .*?)```", text, re.DOTALL)
    names = [f"model.layers.{i}.{n}.weight" for i in range(2) for n in ("mlp", "norm")]
    state = {name: torch.full((2,), float(number)) for number, name in enumerate(names)}
    ft = {name: tensor + 10 for name, tensor in state.items()}
    done = statex.compile(rules).apply(state, inputs={"ft": ft})
    wanted = {name: (state[name] + ft[name]) / 2 if "mlp" in name else ft[name] for name in names}
    assert all(torch.equal(done[name], wanted[name]) for name in names)
    short = "input ft\nwithin model.layers.{i} { set norm.weight = ft::{key} }"
    found = statex.compile(short).apply(state, inputs={"ft": {"norm.weight": torch.zeros(2)}})
    assert not found["model.layers.1.norm.weight"].any()
