"""The state while a program runs over headers: an ordered mapping from key to value."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import field, replace

from statex.core.header import Header, OpaqueInfo, TensorInfo
from statex.core.record import record
from statex.core.source import Span
from statex.dsl.keys.key_index import KeyIndex
from statex.dsl.plan.entry import Entry, Stood
from statex.dsl.plan.graph import Graph, SourceKey
from statex.dsl.plan.plan import Change, Rule
from statex.dsl.values import TensorValue

Rank = tuple[int, ...]

Made = tuple[Entry, Rank | None, tuple[str, ...]]
"""What a statement puts under a key: the entry, its place (`None` for the end of the state), and what it is made of."""


@record
class Outcome:
    """What a statement does to the state, all at once; the state is changed by it and by nothing else.

    `consumed` are the keys it takes, `produced` is what stands under which key afterwards (a key may be both). With
    `goes_on`, what stood under each of the consumed keys stands as it was under one of the produced ones. `named` are
    the tensors of further inputs that its patterns name. `order`, where it is set, has all keys in their new order.
    `rules` are those by which whole keys became others.
    """

    verb: str
    span: Span
    changes: tuple[Change, ...] = ()
    consumed: Collection[str] = ()
    produced: Mapping[str, Made] = field(default_factory=dict)
    goes_on: bool = False
    named: tuple[SourceKey, ...] = ()
    order: Sequence[str] | None = None
    rules: tuple[Rule, ...] = ()


class State:
    """Keys, their entries and their order.

    The order is kept as a rank for each key, so that a statement costs what it changes and not the whole state.
    """

    def __init__(self, entries: Mapping[str, Entry]) -> None:
        self.entries: dict[str, Entry] = dict(entries)
        self.index = KeyIndex(self.entries)
        self._ranks: dict[str, Rank] = {key: (i,) for i, key in enumerate(self.entries)}
        self._next = len(self.entries)
        self._order: list[str] | None = list(self.entries)
        """The keys in their order, once that is known."""

    def rank(self, key: str) -> Rank:
        """Return what orders the key among the others."""
        return self._ranks[key]

    def in_order(self) -> Sequence[str]:
        """Return all keys in the order of the state."""
        if self._order is None:
            self._order = self.sort(self.entries)
        return self._order

    def sort(self, keys: Iterable[str]) -> list[str]:
        """Return the keys in the order of the state."""
        return sorted(keys, key=self._ranks.__getitem__)

    def apply(self, outcome: Outcome) -> tuple[Stood, ...]:
        """Carry out what a statement came to, and return what its consumed keys held that does not go on as it was."""
        entries = self.entries
        ended = () if outcome.goes_on else tuple([entries[key].stood for key in outcome.consumed])
        if outcome.order is not None:
            self._ranks = {key: (i,) for i, key in enumerate(outcome.order)}
            self._next = len(self._ranks)
            self._order = None
        elif len(outcome.consumed) == len(outcome.produced) and all(k in outcome.produced for k in outcome.consumed):
            self._update(outcome.produced)
        else:
            self._change(outcome.consumed, outcome.produced)
        return tuple([stood for stood in ended if stood is not None])

    def _update(self, produced: Mapping[str, Made]) -> None:
        """Give keys that exist other entries; the index stays as it is."""
        for key, (entry, rank, _) in produced.items():
            self.entries[key] = entry
            if rank is not None and rank != self._ranks[key]:
                self._ranks[key] = rank
                self._order = None

    def _change(self, consumed: Collection[str], produced: Mapping[str, Made]) -> None:
        """Remove keys and put others in at once."""
        self._order = None
        if len(consumed) == len(self.entries):
            # As a rename of everything does: look-ups in large dicts are slow.
            self.entries, self._ranks = {}, {}
        else:
            for key in consumed:
                del self.entries[key], self._ranks[key]
        for key, (entry, rank, _) in produced.items():
            if rank is None:
                rank = (self._next,)
                self._next += 1
            self.entries[key] = entry
            self._ranks[key] = rank
        self.index.change(consumed, produced.keys())


def made_by(outcome: Outcome) -> dict[str, Stood]:
    """Return what a statement puts under keys, unless it only moved there from other keys."""
    if outcome.goes_on or not outcome.produced:
        return {}
    found = ((key, entry.stood) for key, (entry, _, _) in outcome.produced.items())
    return {key: stood for key, stood in found if stood is not None}


def initial_state(header: Header, prefix: str = "") -> State:
    """Return the state a checkpoint starts with; `prefix` is what its keys in the checkpoint begin with besides."""
    sources = ((key, SourceKey("", 0, f"{prefix}{key}"), info) for key, info in header.entries.items())
    return State({key: source_entry(source, info) for key, source, info in sources})


def source_entry(key: SourceKey, info: TensorInfo | OpaqueInfo) -> Entry:
    """Return the entry of an input's tensor as it is."""
    module_source = key.key if not key.input else None
    if isinstance(info, OpaqueInfo):
        return Entry(("opaque", key), None, key, opaque=info, module_source=module_source)
    return Entry(
        _tie(key, info), info.type, key, None, None, info.is_parameter, info.requires_grad, -1, module_source,
        info.attributes,
    )  # fmt: skip


def source_value(graph: Graph, key: SourceKey, info: TensorInfo) -> TensorValue:
    """Return the value of an input's tensor; those that are tied have one."""
    return graph.source(key, info.type, _tie(key, info))


def _tie(key: SourceKey, info: TensorInfo) -> Hashable:
    memory = info.identity
    return ("source", key.input, key.member, memory) if memory is not None else key


def computed(graph: Graph, entry: Entry, value: TensorValue | None, tie: Hashable, step: int) -> Entry:
    """Return the entry with another value: it stays a Parameter, unless its new dtype cannot have a gradient."""
    floating = value is None or value.dtype.is_floating_point or value.dtype.is_complex
    return replace(
        entry,
        tie=tie,
        type=value.type if value is not None else None,
        origin=None,
        value=graph.inner(value.id) if value is not None else None,
        requires_grad=entry.requires_grad and floating,
        step=step,
    )
