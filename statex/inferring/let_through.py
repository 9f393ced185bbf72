"""Rules as general as if all was explained: what one tensor differs in is no reason to leave its key out of them."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from statex.diagnostics import StatexError
from statex.dsl.plan.plan import Plan
from statex.grammar.printer import show
from statex.inferring.carrying import told
from statex.inferring.origins import sources_of
from statex.inferring.sides import TensorSide
from statex.relating.planning import planned
from statex.relating.program import NotedRule, written
from statex.relating.relations import MadeTensor, Relations


def let_through(
    relations: Relations, side: TensorSide, rules: Sequence[NotedRule]
) -> tuple[Sequence[NotedRule], dict[str, str]]:
    """Return rules that also make what keys there are of those that nothing explains, and the old keys of these.

    They are learned from all else, and do with that what the `rules` do. Where there are none such, it is these.
    """
    used = {key for one in relations.made.values() if isinstance(one, MadeTensor) for key in one.keys}
    free = frozenset(key for key in relations.old if key not in used)
    wanted = frozenset(key for key in relations.unexplained if key in relations.new)
    if not free or not wanted or not relations.made:
        return rules, {}
    try:
        before = _plan(rules, side)
        general = _Learned(relations, side, free, wanted)
        if not general.origins or not general.does_what(before, relations.made):
            return rules, {}
        if wanted <= general.origins.keys():
            # Nothing is left that could be for something: the other keys are in the way, as ever.
            needed = frozenset(key for keys in general.origins.values() for key in keys)
            whole = _Learned(relations, side, needed, wanted)
            if whole.origins == general.origins and whole.does_what(before, relations.made):
                general = whole
    except StatexError:
        return rules, {}
    return general.rules, {key: keys[0] for key, keys in general.origins.items() if len(keys) == 1}


class _Learned:
    """Rules that are learned without some old and new keys, and what they make of all."""

    def __init__(self, relations: Relations, side: TensorSide, without: frozenset[str], wanted: frozenset[str]) -> None:
        known = relations.without(without, wanted)
        self.rules = written(known, {key: kind for key, kind in side.kinds.items() if key not in without})
        self.plan = _plan(self.rules, side)
        outputs = {key: self.plan.outputs[key] for key in self.plan.outputs if key in wanted}
        self.origins: dict[str, tuple[str, ...]] = {
            key: found for key, one in outputs.items() if (found := sources_of(self.plan, one))
        }

    def does_what(self, plan: Plan, keys: Collection[str]) -> bool:
        """Say whether the rules make of these keys what another plan does."""
        one, other = told(self.plan), told(plan)
        return all(one.get(key) == other.get(key) is not None for key in keys)


def _plan(rules: Sequence[NotedRule], side: TensorSide) -> Plan:
    return planned("".join(f"{show(rule.statement)}\n" for rule in rules), side.header)
