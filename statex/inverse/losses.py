"""What a plan loses: the tensors that do not come back, each with the statement and the operation that are to blame."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Container, Iterator, Mapping, Sequence
from typing import Any

from statex.core.dtypes import Kind
from statex.core.header import Header, TensorInfo, TensorType
from statex.core.record import record
from statex.diagnostics.amounts import counted
from statex.diagnostics.escape import escape
from statex.diagnostics.folding import folded
from statex.diagnostics.suggest import join_words
from statex.dsl.ops import CASTING, OPERATIONS
from statex.dsl.plan.followed import Followed
from statex.dsl.plan.graph import Graph, OperationCall, SourceKey, arguments_of
from statex.dsl.plan.ledger import LETS_GO
from statex.dsl.plan.plan import Plan, Step
from statex.grammar.printer import show_flat
from statex.inverse.recovery import (
    Derivation,
    DerivedValue,
    Recovery,
    Value,
    cut_of,
    results_of,
    sources_of,
    type_of,
    value_of,
    with_types,
)
from statex.inverse.terms import as_called


@record
class Loss:
    """A tensor of the checkpoint that does not come back.

    `step` is the number of the statement that loses it, -1 where none does; `what` is the operation or the verb, `how`
    says what that does, for the name of the tensor to follow.
    """

    key: str
    step: int
    what: str
    how: str


@record
class LossReport:
    """What comes back of a checkpoint: `kept` are its keys that do, `losses` has every other one.

    `nan` are the keys of tensors that come back but for the payloads and signs of NaNs.
    """

    plan: Plan
    kept: tuple[str, ...]
    losses: tuple[Loss, ...]
    nan: tuple[str, ...] = ()

    @property
    def is_lossless(self) -> bool:
        """True where every tensor comes back."""
        return not self.losses

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain data: of each statement what it loses, and the keys."""
        return {
            "lossless": self.is_lossless,
            "kept": list(self.kept),
            "beside": [
                {"path": list(one.path), "file": one.file or None, "keys": keys}
                for one, keys in lost_beside(self.plan, [loss.key for loss in self.losses])
            ],
            "lost": [_loss_data(self.plan, one) for one in self.losses],
            "nan_payloads": list(self.nan),
            "statements": [
                {"file": s.span.source.name, "line": s.span.line, "verb": s.verb,
                 "loses": [one.key for one in self.losses if one.step == number]}
                for number, s in enumerate(self.plan.steps)
            ],
        }  # fmt: skip

    def __repr__(self) -> str:
        return f"<statex.LossReport: {come_back(self.kept, self.plan.header)}>"

    def __str__(self) -> str:
        return "\n".join(lossless_lines(self))


def _loss_data(plan: Plan, loss: Loss) -> dict[str, Any]:
    step = plan.steps[loss.step] if loss.step >= 0 else None
    return {
        "key": loss.key,
        "file": step.span.source.name if step is not None else None,
        "line": step.span.line if step is not None else None,
        "what": loss.what,
        "how": loss.how,
    }


def lossless(plan: Plan, on_data: Container[int] = ()) -> LossReport:
    """Say which tensors of the checkpoint follow from the result, and what loses the others; no data is read.

    `on_data` are calls that the data have shown to be undone.
    """
    found = Recovery(plan.graph, on_data).of(results_of(plan))
    sources = sources_of(plan)
    lost = [key for key, value in sources.items() if value not in found]
    blame = _Blame(plan, found)
    kept = tuple([key for key in sources if sources[key] in found])
    nan = tuple([key for key in kept if is_computed(plan.graph, found, sources[key])])
    return LossReport(plan, kept, tuple([blame.loss(key, sources[key]) for key in lost]), nan)


def is_computed(graph: Graph, found: Mapping[Value, Derivation], value: Value) -> bool:
    """Say whether floats are computed on the way back to a value, by which NaNs may change payloads and signs."""
    pending = [value]
    while pending:
        derivation = found[pending.pop()]
        if not isinstance(derivation, DerivedValue):
            continue
        (kind, *_) = [type_of(graph, one).dtype for one in derivation.of]
        if derivation.operation == CASTING.name:
            is_kept = derivation.arguments["dtype"] is kind or not derivation.arguments["dtype"].is_floating_point
        else:
            is_kept = OPERATIONS[derivation.operation].moves is not None
        if not is_kept and kind.kind in (Kind.FLOAT, Kind.COMPLEX):
            return True
        pending += derivation.of
    return False


class _Blame:
    """Finds what loses a tensor: the operation whose result is there while its operand is not, or who took the last."""

    def __init__(self, plan: Plan, found: Mapping[Value, Derivation]) -> None:
        self._plan = plan
        self._graph = plan.graph
        self._found = found
        self._users: dict[int, list[int]] = {}
        for id in range(len(self._graph)):
            for operand in self._graph.operands(id):
                self._users.setdefault(self._graph.inner(operand), []).append(id)
        self._ended: dict[Value, int] = {}
        for number, step in enumerate(plan.steps):
            self._ended.update((value_of(plan, stood), number) for stood in step.ended)
        self._bounds = [step.values for step in plan.steps]

    def loss(self, key: str, value: Value) -> Loss:
        source = SourceKey("", 0, key)
        if not isinstance(value, int):
            fate = self._plan.fates[source]
            return self._taken(key, fate.step)
        calls = list(self._culprits(value))
        if not calls:
            own = self._ended.get(value, -1)
            last = max((self._ended[one] for one in self._unknown(value) if one in self._ended), default=-1)
            return self._taken(key, last) if last <= own else Loss(key, last, "", "drops what is made of")
        # The last of them is nearest to the result.
        call = max(calls)
        what = show_flat(as_called(self._graph, call))
        return Loss(key, bisect_right(self._bounds, call), what, self._how(call))

    def _taken(self, key: str, step: int) -> Loss:
        if step < 0:
            return Loss(key, -1, "", "loses")
        verb = self._plan.steps[step].verb
        return Loss(key, step, verb, "replaces" if verb == "set" else "drops")

    def _culprits(self, value: int) -> Iterator[int]:
        """Yield the calls whose results come back while what they are made of does not."""
        for one in self._unknown(value):
            for user in self._users.get(one, ()):
                if user in self._found and isinstance(self._graph[user], OperationCall):
                    yield user

    def _unknown(self, value: int) -> Iterator[int]:
        """Yield a value and all that is made of it, as long as that does not come back."""
        pending, seen = [value], {value}
        while pending:
            one = pending.pop()
            yield one
            for user in self._users.get(one, ()):
                if user not in self._found and user not in seen:
                    seen.add(user)
                    pending.append(user)

    def _how(self, id: int) -> str:
        node = self._graph[id]
        assert isinstance(node, OperationCall)
        if node.operation == CASTING.name:
            return "rounds"
        if len(self._graph.read(id)) == 1 and (cut := cut_of(self._graph, id)) is not None:
            dim, start, stop = cut
            length = type_of(self._graph, self._graph.read(id)[0]).shape[dim]
            return f"drops {_along(dim)} {_left(start, stop, length)} of"
        if self._is_part(node):
            return "drops a part of"
        return "does not give back"

    def _is_part(self, node: OperationCall) -> bool:
        """Say whether a call takes some elements of one tensor."""
        types = [with_types(self._graph, value) for value in arguments_of(node).values()]
        tensors = [one for one in types if isinstance(one, TensorType)]
        moved = OPERATIONS[node.operation].moves is not None and isinstance(node.type, TensorType)
        return moved and len(tensors) == 1 and node.type.numel < tensors[0].numel  # type: ignore[union-attr]


def _along(dim: int) -> str:
    return {0: "rows", 1: "columns"}.get(dim, f"indices of dim {dim}")


def _left(start: int, stop: int, length: int) -> str:
    """Return the stretches before and after one, as slices."""
    parts = [f"..{start - 1}" if start else "", f"{stop}.." if stop < length else ""]
    return " and ".join(part for part in parts if part)


def lossless_rows(found: LossReport) -> list[str]:
    """Return what statements lose, each with the place of the statement; keys that differ in numbers alone are one."""
    lines: list[str] = []
    plan = found.plan
    groups: dict[tuple[int, str, str], list[str]] = {}
    for loss in sorted(found.losses, key=lambda one: one.step):
        groups.setdefault((loss.step, loss.what, loss.how), []).append(loss.key)
    for (step, what, how), keys in groups.items():
        place = place_of(plan.steps[step]) if step >= 0 else escape(plan.header.label)
        said = f"{escape(what)} {how}" if what and what not in LETS_GO else how
        for name in folded(keys, lambda key: key, lambda key: None):
            times = f"  x {len(name.rows)}" if len(name.rows) > 1 else ""
            lines.append(f"{place} {said} {escape(name.key)}{times}")
    return lines


def lossless_lines(found: LossReport) -> list[str]:
    """Return the statements that lose something, with what, and how many tensors come back."""
    lines = lossless_rows(found)
    lines += [
        f"what `{escape(one.dotted)}` keeps of {_these(keys)} is lost as well, and no further input has it"
        for one, keys in lost_beside(found.plan, [loss.key for loss in found.losses])
    ]
    lines += said_of_nan(found.nan)
    return [*lines, f"{'' if found.is_lossless else 'not '}lossless: {come_back(found.kept, found.plan.header)}"]


def lost_beside(plan: Plan, keys: Collection[str]) -> list[tuple[Followed, list[str]]]:
    """Return what follows the plan and keeps something of tensors that are lost, with the keys of these.

    Optimizers and averages follow the inverse as they follow the rules, and nothing else has what they kept.
    """
    lost = {*keys}
    found = [(one, [key for key in one.account.known if key in lost]) for one in plan.followed]
    return [(one, known) for one, known in found if known]


def _these(keys: Sequence[str]) -> str:
    return join_words([f"`{escape(key)}`" for key in keys], limit=3)


def said_of_nan(keys: Sequence[str]) -> list[str]:
    """Return what becomes of NaNs, as a line, if tensors are computed back."""
    if not keys:
        return []
    are = "is" if len(keys) == 1 else "are"
    return [
        f"{counted(len(keys), 'tensor')} {are} computed back: a NaN stays a NaN, and may get another payload or sign"
    ]


def amount(keys: Collection[str], header: Header, *, all_kinds: bool = True) -> tuple[str, bool]:
    """Say how many of the entries of a checkpoint these are, tensors and others apart, and whether it is one.

    Without `all_kinds`, only those are named that there are.
    """
    tensors = {key for key, info in header.entries.items() if isinstance(info, TensorInfo)}
    counts = [
        (sum(key in tensors for key in keys), len(tensors), "tensor", ""),
        (sum(key not in tensors for key in keys), len(header.entries) - len(tensors), "other entry", "other entries"),
    ]
    said = [one for one in counts if one[1] and (one[0] or all_kinds)] or counts[:1]
    parts = [f"{many} of {counted(total, what, several)}" for many, total, what, several in said]
    return " and ".join(parts), [one[0] for one in said] == [1]


def come_back(keys: Collection[str], header: Header) -> str:
    """Say how many of the entries of a checkpoint come back."""
    said, is_one = amount(keys, header)
    return f"{said} {'comes' if is_one else 'come'} back"


def place_of(step: Step) -> str:
    """Return the place of a statement: the file and the line."""
    return escape(f"{step.span.source.name}:{step.span.line}")
