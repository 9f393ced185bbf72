"""Statements that change names, tried by the language itself: on a header of the same keys, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from statex.core.dtypes import FLOAT32
from statex.core.header import Header, TensorInfo, TensorType
from statex.diagnostics import StatexError
from statex.grammar import tree
from statex.grammar.printer import show
from statex.relating.planning import planned


def makes(statements: Sequence[tree.Statement], expected: Mapping[str, str]) -> bool:
    """Say whether statements make of each key the one that is expected, and nothing of others."""
    text = "".join(f"{show(one)}\n" for one in statements)
    header = Header(dict.fromkeys(expected, TensorInfo(TensorType(FLOAT32, ()))))
    try:
        plan = planned(text, header, brief=True)
    except StatexError:
        return False
    made = {one.origin.key: key for key, one in plan.outputs.items() if one.origin is not None}
    return made == dict(expected)
