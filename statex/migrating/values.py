"""Values of the parameters of steps: as given now, and as noted in a state."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from statex.core.dtypes import DType
from statex.dsl.compile.given import params
from statex.dsl.expressions.parameters import Given, checked, known_type
from statex.dsl.parts import Outside, addresses, split_name, stem_of
from statex.dsl.values import Value
from statex.grammar import tree
from statex.migrating.chain import Chain


def outside(given: Mapping[str, Any], *, strict: bool = False) -> Outside:
    """Return values for the parameters of steps; some steps need not declare all of them, unless `strict`."""
    return Outside({name: replace(as_given(value), lenient=not strict) for name, value in given.items()})


def as_given(value: Any) -> Given:
    """Return a value of Python, or one of a command line, as a program takes it."""
    return value if isinstance(value, Given) else Given(value, typed=True)


def plain_values(chain: Chain, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values that are for steps of a chain, or for what undoes them, as plain numbers, texts and lists.

    Raises:
        StatexError: SX206, SX217 for values of a wrong type.
    """
    declared = list(_declared(chain))
    found = {}
    for full, value in sorted(given.items()):
        file, name = split_name(full)
        nodes = [node for stem, node in declared if node.name.name == name and (not file or addresses(file, stem))]
        if nodes:
            found[full] = _plain(_typed(nodes[0], as_given(value)))
    return found


def _declared(chain: Chain) -> Iterator[tuple[str, tree.Param]]:
    """Yield the parameters that steps declare, what undoes them and what these include, with the stems of the files."""
    ways = ((0, chain.version), (chain.version, 0))
    for way in ways:
        for part in chain.between(*way):
            yield from ((part.stem, node) for node in params(part.program.statements))
        programs = {one.source.name: one for one in chain.resolved(*way).programs.values()}
        for name, program in programs.items():
            yield from ((stem_of(name), node) for node in params(program.statements))


def _typed(node: tree.Param, given: Given) -> Value:
    default = node.default.value if isinstance(node.default, tree.String | tree.Number) else None
    return checked(node, known_type(node.type) if node.type is not None else None, given, default)


def _plain(value: Value) -> Any:
    if isinstance(value, tuple):
        return [_plain(one) for one in value]
    return value.name if isinstance(value, DType) else value
