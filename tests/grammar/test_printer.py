"""Trees to text and back: what is printed is parsed to the same tree, with its comments, and printed alike again."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from statex import StatexError
from statex.core.source import Source, Span
from statex.grammar import factory as make
from statex.grammar import parse_lossless, parse_text, tree
from statex.grammar.factory import NOWHERE
from statex.grammar.formatter import format_text, same_tree
from statex.grammar.messages import VERBS
from statex.grammar.printer import show, show_flat
from statex.grammar.terminals import grammar_text
from tests.effort import examples, least
from tests.grammar.random_trees import programs, typed_in
from tests.grammar.trees import plain, plain_text, walk
from tests.test_documents import ROOT, blocks

IDENTITY = Path(__file__).parent / "identity.sx"
RULE_FILES = [*sorted(ROOT.glob("examples/**/*.sx")), IDENTITY]
PAGES = [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md")), *sorted(ROOT.glob("examples/*/README.md"))]
BLOCKS = [(path.name, block) for path in PAGES for block in blocks(path.read_text(), "sx")]


def formatted(text: str, width: int = 100) -> str:
    return format_text(Source("<rules>", text), width=width)


@pytest.mark.parametrize("path", RULE_FILES, ids=lambda path: path.name)
def test_rule_files_are_in_their_form(path: Path) -> None:
    assert formatted(path.read_text()) == path.read_text()


@pytest.mark.parametrize(("page", "block"), BLOCKS)
def test_rules_in_documents_are_in_their_form(page: str, block: str) -> None:
    assert formatted(block) == block


def test_there_are_files_and_documents_with_rules() -> None:
    assert len(RULE_FILES) > 8
    assert {name for name, _ in BLOCKS} == {"README.md", "language.md", "inverse.md", "infer.md", "optimizer.md"}
    assert len(BLOCKS) > 15


def test_every_construct_is_in_the_file_that_stays_as_it_is() -> None:
    nodes = [*walk(parse_lossless(Source("identity.sx", IDENTITY.read_text())).program)]
    kinds = {name for name in tree.__all__ if hasattr(getattr(tree, name), "__dataclass_fields__")}
    assert {type(node).__name__ for node in nodes} == kinds - {"Bad"}
    assert {node.mode for node in nodes if isinstance(node, tree.Rename)} == set(tree.RenameMode)
    assert {node.kind for node in nodes if isinstance(node, tree.PatternNode)} == set(tree.PatternKind)
    assert {node.kind for node in nodes if isinstance(node, tree.Capture)} == set(tree.CaptureForm)


def test_every_node_is_printed_by_itself() -> None:
    for node in walk(parse_lossless(Source("identity.sx", IDENTITY.read_text())).program):
        assert show(node)
        assert show_flat(node)
    statements = [one for one in walk(parse_text(IDENTITY.read_text())) if isinstance(one, tree.Statement)]
    assert len(statements) > 40
    for node in statements:
        assert same_tree(parse_text(show(node)).statements, (node,))
        assert same_tree(parse_text(show_flat(node)).statements, (node,))
    assert show(tree.Choice("w1", "gate")) == "w1=gate"
    assert show(tree.Bad(Span(Source("", "drop ="), 0, 6))) == "drop ="


def rule_texts() -> Iterator[str]:
    """Yield the rules that other tests have in texts."""
    for path in sorted((ROOT / "tests").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and len(node.value) < 5000:
                word = re.match(r"\s*(#|\w+)", node.value)
                if word is not None and word.group(1) in {*VERBS, "#"}:
                    yield node.value


def test_the_rules_of_all_tests_stay_what_they_are() -> None:
    seen = 0
    for text in sorted(set(rule_texts())):
        try:
            program = parse_text(text)
        except StatexError:
            continue
        seen += 1
        for width in (20, 100):
            once = formatted(text, width)
            assert same_tree(parse_text(once), program), text
            assert formatted(once, width) == once, text
        assert same_tree(parse_text(show_flat(program)), program), text
    assert seen > 800


@settings(max_examples=examples(400), deadline=None, derandomize=True)
@given(programs, st.sampled_from([20, 60, 100]))
def test_trees_that_were_made_are_parsed_to_themselves(program: tree.Program, width: int) -> None:
    for text in (show(program, width=width), show_flat(program)):
        assert plain_text(text) == plain(program), text


GAPS = ["  # {}\n", "\n# {}\n", "\n\n  # {}\n\n", "\n", " ; # {}\n", "#{}\n    ", " \n  # {}\n  # more\n"]


def test_comments_stay_wherever_they_stand() -> None:
    typed = 0

    @settings(max_examples=examples(300), deadline=None, derandomize=True)
    @given(
        programs,
        st.sampled_from([20, 60, 100]),
        st.lists(st.tuples(st.integers(0, 200), st.sampled_from(GAPS)), min_size=1, max_size=4),
        st.sampled_from([20, 60, 100]),
    )
    def hold(program: tree.Program, first: int, gaps: list[tuple[int, str]], width: int) -> None:
        nonlocal typed
        text = show(program, width=first)
        for number, (place, gap) in enumerate(gaps):
            found = typed_in(text, place, gap.format(number))
            typed += found is not None and "#" in gap
            text = found or text
        once = formatted(text, width)  # compares trees and comments itself
        assert formatted(once, width) == once, text

    hold()
    assert typed > least(200)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", ""),
        ("\n\n# only this\n\n\n\n# and this", "# only this\n\n# and this\n"),
        ("drop   a ,b;;drop c # x", "drop a, b\ndrop c  # x\n"),
        ("set?a=1+2*it", "set? a = 1 + 2 * it\n"),
        ("rename { a->b;cc.d   ->?   e}", "rename {\n  a    -> b\n  cc.d ->? e\n}\n"),
        ("rename { a -> b }", "rename { a -> b }\n"),
        ("rename {\n a -> b }", "rename {\n  a -> b\n}\n"),
        ("if x { drop a } else { drop b }", "if x {\n  drop a\n} else {\n  drop b\n}\n"),
        ("if x{\n\n\ndrop a\n\n\n\ndrop b\n\n}", "if x {\n  drop a\n\n  drop b\n}\n"),
        ("\ufeffdrop a", "drop a\n"),
        ("drop a\r\n# b\r\n", "drop a\r\n# b\r\n"),
        ("set x=(a)+f( (b) ,k = 1,)", "set x = (a) + f((b), k=1)\n"),
        ("let n=0.50+1e3", "let n = 0.50 + 1e3\n"),
        ("macro m(a, # of a\nb) { drop {$a} }", "# of a\nmacro m(a, b) { drop {$a} }\n"),
        ("if a { } else { drop b }", "if a {\n} else {\n  drop b\n}\n"),
        ("if a { drop b } else { }", "if a { drop b }\n"),
        ("if a { drop b } else {\n # c\n}", "if a {\n  drop b\n} else {\n  # c\n}\n"),
        ("if a { drop b } # c\n# d\nelse { # e\n}", "if a {\n  drop b\n}  # c\n# d\nelse {  # e\n}\n"),
        ("if a { drop b }\nelse if c { } else { # d\n}", "if a {\n  drop b\n} else if c {\n} else {  # d\n}\n"),
        ("drop a; # to c\n        # goes on\n\n# d\n", "drop a  # to c\n        # goes on\n\n# d\n"),
    ],
)
def test_form(before: str, after: str) -> None:
    assert formatted(before) == after


@pytest.mark.parametrize(
    ("made", "text"),
    [
        (make.binary(make.binary(make.name("a"), "+", make.name("b")), "*", make.name("c")), "(a + b) * c"),
        (make.binary(make.name("a"), "-", make.binary(make.name("b"), "-", make.name("c"))), "a - (b - c)"),
        (make.binary(make.binary(make.name("a"), "-", make.name("b")), "-", make.name("c")), "a - b - c"),
        (make.binary(make.number(-2), "**", make.number(2)), "(-2) ** 2"),
        (make.pipe(make.tensor("a.b"), make.call("chunk", make.number(2), n=make.name("d"))), "a.b | chunk(2, n=d)"),
        (make.tensor("bias"), "::bias"),
        (make.tensor("0.1"), "::'0.1'"),
        (make.tensor("0.w"), "0.w"),
        (make.tensor("odd key", "ft"), "ft::'odd key'"),
        (make.string("it's\n"), "'it\\'s\\n'"),
        (make.key("it's"), "'it\\'s'"),
        (make.pattern(["a b.", make.capture("i")]), '"a b.{i}"'),
        (make.pattern(["a.", make.capture("m", tree.CaptureForm.SEGMENTS)], "ft"), "ft::a.{m:**}"),
        (make.pattern(["{x}*"]), '"\\{x\\}\\*"'),
        (make.rename(make.row(make.key("a"), make.key("b"), optional=True)), "rename a ->? b"),
        (make.rename(make.row(make.literal(""), make.key("m")), mode=tree.RenameMode.PREFIX), "rename prefix '' -> m"),
    ],
)  # fmt: skip
def test_nodes_that_were_made(made: object, text: str) -> None:
    assert show(made) == show_flat(made) == text


def test_a_table_on_one_line() -> None:
    rows = [make.row(make.key("a"), make.key("b")), make.row(make.key("cc"), make.key("d"))]
    assert show(make.rename(*rows)) == "rename {\n  a  -> b\n  cc -> d\n}"
    assert show_flat(make.rename(*rows)) == "rename { a -> b; cc -> d }"


def test_what_was_changed_is_not_printed_as_it_was() -> None:
    program = parse_text("set x = 1.50 + 'a'\nrename \"a b\" -> l.{i:02}")
    first, second = program.statements
    assert isinstance(first, tree.Set)
    assert isinstance(first.value, tree.Binary)
    assert isinstance(first.value.left, tree.Number)
    assert isinstance(first.value.right, tree.String)
    left, right = replace(first.value.left, value=2), replace(first.value.right, value="b")
    assert show(replace(first, value=replace(first.value, left=left, right=right))) == "set x = 2 + 'b'"
    assert isinstance(second, tree.Rename)
    (row,) = second.rows
    moved = replace(row, source=row.target, target=replace(row.source, pieces=(tree.Text(NOWHERE, "c d"),)))
    assert show(replace(second, rows=(moved,))) == 'rename l.{i:02} -> "c d"'


def test_a_key_is_written_for_where_it_stands() -> None:
    (statement,) = parse_text("set x = ::bias + ::'odd key'").statements
    assert isinstance(statement, tree.Set)
    assert isinstance(statement.value, tree.Binary)
    left, right = statement.value.left, statement.value.right
    assert isinstance(left, tree.KeyRef)
    assert isinstance(right, tree.KeyRef)
    assert show(tree.Drop(NOWHERE, (left.key, right.key))) == "drop bias, 'odd key'"
    (target,) = statement.targets
    assert show(tree.KeyRef(NOWHERE, target)) == "::x"


@pytest.mark.parametrize("levels", [95, 140])
def test_deep_expressions(levels: int) -> None:
    deep = "(" * 95 + "it" + ")" * 95 if levels == 95 else "not " * levels + "it"
    once = formatted(f"set x = {deep}")  # compares trees itself
    assert formatted(once) == once


def test_what_is_no_node_is_refused() -> None:
    with pytest.raises(TypeError, match="object is not an expression"):
        show(object())


def operators() -> list[str]:
    """Return what stands between two operands in the grammar."""
    grammar = grammar_text()
    terminals = re.findall(r"([A-Z_]+) \w+ -> binary", grammar)
    lines = [re.search(rf"^{name}(?:\.\d)?: (.*)$", grammar, re.MULTILINE) for name in terminals]
    texts = [text for line in lines if line is not None for text in re.findall(r'"(.*?)"', line.group(1))]
    return [*texts, "not in"]


FORMS = [*(f"{{}} {one} {{}}" for one in operators()), "not {}", "-{}", "{} | f", "{} matches w.x", "{} if {} else {}"]


def nested() -> Iterator[str]:
    """Yield expressions of two forms, the one in the other, without parentheses."""
    for outer in FORMS:
        for inner in FORMS:
            for place in range(outer.count("{}")):
                operands = ["a", "b", "c"][: outer.count("{}")]
                operands[place] = inner.format("d", "e", "g")
                yield outer.format(*operands)


def test_there_are_no_parentheses_where_the_grammar_needs_none() -> None:
    """Where a text without parentheses is parsed, its tree can be printed without them."""
    seen = 0
    for text in sorted(set(nested())):
        try:
            program = parse_text(f"let x = {text}")
        except StatexError:
            continue
        seen += 1
        assert show(program) == f"let x = {text}\n"
    assert len(operators()) == 18
    assert seen > 500
