"""The check of overfits: rules learned without the last layer have to hold for it, too."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from statex.core.numerals import NUMBERED
from statex.diagnostics import StatexError
from statex.dsl.plan.graph import Graph, InputTensor, OperationCall, ResultPiece
from statex.dsl.plan.plan import Plan
from statex.grammar import tree
from statex.grammar.printer import show
from statex.inferring.sides import TensorSide
from statex.relating.planning import planned
from statex.relating.program import NotedRule, written
from statex.relating.relations import MadeTensor, Relations

_LEAST = 3
"""So many layers there have to be, for the others to say something of the last one."""
_FEW = 8
"""What so many layers teach is looked at first: in most models the others are like them."""


def carries_over(relations: Relations, old: TensorSide, whole: Sequence[NotedRule]) -> bool | None:
    """Say whether what is learned without the last layer makes it, too; `None` where there are no layers."""
    layers = _layers(relations.old)
    if not layers:
        return None
    numbers = sorted(layers)
    known = _without(relations, layers[numbers[-1]])
    if known is None:
        return None
    texts = _texts(whole)
    few = _without(relations, [key for number in numbers[_FEW:] for key in layers[number]])
    if len(numbers) > _FEW + 1 and few is not None and _texts(_learned(few, old)) == texts:
        return True
    rules = _learned(known, old)
    if _texts(rules) == texts:
        return True
    try:
        return _made(old, [rule.statement for rule in rules]) == _made(old, [rule.statement for rule in whole])
    except StatexError:
        return False


def _without(relations: Relations, keys: Sequence[str]) -> Relations | None:
    """Return relations without some old keys and what is made of them; `None` where that is made of others, too."""
    gone = frozenset(keys)
    made = [one for one in relations.made.values() if isinstance(one, MadeTensor)]
    new = frozenset(one.target for one in made if gone.issuperset(one.keys))
    if any(not gone.isdisjoint(one.keys) for one in made if one.target not in new):
        return None
    return relations.without(gone, new)


def _learned(relations: Relations, old: TensorSide) -> list[NotedRule]:
    return written(relations, {key: old.kinds[key] for key in relations.old if key in old.kinds})


def _texts(rules: Sequence[NotedRule]) -> list[str]:
    return [show(rule.statement) for rule in rules]


def _layers(keys: tuple[str, ...]) -> dict[int, list[str]]:
    """Return the keys of each layer by its number, where most keys have one; nothing if there are too few layers."""
    found: defaultdict[str, defaultdict[int, list[str]]] = defaultdict(lambda: defaultdict(list))
    for key in keys:
        number = NUMBERED.search(key)
        if number is not None:
            found[key[: number.start()]][int(number[0])].append(key)
    if not found:
        return {}
    layers = max(found.values(), key=lambda one: sum(map(len, one.values())))
    return dict(layers) if len(layers) >= _LEAST else {}


def _made(old: TensorSide, statements: Sequence[tree.Statement]) -> dict[str, object]:
    """Return what each key of the result is made of, told alike whatever the program."""
    return told(planned("".join(f"{show(one)}\n" for one in statements), old.header))


def told(plan: Plan) -> dict[str, object]:
    """Return what each key of the result of a plan is made of, told alike whatever the program."""
    known: dict[int, int] = {}
    return {
        key: (one.type, one.origin or (_told(plan.graph, one.value, known) if one.value is not None else None))
        for key, one in plan.outputs.items()
    }


def _told(graph: Graph, value: int, known: dict[int, int]) -> int:
    """Return a hash of how a value is made."""
    if value not in known:
        node = graph[value]
        below = tuple(_told(graph, one, known) for one in graph.operands(value))
        match node:
            case InputTensor():
                known[value] = hash(node.key)
            case OperationCall():
                plain = tuple((name, repr(one)) for name, one in node.arguments if "Ref(" not in repr(one))
                known[value] = hash((node.operation, plain, below))
            case ResultPiece():
                known[value] = hash((node.index, below))
            case _:
                (known[value],) = below
    return known[value]
