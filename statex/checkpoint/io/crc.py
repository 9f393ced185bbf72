"""CRC-32 of bytes (by isal if it is installed, several times as fast as zlib), and of joined bytes.

Method for joined bytes, from the CRCs of the parts alone: Mark Adler's crc32_combine of zlib
(https://github.com/madler/zlib): appending zero bytes is a linear map over GF(2), whose powers are found by squaring.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from functools import lru_cache
from importlib import import_module

__all__ = ["combined", "crc32"]


def _fastest() -> Callable[..., int]:
    try:
        return import_module("isal.isal_zlib").crc32  # type: ignore[no-any-return]
    except ImportError:
        return zlib.crc32


crc32 = _fastest()
"""As zlib's: the bytes, and the CRC that they go on from (0 at the start)."""

_POLYNOMIAL = 0xEDB88320

Matrix = tuple[int, ...]
"""32 columns of 32 bits."""


def combined(first: int, second: int, length: int) -> int:
    """Return the CRC of two runs of bytes behind one another; `length` is that of the second."""
    return _times(_zeros(length), first) ^ second


def _times(matrix: Matrix, vector: int) -> int:
    result = 0
    for column in matrix:
        if vector & 1:
            result ^= column
        vector >>= 1
        if not vector:
            break
    return result


def _product(one: Matrix, other: Matrix) -> Matrix:
    return tuple(_times(one, column) for column in other)


@lru_cache(maxsize=64)
def _power(number: int) -> Matrix:
    """Return the map of appending 2**number zero bits."""
    if number == 0:
        return (_POLYNOMIAL, *(1 << bit for bit in range(31)))
    half = _power(number - 1)
    return _product(half, half)


@lru_cache(maxsize=1024)
def _zeros(length: int) -> Matrix:
    """Return the map of appending so many zero bytes."""
    result: Matrix = tuple(1 << bit for bit in range(32))
    number = 3
    while length:
        if length & 1:
            result = _product(_power(number), result)
        length >>= 1
        number += 1
    return result
