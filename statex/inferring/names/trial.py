"""Statements that change names, tried by the language itself: on a header of the same keys, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from statex.core.dtypes import FLOAT32
from statex.core.header import Header, TensorInfo, TensorType
from statex.core.source import Source
from statex.diagnostics import StatexError
from statex.dsl.parts import Outside, Part
from statex.dsl.planner import compile_plan
from statex.dsl.resolve import resolve
from statex.grammar import parse, tree
from statex.grammar.printer import show
from statex.grammar.rulefiles import read_include


def makes(statements: Sequence[tree.Statement], expected: Mapping[str, str]) -> bool:
    """Say whether statements make of each key the one that is expected, and nothing of others."""
    text = "".join(f"{show(one)}\n" for one in statements)
    header = Header({key: TensorInfo(TensorType(FLOAT32, ())) for key in expected})
    resolved = resolve((Part(parse(Source("<tried>", text))),), read_include, Outside())
    try:
        plan = compile_plan(resolved, header, inputs={}, target=None, outside=Outside(), brief=True)
    except StatexError:
        return False
    made = {one.origin.key: key for key, one in plan.outputs.items() if one.origin is not None}
    return made == dict(expected)
