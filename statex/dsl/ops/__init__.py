"""mini"""

from dataclasses import dataclass

from statex.dsl.ops.base import *
from statex.dtypes import FLOAT32
from statex.header import TensorType


@dataclass
class Query:
    name: str
    signature: str
    doc: str
    example: str


QUERIES = tuple(
    Query(n, n + "(x)", "d", "e")
    for n in ("size", "shape", "ndim", "numel", "dtype", "is_floating_point", "is_complex", "value", "exists", "count")
)
WORDS = frozenset({"bicubic"})
T = ArgKind.TENSOR


class OnesLike(Operation):
    """Ones."""

    name = "ones_like"
    category = "c"
    parameters = (Parameter("x", T),)
    example = ""
    infer = staticmethod(lambda x: x)
    run = staticmethod(lambda torch, x: torch.ones_like(x))


class Transpose(Operation):
    """T."""

    name = "transpose"
    category = "c"
    parameters = (Parameter("x", T),)
    example = ""
    infer = staticmethod(lambda x: TensorType(x.dtype, x.shape[::-1]))
    run = staticmethod(lambda torch, x: x.t())


OPERATIONS = {c.name: c for c in (OnesLike, Transpose)}


def bind(op, pos, named):
    return {op.parameters[0].name: pos[0]}
