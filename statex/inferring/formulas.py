"""Formulas: how a new tensor may be computed, as an expression that is carried out and written alike."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from statex.core.record import record
from statex.diagnostics import StatexError
from statex.dsl.parts import ProgramPart
from statex.grammar import factory as make
from statex.grammar import tree
from statex.grammar.rewriting import rewritten
from statex.session.request import InputSpec, Request
from statex.session.session import Session

_SLOT = "\ue000"
"""What begins the names of slots; of a private area, so that nothing else is called so."""


@record
class ReadTensor:
    """A tensor that a formula reads: of the old checkpoint, or of the further input with this name."""

    key: str
    input: str | None = None


@record
class Formula:
    """An expression in which `slot(0)`, `slot(1)` and so on stand for tensors, the operands.

    Without `names` it is a new value for the key of the first operand, an old one, computed in the dtype `compute` if
    there is one; with `each`, there is a statement for every key of the second operand. With `names`, all operands are
    of the old checkpoint, and become one tensor with the key `merged`: they are called so in the expression.

    `parameters` are names that the expression has for numbers.
    """

    value: tree.Expr
    operands: tuple[ReadTensor, ...]
    compute: str | None = None
    each: bool = False
    names: tuple[str, ...] = ()
    merged: str = ""
    parameters: tuple[tuple[str, float], ...] = ()

    @property
    def result(self) -> str:
        """The key of the state that has the value."""
        return self.merged or self.operands[0].key

    @property
    def form(self) -> object:
        """What the formulas of a statement have in common."""
        inputs = tuple([one.input for one in self.operands])
        return self.value, self.compute, self.each, self.names, self.parameters, inputs


def slot(number: int) -> tree.Name:
    """Return what stands for an operand in the expression of a formula."""
    return make.name(f"{_SLOT}{number}")


def filled(value: tree.Expr, of: Callable[[int], tree.Expr]) -> tree.Expr:
    """Return an expression with others for its slots, by their numbers."""

    def change(node: object) -> tree.Expr | None:
        return of(int(node.name[1:])) if isinstance(node, tree.Name) and node.name.startswith(_SLOT) else None

    found: tree.Expr = rewritten(value, change)
    return found


def declared(parameters: Sequence[tuple[str, float]]) -> list[tree.Param]:
    """Return the declarations of parameters, with their numbers as defaults."""
    given = [(make.name(name), make.name("float"), make.number(value)) for name, value in parameters]
    return [tree.Param(make.NOWHERE, *one) for one in given]


def assigned(formula: Formula, target: tree.PatternNode, value: tree.Expr) -> tree.Set:
    """Return the statement that gives a key the value of a formula."""
    compute = make.name(formula.compute) if formula.compute is not None else None
    return replace(make.assign(target, value), compute=compute)


_MADE = "made.tensor"


def computed(formula: Formula, tensors: Sequence[Any]) -> Any:
    """Return what a formula makes of tensors of torch: what `apply` makes of its rule. `None` if it takes no such."""
    keys = [f"operand.{number}" for number in range(len(tensors))]
    value = filled(formula.value, lambda number: make.tensor(keys[number]))
    made = _MADE if formula.names else keys[0]
    rule: tree.Statement
    rule = make.add(make.key(made), value) if formula.names else assigned(formula, make.key(made), value)
    program = make.program(*declared(formula.parameters), rule)
    request = Request(InputSpec(dict(zip(keys, tensors, strict=True))), (ProgramPart(program),))
    try:
        with Session(request) as session:
            return session.whole.execute()[made]
    except StatexError:
        return None


def same_bits(one: Any, other: Any) -> bool:
    """Say whether two tensors of torch are equal in every bit."""
    import torch

    return one.dtype is other.dtype and torch.equal(
        one.contiguous().view(torch.uint8), other.contiguous().view(torch.uint8)
    )
