"""Patterns against a reference that tries every way to cut a key, and templates against what was captured."""

from __future__ import annotations

import itertools
import re

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

import statex
from statex import StatexError
from statex.core.source import Source
from statex.dsl.keys.captures import Bindings, Captured, CaptureKind
from statex.dsl.keys.key_index import KeyIndex
from statex.dsl.keys.patterns import Pattern, compile_pattern
from statex.dsl.keys.templates import Template, compile_template
from statex.grammar import parse, tree
from tests.dsl.keys.reference import Segments, Token, counted, is_many, reference, value_of, written
from tests.effort import examples

# --- random patterns and keys -----------------------------------------------------------------------------------

_CHOICES = st.lists(
    st.sampled_from(["a", "b", "ab", "0", "1", "10", "a.b", "b.0", "1.1"]), min_size=1, max_size=3, unique=True
)
_VALUES = st.sampled_from(["", "x", "a.x", "7", "08"])


@st.composite
def patterns(draw: st.DrawFn, *, translated: bool = True, anonymous: bool = True) -> Segments:
    """Draw a pattern; without `translated` and `anonymous` a key can be made of its captures again."""
    named: dict[str, Token] = {}
    stars = 0
    segments: list[tuple[Token, ...]] = []

    def capture(kind: str) -> Token:
        nonlocal stars
        if kind in ("star", "many star"):
            stars += 1
            return Token("segments" if kind == "many star" else "star", f"*{stars}")
        unnamed = anonymous and kind != "segments" and draw(st.integers(0, 9)) == 0
        name = "" if unnamed else f"c{len(named)}"
        choices: tuple[tuple[str, str], ...] = ()
        if kind == "choice":
            texts = draw(_CHOICES)
            one = len(texts) == 1
            choices = tuple((t, draw(_VALUES) if translated and (one or draw(st.booleans())) else t) for t in texts)
            if one and choices[0][0] == choices[0][1]:
                choices += ((texts[0] + "z",) * 2,)
        token = Token(kind, name, choices)
        if name:
            named[name] = token
        return token

    for _ in range(draw(st.integers(1, 4))):
        if draw(st.integers(0, 3)) == 0:
            again = [t for t in named.values() if t.kind == "segments"]
            if again and draw(st.booleans()):
                segments.append((Token("segments", draw(st.sampled_from(again)).text, first=False),))
            else:
                segments.append((capture(draw(st.sampled_from(["many star", "segments"]))),))
            continue
        atoms: list[Token] = []
        for _ in range(draw(st.integers(1, 3))):
            kind = draw(st.sampled_from(["text", "text", "star", "plain", "int", "choice", "again"]))
            again = [t for t in named.values() if t.kind != "segments"]
            if kind == "again" and again:
                first = draw(st.sampled_from(again))
                atoms.append(Token(first.kind, first.text, first.choices, first=False))
            elif kind in ("text", "again"):
                atoms.append(Token("text", draw(st.sampled_from(["a", "b", "0", "ab"]))))
            elif kind == "star" and atoms and atoms[-1].kind == "star":
                # `**` would be something else.
                atoms.append(capture("plain"))
            else:
                atoms.append(capture(kind))
        segments.append(tuple(atoms))
    return tuple(segments)


_SEGMENT = st.text("ab01", min_size=1, max_size=3) | st.sampled_from(["", "٣", "a-b"])
_KEY = st.lists(_SEGMENT, min_size=1, max_size=5).map(".".join)


@st.composite
def keys_of(draw: st.DrawFn, segments: Segments) -> str:
    """Draw a key that the pattern matches, or nearly."""
    texts: dict[str, str] = {}
    parts: list[str] = []
    ends = {segment[0].text for segment in segments[-1:] if is_many(segment)}
    for segment in segments:
        part = ""
        for token in segment:
            if token.kind == "text":
                text = token.text
            elif token.kind == "segments":
                least = int(token.text in ends)
                text = ".".join(draw(st.lists(st.text("ab01", min_size=1, max_size=2), min_size=least, max_size=3)))
            elif token.kind == "choice":
                text = draw(st.sampled_from([c for c, _ in token.choices]))
            else:
                text = draw(st.text("01" if token.kind == "int" else "ab01", min_size=1, max_size=2))
            part += texts.setdefault(token.text, text) if token.kind != "text" and token.text else text
        if part or not is_many(segment):
            parts.append(part)
    return ".".join(parts)


@st.composite
def pattern_and_key(draw: st.DrawFn) -> tuple[Segments, str]:
    segments = draw(patterns())
    return segments, draw(keys_of(segments) | _KEY)


def no_splice(piece: tree.Splice) -> str:
    raise AssertionError(piece)


def node_of(text: str) -> tree.PatternNode:
    quoted = text if text[0] in "'/" else f'"{text}"'
    (statement,) = parse(Source("test", f"drop {quoted}")).statements
    assert isinstance(statement, tree.Drop)
    return statement.patterns[0]


def pattern_of(text: str) -> Pattern:
    return compile_pattern(node_of(text), splice=no_splice)


def template_of(text: str) -> Template:
    return compile_template(node_of(text), splice=no_splice)


def texts_of(bindings: Bindings, stars: bool) -> dict[str, str]:
    return {name: c.text for name, c in bindings.items() if stars or name[0] != "*"}


def captures_of(segments: Segments) -> dict[str, Token]:
    tokens = [t for segment in segments for t in segment if t.kind != "text" and t.text and t.first]
    return {token.text: token for token in tokens}


# --- matching ---------------------------------------------------------------------------------------------------


@settings(max_examples=examples(600), deadline=None)
@given(pattern_and_key(), st.booleans())
def test_readings_are_those_of_the_reference(case: tuple[Segments, str], stars: bool) -> None:
    segments, key = case
    wanted = reference(segments, key)
    pattern = pattern_of(written(segments))
    found = pattern.readings(key, stars=stars)
    assert len(found) == min(len(counted(wanted, stars)), 2), (written(segments), key)
    tokens = captures_of(segments)
    for bindings in found:
        assert texts_of(bindings, True) in wanted
        for name, captured in bindings.items():
            assert captured.value == value_of(tokens[name], captured.text)
            assert type(captured.value) is type(value_of(tokens[name], captured.text))
    if len(found) == 2:
        assert texts_of(found[0], stars) != texts_of(found[1], stars)
    assert (pattern.match(key) is not None) == bool(wanted)


@settings(max_examples=examples(150), deadline=None)
@given(patterns(), st.data())
def test_an_index_finds_what_every_key_by_itself_matches(segments: Segments, data: st.DataObject) -> None:
    keys = data.draw(st.lists(keys_of(segments) | _KEY, max_size=12, unique=True))
    index = KeyIndex(keys)
    for _ in range(data.draw(st.sampled_from([0, 1, 9]))):
        index.find(pattern_of(written(segments)))  # after some, what is removed afterwards has a place in its tree
    gone = data.draw(st.lists(st.sampled_from(keys), unique=True)) if keys else []
    for key in gone:
        index.discard(key)
    back = gone[: len(gone) // 2]
    for key in back:
        index.add(key)
    there = [key for key in keys if key not in gone] + back
    stars = data.draw(st.booleans())
    found = index.find(pattern_of(written(segments)), ambiguous_stars=stars)
    readings = {key: counted(reference(segments, key), stars) for key in there}
    assert [(f.key, f.other is not None) for f in found] == [(k, len(r) > 1) for k, r in readings.items() if r]
    assert len(index) == len(there)
    assert all((key in index) == (key in there) for key in keys)


_NESTED = [".".join(segments) for length in (1, 2, 3) for segments in itertools.product("ab", repeat=length)]


@settings(max_examples=examples(200), deadline=None)
@given(st.data())
def test_an_index_whose_keys_begin_with_one_another_is_changed(data: st.DataObject) -> None:
    patterns = {text: pattern_of(text) for text in ("*", "*.*", "a.*", "*.{_:a|b}.a", "a.**", "**.b", "**", "a.b")}
    order = data.draw(st.lists(st.sampled_from(_NESTED), unique=True, max_size=10))
    index = KeyIndex(order)
    for _ in range(data.draw(st.integers(1, 6))):
        for _ in range(data.draw(st.sampled_from([1, 9]))):
            index.find(patterns["*"])  # after some, the tree is there
        gone = data.draw(st.lists(st.sampled_from(order), unique=True)) if order else []
        left = [key for key in order if key not in gone]
        drawn = data.draw(st.lists(st.sampled_from(_NESTED), unique=True, max_size=5))
        new = [key for key in drawn if key not in left]
        index.change(gone, new)
        order = left + new
        assert list(index) == order
        for text, pattern in patterns.items():
            assert [found.key for found in index.find(pattern)] == [
                key for key in order if pattern.match(key) is not None
            ], text


@settings(max_examples=examples(200), deadline=None)
@given(patterns(translated=False), st.data())
def test_bound_captures_leave_the_readings_that_have_them(segments: Segments, data: st.DataObject) -> None:
    key = data.draw(keys_of(segments))
    readings = reference(segments, key)
    names = sorted(name for name in captures_of(segments) if name[0] != "*")
    others = reference(segments, data.draw(keys_of(segments)))
    chosen = {name: others[0][name] for name in names if data.draw(st.booleans())}
    bound = pattern_of(written(segments)).bind({n: Captured(t, t, t) for n, t in chosen.items()})
    agreeing = [r for r in readings if all(r[name] == text for name, text in chosen.items())]
    assert (bound.match(key) is not None) == bool(agreeing), (written(segments), key, chosen)


@pytest.mark.parametrize(
    ("pattern", "matched", "others"),
    [
        ("linear.weight", ["linear.weight"], ["linear.weights", "a.linear.weight", "linear", "linear_weight", ""]),
        ("w{p}.weight", ["w1.weight", "wxy.weight"], ["w.weight", "w1.0.weight", "aw1.weight"]),
        ("*", ["a", "ab"], ["a.b", ""]),
        ("**", ["a", "a.b", "a.b.c", ""], []),
        ("**.x", ["x", "a.x", "a.b.x"], ["ax", "x.a", "a.bx"]),
        ("x.**", ["x.a", "x.a.b"], ["x", "xa", "a.x.b"]),
        ("a.**.x", ["a.x", "a.b.x", "a.b.c.x"], ["x", "a", "ax"]),
        ("{i:int}.a", ["0.a", "007.a"], ["a.a", "-1.a", "1a.a", "٣.a"]),
        ("{p:q|k.v}.w", ["q.w", "k.v.w"], ["k.w", "v.w", "qk.v.w"]),
        ("'a.*'", ["a.*"], ["a.b"]),
        ("{a}.{a}", ["x.x"], ["x.y"]),
        ("{m:**}.w.{m}", ["a.b.w.a.b"], ["w", "a.w.b", "a.b.w.a"]),
        ("*.{_}.{_:int}", ["a.b.1"], ["a.b.c"]),
        ("/a(.*)b/", ["ab", "a.b", "axb"], ["cab", "abc"]),
        ("a b-{x}/c", ["a b-1/c"], ["a b-/c"]),
        ("{{x}}", ["{x}"], ["x"]),
    ],
)  # fmt: skip
def test_patterns_of_the_table(pattern: str, matched: list[str], others: list[str]) -> None:
    compiled = pattern_of(pattern)
    assert [key for key in [*matched, *others] if compiled.match(key) is not None] == matched


@pytest.mark.parametrize(
    ("pattern", "key", "values"),
    [
        ("{i:int}.{x}", "007.8", {"i": 7, "x": "8"}),
        ("{p:q|k}", "k", {"p": "k"}),
        ("{p:0|1|10}", "10", {"p": 10}),
        ("{p:query=q|key=k}", "key", {"p": "k"}),
        ("{p:a=0|b=1}", "b", {"p": 1}),
        ("{p:0=a|1=b}", "1", {"p": "b"}),
        ("{m:**}.w", "a.b.w", {"m": "a.b"}),
        ("{m:**}.w", "w", {"m": ""}),
        ("*.x.**", "a.x.b.c", {"*1": "a", "*2": "b.c"}),
        ("/l(\\d+)[.](?<rest>.*)/", "l12.a.b", {"1": "12", "2": "a.b", "rest": "a.b"}),
    ],
)
def test_what_captures_stand_for(pattern: str, key: str, values: dict[str, int | str]) -> None:
    found = pattern_of(pattern).match(key)
    assert found is not None
    assert {name: captured.value for name, captured in found.items()} == values


def test_a_later_mention_has_the_type_of_the_first_in_the_statement() -> None:
    first = pattern_of("{m:**}.{e:int}.a")
    second = compile_pattern(node_of("{m}.{e}.b"), splice=no_splice, known=first.captures)
    assert {name: kind.kind for name, kind in second.captures.items()} == {
        "m": CaptureKind.SEGMENTS,
        "e": CaptureKind.INT,
    }
    assert second.match("x.y.0.b") is not None
    assert second.match("x.y.z.b") is None


# --- regular expressions ----------------------------------------------------------------------------------------

_REGEX = st.lists(
    st.sampled_from(
        ["a", "[ab]+", r"\.", "(a|b)", r"(\d*)", r"(?:x|(b))?", r"([^.]+)", ".*?", "(.*)", "(a|ab)", "(?i:B)"]
    ),
    min_size=1,
    max_size=5,
).map("".join)


@settings(max_examples=examples(300), deadline=None)
@given(_REGEX, _KEY)
@example("(a|ab)(c|bcd)", "abcd")
def test_a_regular_expression_is_that_of_python(text: str, key: str) -> None:
    wanted = re.fullmatch(text, key)
    found = pattern_of(f"/{text}/").match(key)
    assert (found is not None) == (wanted is not None)
    if wanted is not None:
        assert found is not None
        assert {n: c.text for n, c in found.items()} == {
            str(i): group or "" for i, group in enumerate(wanted.groups(), 1)
        }


# --- templates --------------------------------------------------------------------------------------------------


@settings(max_examples=examples(400), deadline=None)
@given(patterns(translated=False, anonymous=False), st.data())
def test_a_pattern_as_template_gives_the_key_back(segments: Segments, data: st.DataObject) -> None:
    key = data.draw(keys_of(segments))
    text = written(segments)
    found = pattern_of(text).readings(key)
    assert found, "the key is made to match"
    for bindings in found:
        assert template_of(text).render(bindings, {}) == key


@pytest.mark.parametrize(
    ("pattern", "key", "template", "wanted"),
    [
        ("{m:**}.w", "w", "a.{m}.b", "a.b"),
        ("{m:**}.w", "w", "{m}.b", "b"),
        ("{m:**}.w", "w", "a.{m}", "a"),
        ("{m:**}.w", "w", "{m}", ""),
        ("{m:**}.{n:**}.w", "w", "a.{m}.{n}.b", "a.b"),
        ("{m:**}.w", "x.y.w", "a.{m}.b", "a.x.y.b"),
        ("**.w", "w", "**.v", "v"),
        ("*.b.**", "a.b.c.d", "**.x.*", "a.x.c.d"),
        ("{p:q=query|k=}.w", "q.w", "{p}.{p}", "query.query"),
        ("{i:int}", "7", "{i}.{i + 1}.{i:03}.{(i - 1) // 3}.{i % 3}.{last - i}", "7.8.007.2.1.2"),
        ("{i:int}", "007", "{i}.{i + 0}", "007.7"),
        ("{p:1|2}", "2", "{p * 10}", "20"),
        ("/(.)(?<n>.)/", "ab", "{2}.{n}.{1}", "b.b.a"),
        ("{x}", "a", "'{x}.*'", "{x}.*"),
        ("{x}", "a", "{{{x}}}", "{a}"),
        ("{x}", "a", "{key}.{last}", "a.9"),
    ],
)
def test_templates(pattern: str, key: str, template: str, wanted: str) -> None:
    bindings = pattern_of(pattern).match(key)
    assert bindings is not None
    assert template_of(template).render(bindings, {"last": 9, "key": key}) == wanted


_ARITHMETIC = st.recursive(
    st.integers(0, 20).map(str) | st.just("i"),
    lambda inner: st.builds("({} {} {})".format, inner, st.sampled_from(["+", "-", "*", "//", "%"]), inner),
    max_leaves=6,
)


@settings(max_examples=examples(200), deadline=None)
@given(_ARITHMETIC, st.integers(0, 30))
def test_arithmetic_is_that_of_python(expression: str, number: int) -> None:
    template = template_of(f"a.{{{expression} + 0}}")
    bindings = {"i": Captured.number(number)}
    try:
        wanted = eval(expression, {"i": number})
    except ZeroDivisionError:
        wanted = -1
    if wanted >= 0:
        assert template.render(bindings, {}) == f"a.{wanted}"
    else:
        with pytest.raises(StatexError) as caught:
            template.render(bindings, {})
        assert [d.code.id for d in caught.value.diagnostics] == ["SX158"]


# --- mistakes ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("program", "code"),
    [
        ("drop {x:int}.{x:a|b}", "SX150"),
        ("drop a.b**", "SX110"),
        ("drop a.{i + 1}", "SX152"),
        ("drop /a(/", "SX153"),
        ("rename a.{i} -> b.{j}", "SX155"),
        ("rename a.{i} -> b.*", "SX156"),
        ("rename a.{i} -> b.{i + 1}", "SX157"),
        ("rename prefix a* -> b", "SX159"),
        ("rename a.{i} -> /b/", "SX159"),
        ("rename part a.** -> b", "SX160"),
        ("rename part /a/ -> b", "SX160"),
        ("within /a/ { drop b }", "SX161"),
        ("rename text '' -> 'b'", "SX162"),
    ],
)
def test_mistakes_in_patterns(program: str, code: str) -> None:
    with pytest.raises(StatexError) as caught:
        statex.compile(program).plan({"a.0": torch.zeros(1)})
    assert code in [d.code.id for d in caught.value.diagnostics]


@pytest.mark.parametrize(
    ("keys", "left"),
    [
        (["w", "b"], ["b"]),
        (["w", "x.w", "x.b", "x.y.w", "x.y.b"], ["w", "x.b", "x.y.b"]),
    ],
)
def test_an_empty_capture_of_segments_takes_its_dot_along_in_a_question(keys: list[str], left: list[str]) -> None:
    state = {key: torch.zeros(1) for key in keys}
    assert list(statex.compile("drop {m:**}.w where exists({m}.b)").apply(state)) == left


def test_a_macro_argument_with_whole_segments_stands_alone() -> None:
    program = 'macro m(a) { drop x{$a} }\nuse m("**.b")'
    with pytest.raises(StatexError) as caught:
        statex.compile(program).plan({"x.b": torch.zeros(1)})
    assert [d.code.id for d in caught.value.diagnostics] == ["SX151"]


def test_a_regular_expression_that_never_ends_is_stopped() -> None:
    with pytest.raises(StatexError) as caught:
        pattern_of("/(a|aa|aaa)+(?=b)(.*)c/").match("a" * 200)
    assert [d.code.id for d in caught.value.diagnostics] == ["SX154"]


@pytest.mark.parametrize(
    ("pattern", "key"),
    [("{a}{b}{c}{d}{e}{f}{a}y", "x" * 200), ("{a:**}.{b:**}.{c:**}.{d:**}.{e:**}.{a}.y", ".".join("x" * 90))],
)
def test_a_repeated_capture_with_too_much_to_try_is_said(pattern: str, key: str) -> None:
    with pytest.raises(StatexError) as caught:
        pattern_of(pattern).match(key)
    assert [d.code.id for d in caught.value.diagnostics] == ["SX154"]


def test_matching_stays_fast_on_many_stars() -> None:
    """Thirty wildcards have more readings than could be listed."""
    pattern = pattern_of(".".join(["**", "*a*"] * 10))
    assert pattern.match(".".join(["aaaa"] * 40)) is not None
    assert pattern.match(".".join(["bbbb"] * 40)) is None


@pytest.mark.parametrize(
    ("program", "code", "place"),
    [
        ('rename /a.(\\d)/ -> "b.{2}"', "SX155", "{2}"),
        ('rename text /(\\d)/ -> "b.{2}"', "SX155", "{2}"),
        ("rename a.{x} -> b.{1}", "SX155", "{1}"),
        ("set /a.(\\d)/ = b.{2}", "SX155", "{2}"),
        ('rename /a.(\\d)/ -> "b.{1:02}"', "SX157", "{1:02}"),
        ('rename /a.(?P<n>\\d)/ -> "b.{n + 1}"', "SX157", "n"),
    ],
)
def test_numbers_in_templates_are_groups(program: str, code: str, place: str) -> None:
    with pytest.raises(StatexError) as caught:
        statex.compile(program).apply({"a.5": torch.zeros(1)})
    assert [(d.code.id, d.span.text if d.span else "") for d in caught.value.diagnostics] == [(code, place)]


@pytest.mark.parametrize("field", ["{i:2}", "{i:0}", "{i:0999999999}", "{i + 1:2}", "{i + 1:0999999999}"])
def test_numbers_are_padded_with_zeros_and_to_a_width_of_two_digits_at_most(field: str) -> None:
    with pytest.raises(StatexError) as caught:
        statex.compile(f"rename l.{{i:int}} -> l.{field}")
    assert [d.code.id for d in caught.value.diagnostics] == ["SX109"]
