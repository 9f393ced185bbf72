"""Constraints on a mapping beyond types: keys that exclude, need or replace each other, and special names."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from statex.core.record import record
from statex.core.yaml_text import Fields, Items, Node, Scalar, shortened
from statex.diagnostics.codes import Code
from statex.diagnostics.codes import recipes as codes
from statex.diagnostics.suggest import did_you_mean, join_words


@record
class Problem:
    """What is wrong with a mapping, said after its path, and where: at a node, or (`None`) at the mapping itself."""

    code: Code
    said: str
    at: Node | None = None
    help: str = ""


@record
class Relation:
    """A condition on a mapping: its form in a JSON Schema (empty if there is none) and its check.

    The check is given the mapping and the text it stands in. If `replaces` is true and it finds something, nothing
    else is said of the mapping.
    """

    schema: dict[str, Any]
    check: Callable[[Fields, str], Iterable[Problem]]
    replaces: bool = False


def one_of(*names: str) -> Relation:
    """Require exactly one of several keys."""

    def check(fields: Fields, text: str) -> Iterator[Problem]:
        given = [name for name in names if name in fields.entries]
        if not given:
            said = f"needs one of {join_words([f'`{name}`' for name in names], last='or')}"
            yield Problem(codes.MISSING_KEY, said)
        for name in given[1:]:
            said = f"takes `{given[0]}` or `{name}`, and has both"
            yield Problem(codes.WRONG_VALUE, said, fields.entries[name].key)

    return Relation({"oneOf": [{"required": [name]} for name in names]}, check)


def needs(name: str, other: str) -> Relation:
    """Let a key stand only beside another."""

    def check(fields: Fields, text: str) -> Iterator[Problem]:
        if name in fields.entries and other not in fields.entries:
            yield Problem(codes.WRONG_VALUE, f"takes `{name}` only beside `{other}`", fields.entries[name].key)

    return Relation({"dependentRequired": {name: [other]}}, check)


def apart(name: str, *others: str) -> Relation:
    """Let a key not stand beside any of several others."""

    def check(fields: Fields, text: str) -> Iterator[Problem]:
        for other in others if name in fields.entries else ():
            if other in fields.entries:
                yield Problem(codes.WRONG_VALUE, f"takes `{name}` or `{other}`, and has both", fields.entries[name].key)

    return Relation({"not": {"required": [name], "anyOf": [{"required": [other]} for other in others]}}, check)


def has(name: str, why: str) -> Relation:
    """Require a name in a mapping of names."""

    def check(fields: Fields, text: str) -> Iterator[Problem]:
        if name not in fields.entries:
            near = did_you_mean(name, fields.entries)
            help = f"did you mean `{name}` by `{shortened(near[0])}`?" if near else f"{name}: PATH"
            yield Problem(codes.MISSING_KEY, f"has no `{name}`, {why}", help=help)

    return Relation({"required": [name]}, check)


def single(name: str, why: str) -> Relation:
    """Let the value of a name be no list."""

    def check(fields: Fields, text: str) -> Iterator[Problem]:
        entry = fields.entries.get(name)
        if entry is not None and isinstance(entry.value, Items):
            yield Problem(codes.WRONG_VALUE, f"takes one path as `{name}`, not a list: {why}", entry.value)

    return Relation({"properties": {name: {"not": {"type": "array"}}}}, check)


def reserved(names: Iterable[str], why: str) -> Relation:
    """Keep names from being given."""
    names = sorted(names)

    def check(fields: Fields, text: str) -> Iterator[Problem]:
        for name in names:
            if name in fields.entries:
                yield Problem(codes.WRONG_VALUE, f"cannot use the name `{name}`, {why}", fields.entries[name].key)

    return Relation({"propertyNames": {"not": {"enum": names}}}, check)


_RUN = ("policy", "outputs")


def one_result(is_one: Callable[[Iterable[str]], bool]) -> Relation:
    """Let a run be `reversible` that has one output, which holds the whole result; `is_one` knows the keys of one."""

    def check(fields: Fields, text: str) -> Iterator[Problem]:
        policy, outputs = (fields.entries[name].value if name in fields.entries else None for name in _RUN)
        entry = policy.entries.get("reversible") if isinstance(policy, Fields) else None
        if entry is None or not isinstance(entry.value, Scalar) or entry.value.value is not True or outputs is None:
            return
        made = [outputs]
        if isinstance(outputs, Fields) and not is_one(outputs.entries):
            made = [one.value for one in outputs.entries.values()]
        parts = [one.entries for one in made if isinstance(one, Fields)]
        states = len(made) - sum("optimizer" in one for one in parts)
        if states != 1 or any("keep" in one for one in parts):
            said = "takes `reversible` only with one output that holds the whole result"
            yield Problem(codes.WRONG_VALUE, said, entry.key)

    return Relation({}, check)


LINT = "^SX9[0-9][0-9]$"
"""The form of a warning's code."""


def known_lints() -> Relation:
    """Require keys of the form of a warning's code to be codes that exist."""

    def check(fields: Fields, text: str) -> Iterator[Problem]:
        from statex.diagnostics.codes import all_codes

        known = {code.id for code in all_codes() if code.is_lint}
        for name, entry in fields.entries.items():
            if re.fullmatch(LINT, name) and name not in known:
                said = f"has `{shortened(name)}`, which is not the code of a warning"
                help = f"the codes of warnings are {join_words(sorted(known), len(known))}"
                yield Problem(codes.WRONG_VALUE, said, entry.key, help)

    return Relation({}, check)


def quoted_rule(known: Iterable[str]) -> Relation:
    """Say of a rule that YAML takes for a mapping, because of a `: ` in it, how to write it."""
    known = frozenset(known)

    def check(fields: Fields, text: str) -> Iterator[Problem]:
        if len(fields.entries) != 1 or known & set(fields.entries) or text.startswith("{", fields.start):
            return
        ((name, entry),) = fields.entries.items()
        if name.isidentifier() and did_you_mean(name, known):
            return  # a misspelt key, and no rule
        rule = text[entry.key.start : entry.value.end].strip()
        help = "write it as a block: `- |`, and the rule indented in the next line"
        if isinstance(entry.value, Scalar) and entry.value.style == "" and "\n" not in rule and len(rule) <= 200:
            help = f"- {_quoted(rule)}"
        yield Problem(codes.WRONG_VALUE, "is read as a mapping, because of the `:` in it; quote the rule", fields, help)

    return Relation({}, check, replaces=True)


def _quoted(rule: str) -> str:
    return "'" + rule.replace("'", "''") + "'" if '"' in rule or "\\" in rule else f'"{rule}"'
