"""`expect`: assertions over keys, counts, shapes and dtypes; they change nothing."""

from __future__ import annotations

from statex.diagnostics import StatexError, diagnostic
from statex.diagnostics.codes import keys as codes
from statex.dsl import operators
from statex.dsl.compiler import Clause, Compiler
from statex.dsl.evaluate import Context, Evaluator
from statex.dsl.scope import Scope
from statex.dsl.values import describe, is_unknown
from statex.grammar import tree


def expect(compiler: Compiler, node: tree.Expect, scope: Scope) -> None:
    """Check a condition."""
    evaluator = Evaluator(compiler, scope, Context())
    if evaluator.condition(node.condition, "`expect`"):
        return
    values = []
    if isinstance(node.condition, tree.Binary) and node.condition.operator not in ("and", "or"):
        sides = (node.condition.left, node.condition.right)
        values = [
            f"{side.span.text} = {describe(evaluator.plain(side, 'an expectation'))}"
            for side in sides
            if not isinstance(side, tree.Number | tree.String)
        ]
    compiler.found.add(
        diagnostic(codes.EXPECTATION, "this does not hold for the checkpoint", node.condition.span, values=values)
    )


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


def expect_each(compiler: Compiler, node: tree.ExpectEach, scope: Scope) -> None:
    """Check the shape or the dtype of every match."""
    for match in compiler.matches(node.pattern, Clause(scope), tensors=True, further=True):
        try:
            evaluator = compiler.evaluator(match, scope)
            wanted = evaluator.plain(node.value, "`expect`")
            if match.entry.value is None or is_unknown(wanted):
                continue
            actual = match.entry.value.shape if node.subject == "shape" else match.entry.value.dtype
            if operators.binary(node.operator, actual, wanted, node.value.span):
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
