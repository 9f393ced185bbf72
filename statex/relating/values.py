"""What a new tensor is made of: sources and operations, computed on bits by numpy and written as expressions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from statex.core.dtypes import DType
from statex.core.record import record
from statex.grammar import factory as make
from statex.grammar import tree


@record
class SourceTensor:
    """A tensor of the old checkpoint, as it is or cast; `number` is its place among those of a value."""

    number: int = 0
    cast: DType | None = None


@record
class ElementMove:
    """An operation that puts the elements of one tensor elsewhere: its name in the language, and its arguments.

    Arguments by name stand behind the others, as pairs; a `getitem` has the slice `(dim, start, stop)`.
    """

    name: str
    arguments: tuple[Any, ...] = ()
    named: tuple[tuple[str, Any], ...] = ()


@record
class MovedValue:
    """A value after some moves, the first one innermost."""

    value: Value
    moves: tuple[ElementMove, ...]


@record
class Joined:
    """Several values as one: `cat` or `stack` along a dim."""

    name: str
    values: tuple[Value, ...]
    dim: int


Value = SourceTensor | MovedValue | Joined


def moved(value: Value, *moves: ElementMove) -> Value:
    """Return a value after some moves, in one run with those before them."""
    if not moves:
        return value
    if isinstance(value, MovedValue):
        return MovedValue(value.value, (*value.moves, *moves))
    return MovedValue(value, moves)


def sources(value: Value) -> Iterator[SourceTensor]:
    """Yield the sources of a value, in the order they are written in."""
    match value:
        case SourceTensor():
            yield value
        case MovedValue():
            yield from sources(value.value)
        case Joined():
            for one in value.values:
                yield from sources(one)


def computed(value: Value, load: Callable[[SourceTensor], Any]) -> Any:
    """Return a value as bits; `load` gives those of sources.

    Raises:
        ValueError, IndexError: for moves that sources of these shapes do not take.
    """
    import numpy

    match value:
        case SourceTensor():
            return load(value)
        case MovedValue():
            found = computed(value.value, load)
            for move in value.moves:
                found = _MOVES[move.name](found, *move.arguments, **dict(move.named))
            return found
        case Joined("cat"):
            return numpy.concatenate([computed(one, load) for one in value.values], axis=value.dim)
        case Joined():
            return numpy.stack([computed(one, load) for one in value.values], axis=value.dim)


def _sliced(x: Any, dim: int, start: int, stop: int) -> Any:
    return x[(*(slice(None),) * dim, slice(start, stop))]


def _resized(x: Any, size: tuple[int, ...]) -> Any:
    import numpy

    found = numpy.zeros(size, x.dtype)
    found[tuple(slice(0, min(a, b)) for a, b in zip(x.shape, size, strict=True))] = x[tuple(slice(0, n) for n in size)]
    return found


def _rearranged(x: Any, pattern: str, **axes: int) -> Any:
    import einops

    try:
        return einops.rearrange(x, pattern, **axes)
    except einops.EinopsError as error:  # which is no ValueError
        raise ValueError(str(error)) from None


def _transposed(x: Any, first: int = -2, second: int = -1) -> Any:
    return x.swapaxes(first, second)


def _squeezed(x: Any, dim: int) -> Any:
    return x.squeeze(dim)


def _unsqueezed(x: Any, dim: int) -> Any:
    import numpy

    return numpy.expand_dims(x, dim)


def _flipped(x: Any, dims: int) -> Any:
    import numpy

    return numpy.flip(x, dims)


def _rolled(x: Any, shifts: int, dims: int) -> Any:
    import numpy

    return numpy.roll(x, shifts, dims)


def _selected(x: Any, dim: int, index: tuple[int, ...]) -> Any:
    import numpy

    return numpy.take(x, index, axis=dim)


def _indexed(x: Any, dim: int, index: int) -> Any:
    return _selected(x, dim, (index,)).squeeze(dim)


_MOVES: dict[str, Callable[..., Any]] = {
    "transpose": _transposed,
    "permute": lambda x, dims: x.transpose(dims),
    "reshape": lambda x, shape: x.reshape(shape),
    "squeeze": _squeezed,
    "unsqueeze": _unsqueezed,
    "flip": _flipped,
    "roll": _rolled,
    "rearrange": _rearranged,
    "resize": _resized,
    "getitem": _sliced,
    "item": _indexed,
    "index_select": _selected,
}


def variants(value: Value) -> Iterator[Value]:
    """Yield what a value may be for the vector that stands beside a matrix: itself, and along its only dim."""
    yield value
    yield _for_vectors(value)


def _for_vectors(value: Value) -> Value:
    match value:
        case SourceTensor():
            return value
        case MovedValue():
            moves = [_for_vector(move) for move in value.moves if move.name not in ("transpose", "permute")]
            return moved(_for_vectors(value.value), *moves)
        case Joined():
            return Joined(value.name, tuple(_for_vectors(one) for one in value.values), 0)


def _for_vector(move: ElementMove) -> ElementMove:
    if move.name in ("getitem", "item", "flip", "index_select"):
        return ElementMove(move.name, (0, *move.arguments[1:]), move.named)
    return move


# --- as expressions ---------------------------------------------------------------------------------------------


def expression(value: Value, names: Callable[[SourceTensor], tree.Expr | None]) -> tree.Expr | None:
    """Return a value as it is written; `None` is `it`, left out. `names` gives what stands for a source."""
    match value:
        case SourceTensor():
            base = names(value)
            return base if value.cast is None else piped(base, cast(value.cast))
        case MovedValue():
            found = expression(value.value, names)
            for move in value.moves:
                found = _written(found, move)
            return found
        case Joined():
            parts = [expression(one, names) for one in value.values]
            given = [one for one in parts if one is not None]
            named = {"dim": make.number(value.dim)} if value.dim else {}
            return make.call(value.name, *given, **named) if given or named else make.name(value.name)


def piped(value: tree.Expr | None, stage: tree.Call | tree.Name) -> tree.Expr:
    """Return `value | stage`, or the stage alone where the value is the current one."""
    return stage if value is None else make.pipe(value, stage)


def cast(dtype: DType) -> tree.Call:
    """Return `cast(DTYPE)`."""
    return make.call("cast", make.name(dtype.short))


def _written(value: tree.Expr | None, move: ElementMove) -> tree.Expr:
    if move.name in ("getitem", "item"):
        dim, *rest = move.arguments
        whole: list[tree.Expr | tree.Slice] = [_slice(None, None)] * dim
        own = _slice(*rest) if move.name == "getitem" else make.number(rest[0])
        return tree.Subscript(make.NOWHERE, value or make.name("it"), (*whole, own))
    given = [argument(one) for one in move.arguments]
    named = {name: argument(one) for name, one in move.named}
    stage = make.call(move.name, *given, **named) if given or named else make.name(move.name)
    return piped(value, stage)


def _slice(start: int | None, stop: int | None) -> tree.Slice:
    first = make.number(start) if start else None
    return tree.Slice(make.NOWHERE, first, make.number(stop) if stop is not None else None, None)


def argument(value: Any) -> tree.Expr:
    """Return a number, a text or a list of these."""
    if isinstance(value, tuple | list):
        return tree.ListExpr(make.NOWHERE, tuple(argument(one) for one in value))
    return make.string(value) if isinstance(value, str) else make.number(value)
