"""The fate of every entry of every input, and the number of each kind: derived from a plan, not noted by statements.

An entry that stands in the result, moved or not, is found there; data that computed results are made of is found by
going back over the graph. What reaches no result was taken by a statement, and the last one that did says what for.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from statex.core.header import Header, TensorInfo
from statex.core.record import record
from statex.dsl.plan.graph import InputTensor, SourceKey

if TYPE_CHECKING:
    from statex.dsl.plan.entry import Stood
    from statex.dsl.plan.plan import Plan, Step

LETS_GO: Mapping[str, str] = {"drop": "dropped", "keep": "dropped", "set": "replaced"}
"""The statements that may take a tensor and make nothing of it, and what it is called then."""


@record
class Fate:
    """What became of an entry of an input.

    `kind` is one of: `untouched` (it stands as it stood; `copy` may have put it under further keys), `moved` (it
    stands, as it was, under other keys), `used` (results are computed of its data), `dropped` (by `drop` or `keep`) or
    `replaced` (a `set` gave its key a value without it); for entries of further inputs also `dropped` where a `drop`
    names them, `used` without results where statements name them and read no data, and `unread`.
    `results` are the keys of the result it stands under or is used for. `step` is the number of the statement that
    made the first of these or took it last, -1 for none.
    """

    kind: str
    results: tuple[str, ...]
    step: int


@record
class Totals:
    """How many keys there were of each kind.

    Every key of the checkpoint is counted once: `keys_in` is `untouched + moved + used + dropped + replaced`. So is
    every key of the result: `keys_out` is `untouched + moved + copied + taken + computed`, where `copied` are the
    further keys of what stands under several, and `taken` stand for entries of further inputs as they are.
    """

    keys_in: int
    keys_out: int
    untouched: int
    moved: int
    used: int
    dropped: int
    replaced: int
    computed: int
    copied: int
    taken: int


def account(plan: Plan) -> Mapping[SourceKey, Fate]:
    """Return what became of every entry of every input, in their order."""
    standing: dict[SourceKey, list[str]] = {}
    for key, output in plan.outputs.items():
        if output.origin is not None:
            standing.setdefault(output.origin, []).append(key)
    keys = list(_entries(plan))
    others = _of_others(plan, [key for key in keys if key not in standing])
    return {key: _of_standing(plan, key, standing[key]) if key in standing else others[key] for key in keys}


def totals(plan: Plan) -> Totals:
    """Return how many keys of the checkpoint and of the result there were of each kind."""
    entries, outputs = plan.header.entries, plan.outputs
    kept = [output.origin for output in outputs.values() if output.origin is not None]
    own = [origin.key for origin in kept if not origin.input]
    standing = set(own)
    still = [(key, output.origin) for key, output in outputs.items() if output.step < 0]
    untouched = sum([origin is not None and origin.key == key for key, origin in still])
    # Often everything stands, and then nothing is left to ask the graph and the statements for.
    others = [key for key in entries if key not in standing] if len(standing) < len(entries) else []
    kinds = Counter(fate.kind for fate in _of_others(plan, [SourceKey("", 0, key) for key in others]).values())
    return Totals(
        keys_in=len(entries),
        keys_out=len(outputs),
        untouched=untouched,
        moved=len(standing) - untouched,
        used=kinds["used"],
        dropped=kinds["dropped"],
        replaced=kinds["replaced"],
        computed=len(outputs) - len(kept),
        copied=len(own) - len(standing),
        taken=len(kept) - len(own),
    )


def unread(plan: Plan) -> Mapping[str, list[str]]:
    """Return for each further input the keys that no statement reads or names; of a family, in none of its members."""
    if not plan.inputs:
        return {}
    standing = {output.origin for output in plan.outputs.values()}
    further = [key for key in _entries(plan) if key.input]
    fates = _of_others(plan, [key for key in further if key not in standing])
    found: dict[str, dict[str, bool]] = {name: {} for name in plan.inputs}
    for key in further:
        missed = key in fates and fates[key].kind == "unread"
        keys = found[key.input]
        keys[key.key] = missed and keys.get(key.key, True)
    return {name: [key for key, missed in keys.items() if missed] for name, keys in found.items()}


def label(plan: Plan, key: SourceKey) -> str:
    """Return how an entry is called if it has to be told from all others: members of a family by their number."""
    several = key.input and len(plan.inputs[key.input]) > 1
    return f"{key.input}[{key.member}]::{key.key}" if several else str(key)


def _headers(plan: Plan) -> Iterator[tuple[str, int, Header]]:
    yield "", 0, plan.header
    for name, headers in plan.inputs.items():
        yield from ((name, member, header) for member, header in enumerate(headers))


def _entries(plan: Plan) -> Iterator[SourceKey]:
    for name, member, header in _headers(plan):
        for key in header.entries:
            yield SourceKey(name, member, key)


def _of_standing(plan: Plan, key: SourceKey, results: list[str]) -> Fate:
    own = plan.outputs.get(key.key) if not key.input else None
    if own is not None and own.step < 0 and own.origin == key:
        return Fate("untouched", tuple(results), -1)
    return Fate("moved", tuple(results), plan.outputs[results[0]].step)


def _of_others(plan: Plan, keys: Collection[SourceKey]) -> Mapping[SourceKey, Fate]:
    """Return what became of entries that stand nowhere in the result."""
    if not keys:
        return {}
    ties = _ties(plan)
    used = _used(plan, ties)
    let_go = _let_go(plan, ties)
    lost = {key for key in keys if key not in used and key not in let_go}
    taken = _taken(plan, ties, lost)
    further = _named(plan, lost - taken.keys())
    fates: dict[SourceKey, Fate] = {}
    for key in keys:
        if key in let_go:
            fates[key] = Fate("dropped", (), let_go[key])
        elif key in used:
            fates[key] = Fate("used", tuple(used[key]), plan.outputs[used[key][0]].step)
        elif key in taken:
            fates[key] = Fate(LETS_GO[plan.steps[taken[key]].verb], (), taken[key])
        else:
            fates[key] = further[key]
    return fates


Ties = Mapping[SourceKey, tuple[SourceKey, ...]]
"""The entries that are one tensor with an entry, itself included; entries that are alone are left out."""


def _ties(plan: Plan) -> Ties:
    found: dict[SourceKey, tuple[SourceKey, ...]] = {}
    for name, member, header in _headers(plan):
        storages = [i.storage for i in header.entries.values() if isinstance(i, TensorInfo) and i.storage is not None]
        if len(set(storages)) == len(storages):
            continue
        together: dict[object, list[SourceKey]] = {}
        for key, info in header.entries.items():
            if isinstance(info, TensorInfo) and info.storage is not None:
                together.setdefault(info.identity, []).append(SourceKey(name, member, key))
        for keys in together.values():
            if len(keys) > 1:
                found.update(dict.fromkeys(keys, tuple(keys)))
    return found


def _made_of(plan: Plan, ties: Ties, id: int) -> Iterator[SourceKey]:
    """Yield the entries whose data a value is made of."""
    for source in plan.graph.sources(id):
        node = plan.graph[source]
        assert isinstance(node, InputTensor)
        yield from ties.get(node.key, (node.key,))


def _used(plan: Plan, ties: Ties) -> Mapping[SourceKey, list[str]]:
    """Return for entries whose data is in computed results the keys of these."""
    used: dict[SourceKey, list[str]] = {}
    for key, output in plan.outputs.items():
        if output.origin is None and output.value is not None:
            for source in _made_of(plan, ties, output.value):
                used.setdefault(source, []).append(key)
    return used


def _let_go(plan: Plan, ties: Ties) -> Mapping[SourceKey, int]:
    """Return the tied entries that a statement dropped as they were, while others of the tie went on.

    The graph knows the tensor alone and not under which of its keys it was read: what is computed of it is computed of
    those that went on.
    """
    if not ties:
        return {}
    last = {stood: number for number, step in enumerate(plan.steps) for stood in step.ended}
    dropped = {key: last[key] for key in ties if key in last and LETS_GO.get(plan.steps[last[key]].verb) == "dropped"}
    return {key: step for key, step in dropped.items() if not all(other in dropped for other in ties[key])}


def _taken(plan: Plan, ties: Ties, lost: Collection[SourceKey]) -> Mapping[SourceKey, int]:
    """Return for entries that reach no result the last statement that took a key with what was left of them."""
    taken: dict[SourceKey, int] = {}
    for number in range(len(plan.steps) - 1, -1, -1):
        if len(taken) == len(lost):
            break
        for key in _ended(plan, ties, plan.steps[number]):
            if key in lost:
                taken.setdefault(key, number)
    return taken


def _ended(plan: Plan, ties: Ties, step: Step) -> Iterator[SourceKey]:
    for stood in step.ended:
        if isinstance(stood, int):
            yield from _made_of(plan, ties, stood)
        else:
            yield stood


def _named(plan: Plan, keys: Collection[SourceKey]) -> Mapping[SourceKey, Fate]:
    """Return what became of entries of further inputs whose data nothing was ever made of."""
    if not keys:
        return {}
    named: dict[SourceKey, Fate] = {}
    for number, step in enumerate(plan.steps):
        kind = LETS_GO.get(step.verb) if step.verb == "drop" else "used"
        for key in step.named:
            if key not in named or kind == "dropped":
                named[key] = Fate(kind or "used", (), number)
    for key, number in _typed(plan):
        named.setdefault(key, Fate("used", (), number))
    nothing = Fate("unread", (), -1)
    return {key: named.get(key, nothing) for key in keys}


def _typed(plan: Plan) -> Iterable[tuple[SourceKey, int]]:
    """Return the entries whose type alone went into a value, with the statement that made or took that."""
    values: dict[Stood, int] = {}
    for number, step in enumerate(plan.steps):
        values.update((stood, number) for stood in step.ended if isinstance(stood, int))
    values.update((output.value, output.step) for output in plan.outputs.values() if output.value is not None)
    return [(key, values[id]) for key, id in plan.graph.named(values).items()]  # type: ignore[arg-type]
