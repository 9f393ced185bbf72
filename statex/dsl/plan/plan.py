"""The plan: how every key of the result is made, over a graph of typed values, and the fate of every tensor."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from statex.core.header import Header, KeyPath, Nested, OpaqueInfo, TensorInfo
from statex.core.record import record
from statex.core.source import Span
from statex.core.surroundings import Edit
from statex.diagnostics import Diagnostic
from statex.dsl.keys.patterns import Pattern
from statex.dsl.keys.templates import Template
from statex.dsl.plan import ledger
from statex.dsl.plan.entry import Entry, Stood
from statex.dsl.plan.followed import Followed
from statex.dsl.plan.graph import Graph, SourceKey
from statex.dsl.plan.ledger import Fate, Totals

AROUND = ("value set", "value added", "text set", "text added", "left out")
"""Changes around the state, of values and of texts of the metadata; what they name is no key."""


@record
class Change:
    """What a statement did to some keys: `renamed`, `set`, `added`, `copied`, `dropped`, `split`, `merged`.

    Of what stands around the state it is one of `AROUND`, and `after` is how rules name that.
    """

    kind: str
    before: tuple[str, ...]
    after: tuple[str, ...]


@record
class Rule:
    """What makes keys of keys: the template is filled with what the pattern has captured."""

    pattern: Pattern
    template: Template


@record
class Step:
    """A statement that was carried out, and its changes; `used_at` are the `use`s and `include`s that led to it.

    `ended` is what stood under the keys it took, if it did not go on as it was: what a `drop` took away, what a
    `set`, a `split` or a `merge` made other values of or replaced. `named` are the tensors of further inputs that its
    patterns name. `rules` are those by which whole keys became others; of a row without captures, `changes` say all.
    `made` is what stands afterwards under keys that it gave anything but what stood under another key of the state, and
    `values` how many values the graph has by then: those below that the statement before it had not are its own.
    `reordered` is how many keys an `order` gave another place.
    """

    verb: str
    span: Span
    changes: tuple[Change, ...]
    used_at: tuple[Span, ...] = ()
    ended: tuple[Stood, ...] = ()
    named: tuple[SourceKey, ...] = ()
    rules: tuple[Rule, ...] = ()
    made: Mapping[str, Stood] = field(default_factory=dict)
    values: int = 0
    reordered: int = 0

    def counts(self) -> dict[str, int]:
        """Return how many changes of each kind there were."""
        found = Counter(change.kind for change in self.changes)
        return dict(found | Counter(reordered=self.reordered) if self.reordered else found)


@record
class Allowed:
    """A pattern of `allow missing` or `allow unexpected`; `kind` is that word.

    `prefix` is what keys begin with besides, where a program is for part of a state.
    """

    kind: str
    pattern: Pattern
    prefix: str = ""

    def forgives(self, kind: str, key: str) -> bool:
        """Say whether it is for this kind, and matches the key."""
        own = key.startswith(self.prefix) and kind == self.kind
        return own and self.pattern.match(key[len(self.prefix) :]) is not None


@record
class Same:
    """Two tensors that have to be equal in bits, which is known when they are read; their types are equal.

    `key` is what messages call the first, `other_key` the second.
    """

    key: str
    other_key: str
    one: Entry
    other: Entry
    span: Span


@record
class Cost:
    """What carrying out a plan over files takes, in bytes: `memory` is the largest resident set of the process."""

    read: int
    copied: int
    computed: int
    written: int
    memory: int


@dataclass(frozen=True, repr=False)
class Plan:
    """A program compiled over headers: `outputs` in order, the graph of their values, and the account."""

    outputs: Mapping[str, Entry]
    graph: Graph
    header: Header
    inputs: Mapping[str, tuple[Header, ...]]
    metadata: Mapping[str, Mapping[str, object]] | None
    steps: tuple[Step, ...]
    allowed: tuple[Allowed, ...]
    warnings: tuple[Diagnostic, ...]
    parameters: Mapping[str, object]
    """The values the program's parameters had."""
    nested: Nested = field(default_factory=Nested)
    """How the keys of the result are nested in dicts and lists."""
    cost: Cost | None = None
    """What it takes to carry it out, if the checkpoint is a file."""
    same: tuple[Same, ...] = ()
    """What is compared in bits before anything is written."""
    left_around: tuple[str, ...] = ()
    """What stands around the state and is not in the output, because of `root … -> …`."""
    put_at: KeyPath | None = None
    """Where the state will be in the file, if that is elsewhere: `()` is alone."""
    linked: Mapping[str, str] = field(default_factory=dict)
    """The files of inputs' folders that are links to elsewhere, and where these lead."""
    edits: tuple[Edit, ...] = ()
    """What rules change around the state: values, and texts of the metadata."""
    metadata_texts: Mapping[str, str] = field(default_factory=dict)
    """The texts beside the tensors, as the rules leave them."""
    followed: tuple[Followed, ...] = ()
    """What stands beside the state and goes through the same plan."""

    def info(self, key: SourceKey) -> TensorInfo | OpaqueInfo:
        """Return the header's entry of a source."""
        beside = self._beside.get(key.input) if key.input else None
        if beside is not None:
            return beside[key.key]
        header = self.inputs[key.input][key.member] if key.input else self.header
        return header.entries[key.key]

    @cached_property
    def _beside(self) -> Mapping[str, Mapping[str, TensorInfo]]:
        return {one.input: one.entries for one in self.followed}

    @cached_property
    def made(self) -> tuple[Entry, ...]:
        """What stands under the keys of the result, and what follows beside it."""
        return (*self.outputs.values(), *[output for one in self.followed for output in one.outputs.values()])

    def is_allowed(self, kind: str, key: str) -> bool:
        """Say whether `allow missing` or `allow unexpected` forgives a key."""
        return any(one.forgives(kind, key) for one in self.allowed)

    @property
    def changes_nothing(self) -> bool:
        """True where every entry of the state stays under its key, as it is; the order of the keys does not count."""
        return self.outputs.keys() == self.header.entries.keys() and all(
            output.origin == SourceKey("", 0, key) for key, output in self.outputs.items()
        )

    @cached_property
    def fates(self) -> Mapping[SourceKey, Fate]:
        """What became of every entry of every input, in their order."""
        return ledger.account(self)

    @property
    def account(self) -> Mapping[str, Fate]:
        """What became of every tensor and other entry, by keys: `lora::KEY` and `rank[1]::KEY` for further inputs."""
        return {ledger.label(self, key): fate for key, fate in self.fates.items()}

    def to_dict(self) -> dict[str, Any]:
        """Return the plan as plain data, as `statex plan --json` prints it."""
        from statex.dsl.plan.data import plan_data

        return plan_data(self)

    def __str__(self) -> str:
        from statex.dsl.plan.text import plan_lines

        return "\n".join(plan_lines(self, keys=False))

    def __repr__(self) -> str:
        found = self.totals
        return f"<statex.Plan: {len(self.steps)} statements, {found.keys_in} keys in, {found.keys_out} out>"

    def _repr_html_(self) -> str:
        from statex.dsl.plan.text import plan_html

        return plan_html(self)

    @cached_property
    def totals(self) -> Totals:
        """How many keys of the checkpoint and of the result there were of each kind."""
        return ledger.totals(self)
