"""Plans of texts over headers: what rules would do, before any tensor is read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from statex.core.header import Header
from statex.core.source import Source
from statex.dsl.parts import Outside, ProgramPart
from statex.dsl.plan.plan import Plan
from statex.dsl.planner import compile_plan
from statex.dsl.resolve import resolve
from statex.grammar import parse
from statex.grammar.rulefiles import read_include

NO_INPUTS: Mapping[str, Sequence[Header]] = {}


def planned(
    text: str, header: Header, *, brief: bool = False, inputs: Mapping[str, Sequence[Header]] = NO_INPUTS
) -> Plan:
    """Return the plan of a program that stands by itself, but for further `inputs`.

    Raises:
        StatexError: what is wrong with it.
    """
    resolved = resolve((ProgramPart(parse(Source("<inferred>", text))),), read_include, Outside())
    return compile_plan(resolved, header, inputs=inputs, target=None, outside=Outside(), brief=brief)
