"""From a recipe's declared values to those that the rest of statex uses, each with its place."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypedDict, TypeVar

from msgspec import UnsetType

from statex.core.sizes import parse_size
from statex.core.source import Source, Span
from statex.core.yaml_places import places
from statex.core.yaml_text import Fields, Items, MappingEntry, Node, Scalar
from statex.recipe import declaration as declared
from statex.recipe import model
from statex.recipe.check import span_of

ONLY = "main"
"""The name of an output that the recipe gives none."""

T = TypeVar("T")
D = TypeVar("D")


class _Place(TypedDict):
    span: Span
    places: Mapping[str, Span]


class RecipeBuilder:
    """The values of one recipe; declared values and the nodes they come from have the same form."""

    def __init__(self, source: Source) -> None:
        self._source = source

    def recipe(self, value: declared.Recipe, node: Fields) -> model.Recipe:
        """Return the whole recipe, of a mapping and what it was converted to."""
        policy = _given(value.policy, declared.Policy())
        return model.Recipe(
            source=self._source,
            inputs={name: self._input(value.inputs[name], e) for name, e in _entries(_part(node, "inputs"))},
            params=self._named(_given(value.params, {}), _part(node, "params"), self._param),
            rules=tuple(map(self._rule, _given(value.rules, []), _items(_part(node, "rules")))),
            target=self._target(_given(value.target, None), _part(node, "target")),
            outputs=self._outputs(value.outputs, node.entries["outputs"]),
            policy=self._policy(policy, _part(node, "policy") or Scalar(node.start, node.start, None, "")),
            param_names=_given(value.param_names, None),
            report=_given(value.report, None),
            **self._place(node),
        )

    def _input(
        self, value: str | declared.InputFile | list[str | declared.InputFile], entry: MappingEntry
    ) -> model.Input:
        several = isinstance(value, list)
        nodes = _items(entry.value) if several else (entry.value,)
        files = tuple(map(self._input_file, value if isinstance(value, list) else [value], nodes))
        return model.Input(name=str(entry.key.value), files=files, is_family=several, span=self._span(entry.key))

    def _input_file(self, value: str | declared.InputFile, node: Node) -> model.InputFile:
        given = declared.InputFile(path=value) if isinstance(value, str) else value
        return model.InputFile(
            path=given.path,
            root=tuple(given.root) if isinstance(given.root, list) else _given(given.root, None),
            format=_given(given.format, None),
            sha256=_lowered(given.sha256),
            **self._place(node, "path"),
        )

    def _param(self, value: declared.Value | declared.ParamFile, node: Node, name: str) -> model.Param:
        if isinstance(value, declared.ParamFile):
            return model.FromFile(file=value.file, key=_given(value.from_, name), **self._place(node))
        return model.Value(value=_frozen(value), **self._place(node))

    def _argument(self, value: declared.Value | declared.ParamRef, node: Node, name: str) -> model.Argument:
        if isinstance(value, declared.ParamRef):
            return model.Reference(name=value.param, **self._place(node))
        return model.Value(value=_frozen(value), **self._place(node))

    def _rule(self, value: str | declared.RuleEntry, node: Node) -> model.Rule:
        if isinstance(value, declared.RuleEntry) and not isinstance(value.file, UnsetType):
            values = self._named(_given(value.with_, {}), _part(node, "with"), self._argument)
            return model.RuleFile(path=value.file, values=values, **self._place(node))
        text = _part(node, "inline") or node
        return model.RuleText(source=self._text(text), span=self._span(text))

    def _target(self, value: declared.Target | None, node: Node | None) -> model.Target | None:
        if value is None or node is None:
            return None
        return model.Target(
            model=_given(value.model, None),
            args=self._named(_given(value.args, {}), _part(node, "args"), self._argument),
            like=_given(value.like, None),
            **self._place(node),
        )

    def _outputs(self, value: Any, entry: MappingEntry) -> Mapping[str, model.Output]:
        if isinstance(value, str):
            return {ONLY: self._output(ONLY, value, entry)}
        if isinstance(entry.value, Fields) and declared.is_one_output(entry.value.entries):
            return {ONLY: self._output(ONLY, value[ONLY], entry)}
        return {name: self._output(name, value[name], e) for name, e in _entries(entry.value)}

    def _output(self, name: str, value: str | declared.OutputFile, entry: MappingEntry) -> model.Output:
        given = declared.OutputFile(path=value) if isinstance(value, str) else value
        keep = _part(entry.value, "keep")
        return model.Output(
            name=name,
            path=given.path,
            format=_given(given.format, None),
            shard_size=_bytes(given.shard_size),
            copy_files=_given(given.copy_files, False),
            stem=_given(given.stem, None),
            update_config=_given(given.update_config, True),
            keep=tuple(map(self._text, _items(keep) or (keep,))) if keep is not None else (),
            target=self._target(_given(given.target, None), _part(entry.value, "target")),
            optimizer=_given(given.optimizer, None),
            span=self._span(entry.key),
            places=self._place(entry.value, "path")["places"],
        )

    def _policy(self, value: declared.Policy, node: Node) -> model.Policy:
        warnings: Any = _given(value.warnings, "warn")
        return model.Policy(
            warnings="warn" if isinstance(warnings, dict) else warnings,
            codes=warnings if isinstance(warnings, dict) else {},
            max_memory=_bytes(value.max_memory),
            verify_written=_given(value.verify_written, False),
            check_input=_given(value.check_input, False),
            keep_foreign=_given(value.keep_foreign, False),
            reversible=_given(value.reversible, False),
            unchanged=_given(value.unchanged, "run"),
            replace=_given(value.replace, "own"),
            digests=_given(value.digests, None),
            **self._place(node),
        )

    def _named(
        self, values: Mapping[str, Any], node: Node | None, build: Callable[[Any, Node, str], T]
    ) -> Mapping[str, T]:
        return {name: build(values[name], e.value, name) for name, e in _entries(node)}

    def _text(self, node: Node) -> Source:
        """Return a text of the recipe as a source of its own, shown at its place."""
        assert isinstance(node, Scalar), "a text is a scalar"
        return Source.inside(self._source, str(node.value), places(self._source.text, node))

    def _span(self, node: Node) -> Span:
        return span_of(self._source, node)

    def _place(self, node: Node, alone: str = "") -> _Place:
        """Return the place of a value and of its fields; what stands for a field alone, has the place of this field."""
        span = self._span(node)
        if isinstance(node, Fields):
            return {"span": span, "places": {n: self._span(e.value) for n, e in node.entries.items()}}
        return {"span": span, "places": {alone: span} if alone else {}}


def _given(value: T | UnsetType, default: D) -> T | D:
    return default if isinstance(value, UnsetType) else value


def _part(node: Node | None, name: str) -> Node | None:
    entry = node.entries.get(name) if isinstance(node, Fields) else None
    return entry.value if entry is not None else None


def _entries(node: Node | None) -> Iterable[tuple[str, MappingEntry]]:
    return node.entries.items() if isinstance(node, Fields) else ()


def _items(node: Node | None) -> tuple[Node, ...]:
    return node.items if isinstance(node, Items) else ()


def _bytes(size: int | str | UnsetType) -> int | None:
    return parse_size(size) if isinstance(size, str) else _given(size, None)


def _lowered(digest: str | dict[str, str] | UnsetType) -> str | dict[str, str] | None:
    if isinstance(digest, dict):
        return {name: one.lower() for name, one in digest.items()}
    return digest.lower() if isinstance(digest, str) else None


def _frozen(value: Any) -> model.ParamValue:
    return tuple(map(_frozen, value)) if isinstance(value, list) else value
