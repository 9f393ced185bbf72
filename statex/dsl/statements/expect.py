"""`expect`: assertions over keys, counts, shapes and dtypes; they change nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product

from statex.diagnostics import StatexError, diagnostic, fail
from statex.diagnostics.codes import keys as codes
from statex.dsl.compile.compiler import Compiler
from statex.dsl.compile.match import Clause, Match
from statex.dsl.compile.state import Outcome
from statex.dsl.expressions import scalars
from statex.dsl.expressions.evaluate import Context, Evaluator
from statex.dsl.expressions.scope import Scope
from statex.dsl.plan.entry import Entry
from statex.dsl.plan.graph import SourceKey
from statex.dsl.plan.plan import Change, Same
from statex.dsl.values import describe, is_unknown
from statex.grammar import tree
from statex.grammar.walk import nodes


def expect(compiler: Compiler, node: tree.Expect, scope: Scope) -> None:
    """Check a condition."""
    evaluator = Evaluator(compiler, scope, Context())
    if evaluator.condition(node.condition, "`expect`"):
        return
    values = list(dict.fromkeys(_values(evaluator, scope, node.condition, holds=False)))
    compiler.found.add(
        diagnostic(codes.EXPECTATION, "this expectation does not hold", node.condition.span, values=values)
    )


def _values(evaluator: Evaluator, scope: Scope, condition: tree.Expr, *, holds: bool) -> Iterator[str]:
    """Yield the values by which a condition `holds` or does not: of `and`, those of the sides that fail."""
    if isinstance(condition, tree.Unary) and condition.operator == "not":
        yield from _values(evaluator, scope, condition.operand, holds=not holds)
    elif isinstance(condition, tree.Binary) and condition.operator in ("and", "or"):
        for side in (condition.left, condition.right):
            if evaluator.condition(side, f"`{condition.operator}`") == holds:
                yield from _values(evaluator, scope, side, holds=holds)
                if (condition.operator == "and") != holds:
                    break
    else:
        sides = [condition.left, condition.right] if isinstance(condition, tree.Binary) else [condition]
        for side in sides:
            yield from _named(evaluator, scope, side)


def _named(evaluator: Evaluator, scope: Scope, side: tree.Expr) -> Iterator[str]:
    """Yield the value of an expression, and those of the names in it."""
    value, known = describe(evaluator.plain(side, "an expectation")), scope.names()
    if isinstance(side, tree.String) or value == side.span.text:
        return
    yield f"{side.span.text} = {value}"
    for one in nodes(side):
        if isinstance(one, tree.Name) and one.name in known and not isinstance(known[one.name], list | dict):
            yield f"{one.name} = {describe(known[one.name])}"


def expect_keys(compiler: Compiler, node: tree.ExpectKeys, scope: Scope) -> None:
    """Check that a pattern matches some key, or none; a regular expression is searched for inside of keys."""
    index, pattern = compiler.index_of(node.pattern), compiler.pattern(node.pattern, scope)
    by_search = pattern.regex is not None
    found = [key for key in index if pattern.occurs(key)] if by_search else [one.key for one in index.find(pattern)]
    if bool(found) == node.present:
        return
    headline = "no key matches this" if node.present else f"{len(found)} keys match this, and none was expected"
    if not node.present and len(found) == 1:
        headline = "a key matches this, and none was expected"
    compiler.found.add(diagnostic(codes.EXPECTATION, headline, node.pattern.span, cases=found))


def expect_same(compiler: Compiler, node: tree.ExpectSame, scope: Scope) -> Outcome:
    """Note what has to be equal in bits to another tensor, after checking dtypes and shapes."""
    named: list[SourceKey] = []
    keys: list[str] = []
    for match in compiler.matches(node.pattern, Clause(scope), tensors=True, further=True):
        try:
            for (key, one), (called, other) in _pairs(compiler, node, match, scope):
                compiler.same.append(Same(key, called, one, other, node.pattern.span))
                named += [each.origin for each in (one, other) if each.origin is not None and each.origin.input]
            keys.append(match.key)
        except StatexError as error:
            compiler.report(error, match.case)
    changes = tuple(Change("compared", (), (key,)) for key in keys)
    return Outcome("expect", node.span, changes, named=tuple(named))


_Called = tuple[str, Entry]
"""A tensor, after how messages call it."""


def _pairs(compiler: Compiler, node: tree.ExpectSame, match: Match, scope: Scope) -> Iterator[tuple[_Called, _Called]]:
    """Yield each tensor of a match (a family has several) with each that it is to be the same as."""
    others = _called(node.other.key.input, *compiler.standing(node.other, scope, compiler.context(match)))
    pattern, own = node.pattern, [match.entry]
    if pattern.input is not None:
        own = list(compiler.input(pattern).entries(match.key, pattern.span))
    for (key, entry), (called, other) in product(_called(pattern.input, match.visible, own), others):
        if entry.type is None or other.type is None:
            continue  # an error that was reported
        if entry.type != other.type:
            fail(
                codes.EXPECTATION,
                f"`{key}` and `{called}` cannot be the same: they are of different types",
                node.span,
                values=[f"{key}: {entry.type}   {called}: {other.type}"],
            )
        yield (key, entry), (called, other)


def _called(input: str | None, key: str, entries: Sequence[Entry]) -> list[_Called]:
    if input is None:
        return [(key, entry) for entry in entries]
    several = len(entries) > 1
    return [(f"{input}{f'[{n}]' if several else ''}::{key}", entry) for n, entry in enumerate(entries)]


def expect_each(compiler: Compiler, node: tree.ExpectEach, scope: Scope) -> None:
    """Check the shape or the dtype of every match."""
    for match in compiler.matches(node.pattern, Clause(scope), tensors=True, further=True):
        try:
            evaluator = compiler.evaluator(match, scope)
            wanted = evaluator.plain(node.value, "`expect`")
            if match.entry.type is None or is_unknown(wanted):
                continue
            actual = match.entry.type.shape if node.subject == "shape" else match.entry.type.dtype
            if scalars.binary(node.operator, actual, wanted, node.value.span):
                continue
        except StatexError as error:
            compiler.report(error, match.case)
            continue
        compiler.found.add(
            diagnostic(
                codes.EXPECTATION,
                f"the {node.subject} is not as expected",
                node.pattern.span,
                values=[
                    f"{node.subject}({match.key}) = {describe(actual)}   expected {node.operator} {describe(wanted)}"
                ],
                cases=[match.key],
            )
        )
