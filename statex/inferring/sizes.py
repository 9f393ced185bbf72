"""Numbers in rules that a configuration beside the checkpoint has a name for: they become parameters."""

from __future__ import annotations

import json
import os
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from statex.core.text_file import Unreadable, read_text_file
from statex.dsl.ops import OPERATIONS
from statex.dsl.ops.base import ArgKind
from statex.grammar import factory as make
from statex.grammar import tree
from statex.grammar.rewriting import rewritten
from statex.relating.program import NotedRule
from statex.session.request import State

CONFIG = "config.json"
_LARGEST = 16 << 20
_TYPE = "int"


_WIDTH = ("hidden_size", "n_embd", "d_model", "dim")
_HEADS = ("num_attention_heads", "n_head", "num_heads", "n_heads")
_FURTHER = (
    "num_key_value_heads", "n_kv_heads", "head_dim", "intermediate_size", "n_inner", "d_ff", "num_local_experts",
    "num_experts", "n_routed_experts", "num_key_value_groups",
)  # fmt: skip
_LEAST = 3
"""Two is rather the halves or the pairs of something."""

Named = tuple[tree.Expr, tuple[str, ...]]
"""A number as it is written, and the names that this takes."""


@dataclass(frozen=True)
class ConfigSizes:
    """What a configuration says of sizes: its numbers by name, and what each number is, if it is one thing only."""

    values: Mapping[str, int] = field(default_factory=dict)
    written: Mapping[int, Named] = field(default_factory=dict)
    paths: Mapping[str, str] = field(default_factory=dict)
    """Where in the file the values are that are not at its top."""


def sizes_beside(state: State) -> ConfigSizes:
    """Return the sizes of the configuration beside a checkpoint, none if there is no such file."""
    if not isinstance(state, str | os.PathLike):
        return ConfigSizes()
    path = Path(state)
    try:
        found = json.loads(read_text_file((path if path.is_dir() else path.parent) / CONFIG, _LARGEST))
    except (Unreadable, ValueError, RecursionError):
        return ConfigSizes()  # it is a help, and nobody has asked for it
    return sizes_of(found) if isinstance(found, dict) else ConfigSizes()


def sizes_of(config: Mapping[str, object]) -> ConfigSizes:
    """Return the sizes of a model by their names, those with them that follow: of a head, and of half of one.

    A configuration in it, such as `text_config`, has sizes of its own: these are called as they are there, or if that
    is another size already, by the name of the configuration as well.
    """
    values: dict[str, int] = {}
    paths: dict[str, str] = {}
    meant: defaultdict[int, list[Named]] = defaultdict(list)
    for path, part in _parts(config):
        own = {
            name: value for name in (*_WIDTH, *_HEADS, *_FURTHER) if type(value := part.get(name)) is int and value > 0
        }
        called = {
            name: name if values.get(name, value) == value else f"{path.removesuffix(_PART)}_{name}"
            for name, value in own.items()
        }
        paths |= {called[name]: f"{path}.{name}" for name in own if path and called[name] not in values}
        values |= {called[name]: value for name, value in own.items()}
        for value, named in _meanings(own, called):
            meant[value] += [named] if named not in meant[value] else []
    written = {value: own[0] for value, own in meant.items() if len(own) == 1 and value >= _LEAST}
    return ConfigSizes(values, written, paths)


_PART = "_config"


def _parts(config: Mapping[str, object]) -> Iterator[tuple[str, Mapping[str, object]]]:
    """Yield a configuration, and those in it, each with its name."""
    yield "", config
    for name, part in config.items():
        if name.endswith(_PART) and name.isidentifier() and isinstance(part, dict):
            yield name, part


def _meanings(values: Mapping[str, int], called: Mapping[str, str]) -> Iterator[tuple[int, Named]]:
    """Yield what numbers may be: sizes, and those that follow from them."""
    for name, value in values.items():
        yield value, (make.name(called[name]), (called[name],))
    width, heads = (next((name for name in names if name in values), None) for names in (_WIDTH, _HEADS))
    if "head_dim" in values:
        own = called["head_dim"]
        yield values["head_dim"] // 2, (_halved(make.name(own)), (own,))
    elif width is not None and heads is not None and values[width] % values[heads] == 0:
        names = (called[width], called[heads])
        one = make.binary(make.name(names[0]), "//", make.name(names[1]))
        size = values[width] // values[heads]
        yield size, (one, names)
        yield size // 2, (_halved(one), names)


def _halved(value: tree.Expr) -> tree.Expr:
    return make.binary(value, "//", make.number(2))


def with_named_sizes(rules: Sequence[NotedRule], sizes: ConfigSizes, taken: Collection[str] = ()) -> list[NotedRule]:
    """Return rules in which lengths of axes are parameters, if they have names that are not `taken`; these come first.

    Lengths alone are sizes: a number of chunks or of a dim is equal to one by chance.
    """
    free = {value: one for value, one in sizes.written.items() if not set(one[1]) & set(taken)}
    used: dict[str, None] = {}
    named = [replace(rule, statement=_named(rule.statement, free, used)) for rule in rules]
    return [*(NotedRule(_declared(name, sizes), (CONFIG,)) for name in used), *named]


def _declared(name: str, sizes: ConfigSizes) -> tree.Param:
    path = make.string(sizes.paths[name]) if name in sizes.paths else None
    return tree.Param(make.NOWHERE, make.name(name), make.name(_TYPE), make.number(sizes.values[name]), path)


def _named(rule: tree.Statement, names: Mapping[int, Named], used: dict[str, None]) -> tree.Statement:
    """Return a statement in which the lengths of axes are names."""

    def change(node: object) -> tree.Call | None:
        if not isinstance(node, tree.Call) or not _names_axes(node):
            return None
        return replace(node, arguments=tuple([_argument(one, names, used) for one in node.arguments]))

    found: tree.Statement = rewritten(rule, change)
    return found


def _names_axes(node: tree.Call) -> bool:
    operation = OPERATIONS.get(node.function)
    return operation is not None and any(one.kind is ArgKind.AXES for one in operation.parameters)


def _argument(one: tree.Argument, names: Mapping[int, Named], used: dict[str, None]) -> tree.Argument:
    value = one.value
    if one.name is None or not isinstance(value, tree.Number) or value.value not in names:
        return one
    written, read = names[int(value.value)]
    used.update(dict.fromkeys(read))
    return replace(one, value=written)
