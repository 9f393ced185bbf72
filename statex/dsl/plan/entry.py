"""What stands under a key: of the state while statements run over headers, and of the result in the plan."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import field

from statex.core.header import OpaqueInfo, TensorType
from statex.core.record import record
from statex.dsl.plan.graph import Graph, SourceKey
from statex.dsl.values import UNKNOWN, TensorValue, Value

Stood = SourceKey | int
"""What a key holds: a tensor (or entry) of an input as it is, or the id of a computed value in the graph."""


@record
class Entry:
    """What stands under a key.

    Entries with an equal `tie` are one tensor. `origin` is set where it is still a tensor (or entry) of an input, moved
    or not: in memory the very same object. `value` is the id of a computed value in the graph. `type` is `None` for
    what is no tensor (`opaque` says what it is) and for one that an error made unknown. `step` is the number of the
    statement that made or moved it last, -1 for none.
    """

    tie: Hashable
    type: TensorType | None = None
    origin: SourceKey | None = None
    value: int | None = None
    opaque: OpaqueInfo | None = None
    is_parameter: bool = False
    requires_grad: bool = False
    step: int = -1
    module_source: str | None = None
    """The key of the input it follows (its device, its module), `None` for what was added."""
    attributes: object = field(default=None, compare=False)
    """Those of the tensor that it is or replaces, as `TensorInfo` has them."""

    @property
    def is_tensor(self) -> bool:
        """True for tensors, known or unknown."""
        return self.opaque is None

    @property
    def stood(self) -> Stood | None:
        """The source it still is or the id of its value; `None` where that is unknown."""
        return self.origin if self.origin is not None else self.value

    def value_in(self, graph: Graph) -> TensorValue | None:
        """Return the value of a tensor as statements find it.

        A tensor of an input is put into the graph by this, so renames never call it. It is `None` for what is no
        tensor and for one that an error made unknown.
        """
        if self.type is None:
            return None
        if self.origin is not None:
            return graph.source(self.origin, self.type, self.tie)
        assert self.value is not None
        return graph.settled(self.value, self.type)

    def current_in(self, graph: Graph) -> Value:
        """Return what expressions know of it: `None` where it is no tensor, `UNKNOWN` after an error."""
        value = self.value_in(graph)
        return UNKNOWN if value is None and self.is_tensor else value

    def at_step(self, step: int) -> Entry:
        """Return the entry as moved by a statement."""
        # Spelled out, as `dataclasses.replace` costs several times as much, and renames do this for every key.
        return Entry(
            self.tie, self.type, self.origin, self.value, self.opaque, self.is_parameter, self.requires_grad, step,
            self.module_source, self.attributes,
        )  # fmt: skip
