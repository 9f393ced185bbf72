"""Help for an operand when a call has no type: a cast, a transpose, or both at once."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from statex.core.dtypes import BY_NAME, DType, Kind
from statex.core.record import record
from statex.core.source import Span
from statex.diagnostics.codes import types as codes
from statex.dsl.ops import TURNING
from statex.dsl.ops.base import OperationError
from statex.dsl.values import TensorValue, flatten_tensors, has_tensor

_WIDE = (BY_NAME["float32"], BY_NAME["float64"])
_KINDS = (Kind.BOOL, Kind.INT, Kind.FLOAT, Kind.COMPLEX)
"""Each holds what is before it, at least roughly."""


@record
class Operand:
    """A tensor, or several, that a call was given; `stage` is the name of the operation where none is written."""

    value: object
    span: Span
    stage: str = ""

    def cast(self, dtype: DType) -> str | None:
        """Write the operand in another dtype; `None` where it is not written and cannot be put in."""
        return self._through(f"cast({dtype})", f"cast({self._text}, {dtype})")

    def turned(self, dtype: DType | None = None) -> str | None:
        """Write the operand transposed, in another dtype if one is given."""
        if dtype is None:
            return self._through(TURNING.name, f"{TURNING.name}({self._text})")
        return self._through(f"{TURNING.name} | cast({dtype})", f"cast({TURNING.name}({self._text}), {dtype})")

    @property
    def _text(self) -> str:
        return self.span.text

    def _through(self, stage: str, call: str) -> str | None:
        if not self.stage:
            return call
        before = self.span.source.text[: self.span.start].rstrip()[-1:]
        return f"{stage} | {self.stage}" if before in ("|", "=", "(", ",") else None


Fits = Callable[[Mapping[int, TensorValue]], bool]
"""Says whether a call has a type where some of its operands are these tensors instead."""


def fix(
    error: OperationError, place: Span, operands: Sequence[Operand], fits: Fits, own: DType | None
) -> tuple[Span, Sequence[str]]:
    """Return the operand to change and what to write instead; what the error itself has, where that is not known.

    `place` is the argument at fault, `own` the dtype of the key that a statement gives a value to, if it could compute
    in a wider one.
    """
    at, helps = _around(error, operands, fits, own)
    if helps or not error.help:
        return at or place, helps
    cast = _CAST_FIRST.search(error.help)
    tensors = [one for one in operands if has_tensor(one.value)]
    meant = next((one for one in tensors if one.span == place), tensors[0] if tensors else None)
    written = meant.cast(BY_NAME[cast.group(1)]) if cast is not None and meant is not None else None
    if meant is None or cast is None or written is None:
        return place, [error.help]
    return meant.span, [error.help.replace(cast.group(), f"`{written}`")]


_CAST_FIRST = re.compile(r"`cast\((\w+)\) \| …`")


def _around(
    error: OperationError, operands: Sequence[Operand], fits: Fits, own: DType | None
) -> tuple[Span | None, Sequence[str]]:
    if error.code is codes.MIXED:
        return _cast(operands, fits, own)
    if error.code is codes.SHAPE:
        for number in _turnable(operands):
            written = operands[number].turned()
            if written is not None and fits({number: _turned(operands[number].value)}):
                return operands[number].span, [f"write `{written}`"]
    return None, []


def _cast(operands: Sequence[Operand], fits: Fits, own: DType | None) -> tuple[Span | None, list[str]]:
    dtypes = list(dict.fromkeys(t.dtype for one in operands for t in _tensors(one.value)))
    wide = _widest(dtypes)
    if own is not None and own is not wide and all(dtype.kind is Kind.FLOAT for dtype in (own, *dtypes)):
        compute = wide if wide in _WIDE else _WIDE[0]
        return None, [f"write `in {compute}` before `=` to compute in {compute} and round once to {own}"]
    if wide is None:
        return None, ["cast both to a wider dtype: `cast(…, f32)`"]
    others = [n for n, one in enumerate(operands) if any(t.dtype is not wide for t in _tensors(one.value))]
    if len(others) != 1:
        return None, [f"cast what is not {wide}: `cast(…, {wide})`"]
    (number,) = others
    one = operands[number]
    if isinstance(one.value, TensorValue) and not fits({number: replace(one.value, dtype=wide)}):
        turned = one.turned(wide) if one.value.ndim == 2 else None
        if turned is not None and fits({number: replace(_turned(one.value), dtype=wide)}):
            return one.span, [f"write `{turned}`"]
    written = one.cast(wide)
    return one.span, [f"write `{written}`" if written is not None else f"cast it first: `cast(it, {wide})`"]


def _tensors(value: object) -> list[TensorValue]:
    return list(flatten_tensors(value)) if has_tensor(value) else []


def _widest(dtypes: Sequence[DType]) -> DType | None:
    """Return the one of some dtypes that can take the others, `None` where none can."""
    if any(dtype.kind not in _KINDS for dtype in dtypes):
        return None
    kind = max((dtype.kind for dtype in dtypes), key=_KINDS.index)
    rivals = [dtype for dtype in dtypes if dtype.kind is kind]
    wide = max(rivals, key=lambda dtype: dtype.itemsize)
    return wide if sum(dtype.itemsize == wide.itemsize for dtype in rivals) == 1 else None


def _turnable(operands: Sequence[Operand]) -> list[int]:
    """Return the numbers of the operands that are matrices, those that are not the current tensor first."""
    matrices = [n for n, one in enumerate(operands) if isinstance(one.value, TensorValue) and one.value.ndim == 2]
    return sorted(matrices, key=lambda n: (bool(operands[n].stage) or operands[n].span.text == "it", -n))


def _turned(value: object) -> TensorValue:
    assert isinstance(value, TensorValue)
    return replace(value, shape=value.shape[::-1])
