"""Quantized blocks of ggml converted to the numbers they stand for, in float32, by numpy.

A block has scales in half precision and small ints; what follows is the arithmetic of `dequantize_row_*` in
ggml-quants.c, each product and difference rounded to float32:

    q4_0  32 numbers    d · (n − 8), n of 4 bits: the low halves of the 16 bytes, then the high ones
    q8_0  32 numbers    d · n, n an int8
    q4_k  8 × 32        (d · s) · n − (e · m), n of 4 bits; s and m of 6 bits for every 32 numbers, d and e for all
    q6_k  16 × 16       (d · s) · (n − 32), n of 6 bits; s an int8 for every 16 numbers, d for all
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from statex.checkpoint.io.input_file import Stored
from statex.core.dtypes import DType
from statex.core.header import OpaqueInfo, RawType, TensorInfo

Array = Any
"""A numpy array."""

_AT_ONCE = 1 << 17
"""Numbers that are unpacked at a time."""


def unpacked(data: memoryview, dtype: DType) -> Array:
    """Return the numbers that blocks stand for, as an array of float32 of one dimension."""
    import numpy

    assert dtype.block is not None
    blocks = numpy.frombuffer(data, numpy.uint8).reshape(-1, dtype.block.nbytes)
    with numpy.errstate(all="ignore"):
        return _BLOCKS[dtype.name](blocks).reshape(-1)


def is_packed(info: TensorInfo | OpaqueInfo | None) -> bool:
    """Say whether a tensor is made of blocks of which it is known what they stand for."""
    return isinstance(info, TensorInfo) and info.type.dtype.block is not None and info.type.dtype.block.is_known


def loaded(info: TensorInfo | OpaqueInfo | None, load: Callable[[], Any]) -> Any:
    """Return a source as torch computes with it: what `load` gives, or the numbers that blocks stand for.

    Raises:
        StatexError: SX601, SX604, SX609.
    """
    if not is_packed(info):
        return load()
    assert isinstance(info, TensorInfo)
    import torch

    kind, stored = info.type, info.handle
    assert isinstance(kind, RawType)
    assert isinstance(stored, Stored)
    assert kind.dtype.block is not None
    result = torch.empty(kind.numel, dtype=torch.float32)
    array = result.numpy()
    for start in range(0, kind.numel, _AT_ONCE):
        count = min(_AT_ONCE, kind.numel - start)
        place, nbytes = (n // kind.dtype.block.numel * kind.dtype.block.nbytes for n in (start, count))
        data = bytearray(nbytes)
        stored.extent.file.read_into(stored.extent.offset + place, memoryview(data))
        array[start : start + count] = unpacked(memoryview(data), kind.dtype)
    return result.reshape(kind.shape)


def _half(blocks: Array, at: int) -> Array:
    """Return the numbers in half precision that stand at a place of every block, in float32."""
    import numpy

    column = numpy.ascontiguousarray(blocks[:, at : at + 2])
    return column.view("<f2").astype(numpy.float32)


def _q4_0(blocks: Array) -> Array:
    import numpy

    packed = blocks[:, 2:]
    numbers = numpy.concatenate([packed & 15, packed >> 4], axis=1).astype(numpy.int8) - numpy.int8(8)
    return _half(blocks, 0) * numbers.astype(numpy.float32)


def _q8_0(blocks: Array) -> Array:
    import numpy

    return _half(blocks, 0) * blocks[:, 2:].view(numpy.int8).astype(numpy.float32)


def _q4_k(blocks: Array) -> Array:
    import numpy

    count = len(blocks)
    packed = blocks[:, 4:16]
    # Bits 0 to 5 of the first eight bytes are the first four of either; what is above is the high bits of the others.
    low, high = packed[:, :8] & 63, packed[:, :8] >> 6 << 4
    scales = numpy.concatenate([low[:, :4], packed[:, 8:] & 15 | high[:, :4]], axis=1).astype(numpy.float32)
    lows = numpy.concatenate([low[:, 4:], packed[:, 8:] >> 4 | high[:, 4:]], axis=1).astype(numpy.float32)
    pairs = blocks[:, 16:].reshape(count, 4, 1, 32)
    numbers = numpy.concatenate([pairs & 15, pairs >> 4], axis=2).reshape(count, 8, 32).astype(numpy.float32)
    scale, low_scale = _half(blocks, 0) * scales, _half(blocks, 2) * lows
    return scale[:, :, None] * numbers - low_scale[:, :, None]


def _q6_k(blocks: Array) -> Array:
    import numpy

    count = len(blocks)
    halves = blocks[:, :128].reshape(count, 2, 1, 64)
    low = numpy.concatenate([halves & 15, halves >> 4], axis=2).reshape(count, 8, 32)
    shifts = numpy.array([0, 2, 4, 6], numpy.uint8).reshape(1, 1, 4, 1)
    high = (blocks[:, 128:192].reshape(count, 2, 1, 32) >> shifts & 3).reshape(count, 8, 32)
    numbers = (low | high << 4).astype(numpy.int8) - numpy.int8(32)
    scales = _half(blocks, 208) * blocks[:, 192:208].view(numpy.int8).astype(numpy.float32)
    return scales[:, :, None] * numbers.reshape(count, 16, 16).astype(numpy.float32)


_BLOCKS: Mapping[str, Callable[[Array], Array]] = {"q4_0": _q4_0, "q8_0": _q8_0, "q4_k": _q4_k, "q6_k": _q6_k}
