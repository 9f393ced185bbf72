"""The plan: what every key of the result is made of, over a graph of typed values, and what became of every tensor."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from functools import cached_property

from statex.diagnostics import Diagnostic
from statex.dsl.graph import Graph, Source, SourceKey
from statex.dsl.patterns import Pattern
from statex.header import Header, OpaqueInfo, TensorInfo, TensorType
from statex.record import record
from statex.source import Span


@record
class Change:
    """What a statement did to some keys: `renamed`, `set`, `added`, `copied`, `dropped`, `split`, `merged`."""

    kind: str
    before: tuple[str, ...]
    after: tuple[str, ...]


@record
class Step:
    """A statement that was carried out, and its changes; `used_at` are the `use`s and `include`s that led to it."""

    verb: str
    span: Span
    changes: tuple[Change, ...]
    used_at: tuple[Span, ...] = ()

    def counts(self) -> dict[str, int]:
        """Return how many changes of each kind there were."""
        return dict(Counter(change.kind for change in self.changes))


@record
class Allowed:
    """A pattern of `allow missing` or `allow unexpected`; `kind` is that word."""

    kind: str
    pattern: Pattern


@record
class Output:
    """What stands under a key of the result.

    `value` is the id of a computed value in the graph. Outputs with an equal `tie` share their
    storage. `origin` is set where it is still a tensor (or entry) of an input, moved or not: in memory the very same
    object. `step` is the number of the statement that made or moved it last, -1 for none.
    """

    value: int | None
    type: TensorType | None
    tie: Hashable
    origin: SourceKey | None
    opaque: OpaqueInfo | None
    is_parameter: bool
    requires_grad: bool
    step: int
    born: str | None
    """The key of the input it follows (its device, its module), `None` for what was added."""


@record
class Fate:
    """What became of a tensor of an input.

    `kind` is `untouched`, `moved` (to `results`), `used` (for `results`), `dropped` or `replaced` (by statement
    `step`), or `unread` (of a further input).
    """

    kind: str
    results: tuple[str, ...]
    step: int


@record
class Cost:
    """What carrying out a plan over files takes, in bytes: `memory` is the largest resident set of the process."""

    read: int
    copied: int
    computed: int
    written: int
    memory: int


@dataclass(frozen=True)
class Plan:
    """A program compiled over headers: `outputs` in order, the graph of their values, and the account."""

    outputs: Mapping[str, Output]
    graph: Graph
    header: Header
    inputs: Mapping[str, tuple[Header, ...]]
    metadata: Mapping[str, Mapping[str, object]] | None
    steps: tuple[Step, ...]
    allowed: tuple[Allowed, ...]
    warnings: tuple[Diagnostic, ...]
    dropped: Mapping[SourceKey, int]
    replaced: Mapping[SourceKey, int]
    reads: Mapping[SourceKey, int]
    parameters: Mapping[str, object]
    """The values the program's parameters had."""
    cost: Cost | None = None
    """What it takes to carry it out, where the checkpoint is a file."""
    left_around: tuple[str, ...] = ()
    """What stands around the state and is not in the output, because of `root … -> …`."""

    def info(self, key: SourceKey) -> TensorInfo | OpaqueInfo:
        """Return the header's entry of a source."""
        header = self.inputs[key.input][key.member] if key.input else self.header
        return header.entries[key.key]

    def is_allowed(self, kind: str, key: str) -> bool:
        """Say whether `allow missing` or `allow unexpected` forgives a key."""
        return any(a.kind == kind and a.pattern.match(key) is not None for a in self.allowed)

    @cached_property
    def account(self) -> Mapping[SourceKey, Fate]:
        """What became of every entry of every input, in their order."""
        return {key: self.fate(key) for key in self._source_keys()}

    def _source_keys(self) -> list[SourceKey]:
        main = [SourceKey("", 0, key) for key in self.header.entries]
        further = [
            SourceKey(name, member, key)
            for name, headers in self.inputs.items()
            for member, header in enumerate(headers)
            for key in header.entries
        ]
        return main + further

    @cached_property
    def _results(self) -> tuple[Mapping[SourceKey, tuple[str, ...]], Mapping[SourceKey, tuple[str, ...]]]:
        """The keys that sources moved to, and those they are used for."""
        moved: dict[SourceKey, tuple[str, ...]] = {}
        used: dict[SourceKey, list[str]] = {}
        for key, output in self.outputs.items():
            origin = output.origin
            if origin is not None:
                moved[origin] = (*moved[origin], key) if origin in moved else (key,)
            elif output.value is not None:
                for id in self.graph.sources(output.value):
                    node = self.graph[id]
                    assert isinstance(node, Source)
                    used.setdefault(node.key, []).append(key)
        return moved, {key: tuple(results) for key, results in used.items()}

    def fate(self, key: SourceKey) -> Fate:
        """Return what became of an entry of an input."""
        moved, used = (found.get(key, ()) for found in self._results)
        if moved:
            same = not key.input and moved == (key.key,) and self.outputs[key.key].step < 0
            return Fate("untouched" if same else "moved", moved, self.outputs[moved[0]].step)
        if used:
            return Fate("used", used, self.outputs[used[0]].step)
        if key in self.dropped:
            return Fate("dropped", (), self.dropped[key])
        if key in self.replaced:
            return Fate("replaced", (), self.replaced[key])
        if key in self.reads:
            return Fate("used", (), self.reads[key])
        if key.input:
            return Fate("unread", (), -1)
        return Fate("replaced", (), -1)
