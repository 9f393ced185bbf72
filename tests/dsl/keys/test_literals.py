"""Single quotes are literal on the right as well: what would be filled in elsewhere is no text by accident."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import statex
from statex import StatexError
from statex.grammar.quoted import in_double_quotes
from tests.effort import examples

KEYS = ("l.0.w", "l.1.w", "a_7_b")


def state(*keys: str) -> dict[str, torch.Tensor]:
    return {key: torch.full((2,), float(number)) for number, key in enumerate(keys or KEYS)}


@pytest.mark.parametrize(
    ("rules", "line"),
    [
        (r"rename text /_(\d+)_/ -> '.{1}.'", r'rename text /_(\d+)_/ -> ".{1}."'),
        (r"rename /l\.(?P<n>\d)\.w/ -> 'm-{n}'", r'rename /l\.(?P<n>\d)\.w/ -> "m-{n}"'),
        ("rename l.{i:int}.w -> 'm.{i + 1}'  # up", 'rename l.{i:int}.w -> "m.{i + 1}"  # up'),
        ("rename l.{i:int}.w -> 'm.{i:02}'", 'rename l.{i:int}.w -> "m.{i:02}"'),
        ("rename {\n  a_7_b -> x\n  l.{i}.w -> 'm {i}'\n}", 'l.{i}.w -> "m {i}"'),
        ("rename part l.{i} -> 'm {i}'", 'rename part l.{i} -> "m {i}"'),
        ("rename l.*.w -> 'm *'", 'rename l.*.w -> "m *"'),
        ("rename ** -> 'm {key}'", 'rename ** -> "m {key}"'),
        ("copy l.{i}.w -> 'm {i}'", 'copy l.{i}.w -> "m {i}"'),
        ("add 'm {i}' = it for l.{i}.w", 'add "m {i}" = it for l.{i}.w'),
        ("set 'l.{i}.w' = it * 2 for l.{i}.w", 'set "l.{i}.w" = it * 2 for l.{i}.w'),
        ("set l.{i}.w = it + ::'l.{i}.w'", 'set l.{i}.w = it + ::"l.{i}.w"'),
        ("split l.{i}.w -> 'm {i}', n.{i} = chunk(2)", 'split l.{i}.w -> "m {i}", n.{i} = chunk(2)'),
        ("merge l.{i}.w as x -> 'm {i}' = x", 'merge l.{i}.w as x -> "m {i}" = x'),
        ("within l.{i} { rename w -> 'w {i}' }", 'within l.{i} { rename w -> "w {i}" }'),
        ("param n: int = 1\nrename a_7_b -> 'a {n}'", 'rename a_7_b -> "a {n}"'),
        ("macro f(m) {\n  rename {$m}.{i}.w -> 'm {i}'\n}\nuse f('l')", 'rename {$m}.{i}.w -> "m {i}"'),
        ("param n: int = 1\nrename prefix a -> 'a {$n}'", 'rename prefix a -> "a {$n}"'),
        ("param n: int = 1\nrename suffix w -> 'w {$n}'", 'rename suffix w -> "w {$n}"'),
        ("param n: int = 1\nrename text a_ -> 'a {$n}'", 'rename text a_ -> "a {$n}"'),
        ("rename l.{i}.w -> '\"{i}\\\\ {x} }'", 'rename l.{i}.w -> "\\"{i}\\\\ \\{x\\} \\}"'),
    ],
)
def test_a_capture_in_literal_text_is_an_error(rules: str, line: str) -> None:
    program = statex.compile(rules)
    with pytest.raises(StatexError) as caught:
        program.plan(state())
    (found,) = caught.value.diagnostics
    helps = [note.text for note in found.notes if note.kind == "help"]
    assert (found.code.id, helps[0]) == ("SX163", line)
    literal = found.span.text if found.span else ""
    assert list(statex.compile(rules.replace(literal, line_part(line, literal))).apply(state())) != list(KEYS) or (
        "set" in rules
    )


def line_part(line: str, literal: str) -> str:
    """Return what stands in a line between double quotes, with what is before the quotes of the literal."""
    return literal.partition("'")[0] + line[line.index('"') : line.rindex('"') + 1]


@pytest.mark.parametrize(
    ("rules", "key"),
    [
        ("rename a_7_b -> '{1} {i} *'", "{1} {i} *"),
        ("rename l.{i}.w -> '{x}' where i == '0'", "{x}"),
        ("rename a_7_b -> '{n}'", "{n}"),
        ("rename text '7' -> '{1}'", "a_{1}_b"),
        ("rename prefix 'a' -> '{i}'", "{i}_7_b"),
        ('rename a_7_b -> "\\{1}"', "{1}"),
        ("rename l.{i}.w -> \"\\{i}\" where i == '0'", "{i}"),
        ("rename l.{i}.w -> \"\\{{i}}\" where i == '0'", "{0}"),
        ("rename l.{i}.w -> \"\\{\\{i\\}\\}\" where i == '0'", "{{i}}"),
        ("rename l.{i}.w -> \"{{{i}}}\" where i == '0'", "{0}"),
        ("rename l.*.w -> \"\\*.*\" where key == 'l.0.w'", "*.0"),
    ],
)
def test_text_is_text(rules: str, key: str) -> None:
    assert key in statex.compile(rules).apply(state())


TEXTS = st.text("{}*\\\"'1i. \n$:", min_size=1).filter(lambda text: all(text.split(".")))


@settings(max_examples=examples(300), deadline=None)
@given(TEXTS)
def test_every_text_can_be_written_in_double_quotes(text: str) -> None:
    written = in_double_quotes(text)
    assert list(statex.compile(f"rename a.{{i}} -> {written}").apply(state("a.1", "b"))) == [text, "b"]
    assert list(statex.compile(f"drop {written}").apply(state(text, text + "1", "b"))) == [text + "1", "b"]
    assert torch.equal(statex.compile(f"set b = ::{written}").apply(state("b", "c", text))["b"], torch.full((2,), 2.0))


@pytest.mark.parametrize(
    ("rules", "code"),
    [
        ('drop "a}"', "SX109"),
        ('drop "\\{a} b}"', "SX109"),
        ("drop 'a\\{b'", "SX108"),
        ('drop "a\\q"', "SX108"),
        ('rename a -> "\\}{"', "SX109"),
    ],
)
def test_what_is_no_text(rules: str, code: str) -> None:
    with pytest.raises(StatexError) as caught:
        statex.compile(rules)
    assert [found.code.id for found in caught.value.diagnostics] == [code]
