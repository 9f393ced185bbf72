"""Trees that are changed in places, on a file that has each kind of statement."""

from __future__ import annotations

from pathlib import Path

from statex.core.source import Source
from statex.grammar import factory as make
from statex.grammar import parse, tree
from statex.grammar.printer import show
from statex.grammar.rewriting import rewritten

IDENTITY = Path(__file__).parent / "identity.sx"


def test_a_tree_that_nothing_changes_is_the_same_object() -> None:
    program = parse(Source("identity.sx", IDENTITY.read_text()))
    assert program.statements
    assert rewritten(program.statements, lambda _: None) is program.statements


def test_parts_are_replaced_wherever_they_stand_and_all_else_stays() -> None:
    text = "merge {m:**}.a as w, {m}.b as mask -> {m}.c = cat(w * mask, w[:2] | flip(0), dim=1)"
    (statement,) = parse(Source("rules", text)).statements

    def change(node: object) -> tree.Expr | None:
        if isinstance(node, tree.Binary):
            return make.name("product")
        return make.tensor("x.y") if node == make.name("w") or getattr(node, "name", "") == "w" else None

    assert isinstance(statement, tree.Merge)
    found = rewritten(statement.value, change)
    # What stands in the place of a part is not looked into.
    assert show(found) == "cat(product, x.y[:2] | flip(0), dim=1)"
    assert show(statement).endswith("cat(w * mask, w[:2] | flip(0), dim=1)")
