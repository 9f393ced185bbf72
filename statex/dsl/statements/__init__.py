"""The effects of statements; `run` carries out a list of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from statex.diagnostics import StatexError
from statex.dsl.compile.compiler import Compiler
from statex.dsl.compile.state import Outcome
from statex.dsl.expressions.parameters import Given
from statex.dsl.expressions.scope import Scope
from statex.dsl.statements import around, assign, declarations, expect, rename, select, split_merge
from statex.grammar import tree

_ON_STATE: Mapping[type, Callable[[Compiler, Any, Scope], Outcome | None]] = {
    tree.Rename: rename.rename,
    tree.Renumber: rename.renumber,
    tree.Set: assign.set_,
    tree.Add: assign.add,
    tree.Copy: select.copy,
    tree.Drop: select.drop,
    tree.SetValue: around.set_value,
    tree.AddValue: around.add_value,
    tree.DropValue: around.drop_value,
    tree.Order: select.order,
    tree.Split: split_merge.split,
    tree.Merge: split_merge.merge,
    tree.ExpectSame: expect.expect_same,
}

_ON_PROGRAM: Mapping[type, Callable[[Compiler, Any, Scope], None]] = {
    tree.Expect: expect.expect,
    tree.ExpectKeys: expect.expect_keys,
    tree.ExpectEach: expect.expect_each,
    tree.Let: declarations.let,
    tree.Input: declarations.input_,
    tree.Macro: declarations.macro,
    tree.Allow: declarations.allow,
}

_WITH_BODY: Mapping[type, Callable[[Compiler, Any, Scope, declarations.Run], None]] = {
    tree.Include: declarations.include,
    tree.Use: declarations.use,
    tree.Within: declarations.within,
    tree.If: declarations.if_,
}


def runner(given: dict[str, Given]) -> declarations.Run:
    """Return what carries out statements whose parameters have these values from outside."""

    def run(compiler: Compiler, statements: Sequence[tree.Statement], scope: Scope) -> None:
        if not statements:
            return
        with compiler.bounds.nested(statements[0].span):
            for statement in statements:
                try:
                    compiler.bounds.statement(statement.span)
                    _one(compiler, statement, scope, given, run)
                except StatexError as error:
                    compiler.report(error)

    return run


def _one(
    compiler: Compiler, statement: tree.Statement, scope: Scope, given: dict[str, Given], run: declarations.Run
) -> None:
    kind = type(statement)
    if kind in _ON_STATE:
        outcome = _ON_STATE[kind](compiler, statement, scope)
        if outcome is not None:
            compiler.apply(outcome, scope)
    elif kind in _ON_PROGRAM:
        _ON_PROGRAM[kind](compiler, statement, scope)
    elif kind in _WITH_BODY:
        _WITH_BODY[kind](compiler, statement, scope, run)
    elif isinstance(statement, tree.Param):
        declarations.param(compiler, statement, scope, given)
    # `root` and `follow` speak of the file around the state, and those who open and write it heed them.
