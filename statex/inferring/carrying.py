"""The check of overfits: rules learned without the last layer have to hold for it, too."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence

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


def carries_over(relations: Relations, old: TensorSide, whole: Sequence[NotedRule]) -> bool | None:
    """Say whether what is learned without the last layer makes it, too; `None` where there are no layers."""
    last_old = _last(relations.old)
    made = [one for one in relations.made.values() if isinstance(one, MadeTensor)]
    last_new = frozenset(one.target for one in made if last_old.issuperset(one.keys))
    both = any(not last_old.isdisjoint(one.keys) for one in made if one.target not in last_new)
    if not last_old or both:
        return None
    known = relations.without(last_old, last_new)
    rest = {key: kind for key, kind in old.kinds.items() if key not in last_old}
    rules = written(known, rest)
    try:
        return _made(old, [rule.statement for rule in rules]) == _made(old, [rule.statement for rule in whole])
    except StatexError:
        return False


_NUMBER = re.compile(r"(?:^|(?<=\.))\d+(?=\.|$)")


def _last(keys: tuple[str, ...]) -> frozenset[str]:
    """Return the keys of the last layer: those of the highest number where most keys have one."""
    found: defaultdict[str, defaultdict[int, list[str]]] = defaultdict(lambda: defaultdict(list))
    for key in keys:
        number = _NUMBER.search(key)
        if number is not None:
            found[key[: number.start()]][int(number[0])].append(key)
    if not found:
        return frozenset()
    layers = max(found.values(), key=lambda one: sum(map(len, one.values())))
    return frozenset(layers[max(layers)]) if len(layers) >= _LEAST else frozenset()


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
