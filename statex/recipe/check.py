"""Checks a recipe's values against the declaration: every error at once, with its place and the expected value."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cache
from itertools import islice
from typing import Any

from msgspec import inspect

from statex.core.source import Source, Span
from statex.core.yaml_text import Fields, Items, Node, Scalar, describe, shortened
from statex.diagnostics import Diagnostic, diagnostic
from statex.diagnostics.codes import Code
from statex.diagnostics.codes import recipes as codes
from statex.diagnostics.suggest import did_you_mean, join_words
from statex.recipe.declaration import OutputFile, ParamRef, Recipe, is_one_output
from statex.recipe.hints import Fix

ERRORS = 20
"""The most errors of a recipe that are told: those that stand first."""
_LOOKED_AT = 1000

Path = tuple[str | int, ...]


def check(source: Source, node: Node) -> tuple[Diagnostic, ...]:
    """Return what is wrong with a recipe, at most as many errors as are worth reading."""
    found = list(islice(_Checker(source, node).recipe(), _LOOKED_AT))
    return tuple(sorted(found, key=lambda one: one.span.start if one.span else 0)[:ERRORS])


class _Checker:
    """One recipe beside its declaration."""

    def __init__(self, source: Source, node: Node) -> None:
        self._source = source
        self._node = node
        params = node.entries.get("params") if isinstance(node, Fields) else None
        self._params = params.value.entries if params is not None and isinstance(params.value, Fields) else {}

    def recipe(self) -> Iterator[Diagnostic]:
        """Yield every error."""
        if isinstance(self._node, Fields):
            yield from self._struct(self._node, _declared(Recipe), (), None)
        elif isinstance(self._node, Scalar) and self._node.value is None:
            help = "statex: 1\ninputs: {main: IN}\nrules:\n  - RULE\noutputs: OUT"
            yield self._error(codes.MISSING_KEY, "the recipe is empty", self._node, help=help)
        else:
            said = f"a recipe must be a mapping that begins with `statex: 1`, not {describe(self._node)}"
            yield self._error(codes.WRONG_VALUE, said, self._node)

    def _value(
        self, node: Node, type: Any, path: Path, key: Scalar | None, outer: Mapping[str, Any] | None = None
    ) -> Iterator[Diagnostic]:
        """Yield the errors of a value; `outer` is what the types around it say belongs here."""
        extra, type = _bare(type)
        told = {**(outer or {}), **{name: extra[name] for name in ("expected", "fix") if extra.get(name)}}
        if isinstance(node, Fields) and (relations := extra.get("relations")):
            yield from self._related(node, relations, path, key)
        if isinstance(type, inspect.UnionType):
            fitting = _branch(type, node)
            if fitting is None:
                yield self._unfit(node, path, told)
            else:
                yield from self._value(node, fitting, path, key, told)
        elif isinstance(type, inspect.StructType) and isinstance(node, Fields):
            yield from self._struct(node, type, path, key)
        elif isinstance(type, inspect.DictType) and isinstance(node, Fields) and (node.entries or not type.min_length):
            yield from self._names(node, type, path)
        elif isinstance(type, inspect.ListType) and isinstance(node, Items) and (node.items or not type.min_length):
            for number, item in enumerate(node.items):
                yield from self._value(item, type.item_type, (*path, number), None)
        elif not _fits(type, node, extra):
            yield self._unfit(node, path, told)

    def _struct(self, node: Fields, type: Any, path: Path, key: Scalar | None) -> Iterator[Diagnostic]:
        known = {field.encode_name: field for field in type.fields}
        replaced = [r for r in type.cls.relations if r.replaces]
        if problems := list(self._related(node, replaced, path, key)):
            yield from problems
            return
        meant: set[str] = set()
        for name, entry in node.entries.items():
            if name in known:
                yield from self._value(entry.value, _output(known[name].type, entry.value, path, name), (*path, name),
                                       entry.key)  # fmt: skip
            else:
                near = [one for one in did_you_mean(name, list(known)) if one not in node.entries]
                meant.update(near)
                yield self._unknown(name, entry.key, list(known), near, path)
        for name, field in known.items():
            if field.required and name not in node.entries and name not in meant:
                yield self._missing(name, node, path, key)
        relations = [r for r in type.cls.relations if not r.replaces]
        # A key that is misspelt is not missing as well.
        yield from (p for p in self._related(node, relations, path, key) if not meant or p.code != codes.MISSING_KEY)
        if type.cls is ParamRef:
            yield from self._reference(node)

    def _names(self, node: Fields, type: Any, path: Path) -> Iterator[Diagnostic]:
        extra, _ = _bare(type.key_type)
        for name, entry in node.entries.items():
            if not _fits(inspect.StrType(), entry.key, extra):
                said = f"`{shortened(name)}` in `{_written(path)}` must be {extra['expected']}"
                yield self._error(codes.WRONG_VALUE, said, entry.key)
            yield from self._value(entry.value, type.value_type, (*path, name), entry.key)

    def _related(self, node: Fields, relations: Any, path: Path, key: Scalar | None) -> Iterator[Diagnostic]:
        for relation in relations:
            for problem in relation.check(node, self._source.text):
                yield self._error(
                    problem.code,
                    f"{f'`{_written(path)}`' if path else 'the recipe'} {problem.said}",
                    problem.at or key or node,
                    help=problem.help,
                )

    def _reference(self, node: Fields) -> Iterator[Diagnostic]:
        """Yield an error where `{param: NAME}` names no parameter of the recipe."""
        name = node.entries["param"].value if "param" in node.entries else None
        if not isinstance(name, Scalar) or not isinstance(name.value, str) or name.value in self._params:
            return
        near = did_you_mean(name.value, self._params)
        known = [f"`{shortened(param)}`" for param in self._params]
        yield self._error(
            codes.UNKNOWN_PARAM,
            f"the recipe has no parameter `{shortened(name.value)}`",
            name,
            notes=[f"`params` has {join_words(known, 8)}" if known else "the recipe has no `params`"],
            help=f"did you mean `{near[0]}`?" if near else "",
        )

    def _unfit(self, node: Node, path: Path, told: Mapping[str, Any]) -> Diagnostic:
        said = f"`{_written(path)}` must be {told.get('expected', '')}, not {describe(node)}"
        fix = told["fix"](node) if told.get("fix") else Fix()
        return self._error(codes.WRONG_VALUE, said, node, notes=[fix.note] if fix.note else (), help=fix.help)

    def _unknown(self, name: str, key: Scalar, known: list[str], near: list[str], path: Path) -> Diagnostic:
        return self._error(
            codes.UNKNOWN_KEY,
            f"unknown key `{shortened(name)}` in {_place(path)}",
            key,
            notes=[f"the keys there are {join_words(known, len(known))}"],
            help=f"did you mean `{near[0]}`?" if near else "",
        )

    def _missing(self, name: str, node: Fields, path: Path, key: Scalar | None) -> Diagnostic:
        help = {"statex": "statex: 1", "inputs": "inputs: {main: PATH}", "outputs": "outputs: PATH"}.get(name, "")
        place = key or Scalar(node.start, node.start, None, "")
        return self._error(codes.MISSING_KEY, f"{_place(path)} has no `{name}`", place, help=help)

    def _error(self, code: Code, said: str, node: Node, *, notes: Any = (), help: str = "") -> Diagnostic:
        return diagnostic(code, said, span_of(self._source, node), notes=notes, help=help or ())


def span_of(source: Source, node: Node) -> Span:
    """Return the place of a value; of a mapping or a list in lines of its own, the first of them."""
    text = source.text
    end = node.end
    if not isinstance(node, Scalar) or node.style in ("|", ">"):
        stop = text.find("\n", node.start, node.end)
        end = stop if stop >= 0 else end
    return Span(source, node.start, node.start + len(text[node.start : end].rstrip()))


@cache
def _declared(struct: type) -> inspect.Type:
    return inspect.type_info(struct)


def _output(type: Any, node: Node, path: Path, name: str) -> Any:
    """Return the type of a value: that of `outputs` is that of one output, where its keys are."""
    if not path and name == "outputs" and isinstance(node, Fields) and is_one_output(node.entries):
        return _declared(OutputFile)
    return type


def _bare(type: Any) -> tuple[Mapping[str, Any], Any]:
    """Return what the declaration says of a type, and the type."""
    return (type.extra or {}, type.type) if isinstance(type, inspect.Metadata) else ({}, type)


_KINDS: dict[type, tuple[type, ...]] = {
    bool: (inspect.BoolType,),
    int: (inspect.IntType, inspect.FloatType, inspect.LiteralType),
    float: (inspect.FloatType,),
    str: (inspect.LiteralType, inspect.StrType),
    type(None): (inspect.NoneType,),
}


def _branch(union: Any, node: Node) -> Any:
    """Return the type of a union for values of this kind, or `None`."""
    kinds: tuple[type, ...] = (inspect.ListType,)
    if isinstance(node, Fields):
        kinds = (inspect.StructType, inspect.DictType)
    elif isinstance(node, Scalar):
        kinds = _KINDS[type(node.value)]
    return next((one for kind in kinds for one in union.types if isinstance(_bare(one)[1], kind)), None)


def _fits(type: Any, node: Node, extra: Mapping[str, Any]) -> bool:
    """Say whether a value without parts is of a type that is not a union."""
    if not isinstance(node, Scalar) or not isinstance(type, _KINDS[node.value.__class__]):
        return False
    if isinstance(type, inspect.LiteralType):
        return node.value in type.values
    if isinstance(type, inspect.StrType):
        assert isinstance(node.value, str)
        return len(node.value) >= (type.min_length or 0) and _matches(extra, node.value)
    if isinstance(type, inspect.IntType):
        assert isinstance(node.value, int)
        return (type.ge is None or node.value >= type.ge) and (type.le is None or node.value <= type.le)
    return True


def _matches(extra: Mapping[str, Any], text: str) -> bool:
    pattern, passes = extra.get("pattern"), extra.get("passes")
    # `$` alone would let a line end pass.
    return (not pattern or re.fullmatch(pattern, text) is not None) and (passes is None or passes(text))


def _place(path: Path) -> str:
    return f"`{_written(path)}`" if path else "the recipe"


def _written(path: Path) -> str:
    """Write a path as `outputs.full.keep[2]`."""
    text = ""
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else f".{shortened(step)}"
    return text.removeprefix(".")
