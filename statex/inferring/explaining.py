"""The walk over what is left: each explanation is asked for formulas, and what holds to the bit is taken."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice

from statex.core.dtypes import DType, Kind
from statex.core.header import Header, TensorInfo, TensorType
from statex.inferring.evidence import Evidence
from statex.inferring.explanations.averages import averages
from statex.inferring.explanations.folded_norms import folded_norms
from statex.inferring.explanations.grids import resampled
from statex.inferring.explanations.low_rank import low_rank_updates
from statex.inferring.explanations.masks import masked
from statex.inferring.explanations.weight_norms import weight_norms
from statex.inferring.formulas import Formula, computed, same_bits
from statex.relating.relations import MadeTensor, Relations
from statex.relating.values import SourceTensor
from statex.relating.words import class_of

Explanation = Callable[[Evidence, str], Iterable[Formula]]
"""Yields what a new tensor may be computed by, the likeliest first."""

EXPLANATIONS: Sequence[Explanation] = (masked, weight_norms, low_rank_updates, averages, folded_norms, resampled)

_MISSES = 2
"""So many keys of a class that nothing explains are enough not to look at the others, if they are the first ones."""


@dataclass
class Explained:
    """Formulas by the new keys that they give.

    `results` are the types of what their statements leave, by its key; `casts` the dtypes of new tensors that are
    other ones.
    """

    formulas: dict[str, Formula] = field(default_factory=dict)
    results: dict[str, TensorType] = field(default_factory=dict)
    casts: dict[str, DType] = field(default_factory=dict)

    def relations(self, before: Relations) -> Relations:
        """Return relations in which the results of formulas are old tensors, in the place of what they are made of."""
        made = dict(before.made)
        for key, formula in self.formulas.items():
            made[key] = MadeTensor(key, (formula.result,), SourceTensor(0, self.casts.get(key)))
        left = {key: near for key, near in before.unexplained.items() if key not in self.formulas}
        order = {key: made[key] for key in before.new if key in made}
        return replace(before, old=tuple(self._state(before.old)), made=order, unexplained=left)

    def header(self, before: Header) -> Header:
        """Return the header that the statements of the formulas leave."""
        if not self.formulas:
            return before
        results = {key: TensorInfo(kind) for key, kind in self.results.items()}
        return replace(
            before, entries={key: results.get(key) or before.entries[key] for key in self._state(before.entries)}
        )

    def _state(self, keys: Iterable[str]) -> Iterator[str]:
        """Yield the keys of the state that the statements leave: what is merged stands where its first tensor was."""
        merges = [one for one in self.formulas.values() if one.names]
        first = {one.operands[0].key: one.merged for one in merges}
        gone = {operand.key for one in merges for operand in one.operands}
        for key in keys:
            if key in first:
                yield first[key]
            elif key not in gone:
                yield key


def explained(evidence: Evidence, relations: Relations) -> Explained:
    """Return what is computed of what is left, and of what has another explanation in a class that is computed."""
    walk = _Walk(evidence, relations)
    walk.left(evidence.left)
    walk.unify()
    if walk.neighbours():
        walk.left([key for key in evidence.left if key not in walk.found.formulas])
    return walk.found


class _Walk:
    def __init__(self, evidence: Evidence, relations: Relations) -> None:
        self.evidence, self.relations = evidence, relations
        self.found = Explained()
        self.read: set[str] = set()
        """Old keys that formulas read which give others a value."""
        self.by_class: defaultdict[str, dict[Explanation, set[object]]] = defaultdict(dict)
        """By which explanations the keys of a class were explained, and the forms of these formulas."""

    def left(self, left: Iterable[str]) -> None:
        """Look at each class of new keys: at the first and the last one, and at all if one of these is explained."""
        classes: defaultdict[str, list[str]] = defaultdict(list)
        for key in left:
            kind = self.evidence.new.kinds.get(key)
            if kind is not None and kind.dtype.kind is Kind.FLOAT and kind.numel:
                classes[class_of(key)].append(key)
        for keys in classes.values():
            misses = 0
            for key in dict.fromkeys([keys[0], keys[-1], *keys]):
                misses += not self._explain(key, self._order(key))
                if misses == _MISSES and class_of(key) not in self.by_class:
                    break

    def _order(self, key: str) -> Iterable[Explanation]:
        """Return the explanations, first those of others of a class."""
        return dict.fromkeys([*self.by_class.get(class_of(key), ()), *EXPLANATIONS])

    def unify(self) -> None:
        """Give the keys of a class as few forms as they can have: by chance, several may hold for some of them."""
        for name, own in self.by_class.items():
            left = [key for key in self.found.formulas if class_of(key) == name]
            while len(forms := dict.fromkeys(self.found.formulas[key].form for key in left)) > 1:
                reached = [self._reached(left, list(own), form) for form in forms]
                best = max(reached, key=len)
                for key, formula in best.items():
                    before = self._give_up(key)
                    self._take(key, formula if self._may_stand(formula) else before)
                left = [key for key in left if key not in best]

    def _reached(self, keys: Iterable[str], explanations: Sequence[Explanation], form: object) -> dict[str, Formula]:
        """Return the formulas of a form that keys may have in place of the ones that they have."""
        found: dict[str, Formula] = {}
        for key in keys:
            before = self.found.formulas[key]
            if before.form == form:
                found[key] = before
                continue
            self._give_up(key)
            holding = self._holding(key, explanations, lambda one: one.form == form)
            found.update((key, formula) for _, formula in islice(holding, 1))
            self._take(key, before)
        return found

    def neighbours(self) -> bool:
        """Give new tensors that have another explanation a formula of their class, where one holds; say if any has one.

        An update may have changed nothing, a mask may have masked nothing, and small tensors may be found by chance in
        others: it is one rule all the same.
        """
        uses = self.relations.uses
        some = False
        for key, made in self.relations.made.items():
            if class_of(key) in self.by_class and isinstance(made, MadeTensor):
                own = [one for one in made.keys if len(uses[one]) == 1]
                some |= self._as_neighbour(key, own)
        return some

    def _as_neighbour(self, key: str, sources: Sequence[str]) -> bool:
        own, free = self.by_class[class_of(key)], self.evidence.free
        forms = {form for known in own.values() for form in known}
        freed = dict.fromkeys(one for one in sources if one not in self.read)
        free |= freed
        if self._explain(key, list(own), lambda one: one.operands[0].key in freed and one.form in forms):
            return True
        for one in freed:
            free.pop(one, None)
        return False

    def _explain(
        self, key: str, explanations: Iterable[Explanation], meant: Callable[[Formula], bool] = lambda _: True
    ) -> bool:
        for explanation, formula in self._holding(key, explanations, meant):
            self._take(key, formula)
            self.by_class[class_of(key)].setdefault(explanation, set()).add(formula.form)
            return True
        return False

    def _holding(
        self, key: str, explanations: Iterable[Explanation], meant: Callable[[Formula], bool]
    ) -> Iterator[tuple[Explanation, Formula]]:
        """Yield the formulas that give a new tensor, of those that are meant."""
        for explanation in explanations:
            for formula in explanation(self.evidence, key):
                if meant(formula) and self._may_stand(formula) and self._holds(key, formula):
                    yield explanation, formula

    def _may_stand(self, formula: Formula) -> bool:
        """Say whether no formula changes what another one reads, and each result has a key of its own."""
        own = [one.key for one in formula.operands if one.input is None]
        free, results = self.evidence.free, self.found.results
        if formula.names:
            return (
                all(key in free for key in own)
                and (formula.merged in own or formula.merged not in self.evidence.old.header.entries)
                and formula.merged not in results
            )
        base, *others = own
        return base in free and base not in self.read and not any(key in results for key in others)

    def _holds(self, key: str, formula: Formula) -> bool:
        """Say whether a formula gives a new tensor, perhaps in another dtype, to the bit."""
        wanted = self.evidence.wanted(key)
        found = computed(formula, [self.evidence.tensor(one) for one in formula.operands])
        return found is not None and found.shape == wanted.shape and same_bits(found.to(wanted.dtype), wanted)

    def _give_up(self, key: str) -> Formula:
        """Take back the formula of a new tensor."""
        formula = self.found.formulas.pop(key)
        del self.found.results[formula.result]
        self.found.casts.pop(key, None)
        for one in formula.operands if formula.names else formula.operands[:1]:
            self.evidence.free[one.key] = None
        return formula

    def _take(self, key: str, formula: Formula) -> None:
        found, free = self.found, self.evidence.free
        kind, wanted = self.evidence.kind(formula.operands[0]), self.evidence.new.kinds[key]
        found.formulas[key] = formula
        found.results[formula.result] = TensorType(kind.dtype, wanted.shape)
        if wanted.dtype is not kind.dtype:
            found.casts[key] = wanted.dtype
        own = [one.key for one in formula.operands if one.input is None]
        self.read.update(own[1:] if not formula.names else ())
        for one in own if formula.names else own[:1]:
            free.pop(one, None)
        self.evidence.known.setdefault(formula.value, formula)
        self.evidence.origins[key] = formula.result


def free_of(relations: Relations, keys: Collection[str]) -> list[str]:
    """Return the keys that nothing is made of."""
    used = {key for one in relations.made.values() if isinstance(one, MadeTensor) for key in one.keys}
    return [key for key in keys if key not in used]
