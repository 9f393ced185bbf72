"""Computations on bits by numpy, without importing torch: casts between floats, and fills.

Results are torch's to the bit, but for the payload of NaNs, which torch itself does not define.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import copysign
from typing import TYPE_CHECKING, Any

from statex.core.dtypes import FLOAT32, DType, Kind

if TYPE_CHECKING:
    from statex.dsl.ops import Operation

Array = Any
"""A numpy array of one dimension."""

NUMPY: Mapping[str, str] = {
    "float64": "<f8", "float32": "<f4", "float16": "<f2", "int64": "<i8", "int32": "<i4", "int16": "<i2", "int8": "i1",
    "uint8": "u1", "uint16": "<u2", "uint32": "<u4", "uint64": "<u8", "bool": "?", "complex64": "<c8",
    "complex128": "<c16", "bfloat16": "<u2",
}  # fmt: skip
"""numpy's types for dtypes; bfloat16 as its bits."""

_FLOATS = ("float64", "float32", "float16", "bfloat16")


def casts(source: DType, target: DType) -> Callable[[Array], Array] | None:
    """Return the function that casts arrays, or `None` where torch has to; of blocks, what they stand for is cast."""
    if source.block is not None:
        return casts(FLOAT32, target)
    if source.name not in _FLOATS or target.name not in _FLOATS:
        return None
    if target.name == "bfloat16":
        # A cast of f64 or f16 goes by way of f32 in torch too.
        return lambda array: _to_bfloat16(_widened(array, source))
    if source.name == "bfloat16":
        return lambda array: _quiet(_widened(array, source), NUMPY[target.name])
    if target.name == "float16":
        # By way of f32, as in torch: a double is rounded twice.
        return lambda array: _quiet(_quiet(array, "<f4"), "<f2")
    return lambda array: _quiet(array, NUMPY[target.name])


def computes(dtype: DType) -> bool:
    """Say whether numpy computes with a dtype as torch does: in f32 or f64, every result rounded to the dtype."""
    return dtype.name in _FLOATS


def computed(operation: type[Operation], dtype: DType, arguments: Mapping[str, Any]) -> Array:
    """Return what an operation gives for arrays of a dtype, or tuples of them, among its arguments."""
    import numpy

    assert operation.numpy is not None
    with numpy.errstate(all="ignore"):
        wide = {name: _wide(value, dtype, operation.rounds_numbers) for name, value in arguments.items()}
        found = operation.numpy(numpy, **wide)
    if dtype.name == "bfloat16":
        return _to_bfloat16(found, nan=0xFFFF)  # as torch's vector code computes it; a cast makes 0x7fc0
    return _quiet(found, NUMPY[dtype.name])


def _wide(value: Any, dtype: DType, rounds: bool) -> Any:
    """Return an argument in the precision that is computed in."""
    import numpy

    if isinstance(value, tuple):
        return tuple([_wide(one, dtype, rounds) for one in value])
    if not isinstance(value, numpy.ndarray):
        if not rounds or dtype.itemsize > 2:
            return float(value)
        value = numpy.frombuffer(element(dtype, value), NUMPY[dtype.name])
    return value if dtype.name == "float64" else _widened(value, dtype)


def _widened(array: Array, dtype: DType) -> Array:
    """Return float32."""
    import numpy

    if dtype.name != "bfloat16":
        return _quiet(array, "<f4")
    return (array.astype(numpy.uint32) << 16).view(numpy.float32)


def _quiet(array: Array, kind: str) -> Array:
    import numpy

    with numpy.errstate(over="ignore", invalid="ignore", under="ignore"):
        return array.astype(kind, copy=False)


def _to_bfloat16(array: Array, nan: int = 0x7FC0) -> Array:
    """Round to the nearest, halves to even, on the bits; NaN becomes `nan`."""
    import numpy

    bits = array.view(numpy.uint32)
    rounded = bits >> 16
    rounded &= 1
    rounded += 0x7FFF
    rounded += bits
    rounded >>= 16
    result = rounded.astype(numpy.uint16)
    places = numpy.isnan(array)
    if places.any():
        result[places] = nan
    return result


def has_element(dtype: DType, value: float) -> bool:
    """Say whether `element` can make a number of this dtype; torch has to make any other."""
    if dtype.kind is Kind.QUANTIZED:
        return False
    return dtype.name in NUMPY or (value == 0 and copysign(1, value) == 1)


def element(dtype: DType, value: float) -> bytes:
    """Return the bytes of one element of this number."""
    import numpy

    if dtype.name not in NUMPY:
        return bytes(dtype.itemsize)
    number = numpy.array([value])
    if dtype.itemsize == 2 and dtype.is_floating_point:
        number = _quiet(number, "<f4")  # by way of f32, as in torch: a double is rounded twice
    if dtype.name == "bfloat16":
        return bytes(_to_bfloat16(number).tobytes())
    return bytes(_quiet(number, NUMPY[dtype.name]).tobytes())
