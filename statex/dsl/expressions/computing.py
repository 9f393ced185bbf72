"""`in DTYPE`: a statement computes in a wider dtype, and rounds once to that of its keys."""

from __future__ import annotations

from statex.core.dtypes import BY_NAME, DType, Kind
from statex.core.source import Span
from statex.diagnostics import fail
from statex.diagnostics.codes import types as codes
from statex.dsl.expressions.calls import CallSite, call_operation
from statex.dsl.ops import CASTING
from statex.dsl.plan.graph import Graph
from statex.dsl.values import TensorValue, Value

WIDE = (BY_NAME["float32"], BY_NAME["float64"])
"""The dtypes that a statement can compute in: each holds every value of the narrower ones."""


def check_compute(value: Value, span: Span) -> DType:
    """Return the dtype that a statement computes in.

    Raises:
        StatexError: SX413 for another than f32 or f64.
    """
    if isinstance(value, DType) and value in WIDE:
        return value
    fail(
        codes.COMPUTE_DTYPE,
        f"a statement computes in f32 or f64, not in `{span.text}`",
        span,
        help="`… | cast(…)` changes the dtype of a result",
    )


def check_own(own: DType, compute: DType, span: Span, case: str) -> None:
    """Refuse a key whose values the dtype that is computed in could not hold, or that are not real floats.

    Raises:
        StatexError: SX413.
    """
    if own.kind is Kind.FLOAT and _fits(own, compute):
        return
    wide = own.kind is Kind.FLOAT and WIDE[-1] is not compute
    fail(
        codes.COMPUTE_DTYPE,
        f"`in {compute}` cannot hold the values of {own} keys",
        span,
        values=[f"{case}: {own}"] if case else (),
        help=f"write `in {WIDE[-1]}` instead of `in {compute}`" if wide else "add `where is_floating_point(it)`",
        cases=[case] if case else (),
    )


def widened(value: Value, compute: DType, span: Span, graph: Graph) -> Value:
    """Return a tensor (or a tuple of them) that is read, as floats of the dtype that is computed in.

    Ints and bools stay what they are: they are indices and masks.

    Raises:
        StatexError: SX413 for floats that the dtype cannot hold, and for complex numbers.
    """
    if isinstance(value, tuple):
        return tuple(widened(item, compute, span, graph) for item in value)
    if not isinstance(value, TensorValue) or value.dtype is compute or value.dtype.kind in (Kind.INT, Kind.BOOL):
        return value
    if value.dtype.kind is not Kind.FLOAT or not _fits(value.dtype, compute):
        fail(
            codes.COMPUTE_DTYPE,
            f"`in {compute}` cannot hold the values of a tensor of {value.dtype}",
            span,
            values=[f"{span.text} = {value}"],
            help=f"write `in {WIDE[-1]}` instead of `in {compute}`" if value.dtype.kind is Kind.FLOAT else (),
        )
    return _cast(value, compute, span, graph)


def rounded(value: TensorValue | None, own: DType, span: Span, graph: Graph) -> TensorValue | None:
    """Return a result in the dtype of its key; `None` where an error made it unknown."""
    return value if value is None or value.dtype is own else _cast(value, own, span, graph)


def _fits(dtype: DType, compute: DType) -> bool:
    return dtype is compute or dtype.itemsize < compute.itemsize


def _cast(value: TensorValue, dtype: DType, span: Span, graph: Graph) -> TensorValue:
    site = CallSite(span, span, [(value, span), (dtype, span)], {}, None, None)
    found = call_operation(CASTING, site, graph)
    assert isinstance(found, TensorValue), "the cast of a tensor is a tensor"
    return found
