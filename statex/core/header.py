"""Headers: keys, types, storage and the plain values around them, known before a checkpoint's data is read."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import field
from functools import lru_cache
from math import prod
from typing import TYPE_CHECKING

from statex.core.dtypes import DType
from statex.core.record import record

if TYPE_CHECKING:
    from statex.core.surroundings import Surroundings

STAMP = "statex"
"""The key under which a module with a chain of migrations notes the layout of its state."""

KeyPath = tuple[str | int, ...]
"""Where something is in a checkpoint: keys of dicts and places in lists, from outside in; `()` is the whole."""


@record
class TensorType:
    """A dtype and a shape."""

    dtype: DType
    shape: tuple[int, ...]

    @property
    def numel(self) -> int:
        """The number of elements."""
        return prod(self.shape)

    @property
    def ndim(self) -> int:
        """The number of dimensions."""
        return len(self.shape)

    @property
    def nbytes(self) -> int:
        """The number of bytes of a compact copy."""
        return prod(self.shape) * self.dtype.itemsize

    def __str__(self) -> str:
        return f"{self.dtype}[{', '.join(map(str, self.shape))}]"


@record
class RawType(TensorType):
    """A dtype that says nothing of the size of elements, a shape, and the number of bytes."""

    size: int

    @property
    def nbytes(self) -> int:
        """The number of bytes."""
        return self.size


@record
class TensorInfo:
    """A tensor in a header.

    `storage` says which tensors are one memory: two entries with an equal `storage`, `offset` and `stride` (and the
    same type) are tied. `None` is a storage of its own. `offset` and `stride` are in elements; a `stride` of `None`
    is the contiguous one. `handle` is the reader's own way to find the data, opaque to everybody else. `attributes`
    are those that Python code has set on the tensor (`p.no_decay = True`), as torch saves them: a dict by name, or a
    pair of these (the second one for slots), with what describes tensors in place of them.
    """

    type: TensorType
    storage: Hashable = None
    offset: int = 0
    stride: tuple[int, ...] | None = None
    is_parameter: bool = False
    requires_grad: bool = False
    handle: object = field(default=None, compare=False)
    attributes: object = field(default=None, compare=False)

    @property
    def identity(self) -> Hashable:
        """What tied tensors of one checkpoint have in common, and no others; `None` for a storage of its own."""
        return None if self.storage is None else (self.storage, self.offset, self.stride, self.type)

    @property
    def strides(self) -> tuple[int, ...]:
        """The strides in elements."""
        return self.stride if self.stride is not None else contiguous(self.type.shape)

    @property
    def span(self) -> int:
        """How many elements it reaches over, from its first to its last, gaps included."""
        if not self.type.numel:
            return 0
        return 1 + sum((n - 1) * s for n, s in zip(self.type.shape, self.strides, strict=True))

    @property
    def is_contiguous(self) -> bool:
        """True where its elements lie one after the other in the order of its dims."""
        if self.stride is None or not self.type.numel:
            return True
        step = 1
        for length, stride in zip(reversed(self.type.shape), reversed(self.stride), strict=True):
            if length != 1 and stride != step:
                return False
            step *= length
        return True


@lru_cache(maxsize=4096)
def contiguous(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the strides of a contiguous tensor."""
    found: list[int] = []
    step = 1
    for length in reversed(shape):
        found.append(step)
        step *= max(length, 1)
    return tuple(reversed(found))


def common_attributes(found: Sequence[object]) -> object:
    """Return the attributes that several tensors have in common: equal plain values, and what is one object in all."""
    first, *others = found
    if all(one is first for one in others) or not isinstance(first, dict):
        return first if all(one is first for one in others) else None
    common = {name: value for name, value in first.items() if all(_has(one, name, value) for one in others)}
    return common or None


def _has(attributes: object, name: str, value: object) -> bool:
    if not isinstance(attributes, dict) or name not in attributes:
        return False
    other = attributes[name]
    return other is value or (type(other) is type(value) and isinstance(value, str | int | float) and other == value)


@record
class OpaqueInfo:
    """An entry that is no tensor (an `_extra_state`, a number): carried along, never computed with."""

    kind: str
    """The name of its Python type, for messages."""
    handle: object = field(default=None, compare=False)


@record
class Nested:
    """How a new state is nested: the places of those keys that do not stand in it directly, under their own names.

    `containers` maps each container of the new state to the one of the old state that it goes on from, `None` for a
    new dict.
    """

    paths: Mapping[str, KeyPath] = field(default_factory=dict)
    containers: Mapping[KeyPath, KeyPath | None] = field(default_factory=dict)


@record
class Header:
    """A state's header: its entries in order, `_metadata`, and the values of the file around it.

    `metadata` maps a module's path to what `state_dict()` noted of it, or is `None` where the state had none. Formats
    other than torch's keep of that what is noted under `STAMP` alone.
    `label` is how messages call the checkpoint. `surroundings` are what stands around the state, `None` where that is
    not known.
    `paths` has the places of those keys that do not stand in the state directly, under their own names, and
    `containers` says what the state and each container in it is: `dict`, `ints` (a dict whose keys are all ints),
    `mixed` (some are), `list` or `tuple`. Both are empty for a flat state. `remarks` are
    sentences on what may be amiss with a state that was read out of a whole module.
    """

    entries: Mapping[str, TensorInfo | OpaqueInfo]
    metadata: Mapping[str, Mapping[str, object]] | None = None
    label: str = "the checkpoint"
    surroundings: Surroundings | None = field(default=None, compare=False)
    paths: Mapping[str, KeyPath] = field(default_factory=dict)
    containers: Mapping[KeyPath, str] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()

    @property
    def values(self) -> Mapping[str, object]:
        """The plain numbers, texts and lists of the whole checkpoint, by their paths as rules write them."""
        return self.surroundings.values if self.surroundings is not None else {}

    @property
    def around(self) -> tuple[str, ...]:
        """The paths of what stands around the state, as rules write them."""
        return tuple(self.surroundings.around) if self.surroundings is not None else ()
