"""The closed set of operations: each is declared by one class, and `OPERATIONS` finds it by name."""

from __future__ import annotations

from collections.abc import Mapping

from statex.dsl.ops import arithmetic, combining, constructors, indexing, layout, rearranging, reducing, resizing
from statex.dsl.ops.base import Operation
from statex.dsl.ops.binding import bind
from statex.dsl.ops.questions import QUERIES, Question

_ALL: tuple[type[Operation], ...] = (
    constructors.Zeros, constructors.Ones, constructors.Full, constructors.ZerosLike, constructors.OnesLike,
    constructors.FullLike, constructors.Arange, constructors.Eye,
    layout.Transpose, layout.Permute, layout.Reshape, layout.Flatten, layout.Unflatten, layout.Squeeze,
    layout.Unsqueeze, layout.Expand, layout.Flip, layout.Roll, rearranging.Rearrange, layout.Clone,
    indexing.GetItem, indexing.IndexSelect, indexing.Narrow,
    combining.Chunk, combining.Sections, combining.Unstack, combining.Cat, combining.Stack, combining.Average,
    resizing.Pad, resizing.Resize, resizing.Interpolate,
    *arithmetic.ELEMENTWISE, *arithmetic.COMPARISONS, *arithmetic.POINTWISE, arithmetic.Clamp, arithmetic.MatMul,
    arithmetic.Cast,
    reducing.Sum, reducing.Mean, reducing.Min, reducing.Max, reducing.Norm, reducing.WeightNorm,
)  # fmt: skip

OPERATIONS: Mapping[str, type[Operation]] = {operation.name: operation for operation in _ALL}

OPERATORS: Mapping[str, type[Operation]] = {one.operator: one for one in _ALL if one.operator is not None}
"""The operation that each operator stands for when one of its operands is a tensor."""
(CASTING,) = [operation for operation in _ALL if operation.changes_dtype]
(TURNING,) = [operation for operation in _ALL if operation.turns_matrices]
UNSTACKING: type[Operation] = combining.Unstack
"""What `split … over e` takes a tensor apart with, in help."""
JOINING: type[Operation] = combining.Cat
CUTTING: type[Operation] = indexing.Narrow
"""How a tensor is put together of slices, and how one of them is made shorter."""
ZEROS: type[Operation] = constructors.Zeros
"""What stands for the moments of elements that had none."""

WORDS: frozenset[str] = frozenset(
    choice for operation in _ALL for parameter in operation.parameters for choice in parameter.choices
)
"""The bare words that are arguments: `bicubic`, `reflect`."""

__all__ = [
    "CASTING", "CUTTING", "JOINING", "OPERATIONS", "OPERATORS", "QUERIES", "TURNING", "UNSTACKING", "WORDS", "ZEROS",
    "Operation", "Question", "bind",
]  # fmt: skip
