"""Statements for formulas: one for all that are computed alike, over as few patterns as cover their keys."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace

from statex.grammar import factory as make
from statex.grammar import tree
from statex.inferring.evidence import Inputs
from statex.inferring.formulas import Formula, assigned, declared, filled
from statex.relating.names.covering import Item, cover
from statex.relating.names.rows import KeyRow
from statex.relating.program import NotedRule, wild

_IT = make.name("it")


def parameters_of(formulas: Collection[Formula], note: str) -> list[NotedRule]:
    """Return the declarations of the parameters that formulas read, each with a note."""
    names = dict.fromkeys(one for formula in formulas for one in formula.parameters)
    return [NotedRule(rule, (note,)) for rule in declared(list(names))]


def formula_rules(formulas: Collection[Formula], state: Sequence[str], inputs: Inputs) -> Iterator[NotedRule]:
    """Yield statements for formulas: values for keys first, then merges; `state` are the keys before."""
    groups: defaultdict[object, list[Formula]] = defaultdict(list)
    for one in formulas:
        groups[one.form].append(one)
    for members in groups.values():
        if not members[0].names:
            yield from _each(members, inputs) if members[0].each else _set(members, state)
    left = dict.fromkeys(state)
    for members in groups.values():
        if members[0].names:
            gone = {operand.key for one in members for operand in one.operands}
            yield from _merged(members, [key for key in left if key not in gone])
            left = dict.fromkeys([*(key for key in left if key not in gone), *(one.merged for one in members)])


def _set(members: Sequence[Formula], state: Sequence[str]) -> Iterator[NotedRule]:
    """Yield statements over the keys that get a value; what has the same key in inputs is named so."""
    first = members[0]
    own = {one.result for one in members}
    staying = [one.result for one in members if {operand.key for operand in one.operands} == {one.result}]
    others = [key for key in state if key not in own]
    here = [_reference(make.pattern([make.capture("key")]), operand.input) for operand in first.operands]
    for row in cover([(key,) for key in staying], [*others, *(own - set(staying))]):
        (pattern,) = wild([row])
        value = filled(first.value, lambda number: here[number] if number else _IT)
        yield NotedRule(assigned(first, pattern, value), (count_of(row, staying),))
    moved = [_keys(one) for one in members if one.result not in staying]
    for row in cover(moved, [*others, *staying]):
        pattern, *further = row.patterns()
        named = [_reference(one, operand.input) for one, operand in zip(further, first.operands[1:], strict=True)]
        value = filled(first.value, lambda number, named=named: named[number - 1] if number else _IT)  # type: ignore[misc]
        yield NotedRule(assigned(first, pattern, value), (count_of(row, [one[0] for one in moved]),))


def _each(members: Sequence[Formula], inputs: Inputs) -> Iterator[NotedRule]:
    """Yield statements for each of the second operands, tensors of an input."""
    by_operands: defaultdict[Item, list[Formula]] = defaultdict(list)
    for one in members:
        by_operands[_keys(one)[1:]].append(one)
    yield from _for_each([own[0] for own in by_operands.values() if len(own) == 1], inputs)
    for own in by_operands.values():
        if len(own) > 1:
            yield _set_at_once(own)


def _for_each(members: Sequence[Formula], inputs: Inputs) -> Iterator[NotedRule]:
    if not members:
        return
    first = members[0]
    name = first.operands[1].input
    items: list[Item] = [(*_keys(one)[1:], one.result) for one in members]
    own = {item[0] for item in items}
    others = [key for key in inputs[str(name)].header.entries if key not in own]
    for (each, *further, target), count in _rows(items, others):
        named = [make.pattern([captured(one) for one in each.pieces]), *further]
        references = [_reference(one, operand.input) for one, operand in zip(named, first.operands[1:], strict=True)]
        value = filled(first.value, lambda number, own=references: own[number - 1] if number else _IT)  # type: ignore[misc]
        yield NotedRule(replace(assigned(first, target, value), each=replace(each, input=name)), (count,))


def _set_at_once(members: Sequence[Formula]) -> NotedRule:
    """Return a statement for keys that are computed with the same tensors, as those of a tie are: they stay one."""
    first = members[0]
    references = [_reference(make.key(one.key), one.input) for one in first.operands]
    value = filled(first.value, lambda number: references[number] if number else _IT)
    targets = tuple([make.key(one.result) for one in members])
    return NotedRule(replace(assigned(first, targets[0], value), targets=targets), (_counted(len(targets)),))


def _merged(members: Sequence[Formula], others: Sequence[str]) -> Iterator[NotedRule]:
    """Yield statements that merge all operands, each under its name."""
    first = members[0]
    items: list[Item] = [(*_keys(one), one.merged) for one in members]
    for row in cover(items, others):
        *sources, target = row.patterns()
        names = [make.name(f"{name}_" if name in row.captures else name) for name in first.names]
        value = filled(first.value, lambda number, names=names: names[number])  # type: ignore[misc]
        named = [tree.MergeSource(make.NOWHERE, pattern, name) for pattern, name in zip(sources, names, strict=True)]
        rule = tree.Merge(make.NOWHERE, tuple(named), None, target, value)
        yield NotedRule(rule, (count_of(row, [item[0] for item in items]),))


def _keys(one: Formula) -> Item:
    return tuple([operand.key for operand in one.operands])


def _reference(template: tree.PatternNode, input: str | None) -> tree.KeyRef:
    return tree.KeyRef(make.NOWHERE, replace(template, input=input))


def captured(piece: tree.Piece) -> tree.Piece:
    """Return a piece of a pattern as it stands in a template, for what it has matched."""
    return make.capture(piece.name) if isinstance(piece, tree.Capture) else piece


def _rows(items: Sequence[Item], others: Sequence[str]) -> Iterator[tuple[Sequence[tree.PatternNode], str]]:
    """Yield the patterns of items: one with the module captured wherever it stands, or rows of any form."""
    ends = [_around_module(item) for item in items]
    (first, *more) = ends
    if first is not None and all(one == first for one in more):
        module = make.capture("m", tree.CaptureForm.SEGMENTS)
        (before, behind), *rest = first
        if not any(_has_module(key, before, behind) for key in others):
            templates = [make.pattern([one for one in (a, make.capture("m"), b) if one]) for a, b in rest]
            yield [make.pattern([one for one in (before, module, behind) if one]), *templates], _counted(len(items))
            return
    for row in cover(items, others):
        yield row.patterns(), count_of(row, [item[0] for item in items])


def _around_module(item: Item) -> tuple[tuple[str, str], ...] | None:
    """Return what stands before and behind the segments that keys have in common, the longest such."""
    first, *others = (key.split(".") for key in item)
    for length in range(len(first) - 1, 0, -1):
        for at in range(len(first) - length):
            found = first[at : at + length]
            places = [_place(key, found) for key in others]
            if all(place is not None for place in places):
                keys = zip((first, *others), (at, *(place or 0 for place in places)), strict=True)
                return tuple([_ends(key, place, length) for key, place in keys])
    return None


def _place(key: list[str], part: list[str]) -> int | None:
    return next((at for at in range(len(key) - len(part)) if key[at : at + len(part)] == part), None)


def _ends(key: list[str], at: int, length: int) -> tuple[str, str]:
    return "".join(f"{one}." for one in key[:at]), "".join(f".{one}" for one in key[at + length :])


def _has_module(key: str, before: str, behind: str) -> bool:
    return key.startswith(before) and key.endswith(behind) and len(key) > len(before) + len(behind)


def count_of(row: KeyRow, keys: Sequence[str]) -> str:
    """Return how many keys a row matches, as a note, and whether it is for these alone."""
    count = _counted(sum(row.regex.fullmatch(key) is not None for key in keys))
    return f"{count}, only seen here" if row.is_overfit else count


def _counted(count: int) -> str:
    return f"{count} key{'' if count == 1 else 's'}"
