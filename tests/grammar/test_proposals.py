"""Rules that messages propose are trees that are printed: no module puts them together from texts."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from statex.dsl.keys.quoting import show_rules
from statex.grammar import factory as make
from statex.grammar import tree
from statex.grammar.messages import VERBS
from tests.grammar.trees import plain, plain_text

PACKAGE = Path(__file__).parents[2] / "statex"
BELOW = "below the grammar, which it may not import"
ALLOWED = {
    "checkpoint/formats/flat_help.py": BELOW,
    "checkpoint/formats/npz/file.py": BELOW,
    "checkpoint/formats/packed.py": BELOW,
    "trees/envelope.py": BELOW,
    "trees/roots.py": BELOW,
    "grammar/rulefiles.py": "needed by the parser, which the printer needs",
    "diagnostics/codes/syntax.py": "an example that is nested too deep to be written out",
    "dsl/ops/arithmetic.py": "examples of operations that are made by the dozen, which a test runs",
    "dsl/statements/empty_keys.py": "`include the dot` is a sentence",
    "grammar/habits.py": "what stands in a text that cannot be parsed",
    "grammar/messages.py": "what stands in a text that cannot be parsed",
    "grammar/printing/statements.py": "the printer",
    "migrating/folder.py": "names a file to be renamed, not a key",
    "session/keeping.py": "patterns of a recipe as they are written there",
}
_GAP = "…"
# Sentences begin with these much more often than rules do.
_WORDS = "|".join(sorted(set(VERBS) - {"if", "within"}))
_RULE = re.compile(rf"(?:^|[`;:\n] ?)(?:{_WORDS})\?? ?(?:{_GAP}| )")


def rules_in(source: str) -> list[str]:
    """Return the texts of a module that begin as statements do and are filled in: with `…` for what that is."""
    return [text for text in filled_in(ast.parse(source)) if _RULE.search(text)]


def filled_in(root: ast.AST) -> Iterator[str]:
    for node in ast.walk(root):
        if isinstance(node, ast.JoinedStr):
            parts = [one.value if isinstance(one, ast.Constant) else _GAP for one in node.values]
            yield "".join(map(str, parts))
        elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Mod):
            if isinstance(node.left, ast.Constant) and isinstance(node.left.value, str):
                yield node.left.value + _GAP
        elif isinstance(node, ast.Attribute) and node.attr == "format" and isinstance(node.value, ast.Constant):
            yield str(node.value.value)


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("f'drop {key}'", ["drop …"]),
        ("f'rename{mark} {a} -> {b}'", ["rename… … -> …"]),
        ("f'leave it out: drop {key}'", ["leave it out: drop …"]),
        ("f'`set? {key} = it` does'", ["`set? … = it` does"]),
        ("'keep ' + keys", ["keep …"]),
        ("'drop %s' % key", ["drop %s…"]),
        ("'drop {}'.format(key)", ["drop {}"]),
        ("f'if {key} is meant'", []),
        ("f'dropped {key}'", []),
        ("'drop a'", []),
        ("f'nothing to drop {key}'", []),
    ],
)
def test_what_is_found(source: str, found: list[str]) -> None:
    assert rules_in(source) == found


def test_no_module_puts_rules_together() -> None:
    found = {path.relative_to(PACKAGE).as_posix(): rules_in(path.read_text()) for path in sorted(PACKAGE.rglob("*.py"))}
    assert {name: texts for name, texts in found.items() if texts and name not in ALLOWED} == {}, (
        "make a tree with statex.grammar.factory, and print it with statex.dsl.keys.quoting.show_rules"
    )
    assert {name for name in ALLOWED if not found[name]} == set()


@pytest.mark.parametrize(
    ("statement", "text"),
    [
        (make.drop(make.key("a.b"), make.key("it's"), make.glob("*.w.**", "ft")), "drop a.b, 'it\\'s', ft::*.w.**"),
        (make.keep(make.glob("**")), "keep **"),
        (make.renumber(make.pattern(["l.", make.capture("i")])), "renumber l.{i}"),
        (make.allow_missing(make.key("a")), "allow missing a"),
        (make.copy(make.key("a"), make.key("b c")), "copy a -> 'b c'"),
        (make.assign(make.key("a"), make.call("f", make.name("b")), make.call("g")), "set a = f(b) where g()"),
        (make.add(make.key("a"), make.subscript(make.tensor("b", "ft"), make.number(0))), "add a = ft::b[0]"),
        (make.add(make.key("a"), make.name("b"), make.glob("**")), "add a = b for **"),
        (make.split(make.key("a"), make.glob("b"), make.name("f"), "e"), "split a over e -> b = f"),
        (make.drop_value(make.value_of("a.b")), "drop value('a.b')"),
        (make.drop_value(make.value_of("['a.b', 0]")), "drop value(['a.b', 0])"),
        (make.drop_value(make.value_of("[a")), "drop value('[a')"),
        (make.assign_value(make.metadata_of("it's"), make.string("x")), "set metadata('it\\'s') = 'x'"),
        (make.add_value(make.value_of("a"), make.number(1.5)), "add value('a') = 1.5"),
        (make.param("n"), "param n"),
        (make.param("n", "str"), "param n: str"),
        (make.input_("ft"), "input ft"),
        (make.input_("ft", family=True), "input ft[]"),
        (make.root("a", ""), "root 'a' -> ''"),
        (make.root("['a.b', 1]", flat=True), "root ['a.b', 1] flat"),
    ],
)  # fmt: skip
def test_statements_that_were_made(statement: tree.Statement, text: str) -> None:
    assert show_rules(statement) == text
    assert plain_text(text)[-1][-1] == (plain(statement),)


def test_what_the_reader_fills_in_is_a_gap() -> None:
    assert show_rules(make.copy(make.key("a b"), make.gap_pattern())) == "copy 'a b' -> …"
    assert show_rules(make.assign(make.key("a"), make.gap())) == "set a = …"
    assert show_rules(make.drop(make.key("a")), make.allow_missing(make.key("a"))) == "drop a; allow missing a"
