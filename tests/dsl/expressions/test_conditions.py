"""What conditions ask: of the current key, of other keys, of the target, and of the text of a key."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import statex
from statex import StatexError
from tests.effort import examples

ODD = ["a.w", "b.w", "bias", "w", "it's", "a b.{x}", "**", "*.w", "x-y.w", 'q"q', "a..w", "\\d.w", "{key}", "é.w", ".a"]
"""Keys of all kinds: dotted and not, and with every character that means something in a pattern."""


def ones(*keys: str, shape: tuple[int, ...] = (2,)) -> dict[str, torch.Tensor]:
    return {key: torch.ones(shape) for key in keys}


def kept(rules: str, state: Mapping[str, Any], **more: Any) -> list[str]:
    return list(statex.compile(rules).apply(state, **more))


def failing(rules: str, state: Mapping[str, Any] | None = None, **more: Any) -> list[tuple[str, str]]:
    """Return the codes of what is wrong and the places these show."""
    program = statex.compile(rules)
    with pytest.raises(StatexError) as caught:
        program.plan(state, **more) if state is not None else program.check()
    return [(one.code.id, one.span.text if one.span else "") for one in caught.value.diagnostics]


# --- the current key --------------------------------------------------------------------------------------------

UNFIT = "drop? ** where not exists(target::{key}) or shape != shape(target::{key})\nallow missing **"


def test_what_does_not_fit_the_target_is_left_out() -> None:
    state = {**ones("a.w", "b.w", "bias"), **ones("c.w", shape=(3,))}
    like = {**ones("a.w", "bias", "head"), **ones("c.w", shape=(4,))}
    assert kept(UNFIT, state, like=like) == ["a.w", "bias"]


@settings(max_examples=examples(150), deadline=None)
@given(st.lists(st.sampled_from(ODD), unique=True, min_size=1), st.lists(st.sampled_from(ODD), unique=True))
def test_the_current_key_is_itself_whatever_its_characters(own: list[str], others: list[str]) -> None:
    rules = statex.compile('input ft\ndrop? ** where not exists(ft::{key}) or count(ft::"{key}") != 1\ndrop ft::**')
    found = rules.apply(ones(*own), inputs={"ft": ones(*others, "z")})
    assert list(found) == [key for key in own if key in others]


@settings(max_examples=examples(150), deadline=None)
@given(st.lists(st.sampled_from(ODD), unique=True, min_size=1), st.lists(st.sampled_from(ODD), unique=True))
def test_the_current_key_is_part_of_a_longer_one(own: list[str], others: list[str]) -> None:
    ft = ones(*(f"p_{key}.ema" for key in others), "z")
    condition = "exists(ft::p_{key}.ema) and count(ft::*_{key}.*) == 1"
    rules = statex.compile(f"input ft\nkeep? ** where {condition}\ndrop ft::**")
    wanted = [key for key in own if key in others]
    assert list(rules.apply(ones(*own), inputs={"ft": ft})) == (wanted or own)


@pytest.mark.parametrize(
    "statement",
    [
        "rename? {x}.w -> {x}.new where exists(ft::{key})",
        "rename? suffix 'w' -> 'new' where exists(ft::{key})",
        "rename? part w -> new where exists(ft::{key})",
        "rename? text 'w' -> 'new' where exists(ft::{key})",
        "rename? {x}.w -> {x}.new where count(ft::{key}) > 0",
        "rename? {x}.w -> {x}.new where shape == shape(ft::{key}) and key matches {key}",
    ],
)
def test_in_every_statement(statement: str) -> None:
    ft = ones("a.w", "b.x", "c.w") if "shape(" not in statement else {**ones("a.w"), **ones("b.w", shape=(3,))}
    rules = statex.compile(f"input ft\n{statement}\ndrop ft::**")
    assert list(rules.apply(ones("a.w", "b.w"), inputs={"ft": ft})) == ["a.new", "b.w"]


def test_values_and_expectations_ask_for_the_current_key() -> None:
    ft = {"a.w": torch.ones(2), "bias": torch.ones(3)}
    state = {"a.w": torch.zeros(2), "b.w": torch.zeros(2), "bias": torch.zeros(3)}
    statements = "set ** = it + count(ft::{key})\nexpect shape a.* == shape(ft::{key})"
    rules = statex.compile(f"input ft\n{statements}\ndrop ft::**")
    assert [t.sum().item() for t in rules.apply(state, inputs={"ft": ft}).values()] == [2, 0, 3]


def test_inside_of_a_block_the_current_key_is_what_the_block_sees_of_it() -> None:
    state = ones("m.a.w", "m.b.w", "a.w")
    rules = "input ft\nwithin m { drop? ** where exists(ft::{key}) or not exists({key}) }\ndrop ft::**"
    assert kept(rules, state, inputs={"ft": ones("a.w")}) == ["m.b.w", "a.w"]


def test_what_a_statement_has_captured_is_that_with_its_dots() -> None:
    state = ones("a.b.w", "a.b.x_a.b.v", "c.w", "c.x_d.v")
    assert kept("drop? {m:**}.w where exists({m}.*_{m}.v)", state) == ["a.b.x_a.b.v", "c.w", "c.x_d.v"]


@pytest.mark.parametrize(
    ("rules", "found"),
    [
        ("if exists(target::{key}) { drop a.w }", ("SX218", "{key}")),
        ("let n = count({key}.*)", ("SX218", "{key}")),
        ("expect exists({key})", ("SX218", "{key}")),
        ("add z = zeros([1]) where exists({key})", ("SX218", "{key}")),
        ("param p: bool = exists(x.{key})", ("SX218", "{key}")),
        ("drop {key}.w", ("SX201", "{key}")),
        ("drop {key:**}", ("SX201", "{key:**}")),
        ("expect no key matches {key}", ("SX201", "{key}")),
        ("drop a.w where exists({key:**}.w)", ("SX201", "{key:**}")),
        ("drop a.w where key matches {key:int}", ("SX201", "{key:int}")),
        ("param n: int = 1\ndrop a.w where exists(a.{n})", ("SX201", "{n}")),
        ("param n: int = 1\nif count(a.{n}) > 1 { drop a.w }", ("SX201", "{n}")),
        ("drop a.w where exists(a.{it})", ("SX201", "{it}")),
        ("drop a.w where exists(nope::a.w)", ("SX209", "nope::a.w")),
        ("drop a.w where exists(a.{$nope})", ("SX202", "{$nope}")),
        ("if false { drop a.w where key matches nope::a.w }", ("SX209", "nope::a.w")),
    ],
)
def test_what_a_condition_cannot_ask_is_found_without_a_checkpoint(rules: str, found: tuple[str, str]) -> None:
    assert failing(rules) == [found]


def test_a_macro_asks_for_the_current_key_too() -> None:
    rules = "macro f(p) { drop? {$p} where exists({key}.tag) }\nuse f(\"{x}.w\")\nuse f('b.w')"
    assert kept(rules, ones("a.w", "a.w.tag", "b.w", "c.w")) == ["a.w.tag", "b.w", "c.w"]
    rules = 'macro f(p) { if exists({$p}) { drop a.w } }\nuse f("{key}")'
    assert failing(rules, ones("a.w")) == [("SX218", "{$p}")]


def test_a_parameter_of_a_recipe_may_be_used_in_a_condition_alone() -> None:
    from statex.core.source import Source
    from statex.dsl.parts import Outside, ProgramPart
    from statex.dsl.resolve import resolve
    from statex.grammar import parse

    program = parse(Source("r", "drop a.w where exists({$n}.w) and exists(ft::a.w)"))
    found = resolve([ProgramPart(program, shared=True)], lambda *_: program.source, Outside(inputs={"ft": False}))
    assert found.used == {"n"}
    assert found.read == {"ft"}


# --- regular expressions ----------------------------------------------------------------------------------------

NORMS = ("model.norm.weight", "model.layers.0.norm_1.weight", "model.layers.0.mlp.weight", "norm")
EXPRESSIONS = [
    "norm",
    "^norm",
    "norm$",
    "^model",
    r"\\.\\d+\\.",
    "n.*m",
    "x",
    "norm|mlp",
    "(?i)NORM",
    "^",
    r"^norm$",
    "weight",
]


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_matches_searches(expression: str) -> None:
    found = [key for key in NORMS if re.search(expression, key)]
    assert kept(f"keep? ** where key matches /{expression}/", ones(*NORMS)) == (found or list(NORMS))
    assert kept(f"drop? ** where not key matches /{expression}/", ones(*NORMS)) == found
    assert kept(f"if 'model.norm' matches /{expression}/ {{ drop norm }}", ones(*NORMS)) == [
        key for key in NORMS if key != "norm" or not re.search(expression, "model.norm")
    ]
    absent, present = f"expect no key matches /{expression}/", f"expect key matches /{expression}/"
    assert kept(present if found else absent, ones(*NORMS)) == list(NORMS)
    assert [code for code, _ in failing(absent if found else present, ones(*NORMS))] == ["SX317"]


def test_other_patterns_match_the_whole_text() -> None:
    assert kept("keep ** where key matches norm", ones(*NORMS)) == ["norm"]
    assert kept("keep ** where key matches **.norm.*", ones(*NORMS)) == ["model.norm.weight"]
    assert kept("keep ** where key matches 'norm'", ones(*NORMS)) == ["norm"]
    assert kept("expect no key matches nor\nexpect key matches norm", ones(*NORMS)) == list(NORMS)


def test_inside_of_a_block_what_is_searched_is_the_key_without_the_prefix() -> None:
    rules = "within model { drop ** where key matches /^norm/ or key matches /model/ }"
    assert kept(rules, ones(*NORMS)) == list(NORMS[1:])


@pytest.mark.parametrize(
    ("rules", "place", "whole"),
    [
        ("drop? /norm/", "/norm/", "/.*norm.*/"),
        ("drop? ** where exists(/layers/)", "/layers/", "/.*layers.*/"),
        ("drop bias where not exists(/^model/)", "/^model/", "/^model.*/"),
        ("if count(/weight$/) > 1 { drop bias }", "/weight$/", "/.*weight$/"),
        ("if exists(/norm_1|mlp/) { drop bias }", "/norm_1|mlp/", "/.*(?:norm_1|mlp).*/"),
        ("rename { bias -> n\n/mod/ ->? m }", "/mod/", "/mod.*/"),
        ('rename? /(mod)/ -> "{1}"', "/(mod)/", "/(mod).*/"),
    ],
)
def test_what_would_be_found_inside_is_said(rules: str, place: str, whole: str) -> None:
    keys = [*NORMS[:3], "bias"]
    (warning,) = statex.compile(rules).plan(ones(*keys)).warnings
    assert (warning.code.id, warning.span.text if warning.span else "") == ("SX915", place)
    assert [note.text for note in warning.notes] == [f"to match whole keys: `{whole}`"]
    inside = [key for key in keys if re.search(place[1:-1], key)]
    assert [key for key in keys if re.fullmatch(whole[1:-1], key)] == inside
    assert f"inside {len(inside)} key" in warning.headline


@pytest.mark.parametrize(
    "rules",
    [
        "drop? /norm.*/", "drop? /zzz/", "if exists(/zzz/) { drop norm }", "drop? ** where exists(nor)",
        "drop? ** where key matches /zz/", "expect no key matches /zz/", "drop? /(a|a)+b/",
    ],
)  # fmt: skip
def test_what_would_not_be_found_is_not_warned_of(rules: str) -> None:
    assert not statex.compile(rules).plan(ones(*NORMS)).warnings


@pytest.mark.parametrize(
    ("statement", "whole"),
    [
        ("drop /layers/", "/.*layers.*/"),
        ("input ft\ndrop ft::/layers/", "ft::/.*layers.*/"),
        ("rename /(?P<x>mo)/ -> {x}", "/(?P<x>mo).*/"),
        ("set /weight$/ = it", "/.*weight$/"),
        ("expect shape /layers\\./ == [2]", "/.*layers\\..*/"),
    ],
)
def test_a_statement_says_what_it_would_find(statement: str, whole: str) -> None:
    inputs = {"ft": ones(*NORMS)} if "ft" in statement else {}
    program = statex.compile(statement)
    with pytest.raises(StatexError) as caught:
        program.plan(ones(*NORMS), inputs=inputs)
    (found,) = caught.value.diagnostics
    assert found.code.id == "SX301"
    count = {"/(?P<x>mo).*/": 3, "/.*weight$/": 3}.get(whole, 2)
    said = f"a pattern matches whole keys, and this is found inside {count} keys: `{whole}`"
    assert said in [note.text for note in found.notes if note.kind == "help"]
    statex.compile(statement.replace(statement[statement.index("/") :].split()[0], whole.removeprefix("ft::")))


def test_a_condition_that_never_holds_says_why() -> None:
    program = statex.compile("drop ** where exists(/layers/)")
    with pytest.raises(StatexError) as caught:
        program.plan(ones(*NORMS))
    (found,) = caught.value.diagnostics
    assert found.code.id == "SX319"
    assert found.notes[-1].text == "to match whole keys: `/.*layers.*/`"


def test_the_patterns_of_an_output_say_it_too() -> None:
    from statex.core.source import Source
    from statex.dsl.parts import Outside
    from statex.session.selection import selected

    with pytest.raises(StatexError) as caught:
        selected(NORMS, [Source("keep", "/layers/")], Outside())
    assert [note.text for note in caught.value.diagnostics[0].notes] == [
        "a pattern matches whole keys, and this is found inside 2 keys: `/.*layers.*/`"
    ]


# --- work -------------------------------------------------------------------------------------------------------


def calls(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str) -> list[None]:
    """Let a function note each call of it."""
    noted: list[None] = []
    function = getattr(owner, name)

    def noting(*args: Any, **named: Any) -> Any:
        noted.append(None)
        return function(*args, **named)

    monkeypatch.setattr(owner, name, noting)
    return noted


def many(count: int) -> dict[str, torch.Tensor]:
    return ones(*(f"model.layers.{i // 8}.experts.{i % 8}.weight" for i in range(count)))


@pytest.mark.parametrize(
    ("condition", "asked"),
    [
        ("exists(**.experts.0.weight)", 1),
        ("count(**) == 64", 1),
        ("exists(ft::**.experts.{x}.weight)", 1),
        ("exists(/.*experts.*/)", 1),
        ("not exists(/experts/)", 1),
        ("exists(**.layers.{i}.experts.*.weight)", 8),
        ("exists({key}) and count(model.layers.{i}.experts.7.weight) == 1", 0),
    ],
)
def test_what_no_match_changes_is_asked_once(monkeypatch: pytest.MonkeyPatch, condition: str, asked: int) -> None:
    from statex.dsl.keys.key_index import KeyIndex

    state = many(64)
    rules = statex.compile(f"input ft\ndrop model.layers.{{i:int}}.** where {condition}\ndrop ft::**")
    found = calls(monkeypatch, KeyIndex, "find")
    rules.plan(state, inputs={"ft": state})
    assert len(found) == asked + 2


def test_what_is_asked_of_two_patterns_with_other_captures_is_not_mixed_up() -> None:
    rules = "drop? a.{x}, {y}.b where exists({x}.{y}.c)"
    assert kept(rules, ones("a.t", "t.b", "t.z.c")) == ["t.b", "t.z.c"]


def test_each_statement_asks_anew() -> None:
    rules = (
        "drop? ** where count(**) > 2 and key == 'a'\n" * 2 + "drop? b where count(**) > 2\ndrop c where count(*) == 2"
    )
    assert kept(rules, ones("a", "b", "c")) == ["b"]


@pytest.mark.parametrize("statement", ["set ** = it + ft::{key}", "set {m}.x = it for {m:**}.weight"])
def test_what_was_meant_is_looked_for_once(monkeypatch: pytest.MonkeyPatch, statement: str) -> None:
    from statex.dsl.compile import reports

    state = many(64)
    compared: list[str] = []
    near_keys = reports.near_keys
    monkeypatch.setattr(reports, "near_keys", lambda key, keys: near_keys(key, compared.extend(keys) or keys))
    program = statex.compile(f"input ft\n{statement}\ndrop ft::**")
    with pytest.raises(StatexError) as caught:
        program.plan(state, inputs={"ft": {key.replace("experts", "expert"): one for key, one in state.items()}})
    (found,) = caught.value.diagnostics
    assert (found.code.id, len(found.cases)) == ("SX304", 64)
    assert next(note.text for note in found.notes if note.kind == "help").startswith("did you mean `")
    assert len(compared) == 64


# --- the tensor that is asked about -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("short", "full"),
    [
        ("size(0) == 3", "size(it, 0) == 3"),
        ("size(dim=-1) > 1", "size(it, dim=-1) > 1"),
        ("shape() == [3, 2]", "shape(it) == [3, 2]"),
        ("shape(0) == 3", "shape(it, 0) == 3"),
        ("ndim() == 2", "ndim(it) == 2"),
        ("numel() == 6", "numel(it) == 6"),
        ("dtype() == f32", "dtype(it) == f32"),
        ("is_floating_point()", "is_floating_point(it)"),
        ("is_complex()", "is_complex(it)"),
    ],
)
def test_a_question_that_names_no_tensor_asks_the_current_one(short: str, full: str) -> None:
    state = {
        "a": torch.ones(3, 2),
        "b": torch.ones(1),
        "c": torch.ones(3, 2, dtype=torch.int64),
        "d": torch.ones(3, 2, dtype=torch.complex64),
    }
    found = kept(f"keep ** where {short}", state)
    assert found == kept(f"keep ** where {full}", state)
    assert 0 < len(found) < len(state)


def test_a_question_is_asked_of_what_is_piped_to_it() -> None:
    state = {"a": torch.zeros(3, 2), "b": torch.zeros(5)}
    assert statex.compile("set b = it + (::a | size(1)) + size(0)").apply(state)["b"].tolist() == [7.0] * 5
    assert failing("add c = zeros([size(0)])", state) == [("SX218", "size")]
    assert failing("let n = numel()", state) == [("SX218", "numel")]


@pytest.mark.parametrize(
    ("rules", "said"),
    [
        ("let a = [1, 2]\nlet b = a[0, 1]", "a list takes one index, not 2"),
        ("let a = 'text'\nlet b = a[0, 1]", "a text takes one index, not 2"),
        ("let a = 3\nlet b = a[0]", "`[…]` needs a tensor or a list, not an int"),
        ("let a = none\nlet b = a[0]", "`[…]` needs a tensor or a list, not none"),
        ("let a = true\nlet b = a[0, 1]", "`[…]` needs a tensor or a list, not a bool"),
    ],
)
def test_what_has_no_such_items(rules: str, said: str) -> None:
    with pytest.raises(StatexError) as caught:
        statex.compile(rules).plan(ones("x"))
    assert [(found.code.id, found.headline) for found in caught.value.diagnostics] == [("SX207", said)]
