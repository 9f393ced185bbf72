"""Trees with all that a text has: tokens and what is between them, parentheses, holes for what cannot be read."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from statex import StatexError
from statex.core.source import Source
from statex.grammar import parse, parse_lossless, parse_text, tree
from statex.grammar.lossless import Lossless
from statex.grammar.printer import show
from tests.effort import examples
from tests.grammar.random_trees import programs
from tests.grammar.test_printer import IDENTITY
from tests.grammar.trees import walk


def lossless(text: str) -> Lossless:
    return parse_lossless(Source("<rules>", text))


def bad(text: str) -> list[str]:
    return [node.span.text for node in walk(lossless(text).program) if isinstance(node, tree.Bad)]


def test_the_tokens_with_what_is_between_them_are_the_text() -> None:
    text = "\ufeff# a\ndrop  a , b # c\n; set x = (1) # d"
    tokens = lossless(text).tokens
    assert "".join(token.before.text + token.span.text for token in tokens) == text
    assert [token.kind for token in tokens[:3]] == ["DROP", "PATTERN", "COMMA"]
    assert tokens[0].before.text == "\ufeff# a\n"
    assert (tokens[-1].kind, tokens[-1].before.text, tokens[-1].span.text) == ("$END", " # d", "")


def test_tokens_of_every_construct() -> None:
    text = IDENTITY.read_text()
    assert "".join(token.before.text + token.span.text for token in lossless(text).tokens) == text


def test_comments_know_where_they_stand() -> None:
    found = lossless("# a\n\n  # b\ndrop x # c\n").comments
    assert [(one.text, one.column, one.own_line, one.blank) for one in found] == [
        ("# a", 0, True, False),
        ("# b", 2, True, True),
        ("# c", 7, False, False),
    ]


def test_parentheses_are_nodes_here_and_nowhere_else() -> None:
    text = "set l.{(i + 1)} = (it)"
    assert sum(isinstance(node, tree.Group) for node in walk(lossless(text).program)) == 2
    assert not [node for node in walk(parse_text(text)) if isinstance(node, tree.Group)]


@pytest.mark.parametrize(
    ("text", "holes", "kinds"),
    [
        ("drop a\nset = 3\ndrop b", ["set = 3"], ["Drop", "Bad", "Drop"]),
        ("fly a; drop b", ["fly a; drop b"], ["Bad"]),
        ("drop a; fly b\ndrop c", ["fly b"], ["Drop", "Bad", "Drop"]),
        ("set x = f(1,\ndrop a\ndrop b", ["set x = f(1,"], ["Bad", "Drop", "Drop"]),
        ("rename {\n a -> b\n c ->\n}\ndrop d", ["rename {\n a -> b\n c ->\n}"], ["Bad", "Drop"]),
        ("rename a -> {i:nothing}\ndrop b", ["rename a -> {i:nothing}"], ["Bad", "Drop"]),
        ("within a {\n drop b\n fly c\n drop d\n}\ndrop e", ["fly c"], ["Within", "Drop"]),
        ("within a {\n fly c\n}\ndrop e", ["fly c"], ["Within", "Drop"]),
        ("if x {\n fly a\n} else {\n fly b\n}", ["fly a", "fly b"], ["If"]),
        ("macro m(a) {\n within b {\n  fly c\n }\n drop d\n}", ["fly c"], ["Macro"]),
        ("within a {\n drop b\n", ["within a {\n drop b"], ["Bad"]),
        ("drop a\n}\ndrop b", ["}"], ["Drop", "Bad", "Drop"]),
        ("drop §\ndrop b", ["drop §"], ["Bad", "Drop"]),
    ],
)
def test_what_cannot_be_read_is_a_hole(text: str, holes: list[str], kinds: list[str]) -> None:
    found = lossless(text)
    assert [type(one).__name__ for one in found.program.statements] == kinds
    assert bad(text) == holes
    with pytest.raises(StatexError) as raised:
        parse_text(text)
    assert [one.headline for one in found.diagnostics] == [one.headline for one in raised.value.diagnostics]


def test_a_hole_in_a_block_stands_where_it_was() -> None:
    (block,) = lossless("if x {\n drop a\n fly b\n} else {\n fly c\n drop d\n}").program.statements
    assert isinstance(block, tree.If)
    assert [type(one).__name__ for one in block.then] == ["Drop", "Bad"]
    assert [type(one).__name__ for one in block.otherwise] == ["Bad", "Drop"]


def test_a_text_without_errors_has_neither_holes_nor_diagnostics() -> None:
    found = lossless(IDENTITY.read_text())
    assert not found.diagnostics
    assert not bad(IDENTITY.read_text())


def parses(text: str) -> bool:
    try:
        parse(Source("<rules>", text))
    except StatexError:
        return False
    return True


ODD = ["fly", "}", "{", "(", "'", "->", "= ", "\n", ", ", "}\n", " { \n", "§", "/x", "a b\n"]


@settings(max_examples=examples(300), deadline=None, derandomize=True)
@given(programs, st.lists(st.tuples(st.integers(0, 300), st.sampled_from(ODD)), min_size=1, max_size=4))
def test_whatever_is_wrong_there_is_a_tree(program: tree.Program, added: list[tuple[int, str]]) -> None:
    text = show(program)
    for place, odd in added:
        at = place % (len(text) + 1)
        text = text[:at] + odd + text[at:]
    found = lossless(text)
    assert bool(bad(text)) is bool(found.diagnostics) is not parses(text)
    # Statements stand in their order, and none inside another's place.
    spans = [one.span for one in found.program.statements]
    assert all(one.end <= other.start for one, other in pairwise(spans))
