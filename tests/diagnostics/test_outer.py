"""Texts that stand inside other files are shown at their place there."""

from __future__ import annotations

import copy
import pickle

import pytest

from statex.core.source import Source, Span
from statex.diagnostics import StatexError, diagnostic
from statex.diagnostics.codes import Code
from statex.diagnostics.render import render_concise, render_full, to_json

CODE = Code("SX301", "a title", 1, "A meaning.", "an example", "A fix.")
YAML = 'rules:\n- |\n  drop a\n  drop b\n- "keep \\x63 #"\n'
OUTER = Source("dir/recipe.yaml", YAML)
BLOCK = Source.inside(OUTER, "drop a\ndrop b\n", [*range(13, 20), *range(22, 29), 28])
QUOTED = Source.inside(OUTER, "keep c #", [32, 33, 34, 35, 36, 37, 41, 42, 43])


def in_block(text: str) -> Span:
    start = BLOCK.text.index(text)
    return Span(BLOCK, start, start + len(text))


def test_a_span_is_shown_in_the_outer_file() -> None:
    span = in_block("b")
    assert span.text == "b"
    assert (span.line, span.column) == (4, 8)
    assert span.shown == Span(OUTER, 27, 28)
    assert span.shown.shown == span.shown
    assert span.source.name == "dir/recipe.yaml"


@pytest.mark.parametrize(
    ("start", "end", "text"),
    [(0, 4, "keep"), (5, 6, "\\x63"), (5, 8, "\\x63 #"), (8, 8, ""), (8, 9, ""), (7, 20, "#")],
)
def test_escapes_are_marked_whole(start: int, end: int, text: str) -> None:
    assert Span(QUOTED, start, end).shown.text == text


@pytest.mark.parametrize(
    ("start", "end", "text"),
    [
        (0, 6, "drop a"),
        (0, 7, "drop a\n"),
        (5, 11, "a\n  drop"),
        (13, 14, "\n"),
        (14, 14, ""),
        (0, 14, "drop a\n  drop b\n"),
    ],
)
def test_a_span_that_ends_with_its_line_leaves_the_next_indentation_out(start: int, end: int, text: str) -> None:
    assert Span(BLOCK, start, end).shown.text == text


def test_renderings() -> None:
    found = diagnostic(CODE, "a headline", in_block("b"), at="here", also=[(Span(QUOTED, 5, 6), "there")])
    assert render_full(found).splitlines() == [
        "error[SX301]: a headline",
        " --> dir/recipe.yaml:4:8",
        "   |",
        " 4 |   drop b",
        "   |        ^ here",
        ' 5 | - "keep \\x63 #"',
        "   |         ---- there",
    ]
    assert render_concise(found) == "dir/recipe.yaml:4:8: error[SX301]: a headline"
    places = [
        (label["file"], label["line"], label["column"], label["end_column"]) for label in to_json(found)["labels"]
    ]
    assert places == [("dir/recipe.yaml", 4, 8, 9), ("dir/recipe.yaml", 5, 9, 13)]


def test_a_span_over_lines_says_that_it_goes_on() -> None:
    found = diagnostic(CODE, "a headline", Span(BLOCK, 0, 13))
    assert render_full(found).splitlines()[-1] == "   |   ^^^^^^…"


def test_texts_inside_texts() -> None:
    inner = Source.inside(QUOTED, "c #", [5, 6, 7, 8])
    assert Span(inner, 0, 1).shown == Span(OUTER, 37, 41)


def test_sources_stay_themselves() -> None:
    assert Source.inside(OUTER, BLOCK.text, BLOCK.places) != BLOCK
    assert {BLOCK: 1}[BLOCK] == 1
    with pytest.raises(ValueError, match="3 characters and their end have 3 places"):
        Source.inside(OUTER, "abc", [1, 2, 3])


def test_copies_are_shown_alike() -> None:
    error = StatexError([diagnostic(CODE, "a headline", in_block("b"))])
    assert str(copy.deepcopy(error)) == str(pickle.loads(pickle.dumps(error))) == str(error)
