"""Recognises the whole opcode sequence of a tensor as torch.save writes it: 100,000 tensors are common.

What is not written just so is left to the machine of `pickle_reader`, which knows every opcode by itself.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from statex.checkpoint.objects import ORDERED_DICT

MakeTensor = Callable[[Any, Any, Any, int, int, tuple[int, ...], tuple[int, ...], bool], Any]
"""Makes a tensor of its storage's class, key, device and number of elements, and of its offset, shape, strides and
`requires_grad`; `None` where that takes more."""

_GET = rb"(h.|j.{4})"
_PUT = rb"(?:q.|r.{4})"
_INT = rb"(K.|M..|J.{4})"
_SIZES = rb"(?:\)|(\(?(?:K.|M..|J.{4})+[\x85\x86\x87t])" + _PUT + rb")"
_TENSOR = re.compile(
    rb"\(\(" + _GET + _GET + rb"(?:X(.{4})([0-9]{1,18})(" + _PUT + rb")|" + _GET + rb")" + _GET + _INT
    + rb"t" + _PUT + rb"Q" + _INT + _SIZES + _SIZES + rb"([\x88\x89])" + _GET + rb"\)R" + _PUT + rb"t" + _PUT + rb"R",
    re.DOTALL,
)  # fmt: skip
"""From the mark after the function to its call: ((storage, class, key, device, numel)Q, offset, shape, strides, …)."""
_U4 = struct.Struct("<I")
_BY_COUNT = {1: 0x85, 2: 0x86, 3: 0x87}


def read_tensor(data: bytes, at: int, memo: dict[int, Any], make: MakeTensor) -> tuple[Any, int] | None:
    """Return the tensor whose arguments begin at a place and where they end; `None` where they are written otherwise.

    Of what the opcodes put into the memo, it gets the storage's key alone: torch refers to nothing else.
    """
    found = _TENSOR.match(data, at)
    if found is None:
        return None
    word, cls, length, digits, put, known, device, numel, offset, shape, stride, grad, hooks = found.groups()
    if memo.get(_place(word)) != "storage" or memo.get(_place(hooks)) is not ORDERED_DICT:
        return None
    if known is not None:
        key = memo.get(_place(known))
    else:
        key = digits.decode("ascii")
        if _U4.unpack(length)[0] != len(key):
            return None
        memo[put[1] if len(put) == 2 else _U4.unpack_from(put, 1)[0]] = key
    sizes, strides = _sizes(shape), _sizes(stride)
    if sizes is None or strides is None:
        return None
    tensor = make(
        memo.get(_place(cls)), key, memo.get(_place(device)), _number(numel), _number(offset), sizes, strides,
        grad == b"\x88",
    )  # fmt: skip
    return None if tensor is None else (tensor, found.end())


@lru_cache(maxsize=1024)
def _place(operand: bytes) -> int:
    """Return the place in the memo that an opcode with its operand names."""
    return operand[1] if len(operand) == 2 else int(_U4.unpack_from(operand, 1)[0])


@lru_cache(maxsize=1024)
def _number(operand: bytes) -> int:
    return int.from_bytes(operand[1:], "little", signed=operand[:1] == b"J")


@lru_cache(maxsize=4096)
def _sizes(opcodes: bytes | None) -> tuple[int, ...] | None:
    """Return the ints of a tuple's opcodes; `None` where their number is not what the last opcode takes."""
    if opcodes is None:
        return ()
    marked = opcodes[:1] == b"("
    at, end = int(marked), len(opcodes) - 1
    found = []
    while at < end:
        width = {0x4B: 2, 0x4D: 3, 0x4A: 5}[opcodes[at]]
        found.append(_number(opcodes[at : at + width]))
        at += width
    fits = opcodes[end] == (0x74 if marked else _BY_COUNT.get(len(found)))
    return tuple(found) if fits else None
