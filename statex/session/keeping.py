"""The keys of the result that each output holds, by its patterns; every key must be in some output."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import replace

from statex.core.source import Source, Span
from statex.diagnostics import fail, pointing_at
from statex.diagnostics.codes import files as codes
from statex.diagnostics.suggest import join_words
from statex.dsl.compile.nested_result import check_lists
from statex.dsl.keys.quoting import is_plain, show_rules
from statex.dsl.parts import Outside
from statex.dsl.plan.metadata import follow
from statex.dsl.plan.plan import Plan
from statex.grammar import factory as make
from statex.session.selection import selected


def plans_of(plan: Plan, keeps: Sequence[Sequence[Source]], outside: Outside) -> list[Plan]:
    """Return the plan of each output; `keeps` are the patterns of the keys that it holds, none where it holds all.

    Raises:
        StatexError: SX1xx and SX704 for what is not just patterns, SX301 for a pattern that matches no key, SX632 for
            keys that no output holds, SX327 for an output of which a list would have gaps.
    """
    plans = [_kept(plan, patterns, outside) if patterns else plan for patterns in keeps]
    _check_all_kept(plan, plans, [text.text for patterns in keeps for text in patterns])
    return plans


def _kept(plan: Plan, patterns: Sequence[Source], outside: Outside) -> Plan:
    found = _only(plan, selected(plan.outputs, patterns, outside))
    with pointing_at(Span(patterns[0], 0, len(patterns[0].text))):
        check_lists(plan.header, plan.nested, found.outputs)
    return found


_FEW = 3
"""So many keys are named one by one in help."""


def _check_all_kept(plan: Plan, plans: Sequence[Plan], patterns: Sequence[str]) -> None:
    if any(one is plan for one in plans):
        return
    held = {key for one in plans for key in one.outputs}
    lost = [key for key in plan.outputs if key not in held]
    if lost:
        named = join_words([f"`{key}`" for key in lost], limit=3)
        few = len(lost) <= _FEW and all(map(is_plain, lost))
        kept = f"keep {', '.join(dict.fromkeys(patterns))}"
        fail(
            codes.KEY_NOWHERE,
            f"no output holds {named}",
            help=f"if {'it is' if len(lost) == 1 else 'they are'} not needed, a last rule: "
            + (show_rules(make.drop(*map(make.key, lost))) if few else kept),
        )


def _only(plan: Plan, keys: Mapping[str, object]) -> Plan:
    outputs = OrderedDict((key, output) for key, output in plan.outputs.items() if key in keys)
    module_sources = [
        (key, output.module_source) for key, output in outputs.items() if output.module_source is not None
    ]
    metadata = plan.header.metadata
    kept = None if metadata is None else follow(metadata, plan.header.entries, module_sources)
    return replace(plan, outputs=outputs, metadata=kept)
