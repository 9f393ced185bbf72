"""The parser as a whole: it finds several errors in one run, and never fails otherwise."""

from __future__ import annotations

import ast
import random
import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from statex import StatexError
from statex.diagnostics import Diagnostic
from statex.grammar import parse_text, tree
from tests.effort import examples

SHOWN = """
set linear.weight = ones_like
rename prefix '' -> 'ds'            # linear.weight becomes dslinear.weight
rename part attn.wq -> self_attn.q_proj
rename first { a.{i:int}.x -> b.{i + 1}.x; a.{_}.y ->? 'odd key' }
rename text /w(\\d)/ -> 'v'
renumber model.layers.{i:int}
set {m}.weight = it + alpha / rank * (lora::base.{m}.lora_B.weight @ lora::base.{m}.lora_A.weight)
    for lora::base.{m:**}.lora_A.weight
set ** = (it + ft::{key}) / 2 where is_floating_point(it)
add a.bias = zeros([4]) for a.weight
copy embed.weight -> lm_head.weight
drop? rope.freqs; keep model.**, head.*
split d.{i}.qkv.{t:weight|bias} -> d.{i}.{p:q|k|v}.{t}
    = rearrange('(g x d) ... -> x g d ...', g=kv_heads, d=head_dim)
    | sections([heads // kv_heads, 1, 1], dim=0)
merge {m:**}.experts.{e:int}.w1.weight as w1, {m}.experts.{e:int}.w3.weight as w3 over e
    -> {m}.experts.gate_up_proj = cat(stack(w1), stack(w3), dim=1)
param heads: int
param kv_heads: int = heads
let n = count(layers.{i:int}.w) - 1
input lora
input rank[] root 'model'
include 'other.sx' with a = 1, b = [1, 2]
macro fuse(a, b) { drop {$a}.x; set "{$b}.y-z" = it }
use fuse("x.{i}", 3)
within model.layers.{i} { rename q.weight -> wq.weight }
if heads > 3 and not exists(lm_head.weight) { drop a.b } else if heads == 1 { drop b.c } else { drop c.d }
root 'state_dict' -> ''
order natural
order like target
expect count(layers.{i:int}.w) == 32
expect shape a.weight == [1, 2]
expect count a.** >= 3
expect no key matches **.bias
allow missing **.bias
allow unexpected a.b, 'odd key'
set pos = cat(it[:, :1], it[:, 1:] | rearrange('1 (h w) c -> 1 c h w', h=14)
    | interpolate([16, 16], mode=bicubic), dim=1)
set x = ::bias * 2 ** -1 + it[..., [0, 2], none, ::2]
drop layers.{i:int}.** where i in [3, 7, 11] and key matches **.weight
"""


def errors_of(text: str) -> tuple[Diagnostic, ...]:
    try:
        parse_text(text)
    except StatexError as error:
        return tuple(error.diagnostics)
    return ()


def test_all_statements_parse() -> None:
    program = parse_text(SHOWN)
    kinds = {type(s) for s in program.statements}
    assert len(program.statements) == 36
    assert {k.__name__ for k in kinds} >= {
        "Set", "Rename", "Renumber", "Add", "Copy", "Drop", "Split", "Merge", "Param", "Let", "Input", "Include",
        "Macro", "Use", "Within", "If", "Root", "Order", "Expect", "ExpectKeys", "ExpectEach", "Allow",
    }  # fmt: skip


def test_spans_are_the_statements_as_written() -> None:
    text = "set a.b = it  # why\n\n  drop? c.d, e.f where ndim == 2 ; keep g.h\nif true {\n  drop x.y\n}"
    program = parse_text(text)
    assert [s.span.text.strip() for s in program.statements] == [
        "set a.b = it", "drop? c.d, e.f where ndim == 2", "keep g.h", "if true {\n  drop x.y\n}",
    ]  # fmt: skip
    assert [(s.span.line, s.span.column) for s in program.statements] == [(1, 1), (3, 3), (3, 36), (4, 1)]


def test_nodes_cannot_be_changed() -> None:
    program = parse_text("set a.b = it")
    with pytest.raises(AttributeError):
        program.statements[0].span = None  # type: ignore[misc,assignment]
    assert hash(program.statements[0]) == hash(program.statements[0])


@pytest.mark.parametrize(
    ("text", "places"),
    [
        ("renmae a -> b\nset a.b = it\ndrp c", [("SX102", 1, 1), ("SX102", 3, 1)]),
        ("set a = cat(b, \ndrop c.d\nset x y", [("SX103", 1, 12), ("SX111", 3, 7)]),
        ("drop a b\n\nrename a.b c.d\nset a.w = \nkeep *", [("SX101", 1, 8), ("SX111", 3, 12), ("SX112", 5, 6)]),
        ("if x > 3 {\n  drp a\n  drop b\n}\nstet c = d", [("SX102", 2, 3), ("SX102", 5, 1)]),
    ],
)
def test_several_errors_in_one_run(text: str, places: list[tuple[str, int, int]]) -> None:
    found = [(d.code.id, d.span.line, d.span.column) for d in errors_of(text) if d.span is not None]
    assert found == places


@pytest.mark.parametrize(
    ("text", "code", "place"),
    [
        ("dropped.w", "SX102", "dropped"),
        ("inputft", "SX102", "inputft"),
        ("keeps a.w", "SX102", "keeps"),
        ("drop a.w wherendim == 2", "SX101", "wherendim"),
        ("add c = it forb", "SX101", "forb"),
        ("drop a.w where 1 == 1 andndim == 2", "SX101", "andndim"),
    ],
)
def test_words_of_the_language_end_where_the_word_ends(text: str, code: str, place: str) -> None:
    with pytest.raises(StatexError) as caught:
        parse_text(text)
    assert [(d.code.id, d.span.text if d.span else "") for d in caught.value.diagnostics] == [(code, place)]


@pytest.mark.parametrize(
    ("text", "code", "place", "help_"),
    [
        ('include "sub/x.sx"', "SX101", '"sub/x.sx"', "write 'sub/x.sx'"),
        ('root "a"', "SX101", '"a"', "write 'a'"),
        ("drop /a.w", "SX105", "/a.w", "close it with /"),
        ("drop a.{ i }", "SX109", "{ i }", "write `{i}`"),
        ("rename a.{i -> b", "SX109", "{i", "write `{i}`"),
        ("rename part? a -> b", "SX101", "rename part?", "write `rename? part`"),
        ("drop a where ndim == 2 || ndim == 3", "SX101", "||", "write `or`"),
        ("drop a\u00a0", "SX101", "\u00a0", "write a plain space or a new line; in a key, quote it"),
        ("drop a\u2028drop b", "SX101", "\u2028", "write a plain space or a new line; in a key, quote it"),
        ("drop “a”", "SX101", "“a”", "write `'a'`"),
        ("drop “a", "SX101", "“", "write ' or \""),
        ("rename a:b -> c", "SX106", ":", "quote it: 'a:b'"),
    ],
)
def test_common_slips_are_named(text: str, code: str, place: str, help_: str) -> None:
    with pytest.raises(StatexError) as caught:
        parse_text(text)
    (found,) = caught.value.diagnostics
    assert (found.code.id, found.span.text if found.span else "") == (code, place)
    assert help_ in [note.text for note in found.notes if note.kind == "help"]


def test_an_unclosed_bracket_is_reported_where_it_opened() -> None:
    (found,) = errors_of("set a.b = cat(it,\n  dim=0\ndrop c.d\n")
    assert found.code.id == "SX103"
    assert found.span is not None
    assert (found.span.text, found.span.line, found.span.column) == ("(", 1, 14)


def test_what_does_not_belong_marks_the_bracket_it_is_in() -> None:
    (found,) = errors_of("set a.b = cat(it, (1 + 2, dim=0)\ndrop c.d\n")
    assert [(label.span.text, label.span.column) for label in found.labels] == [(",", 25), ("(", 19)]


def test_the_wrong_closing_bracket_names_the_open_one() -> None:
    (found,) = errors_of("set a.b = cat(it[:, (1 + 2], dim=0)\n")
    assert found.code.id == "SX104"
    assert [label.span.text for label in found.labels] == ["]", "("]


def test_operators_bind_as_in_python() -> None:
    for text in ("2 ** -1 * 3", "-a ** 2", "a // b % c", "1 + 2 * 3 - 4 @ 5", "not a == b and c or d", "2 ** 3 ** 2"):
        (statement,) = parse_text(f"let x = {text}").statements
        assert isinstance(statement, tree.Let)
        assert shape(statement.value) == python_shape(ast.parse(text, mode="eval").body)


@pytest.mark.parametrize("depth", [200, 5_000, 50_000])
@pytest.mark.parametrize("text", ["set a = {}it{}", "let a = {}1{}", "drop ** where {}true{}"])
@pytest.mark.parametrize("brackets", ["()", "[]"])
def test_deep_nesting_is_an_error(text: str, depth: int, brackets: str) -> None:
    found = errors_of(text.format(brackets[0] * depth, brackets[1] * depth))
    assert [d.code.id for d in found] == ["SX107"]


@pytest.mark.parametrize("text", ["set a = " + "-" * 3000 + "it", "set a = " + "not " * 3000 + "it"])
def test_long_chains_of_prefixes(text: str) -> None:
    assert [d.code.id for d in errors_of(text)] == ["SX107"]


def test_long_flat_programs_are_fine() -> None:
    parse_text("set a = cat(" + ", ".join(f"b.{i}" for i in range(3000)) + ")")


TEXT = """set rename drop keep merge split add copy param let if else within macro use for where over as expect allow
order root input include prefix part first matches in not and or it a b.c layers.{i}.w {m:**} {p:q|k=v} {i:int} {i+1} **
* 'text' "pat{i}" /re(x)/ ft::a.b ::c = -> ->? | , ( ) [ ] { } ; : :: + - * / // % ** @ == != < >= 1 2.5 1e5 true none
f32 cat(it,dim=0) # \\ ' " \n \n\n \t é \u2028 … \ufeff"""
PIECES = [*TEXT.replace("\n", " ").split(" "), "\n", " ", "\n  "]
texts = st.one_of(
    st.lists(st.sampled_from(PIECES), max_size=30).map(" ".join),
    st.lists(st.sampled_from(PIECES), max_size=30).map("".join),
    st.text(max_size=60),
    st.binary(max_size=60).map(lambda b: b.decode("latin-1")),
)


@settings(max_examples=examples(400), deadline=None)
@given(texts)
@example("\ud800")
@example("set a = {" * 200)
@example("{" * 150 + "}" * 150)
@example("drop 'a\\")
def test_any_text_is_a_program_or_an_error_with_its_place(text: str) -> None:
    for found in errors_of(text):
        assert found.headline
        if found.span is not None:
            assert 0 <= found.span.start <= found.span.end <= len(text)


@settings(max_examples=examples(100), deadline=None)
@given(st.integers(0, 2**32))
def test_a_damaged_program_is_a_program_or_an_error(seed: int) -> None:
    rng = random.Random(seed)
    text = list(SHOWN)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(text))
        if rng.random() < 0.5:
            del text[at : at + rng.randint(1, 5)]
        else:
            text.insert(at, rng.choice(PIECES))
    for found in errors_of("".join(text)):
        assert found.headline


def shape(node: object) -> str:
    """Return an expression with all its brackets."""
    match node:
        case tree.Binary():
            return f"({shape(node.left)} {node.operator} {shape(node.right)})"
        case tree.Unary():
            return f"({node.operator} {shape(node.operand)})"
        case tree.Number() | tree.Name():
            return node.span.text
    raise AssertionError(node)


SIGNS = {
    ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/", ast.FloorDiv: "//", ast.Mod: "%", ast.Pow: "**",
    ast.MatMult: "@", ast.Eq: "==", ast.And: "and", ast.Or: "or", ast.USub: "-", ast.Not: "not",
}  # fmt: skip


def python_shape(node: ast.expr) -> str:
    """Return the same of Python's own tree."""
    match node:
        case ast.BinOp():
            return f"({python_shape(node.left)} {SIGNS[type(node.op)]} {python_shape(node.right)})"
        case ast.BoolOp(values=[left, right]):
            return f"({python_shape(left)} {SIGNS[type(node.op)]} {python_shape(right)})"
        case ast.Compare(ops=[op], comparators=[right]):
            return f"({python_shape(node.left)} {SIGNS[type(op)]} {python_shape(right)})"
        case ast.UnaryOp():
            return f"({SIGNS[type(node.op)]} {python_shape(node.operand)})"
        case ast.Constant() | ast.Name():
            return ast.unparse(node)
    raise AssertionError(node)


def plain(node: object) -> object:
    """Return a tree without its spans, to compare what two texts mean."""
    if isinstance(node, tuple):
        return tuple(plain(n) for n in node)
    if hasattr(node, "__dataclass_fields__"):
        names = [n for n in node.__dataclass_fields__ if n not in ("span", "name_span", "operator_span", "source")]
        if isinstance(node, tree.Rename):
            names.append("mode")
        return (type(node).__name__, *(plain(getattr(node, n)) for n in names))
    return node


@settings(max_examples=examples(60), deadline=None)
@given(st.lists(st.sampled_from(["", "   ", "# a comment ( [ {", "\t# it's", ";"]), min_size=40, max_size=40))
def test_blank_lines_and_comments_change_nothing(fillers: list[str]) -> None:
    statements = parse_text(SHOWN).statements
    lines = [line for s in statements for line in (s.span.text, "\0")]
    filled = "\n".join(fillers[i % 40] if line == "\0" else line for i, line in enumerate(lines))
    assert [plain(s) for s in parse_text(filled).statements] == [plain(s) for s in statements]


@pytest.mark.parametrize(
    "text",
    [
        "drop " + "{a}." * 10_000,
        "drop " + "a" * 40_000 + "\ndrop b-c",
        "drop " + "a" * 40_000 + "\nset a.b = it.f(1)",
    ],
)
def test_errors_after_long_keys_take_no_square_of_their_length(text: str) -> None:
    began = time.process_time()
    with pytest.raises(StatexError):
        parse_text(text)
    assert time.process_time() - began < 1


@pytest.mark.parametrize(
    "text",
    [
        "rename a -> b, " + ", ".join(["x->x->x"] * 40) + " {",
        "rename {" + "a -> " * 20_000,
        "rename prefix '" + " " * 100_000 + "' x",
        "drop a" + "(" * 20_000,
        "set a.b = (it)" + "[0]" * 600 + ".half()",
        "set a.b = it" + ".f()" * 20_000,
        "set a.b = it\n" + "  + 1\n" * 20_000,
        "rename {\n" + "a.b -> c,\n" * 20_000 + "}",
        "expect not " + "count a " * 20_000,
    ],
    ids=lambda text: text[:20],
)
def test_what_was_meant_is_not_looked_for_at_any_length(text: str) -> None:
    began = time.process_time()
    assert errors_of(text)
    assert time.process_time() - began < 2
