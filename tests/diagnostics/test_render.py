"""Whole renderings, compared to the letter; widths against rich, which measures terminals for a living."""

from __future__ import annotations

import copy
import json
import pickle
import re
import unicodedata
from textwrap import dedent

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from statex.core.source import Source, Span
from statex.diagnostics import Diagnostic, StatexError, diagnostic
from statex.diagnostics.codes import Code
from statex.diagnostics.render import json_text, render_concise, render_full, to_json


def code(id: str) -> Code:
    """Return a code that is in no table."""
    return Code(id, "a title", 1, "A meaning.", "an example", "A fix.")


NO_MATCH = code("SX301")
LINT = code("SX901")


def find(source: Source, text: str, nth: int = 0) -> Span:
    """Return the place of a text in a source."""
    start = -1
    for _ in range(nth + 1):
        start = source.text.index(text, start + 1)
    return Span(source, start, start + len(text))


def full(text: str) -> str:
    """Return an expected rendering written as an indented block."""
    return dedent(text).strip("\n")


def on_line(number: int, line: str) -> Source:
    """Return `hf.sx` with a text on one line."""
    return Source("hf.sx", "\n" * (number - 1) + line + "\n")


def test_the_example_of_a_pattern_without_a_match() -> None:
    source = on_line(12, "rename model.layers.{i}.attn.q_proj.weight -> decoder.{i}.q.weight")
    found = diagnostic(
        NO_MATCH,
        "pattern matches no key",
        find(source, "model.layers.{i}.attn.q_proj.weight"),
        at="0 of 291 keys",
        notes=["32 keys match up to `model.layers.{i}.`; the next segments there are self_attn, mlp, input_layernorm"],
        help="did you mean `model.layers.{i}.self_attn.q_proj.weight` (32 keys)? if it may be absent: `rename?`",
    )
    assert render_full(found) == full(
        """
        error[SX301]: pattern matches no key
         --> hf.sx:12:8
           |
        12 | rename model.layers.{i}.attn.q_proj.weight -> decoder.{i}.q.weight
           |        ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^ 0 of 291 keys
           = note: 32 keys match up to `model.layers.{i}.`; the next segments there are self_attn, mlp, input_layernorm
           = help: did you mean `model.layers.{i}.self_attn.q_proj.weight` (32 keys)? if it may be absent: `rename?`
        """
    )


def test_operand_values_and_cases() -> None:
    source = on_line(20, "  = cat(q, k, v, dim=0)")
    found = diagnostic(
        code("SX401"),
        "cannot concatenate along dim 0: the other axes differ",
        find(source, "cat"),
        values=["q = bf16[4096, 4096]   k = bf16[1024, 4096]   v = bf16[1024, 2048]"],
        cases=[f"i = {i}" for i in range(32)],
    )
    assert render_full(found) == full(
        """
        error[SX401]: cannot concatenate along dim 0: the other axes differ
         --> hf.sx:20:5
           |
        20 |   = cat(q, k, v, dim=0)
           |     ^^^ for i = 0, i = 1, i = 2 (and 29 more)
           = value: q = bf16[4096, 4096]   k = bf16[1024, 4096]   v = bf16[1024, 2048]
        """
    )


def test_the_example_of_a_table() -> None:
    found = diagnostic(
        code("SX501"),
        "the result does not fit MyModel: 1 missing, 1 unexpected (289 of 291 keys agree)",
        rows=[
            ("missing", "model.norm.weight", "bf16[4096]", ""),
            (
                "unexpected",
                "norm.weight",
                "bf16[4096]",
                "untouched since the input; same type as missing `model.norm.weight`",
            ),
        ],
        help="rename norm.weight -> model.norm.weight",
    )
    assert render_full(found) == full(
        """
        error[SX501]: the result does not fit MyModel: 1 missing, 1 unexpected (289 of 291 keys agree)
          missing     model.norm.weight   bf16[4096]
          unexpected  norm.weight         bf16[4096]   untouched since the input; same type as missing `model.norm.weight`
          = help: rename norm.weight -> model.norm.weight
        """  # noqa: E501 - as wide as it is printed
    )


def test_a_count_of_further_rows_does_not_widen_its_column() -> None:
    found = diagnostic(
        code("SX501"),
        "a headline",
        rows=[
            ("missing", "a.b", "f32[2]"),
            ("missing", "and 1234567890 more"),
            ("shape", "漢字", "f32[3]", "needs it"),
        ],
    )
    assert render_full(found) == full(
        """
        error[SX501]: a headline
          missing  a.b    f32[2]
          missing  and 1234567890 more
          shape    漢字   f32[3]   needs it
        """
    )


def test_cases_without_a_place() -> None:
    found = diagnostic(NO_MATCH, "a headline", cases=["a.weight", "b.weight", "a.weight"])
    assert render_full(found) == "error[SX301]: a headline\n  = note: for a.weight, b.weight"


def test_text_and_cases_beside_one_caret_and_a_warning() -> None:
    source = Source("r.sx", "drop a.*")
    cases = ["a.weight", "b.weight", "c.weight", *(f"{i}.weight" for i in range(29))]
    found = diagnostic(LINT, "a headline", find(source, "a.*"), at="here", cases=cases)
    assert render_full(found) == full(
        """
        warning[SX901]: a headline
         --> r.sx:1:6
           |
         1 | drop a.*
           |      ^^^ here; for a.weight, b.weight, c.weight (and 29 more)
        """
    )


def test_a_span_of_several_lines_shows_the_first() -> None:
    source = Source("r.sx", "split a.qkv  \r\n  -> a.q, a.k\n  = chunk(2)\n")
    found = diagnostic(NO_MATCH, "a headline", Span(source, 0, source.text.index("\n  = ")), at="here")
    assert render_full(found) == full(
        """
        error[SX301]: a headline
         --> r.sx:1:1
           |
         1 | split a.qkv
           | ^^^^^^^^^^^… here
        """
    )


def test_a_span_that_takes_its_line_end_along_is_of_one_line() -> None:
    source = Source("r.sx", "drop a\r\ndrop b\r\n")
    found = diagnostic(NO_MATCH, "a headline", Span(source, 0, source.text.index("drop b")))
    assert render_full(found).splitlines()[-2:] == [" 1 | drop a", "   | ^^^^^^"]


def test_several_labels_on_lines_near_and_far() -> None:
    source = Source("r.sx", "rename a -> b\nrename c -> b\n\n\ndrop b\n")
    found = diagnostic(
        NO_MATCH,
        "two keys become one",
        find(source, "b", 1),
        at="second",
        also=[(find(source, "b"), "first"), (find(source, "c"), ""), (find(source, "drop"), "then")],
    )
    assert render_full(found) == full(
        """
        error[SX301]: two keys become one
         --> r.sx:2:13
           |
         1 | rename a -> b
           |             - first
         2 | rename c -> b
           |        -
           |             ^ second
         …
         5 | drop b
           | ---- then
        """
    )


def test_labels_of_other_files_come_in_blocks_of_their_own() -> None:
    one, other = Source("one.sx", "include 'other.sx'"), Source("dir/other.sx", "\n" * 1233 + "drop x")
    found = diagnostic(
        NO_MATCH,
        "a headline",
        find(one, "'other.sx'"),
        also=[(find(other, "x"), "here"), (find(one, "include"), "from here")],
        notes=["two\nlines"],
    )
    assert render_full(found) == full(
        """
        error[SX301]: a headline
           --> one.sx:1:9
             |
           1 | include 'other.sx'
             | ------- from here
             |         ^^^^^^^^^^
           --> dir/other.sx:1234:6
             |
        1234 | drop x
             |      - here
             = note: two
                     lines
        """
    )


def test_tabs_and_wide_characters_keep_the_caret_below() -> None:
    source = Source("r.sx", "\tdrop 'é漢字', e\u0301, b")
    for text, shown in (("'é漢字'", "    drop "), ("b", "    drop 'é漢字', e\u0301, ")):
        lines = render_full(diagnostic(NO_MATCH, "a headline", find(source, text))).splitlines()
        assert lines[-2] == "   1 | ".removeprefix("  ") + "    drop 'é漢字', e\u0301, b"
        assert lines[-1] == "   | " + " " * cell_len(shown) + "^" * cell_len(text)


def test_the_end_of_the_file_is_a_place() -> None:
    source = Source("r.sx", "drop (a\n")
    found = diagnostic(NO_MATCH, "the file ends too early", Span(source, 8, 8), at="here")
    assert render_full(found).splitlines()[1:] == [" --> r.sx:2:1", "   |", " 2 |", "   | ^ here"]


@pytest.mark.parametrize(
    ("text", "snippet", "marks"),
    [
        ("set", "set aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa…", "^^^"),
        ("f(x)", "…aaaaaaaaaa = f(x) bbbbbbbbbbbbbbbbbbbbbb…", "             ^^^^"),
        ("end", "…bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb end", " " * 38 + "^^^"),
    ],
)
def test_a_long_line_is_cut_around_the_caret(text: str, snippet: str, marks: str) -> None:
    source = Source("r.sx", f"set {'a' * 90} = f(x) {'b' * 90} end")
    lines = render_full(diagnostic(NO_MATCH, "a headline", find(source, text)), width=46).splitlines()
    start = lines[-2].removeprefix(" 1 | ")
    assert len(lines[-2]) <= 46
    assert start.startswith("…") == snippet.startswith("…")
    assert start.endswith("…") == snippet.endswith("…")
    column = lines[-1].index("^") - len(" 1 | ")
    assert start[column : column + len(text)] == text
    assert lines[-1].count("^") == len(marks.strip())


def test_a_second_label_out_of_sight_shows_the_line_again() -> None:
    source = Source("r.sx", f"set a = {'x' * 200} | last")
    found = diagnostic(NO_MATCH, "a headline", find(source, "a"), also=[(find(source, "last"), "there")])
    assert render_full(found, width=40) == full(
        f"""
        error[SX301]: a headline
         --> r.sx:1:5
           |
         1 | set a = {"x" * 26}…
           |     ^
         1 | …{"x" * 27} | last
           |                                ----
           |                               there
        """
    )


def test_what_is_said_of_a_long_line_stays_as_wide_as_the_line() -> None:
    source = Source("r.sx", f"set a = {'x' * 60} + last")
    found = diagnostic(
        NO_MATCH, "a headline", find(source, "last"), at="0 of 291 keys", also=[(find(source, "a"), "a")]
    )
    assert render_full(found, width=60) == full(
        f"""
        error[SX301]: a headline
         --> r.sx:1:72
           |
         1 | set a = {"x" * 46}…
           |     - a
         1 | …{"x" * 47} + last
           |                                                    ^^^^
           |                                           0 of 291 keys
        """
    )
    assert all(len(line) <= 60 for line in render_full(found, width=60).splitlines())


def test_what_is_said_of_a_whole_line_stands_below_it() -> None:
    source = Source("r.sx", "drop " + "a" * 95)
    found = diagnostic(NO_MATCH, "a headline", Span(source, 5, 100), at="0 of 291 keys")
    assert render_full(found, width=100) == full(
        f"""
        error[SX301]: a headline
         --> r.sx:1:6
           |
         1 | drop {"a" * 89}…
           |      {"^" * 89}…
           |      0 of 291 keys
        """
    )


def test_marks_of_a_long_span_end_with_what_is_shown() -> None:
    source = Source("r.sx", "set " + "a" * 300)
    lines = render_full(diagnostic(NO_MATCH, "a headline", Span(source, 4, 304)), width=50).splitlines()
    assert lines[-1].lstrip(" |") == "^" * lines[-2].count("a") + "…"


def test_concise() -> None:
    source = on_line(12, "rename a.b -> c")
    found = diagnostic(NO_MATCH, "pattern matches\nno key", find(source, "a.b"))
    assert render_concise(found) == "hf.sx:12:8: error[SX301]: pattern matches\\x0ano key"
    assert render_concise(diagnostic(LINT, "no place")) == "warning[SX901]: no place"


def test_json() -> None:
    source = Source("r.sx", "drop a\n  where i\n")
    found = diagnostic(
        NO_MATCH,
        "a \x1b \x7f headline",
        Span(source, 5, 16),
        at="here",
        also=[(find(source, "drop"), "")],
        values=["v = 1"],
        notes=["n"],
        help=["h", "h2"],
        cases=["i = 1"],
        rows=[("a", "b")],
    )
    expected = {
        "code": "SX301",
        "title": "a title",
        "severity": "error",
        "headline": "a \x1b \x7f headline",
        "labels": [
            {"file": "r.sx", "line": 1, "column": 6, "end_line": 2, "end_column": 10, "text": "here"},
            {"file": "r.sx", "line": 1, "column": 1, "end_line": 1, "end_column": 5, "text": ""},
        ],
        "values": ["v = 1"],
        "notes": ["n"],
        "help": ["h", "h2"],
        "cases": ["i = 1"],
        "rows": [["a", "b"]],
    }
    assert to_json(found) == expected
    assert json.loads(json_text(to_json(found))) == expected


def test_an_error_is_rendered_in_full() -> None:
    source = Source("r.sx", "drop a")
    found = diagnostic(NO_MATCH, "a headline", find(source, "a"))
    assert str(StatexError([found, found])) == f"{render_full(found)}\n\n{render_full(found)}"


def test_colour_only_adds_colour() -> None:
    source = Source("r.sx", "drop a, b")
    found = diagnostic(
        NO_MATCH, "a headline", find(source, "a"), at="here", also=[(find(source, "b"), "")], help="fix", rows=[("x",)]
    )
    coloured = render_full(found, colour=True)
    assert "\x1b[1;31m" in coloured
    assert re.sub(r"\x1b\[[0-9;]*m", "", coloured) == render_full(found)
    assert "\x1b" not in render_full(found)


# Plain, wide, combining and half-width characters; what rich and statex both call one character a column or two.
LETTERS = st.text(st.sampled_from("abz .{}*漢字かな한글ｱＡéñ🙂"), max_size=150)


@given(before=LETTERS, marked=LETTERS.filter(bool), after=LETTERS, width=st.integers(30, 120))
def test_the_caret_stands_below_what_it_marks(before: str, marked: str, after: str, width: int) -> None:
    source = Source("r.sx", before + marked + after)
    found = diagnostic(NO_MATCH, "a headline", Span(source, len(before), len(before) + len(marked)))
    line, marks = (text[5:] for text in (row.ljust(5) for row in render_full(found, width=width).splitlines()[-2:]))
    assert cell_len(line) + 5 <= width + 1
    column = len(marks) - len(marks.lstrip(" "))
    count = marks.count("^")
    shown, at = "", 0
    for character in line.ljust(column + count):
        if column <= at < column + count:
            shown += character
        at += cell_len(character)
    whole = marked if not marks.endswith("…") else marked[: len(shown)]
    # Blanks at the end of a line are not printed.
    assert shown.rstrip() == whole.rstrip()


ANYTHING = st.text(st.characters(), max_size=30)
AWKWARD = st.text(
    st.sampled_from("\x00\x07\x1b\r\n\t\x7f\x85\x9b\u202e\u2028\u2066\ud800\udfff\u200b\ufeffa漢"), max_size=20
)
TEXTS = ANYTHING | AWKWARD


@st.composite
def diagnostics(draw: st.DrawFn) -> Diagnostic:
    """Draw a diagnostic all of whose texts are hostile."""
    sources = [Source(draw(TEXTS), draw(TEXTS)) for _ in range(2)]

    def span() -> Span:
        source = draw(st.sampled_from(sources))
        start, end = sorted(draw(st.tuples(*[st.integers(0, len(source.text))] * 2)))
        return Span(source, start, end)

    several = st.lists(TEXTS, max_size=5)
    return diagnostic(
        draw(st.sampled_from([NO_MATCH, LINT])),
        draw(TEXTS),
        span() if draw(st.booleans()) else None,
        at=draw(TEXTS),
        also=[(span(), draw(TEXTS)) for _ in range(draw(st.integers(0, 3)))],
        values=draw(several),
        notes=draw(several),
        help=draw(several),
        cases=draw(several),
        rows=[tuple(row) for row in draw(st.lists(several, max_size=3))],
    )


@given(diagnostics(), st.integers(0, 120))
def test_no_rendering_holds_a_control_character(found: Diagnostic, width: int) -> None:
    for text in (render_full(found, width=width), render_concise(found), json_text(to_json(found))):
        for character in text:
            assert character == "\n" or unicodedata.category(character) not in ("Cc", "Cf", "Cs", "Zl", "Zp"), text
    assert "\n" not in render_concise(found)
    # Two surrogates in a row are one character to a JSON reader.
    assert json.loads(json_text(to_json(found))) == json.loads(json.dumps(to_json(found)))


@pytest.mark.parametrize("count", [1, 2])
def test_errors_are_copied_and_pickled(count: int) -> None:
    error = StatexError([diagnostic(NO_MATCH, f"number {n}") for n in range(count)])
    for again in (pickle.loads(pickle.dumps(error)), copy.deepcopy(error)):
        assert str(again) == str(error)
        assert again.exit_code == error.exit_code
