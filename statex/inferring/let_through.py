"""Rules as general as if all was explained: what one tensor differs in is no reason to leave its key out of them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from statex.diagnostics import StatexError
from statex.dsl.plan.plan import Plan
from statex.grammar.printer import show
from statex.inferring.analogies import Analogies
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
    made = {key: one for key, one in relations.made.items() if isinstance(one, MadeTensor)}
    used = {key for one in made.values() for key in one.keys}
    wanted = frozenset(key for key in relations.unexplained if key in relations.new)
    cut = _cut(made, wanted, used)
    aside = frozenset(cut.union(key for key in relations.old if key not in used))
    if not aside or not wanted or not made:
        return rules, {}
    sure = [key for key in relations.made if key not in made or cut.isdisjoint(made[key].keys)]
    pieces = [one for one in made.values() if not cut.isdisjoint(one.keys)]
    before = _plan_of(rules, side)
    try:
        general = _Learned(relations, side, aside, wanted)
        if not general.origins or not general.does_what(before, sure, pieces):
            return rules, {}
        if wanted <= general.origins.keys():
            # Nothing is left that could be for something: the other keys are in the way, as ever.
            needed = frozenset(key for keys in general.origins.values() for key in keys)
            whole = _Learned(relations, side, needed, wanted)
            if whole.origins == general.origins and whole.does_what(before, sure, pieces):
                general = whole
    except StatexError:
        return rules, {}
    return general.rules, {key: keys[0] for key, keys in general.origins.items() if len(keys) == 1}


def _cut(made: Mapping[str, MadeTensor], wanted: Collection[str], used: Collection[str]) -> set[str]:
    """Return old keys some of whose pieces are explained, and others not: by what their classes are made of."""
    analogies = Analogies(made.values())
    found = {key for one in wanted for like in analogies.of(one) if not like.is_whole for key in like.keys}
    return found.intersection(used)


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

    def does_what(self, plan: Plan | None, sure: Collection[str], pieces: Iterable[MadeTensor]) -> bool:
        """Say whether the rules make of keys what another plan does, and `pieces` of what these are made of.

        Where there is no plan, as its rules cannot be applied, any that can are better.
        """
        if plan is None:
            return True
        one, other = told(self.plan), told(plan)
        alike = all(one.get(key) == other.get(key) is not None for key in sure)
        return alike and all(self._cuts(piece, plan) for piece in pieces)

    def _cuts(self, piece: MadeTensor, plan: Plan) -> bool:
        found, known = self.plan.outputs.get(piece.target), plan.outputs.get(piece.target)
        return (
            found is not None
            and known is not None
            and found.type == known.type
            and set(sources_of(self.plan, found)) == set(piece.keys)
        )


def _plan_of(rules: Sequence[NotedRule], side: TensorSide) -> Plan | None:
    try:
        return _plan(rules, side)
    except StatexError:
        return None


def _plan(rules: Sequence[NotedRule], side: TensorSide) -> Plan:
    return planned("".join(f"{show(rule.statement)}\n" for rule in rules), side.header)
