"""Arrays as numpy's files describe them: the header of `.npy`, and the names of dtypes.

Format: numpy/lib/format.py.
"""

from __future__ import annotations

import ast
import re
import struct
from collections.abc import Iterable, Iterator
from typing import Any

from statex.core.dtypes import BY_NAME, DType
from statex.core.header import TensorType
from statex.core.record import record

MAGIC = b"\x93NUMPY"
_LONGEST_HEADER = 1 << 16
_DTYPES = {
    "f2": "float16", "f4": "float32", "f8": "float64", "i1": "int8", "i2": "int16", "i4": "int32", "i8": "int64",
    "u1": "uint8", "u2": "uint16", "u4": "uint32", "u8": "uint64", "b1": "bool", "c8": "complex64", "c16": "complex128",
}  # fmt: skip
_CODES = {name: f"{'|' if code.endswith('1') else '<'}{code}" for code, name in _DTYPES.items()}
_ALIGNMENT = 64
_ROOM = 21
"""Digits that numpy leaves room for in the first dim, so that more rows can be appended."""
_CODE = re.compile(r"([<>|=]?)([a-zA-Z]\d+)")


@record
class ArrayType:
    """What is known of an array: its dtype, whether its numbers are big-endian, its shape, whether columns come first.

    `dtype` is `None` where torch has no such dtype; `code` is what numpy calls it.
    """

    code: str
    dtype: DType | None
    big_endian: bool
    shape: tuple[int, ...]
    fortran: bool


def array_type(code: Any, shape: Any, fortran: Any, order: str = "") -> ArrayType | None:
    """Return the type of an array from numpy's words for it, `None` where they are none."""
    if type(shape) is not tuple or not all(type(n) is int and 0 <= n < 2**60 for n in shape) or len(shape) > 64:
        return None
    if type(fortran) is not bool or not isinstance(code, str | list):
        return None
    found = _CODE.fullmatch(code) if isinstance(code, str) else None
    if found is None:
        return ArrayType(str(code)[:40], None, False, shape, fortran)
    dtype = _DTYPES.get(found[2])
    big = (order or found[1]) == ">" and dtype is not None and BY_NAME[dtype].itemsize > 1
    return ArrayType(found[0], BY_NAME[dtype] if dtype is not None else None, big, shape, fortran)


def header_size(head: bytes) -> tuple[int, int] | None:
    """Return where the text of a header starts and how long it is; `head` is 12 bytes. `None` for what is no array."""
    if head[:6] != MAGIC or head[6] not in (1, 2, 3):
        return None
    start, layout = (10, "<H") if head[6] == 1 else (12, "<I")
    (length,) = struct.unpack_from(layout, head, 8)
    return (start, length) if length <= _LONGEST_HEADER else None


def read_header(text: bytes) -> ArrayType | None:
    """Return what the text of a header says, `None` where it is none."""
    try:
        said = ast.literal_eval(text.decode("utf-8").strip())
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return None
    if not isinstance(said, dict) or said.keys() != {"descr", "fortran_order", "shape"}:
        return None
    return array_type(said["descr"], said["shape"], said["fortran_order"])


def has_dtype(dtype: DType) -> bool:
    """Say whether numpy has a dtype."""
    return dtype.name in _CODES


def header_of(kind: TensorType) -> bytes:
    """Return all that is before the data of an array, byte for byte as numpy writes it.

    Format: version 1.0, padded with blanks to a multiple of 64 bytes.
    """
    text = f"{{'descr': {_CODES[kind.dtype.name]!r}, 'fortran_order': False, 'shape': {kind.shape!r}, }}"
    text += " " * (_ROOM - len(repr(kind.shape[0])) if kind.shape else 0)
    text += " " * (_ALIGNMENT - (len(MAGIC) + 4 + len(text) + 1) % _ALIGNMENT) + "\n"
    return MAGIC + b"\x01\x00" + struct.pack("<H", len(text)) + text.encode("latin-1")


def columns_first(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the strides of an array whose first index runs fastest."""
    found, step = [], 1
    for length in shape:
        found.append(step)
        step *= max(length, 1)
    return tuple(found)


def swapped(parts: Iterable[bytes], dtype: DType) -> Iterator[bytes]:
    """Yield numbers with the bytes of each the other way round."""
    import numpy

    width = dtype.itemsize // 2 if dtype.is_complex else dtype.itemsize
    rest = b""
    for part in parts:
        data = rest + part
        cut = len(data) - len(data) % width
        yield numpy.frombuffer(data[:cut], f"u{width}").byteswap().tobytes()
        rest = data[cut:]
    yield rest
