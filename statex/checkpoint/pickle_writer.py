"""Writes the pickle of a torch file: protocol 2, the calls and persistent ids that torch.save writes.

Format: Python's `pickletools`, torch/_utils.py (`_rebuild_tensor_v2`, `_rebuild_tensor_v3`, `_rebuild_parameter`).
"""

from __future__ import annotations

import struct
from collections import OrderedDict
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from statex.checkpoint.contents import Blob, OutTensor
from statex.checkpoint.layout import bare_tensors
from statex.checkpoint.objects import (
    ENCODE,
    FROM_TYPE,
    ORDERED_DICT,
    PARAMETER,
    PARAMETER_WITH_STATE,
    STORAGE_OF,
    TENSOR,
    TENSOR_V2,
    TENSOR_V3,
    UNTYPED,
    Call,
    Global,
    Storage,
)
from statex.diagnostics import fail
from statex.diagnostics.codes import files as codes
from statex.dtypes import DType
from statex.header import OpaqueInfo

_BATCH = 1000
"""Items that are set or appended at once, as Python's own pickler does."""


class PickleWriter:
    """Writes one pickle; `blob_of` gives the blob for a storage that a call names."""

    def __init__(self, blob_of: Callable[[Storage], Blob]) -> None:
        self.blobs: list[Blob] = []
        """The blobs in the order in which the pickle names them first, which is that of the archive's members."""
        self._blob_of = blob_of
        self._numbers: dict[Blob, tuple[int, Global]] = {}
        self._parts: list[bytes] = []
        self._memo: dict[object, bytes] = {}
        self._kept: list[object] = []
        self._places = 0
        self._shared: set[int] = set()
        self._frames: dict[tuple[DType, str], tuple[Global, bytes, bytes, bytes]] = {}

    def write(self, tree: Any) -> bytes:
        """Return the pickle of a tree of plain values, `OutTensor`s and calls.

        Raises:
            StatexError: SX614 for a value that is none of these, or one storage that two dtypes would need.
        """
        self._shared = _shared_ids(tree)
        self._parts.append(b"\x80\x02")
        self._value(tree)
        self._parts.append(b".")
        return b"".join(self._parts)

    # --- memo --------------------------------------------------------------------------------------------------

    def _known(self, key: object) -> bool:
        """Write a reference to what was written before under this key, if it was."""
        found = self._memo.get(key)
        if found is None:
            return False
        self._parts.append(found)
        return True

    def _remember(self, key: object, keep: object = None) -> None:
        place = self._places
        self._places += 1
        small = place < 256
        self._parts.append(b"q" + bytes([place]) if small else b"r" + struct.pack("<I", place))
        self._memo[key] = b"h" + bytes([place]) if small else b"j" + struct.pack("<I", place)
        if keep is not None:
            self._kept.append(keep)

    # --- values ------------------------------------------------------------------------------------------------

    def _value(self, value: Any) -> None:
        if isinstance(value, OpaqueInfo):
            value = value.handle
        shared = id(value) in self._shared
        if shared and self._known(id(value)):
            return
        kind = type(value)
        if kind is OutTensor:
            self._tensor(value)
        elif kind is Call:
            self._call(value)
        elif kind is OrderedDict:
            self._ordered_dict(value, shared)
            return
        elif kind in (dict, list, set):
            self._container(value, shared)
            return
        elif kind is tuple:
            self._tuple(value)
        elif kind is Storage:
            self._storage(self._blob_of(value), value.type, value.numel)
            return
        else:
            self._scalar(value)
        if shared:
            self._remember(id(value), value)

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
            self._call(Call(ENCODE, (value.decode("latin-1"), "latin1")))
        elif type(value) is complex:
            self._call(Call(Global("__builtin__", "complex"), (value.real, value.imag)))
        else:
            fail(codes.CANNOT_HOLD, f"a {type(value).__name__} cannot be written to a torch file")

    def _text(self, text: str) -> None:
        data = text.encode("utf-8", "surrogatepass")
        self._parts.append(b"X" + struct.pack("<I", len(data)) + data)

    def _word(self, text: str) -> None:
        """Write a text that comes again and again."""
        if not self._known(text):
            self._text(text)
            self._remember(text)

    def _name(self, name: Global) -> None:
        if not self._known(name):
            self._parts.append(f"c{name.module}\n{name.name}\n".encode())
            self._remember(name)

    def _tuple(self, value: tuple[Any, ...]) -> None:
        if not value:
            self._parts.append(b")")
            return
        if len(value) > 3:
            self._parts.append(b"(")
        for item in value:
            self._value(item)
        self._parts.append({1: b"\x85", 2: b"\x86", 3: b"\x87"}.get(len(value), b"t"))

    def _container(self, value: dict[Any, Any] | list[Any] | set[Any], shared: bool) -> None:
        if isinstance(value, set):
            self._call(Call(Global("__builtin__", "set"), (sorted(value, key=repr),)))
            if shared:
                self._remember(id(value), value)
            return
        self._parts.append(b"}" if isinstance(value, dict) else b"]")
        if shared:
            self._remember(id(value), value)
        if isinstance(value, dict):
            self._items(value)
            return
        for start in range(0, len(value), _BATCH):
            self._parts.append(b"(")
            for item in value[start : start + _BATCH]:
                self._value(item)
            self._parts.append(b"e")

    def _items(self, value: dict[Any, Any]) -> None:
        items = list(value.items())
        for start in range(0, len(items), _BATCH):
            self._parts.append(b"(")
            for key, item in items[start : start + _BATCH]:
                self._value(key)
                self._value(item)
            self._parts.append(b"u")

    def _ordered_dict(self, value: OrderedDict[Any, Any], shared: bool) -> None:
        self._name(ORDERED_DICT)
        self._parts.append(b")R")
        if shared:
            self._remember(id(value), value)
        self._items(value)
        state = vars(value)
        if state:
            self._value(dict(state))
            self._parts.append(b"b")

    def _call(self, call: Call) -> None:
        self._name(call.function)
        self._tuple(call.arguments)
        self._parts.append(b"R")
        if call.state is not None:
            self._value(call.state)
            self._parts.append(b"b")

    # --- tensors -----------------------------------------------------------------------------------------------

    def _tensor(self, tensor: OutTensor) -> None:
        frame = self._frames.get((tensor.type.dtype, tensor.blob.location))
        plain = not tensor.requires_grad and not tensor.is_parameter and tensor.attributes is None
        plain = plain and tensor.blob not in self._numbers
        if frame is not None and plain:
            self._framed(tensor, *frame)
            return
        self._spelled_out(tensor)
        if plain:
            self._add_frame(tensor)

    def _add_frame(self, tensor: OutTensor) -> None:
        """Keep what all plain tensors of one dtype and device have in common, once its words are in the memo."""
        dtype, location = tensor.type.dtype, tensor.blob.location
        typed = STORAGE_OF.get(dtype.name)
        if typed is not None:
            memo = self._memo
            head = memo[TENSOR_V2] + b"((" + memo["storage"] + memo[typed]
            self._frames[dtype, location] = (typed, head, memo[location], b"\x89" + memo[ORDERED_DICT] + b")RtR")

    def _framed(self, tensor: OutTensor, typed: Global, head: bytes, location: bytes, tail: bytes) -> None:
        count = len(self.blobs)
        self._numbers[tensor.blob] = (count, typed)
        self.blobs.append(tensor.blob)
        key = b"%d" % count
        numel = number(tensor.blob.nbytes // tensor.type.dtype.itemsize)
        self._parts += (
            head, b"X", struct.pack("<I", len(key)), key, location, numel, b"tQ", number(tensor.offset),
            sizes(tensor.type.shape), sizes(tensor.stride), tail,
        )  # fmt: skip

    def _spelled_out(self, tensor: OutTensor) -> None:
        """Write a tensor; with attributes as torch does, for a Parameter and for a plain tensor."""
        if tensor.is_parameter:
            self._name(PARAMETER_WITH_STATE if tensor.attributes is not None else PARAMETER)
            self._parts.append(b"(")
        elif tensor.attributes is not None:
            self._name(FROM_TYPE)
            self._parts.append(b"(")
        self._dense(tensor, called=tensor.is_parameter or tensor.attributes is None)
        if tensor.is_parameter:
            self._parts.append(b"\x88" if tensor.requires_grad else b"\x89")
            self._name(ORDERED_DICT)
            self._parts.append(b")R")
        if tensor.attributes is not None:
            self._value(tensor.attributes)
        if tensor.is_parameter or tensor.attributes is not None:
            self._parts.append(b"tR")

    def _dense(self, tensor: OutTensor, *, called: bool) -> None:
        """Write what makes a tensor and its arguments, and the call; without that, the class `Tensor` between."""
        dtype = tensor.type.dtype
        typed = STORAGE_OF.get(dtype.name)
        is_typed = typed is not None and self._numbers.get(tensor.blob, (0, typed))[1] == typed
        self._name(TENSOR_V2 if is_typed else TENSOR_V3)
        if not called:
            self._name(TENSOR)
        self._parts.append(b"(")
        if typed is not None and is_typed:
            self._storage(tensor.blob, typed, tensor.blob.nbytes // dtype.itemsize)
        else:
            self._storage(tensor.blob, UNTYPED, tensor.blob.nbytes)
        self._geometry(tensor)
        if not is_typed:
            self._name(Global("torch", dtype.name))
        self._parts.append(b"tR" if called else b"t")

    def _geometry(self, tensor: OutTensor) -> None:
        self._parts.append(number(tensor.offset))
        self._parts += (sizes(tensor.type.shape), sizes(tensor.stride))
        self._parts.append(b"\x88" if tensor.requires_grad and not tensor.is_parameter else b"\x89")
        self._name(ORDERED_DICT)
        self._parts.append(b")R")

    def _storage(self, blob: Blob, type: Global, numel: int) -> None:
        known = self._numbers.get(blob)
        if known is None:
            known = self._numbers[blob] = (len(self.blobs), type)
            self.blobs.append(blob)
        if known[1] != type:
            names = f"{known[1].name} and {type.name}"
            fail(codes.CANNOT_HOLD, f"one storage would be written as {names}, which torch does not read")
        self._parts.append(b"(")
        self._word("storage")
        self._name(type)
        self._text(str(known[0]))
        self._word(blob.location)
        self._parts.append(number(numel) + b"tQ")


@lru_cache(maxsize=4096)
def sizes(value: tuple[int, ...]) -> bytes:
    """Return a tuple of ints as a pickle writes it."""
    data = b"".join(map(number, value))
    if len(value) > 3:
        return b"(" + data + b"t"
    return data + {0: b")", 1: b"\x85", 2: b"\x86", 3: b"\x87"}[len(value)]


def number(value: int) -> bytes:
    """Return an int as a pickle writes it."""
    if 0 <= value < 256:
        return b"K" + bytes([value])
    if 0 <= value < 65536:
        return b"M" + struct.pack("<H", value)
    if -(2**31) <= value < 2**31:
        return b"J" + struct.pack("<i", value)
    # ~value: the least number of a length has one bit more than others of that length.
    data = value.to_bytes(max(value, ~value).bit_length() // 8 + 1, "little", signed=True)
    return b"\x8a" + bytes([len(data)]) + data


def _only_here(state: Mapping[Any, Any], seen: set[int]) -> bool:
    """Say whether a dict holds tensors alone, each once and none that was seen, and note them as seen."""
    if set(map(type, state.values())) != {OutTensor} or not bare_tensors(state):
        return False
    ids = set(map(id, state.values()))
    if len(ids) < len(state) or not seen.isdisjoint(ids):
        return False
    seen |= ids
    return True


_SHARED = (OutTensor, Call, dict, list, set)
_LONG = 64
"""Characters, bytes or bits from which on a value that is in several places is written once."""


def _is_long(value: Any) -> bool:
    if isinstance(value, str | bytes):
        return len(value) >= _LONG
    return isinstance(value, int) and value.bit_length() >= _LONG


def _shared_ids(tree: Any) -> set[int]:
    """Return the ids of tensors, calls, containers and long values that the tree holds in several places."""
    seen: set[int] = set()
    shared: set[int] = set()
    pending = [tree]
    while pending:
        value = pending.pop()
        if isinstance(value, OpaqueInfo):
            value = value.handle
        if not isinstance(value, _SHARED) and not _is_long(value):
            pending.extend(value if isinstance(value, tuple) else ())
            continue
        if id(value) in seen:
            shared.add(id(value))
            continue
        seen.add(id(value))
        if isinstance(value, dict):
            pending.extend(() if _only_here(value, seen) else value.values())
            pending.extend([key for key in value if type(key) is not str or len(key) >= _LONG])
            pending.extend(vars(value).values() if isinstance(value, OrderedDict) else ())
        elif isinstance(value, Call):
            pending.extend((*value.arguments, value.state))
        elif isinstance(value, list | set):
            pending.extend(value)
        elif isinstance(value, OutTensor):
            pending.append(value.attributes)
    return shared
