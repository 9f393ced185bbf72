"""Writes the pickle of a torch file: protocol 2, the calls and persistent ids that torch.save writes.

What writes a container is an iterator of what it holds, so that nothing here calls itself however deep that is nested.
"""

from __future__ import annotations

import struct
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from statex.checkpoint.blobs.contents import Blob, OutTensor
from statex.checkpoint.formats.torch.sharing import shared_ids
from statex.checkpoint.formats.torch.tensor_pickler import TensorPickler, number
from statex.checkpoint.objects import ENCODE, ORDERED_DICT, ForeignCall, Global, Storage
from statex.core.foreign import Foreign
from statex.core.header import OpaqueInfo
from statex.diagnostics import fail
from statex.diagnostics.codes import files as codes

_BATCH = 1000
"""Items that are set or appended at once, as Python's own pickler does."""
_SET, _COMPLEX = Global("__builtin__", "set"), Global("__builtin__", "complex")
_MAKES = {"call": b"R", "new": b"\x81", "new with keywords": b"\x92", "instance": b"o"}
_DOES = {"append": b"e", "set": b"u", "add": b"\x90"}
_FEW = {1: b"\x85", 2: b"\x86", 3: b"\x87"}
_END = object()

Steps = Iterator[Any]
"""Writes a value, and yields what has to be written in between."""


class PickleWriter(TensorPickler):
    """Writes one pickle; `blob_of` gives the blob for a storage that a call names."""

    def __init__(self, blob_of: Callable[[Storage], Blob]) -> None:
        super().__init__(blob_of)
        self._shared: set[int] = set()

    def write(self, tree: Any) -> bytes:
        """Return the pickle of a tree of plain values, `OutTensor`s, calls and foreign objects.

        Raises:
            StatexError: SX614 for a value that is none of these, or one storage that two dtypes would need.
        """
        self._shared, late = shared_ids(tree)
        self._protocol = 4 if late else 2
        self._parts.append(b"\x80" + bytes([self._protocol]))
        pending: list[Steps] = [iter((tree,))]
        while pending:
            value = next(pending[-1], _END)
            if value is _END:
                pending.pop()
                continue
            steps = self._begun(value)
            if steps is not None:
                pending.append(steps)
        self._parts.append(b".")
        return b"".join(self._parts)

    def _begun(self, value: Any) -> Steps | None:
        """Write a value; return what goes on to write it, if it holds others."""
        if isinstance(value, OpaqueInfo):
            value = value.handle
        shared = id(value) in self._shared
        if shared and self._known(id(value)):
            return None
        kind = type(value)
        steps = _STEPS.get(kind)
        if steps is not None and (kind is not OutTensor or value.attributes is not None):
            return steps(self, value, shared)
        if kind is OutTensor:
            self._tensor(value)
        elif kind is Storage:
            self._storage(self._blob_of(value), value.type, value.numel)
            return None
        else:
            self._scalar(value)
        if shared:
            self._remember(id(value), value)
        return None

    def _scalar(self, value: Any) -> None:
        if value is None:
            self._parts.append(b"N")
        elif value is True or value is False:
            self._parts.append(b"\x88" if value else b"\x89")
        elif type(value) is int:
            self._parts.append(number(value))
        elif type(value) is float:
            self._parts.append(b"G" + struct.pack(">d", value))
        elif type(value) is str:
            self._text(value)
        elif type(value) is Global:
            self._name(value)
        elif type(value) is bytes:
            self._name(ENCODE)
            self._text(value.decode("latin-1"))
            self._text("latin1")
            self._parts.append(b"\x86R")
        elif type(value) is complex:
            self._name(_COMPLEX)
            self._parts.append(b"G%bG%b\x86R" % (struct.pack(">d", value.real), struct.pack(">d", value.imag)))
        else:
            fail(codes.CANNOT_HOLD, f"a {type(value).__name__} cannot be written to a torch file")

    # --- containers --------------------------------------------------------------------------------------------

    def _made(self, value: Any, shared: bool, opcode: bytes, parts: bytes) -> bool:
        """Write the opcode that makes a value of its parts, and put it into the memo where it is shared.

        Where the parts hold the value itself it was made within them: `parts` takes these off, and false is returned.
        """
        if shared and id(value) in self._memo:
            self._parts += (parts, self._memo[id(value)])
            return False
        self._parts.append(opcode)
        if shared:
            self._remember(id(value), value)
        return True

    def _tuple(self, value: tuple[Any, ...], shared: bool) -> Steps:
        count = len(value)
        if not count:
            self._parts.append(b")")
            return
        if count > 3:
            self._parts.append(b"(")
        yield from value
        self._made(value, shared, _FEW.get(count, b"t"), b"0" * count if count <= 3 else b"1")

    def _list(self, value: list[Any], shared: bool) -> Steps:
        self._made(value, shared, b"]", b"")
        yield from self._batches(value, b"e")

    def _batches(self, items: list[Any], opcode: bytes, size: int = _BATCH) -> Steps:
        for start in range(0, len(items), size):
            self._parts.append(b"(")
            yield from items[start : start + size]
            self._parts.append(opcode)

    def _set(self, value: set[Any], shared: bool) -> Steps:
        self._name(_SET)
        yield sorted(value, key=repr)
        self._made(value, shared, b"\x85R", b"00")

    def _dict(self, value: dict[Any, Any], shared: bool) -> Steps:
        self._made(value, shared, b"}", b"")
        yield from self._items(value)

    def _ordered_dict(self, value: OrderedDict[Any, Any], shared: bool) -> Steps:
        self._name(ORDERED_DICT)
        self._made(value, shared, b")R", b"")
        yield from self._items(value)
        state = vars(value)
        if state:
            yield dict(state)
            self._parts.append(b"b")

    def _items(self, value: dict[Any, Any]) -> Steps:
        items = list(value.items())
        for start in range(0, len(items), _BATCH):
            self._parts.append(b"(")
            for key, item in items[start : start + _BATCH]:
                if type(key) is str and id(key) not in self._shared:
                    self._text(key)
                else:
                    yield key
                if type(item) is OutTensor and item.attributes is None and id(item) not in self._shared:
                    self._tensor(item)
                else:
                    yield item
            self._parts.append(b"u")

    # --- objects -----------------------------------------------------------------------------------------------

    def _call(self, call: ForeignCall, shared: bool) -> Steps:
        self._name(call.function)
        yield call.arguments
        if self._made(call, shared, b"R", b"00") and call.state is not None:
            yield call.state
            self._parts.append(b"b")

    def _attributed(self, tensor: OutTensor, shared: bool) -> Steps:
        self._before_attributes(tensor)
        yield tensor.attributes
        self._made(tensor, shared, b"tR", b"10")

    def _foreign(self, value: Foreign, shared: bool) -> Steps:
        if value.how == "name":
            self._foreign_name(value.function)
            return
        if value.how == "instance":
            self._parts.append(b"(")
        yield value.function
        if value.how == "instance":
            yield from value.arguments
        else:
            yield value.arguments
        if value.keywords is not None:
            yield value.keywords
        within = b"1" if value.how == "instance" else b"000" if value.keywords is not None else b"00"
        if self._made(value, shared, _MAKES[value.how], within):
            for deed, given in value.deeds:
                yield from self._deed(deed, given)

    def _deed(self, deed: str, given: list[Any]) -> Steps:
        if deed in _DOES:
            yield from self._batches(given, _DOES[deed], 2 * _BATCH if deed == "set" else _BATCH)
        else:
            yield from given
            self._parts.append(b"b" if deed == "state" else b"0")


_STEPS: Mapping[type, Callable[[PickleWriter, Any, bool], Steps]] = {
    tuple: PickleWriter._tuple,
    list: PickleWriter._list,
    set: PickleWriter._set,
    dict: PickleWriter._dict,
    OrderedDict: PickleWriter._ordered_dict,
    ForeignCall: PickleWriter._call,
    OutTensor: PickleWriter._attributed,
    Foreign: PickleWriter._foreign,
}
"""What writes values that hold others."""
