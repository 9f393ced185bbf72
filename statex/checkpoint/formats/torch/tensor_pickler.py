"""Writes non-containers into a pickle: texts and names, and tensors as torch writes them.

Format: Python's `pickletools`, torch/_utils.py (`_rebuild_tensor_v2`, `_rebuild_tensor_v3`, `_rebuild_parameter`).
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from functools import lru_cache

from statex.checkpoint.blobs.contents import Blob, OutTensor
from statex.checkpoint.formats.torch.python2_names import to_python2
from statex.checkpoint.objects import (
    FROM_TYPE,
    ORDERED_DICT,
    PARAMETER,
    PARAMETER_WITH_STATE,
    STORAGE_OF,
    TENSOR,
    TENSOR_V2,
    TENSOR_V3,
    UNTYPED,
    Global,
    Storage,
)
from statex.core.dtypes import DType
from statex.diagnostics import fail
from statex.diagnostics.codes import files as codes


class TensorPickler:
    """Writes the parts of one pickle; `blob_of` gives the blob for a storage that a call names."""

    def __init__(self, blob_of: Callable[[Storage], Blob]) -> None:
        self.blobs: list[Blob] = []
        """The blobs in the order in which the pickle names them first, which is that of the archive's members."""
        self._blob_of = blob_of
        self._protocol = 2
        self._numbers: dict[Blob, tuple[int, Global]] = {}
        self._parts: list[bytes] = []
        self._memo: dict[object, bytes] = {}
        self._kept: list[object] = []
        self._places = 0
        self._frames: dict[tuple[DType, str], tuple[Global, bytes, bytes, bytes]] = {}

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

    # --- texts and names -------------------------------------------------------------------------------------

    def _text(self, text: str) -> None:
        data = text.encode("utf-8", "surrogatepass")
        self._parts += (b"X", struct.pack("<I", len(data)), data)

    def _word(self, text: str) -> None:
        """Write a text that comes again and again."""
        if not self._known(text):
            self._text(text)
            self._remember(text)

    def _name(self, name: Global) -> None:
        if not self._known(name):
            module = "builtins" if name.module == "__builtin__" and self._protocol > 2 else name.module
            self._line(module, name.name)
            self._remember(name)

    def _foreign_name(self, name: Global) -> None:
        """Write a name that is in no table."""
        full = name.module, name.name
        if not self._known(full):
            self._line(*(to_python2(full) if self._protocol == 2 else full))
            self._remember(full)

    def _line(self, module: str, name: str) -> None:
        self._parts.append(f"c{module}\n{name}\n".encode())

    # --- tensors -----------------------------------------------------------------------------------------------

    def _tensor(self, tensor: OutTensor) -> None:
        """Write a tensor without attributes: framed where one like it was written before."""
        frame = self._frames.get((tensor.type.dtype, tensor.blob.location))
        plain = not tensor.requires_grad and not tensor.is_parameter and tensor.blob not in self._numbers
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
        """Write a tensor without attributes."""
        if not tensor.is_parameter:
            self._dense(tensor, called=True)
            return
        self._name(PARAMETER)
        self._parts.append(b"(")
        self._dense(tensor, called=True)
        self._of_parameter(tensor)
        self._parts.append(b"tR")

    def _of_parameter(self, tensor: OutTensor) -> None:
        self._parts.append(b"\x88" if tensor.requires_grad else b"\x89")
        self._name(ORDERED_DICT)
        self._parts.append(b")R")

    def _before_attributes(self, tensor: OutTensor) -> None:
        """Write a tensor up to its attributes, as torch does for a Parameter and for a plain tensor."""
        self._name(PARAMETER_WITH_STATE if tensor.is_parameter else FROM_TYPE)
        self._parts.append(b"(")
        self._dense(tensor, called=tensor.is_parameter)
        if tensor.is_parameter:
            self._of_parameter(tensor)

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
    return b"\x8a" + bytes([len(data)]) + data if len(data) < 256 else b"\x8b" + struct.pack("<i", len(data)) + data
