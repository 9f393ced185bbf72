"""Checks calls: the operation exists, and has the arguments that are given by name."""

from __future__ import annotations

from statex.diagnostics import Collector, diagnostic
from statex.diagnostics.codes import names as codes
from statex.diagnostics.codes import types as type_codes
from statex.diagnostics.suggest import did_you_mean
from statex.diagnostics.torch_words import ARGUMENTS
from statex.dsl.expressions.scope import QUERY_NAMES
from statex.dsl.ops import OPERATIONS
from statex.dsl.ops.base import ArgKind
from statex.dsl.suggestions import unknown_operation
from statex.grammar import tree


def check_call(node: tree.Call, found: Collector) -> None:
    """Report an operation that does not exist, an argument that it does not have, and one that is given twice."""
    if node.function in QUERY_NAMES:
        return
    operation = OPERATIONS.get(node.function)
    if operation is None:
        found.add(unknown_operation(node))
        return
    named = [a for a in node.arguments if a.name is not None]
    for number, argument in enumerate(named):
        if argument.name in {a.name for a in named[:number]}:
            found.add(diagnostic(codes.NAME_CLASH, f"`{argument.name}` is given twice", argument.span))
    if any(p.kind is ArgKind.AXES for p in operation.parameters):
        return
    names = [p.name for p in operation.parameters]
    for argument in node.arguments:
        if argument.name is not None and argument.name not in names:
            elsewhere = ARGUMENTS.get(argument.name)
            near = [elsewhere] if elsewhere in names else did_you_mean(argument.name, names)
            rest = argument.span.text[len(argument.name) :]
            found.add(
                diagnostic(
                    type_codes.UNKNOWN_ARGUMENT,
                    f"`{node.function}` has no argument `{argument.name}`",
                    argument.span,
                    help=f"did you mean `{near[0]}{rest}`?" if near else operation.signature(),
                )
            )
