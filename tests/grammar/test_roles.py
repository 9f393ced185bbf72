"""Every field of a node that holds something to resolve has a role, told from the annotations of the nodes."""

from __future__ import annotations

import types
from dataclasses import fields, is_dataclass
from typing import Any, Union, get_args, get_origin, get_type_hints

import pytest

from statex.core.source import Source, Span
from statex.grammar import parse, terms, tree
from statex.grammar.roles import FIELDS, Role, has_current, of

NODES: set[type] = {
    one for module in (tree, terms) for one in vars(module).values() if isinstance(one, type) and is_dataclass(one)
} - {Span, Source}
STATEMENTS: set[type] = set(get_args(tree.Statement))
EXPRESSIONS = set(get_args(tree.Expr)) | {tree.Slice, tree.Ellipsis}
PARTS: set[type] = {tree.Row, tree.MergeSource, tree.Binding, tree.Argument, tree.ValueOf, tree.MetadataOf}
ALLOWED = {
    tree.PatternNode: {Role.BINDING, Role.TEMPLATE, Role.ASKED, Role.CARRIED, Role.NAMING},
    tree.Name: {Role.DEFINED, Role.USED, Role.WORD, Role.READING},
    tree.String: {Role.WORD, Role.READING},
    tree.PathNode: {Role.WORD},
    **{one: {Role.BODY} for one in STATEMENTS},
    **{one: {Role.PART} for one in PARTS},
}
"""The roles that a field of this type may have; expressions are read."""


def leaves(hint: Any) -> set[type]:
    """Return the classes that a field may hold, of tuples and unions those inside."""
    if get_origin(hint) in (tuple, Union, types.UnionType):
        return {leaf for one in get_args(hint) if one is not Ellipsis for leaf in leaves(one)}
    return {hint}


def held(kind: type) -> dict[str, set[type]]:
    """Return the fields of a node that hold nodes, with the classes of these."""
    hints = get_type_hints(kind)
    found = {one.name: leaves(hints[one.name]) & NODES for one in fields(kind)}
    return {name: nodes for name, nodes in found.items() if nodes}


@pytest.mark.parametrize("kind", sorted(STATEMENTS | PARTS, key=str))
def test_every_field_of_statements_with_something_in_it_has_a_role(kind: type) -> None:
    assert FIELDS.get(kind, {}).keys() == held(kind).keys()


@pytest.mark.parametrize("kind", sorted(FIELDS, key=str))
def test_roles_are_those_that_a_field_of_its_type_can_have(kind: type) -> None:
    for name, role in FIELDS[kind].items():
        for one in held(kind)[name]:
            assert role in ALLOWED.get(one, {Role.READING}) or (one in EXPRESSIONS and role is Role.READING)


def test_patterns_inside_expressions_have_roles() -> None:
    for kind in EXPRESSIONS:
        patterns = {name for name, nodes in held(kind).items() if tree.PatternNode in nodes}
        assert patterns <= FIELDS.get(kind, {}).keys()


def statement(text: str) -> Any:
    return parse(Source("r", text)).statements[0]


def texts(node: Any, role: Role) -> list[str]:
    return [one.span.text for one in of(node, role)]


def test_fields_of_parts_are_those_of_the_statement() -> None:
    node = statement("merge a.{i}.q as q, a.{i}.k as k -> a.{i}.qk in f32 = cat(q, k) where i > 0")
    assert texts(node, Role.BINDING) == ["a.{i}.q", "a.{i}.k"]
    assert texts(node, Role.DEFINED) == ["q", "k"]
    assert texts(node, Role.TEMPLATE) == ["a.{i}.qk"]
    assert texts(node, Role.READING) == ["cat(q, k)", "i > 0", "f32"]


def test_the_keys_of_a_set_are_patterns_or_templates() -> None:
    alone, each = statement("set a.{i} = it"), statement("set a.{i} = it for b.{i}")
    assert (texts(alone, Role.BINDING), texts(alone, Role.TEMPLATE)) == (["a.{i}"], [])
    assert (texts(each, Role.BINDING), texts(each, Role.TEMPLATE)) == (["b.{i}"], ["a.{i}"])


@pytest.mark.parametrize(
    ("text", "current"),
    [
        ("set a = it", True),
        ("drop a where true", True),
        ("expect shape a.* == [2]", True),
        ("add a = zeros([2])", False),
        ("add a.{i} = zeros([2]) for b.{i}", True),
        ("param x = 1", False),
        ("let x = 1", False),
        ("expect exists(a)", False),
        ("set value('a') = 1", False),
        ("if exists(a) { drop a }", False),
    ],
)
def test_expressions_have_a_current_tensor_where_a_pattern_matches_one(text: str, current: bool) -> None:
    assert has_current(statement(text)) is current
