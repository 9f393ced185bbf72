"""The bits of tensors in another dtype, rounded as torch rounds them."""

from __future__ import annotations

from typing import Any

from statex.checkpoint.io.crc import crc32
from statex.core.dtypes import DType
from statex.core.header import TensorType
from statex.diagnostics.torch_dtypes import torch_dtype
from statex.dsl.ops import CASTING, OPERATIONS
from statex.dsl.ops.base import OperationError
from statex.execute.kernels.by_numpy import NUMPY, casts
from statex.inferring.sides import TensorSide, unsigned


def cast_bits(bits: Any, source: DType, target: DType) -> Any:
    """Return bits of one dtype as those of another one."""
    by_numpy = casts(source, target)
    if by_numpy is not None:
        return by_numpy(bits.view(NUMPY[source.name])).view(unsigned(target))
    import torch

    flat = memoryview(bits.reshape(-1)).cast("B")
    tensor = torch.frombuffer(flat, dtype=torch_dtype(torch, source.name)).to(torch_dtype(torch, target.name))
    return tensor.view(torch.uint8).numpy().view(unsigned(target)).reshape(bits.shape)


def cast_crc(side: TensorSide, key: str, target: DType) -> int:
    """Return the CRC-32 of a tensor in another dtype; it is read and cast in pieces."""
    import numpy

    found, source = 0, side.kinds[key].dtype
    for piece in side.pieces(key):
        bits = cast_bits(numpy.frombuffer(piece, unsigned(source)), source, target)
        found = crc32(memoryview(bits).cast("B"), found)
    return found


def can_be_cast(kind: TensorType, dtype: DType) -> bool:
    """Say whether rules can cast a tensor to a dtype: complex numbers to real ones they cannot."""
    try:
        OPERATIONS[CASTING.name].infer(x=kind, dtype=dtype)
    except OperationError:
        return False
    return True
