"""Two checkpoints compared: their keys, shapes and dtypes, and the values under them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from statex.checkpoint import layout
from statex.checkpoint.contents import OutTensor
from statex.diagnostics import Diagnostic, diagnostic
from statex.diagnostics.amounts import counted
from statex.diagnostics.codes import target as codes
from statex.dtypes import Kind
from statex.execute.differences import Difference, compare_values
from statex.header import TensorInfo, TensorType
from statex.session.delivery import Delivery
from statex.session.session import Session

_THREADS = 2
"""One reads while another compares; more wait for the memory."""

Type = TensorType | None
"""The type of an entry; `None` for one that is not a tensor."""


@dataclass(frozen=True)
class Compared:
    """How two checkpoints differ: by keys, and for the keys of both by types and values.

    `values` has every key whose values were compared and are not equal in bits; with a tolerance (`tolerant`) some of
    these may agree. `uncompared` are the keys of entries that are not dense tensors, whose values nobody compared;
    they are not among the `equal`, if values were compared.
    """

    first: str
    second: str
    equal: int
    only_first: Mapping[str, Type] = field(default_factory=dict)
    only_second: Mapping[str, Type] = field(default_factory=dict)
    types: Mapping[str, tuple[Type, Type]] = field(default_factory=dict)
    values: Mapping[str, Difference] = field(default_factory=dict)
    uncompared: tuple[str, ...] = ()
    with_values: bool = True
    tolerant: bool = False

    @property
    def agree(self) -> bool:
        """True if nothing differs: no bit, or with a tolerance no number by more than that."""
        return not (self.only_first or self.only_second or self.types) and not any(map(self.differs, self.values))

    def differs(self, key: str) -> bool:
        """Say whether the values under a key of `values` differ, by more than the tolerance if there is one."""
        return not (self.tolerant and self.values[key].is_nothing)


_SHOWN = 8
"""So many keys are shown in a diagnostic."""


def different_values(found: Compared) -> Diagnostic | None:
    """Return the diagnostic for values that differ, the worst first; `None` where all agree."""
    apart = sorted((key for key in found.values if found.differs(key)), key=lambda key: -found.values[key].badness)
    if not apart:
        return None
    rows = [(key, str(found.values[key])) for key in apart[:_SHOWN]]
    more = len(apart) - _SHOWN
    return diagnostic(
        codes.VALUES,
        f"`{found.first}` and `{found.second}` differ in the values of {len(apart)} of "
        f"{counted(found.equal + len(found.values), 'key')}",
        rows=rows + ([(f"and {more} more",)] if more > 0 else []),
        help="`statex diff` shows all; numbers that may differ by rounding: --rtol, --atol",
    )


def compared(
    first: Session,
    second: Session,
    *,
    values: bool = True,
    rtol: float = 0.0,
    atol: float = 0.0,
    progress: Callable[[int, int], None] | None = None,
) -> Compared:
    """Compare the results of two sessions (of a checkpoint without rules: what it holds).

    Numbers `a` of the first and `b` of the second with `|a - b| <= atol + rtol * |b|` agree, if one of these is given.
    `progress` is called with the bytes compared so far and all of them.

    Raises:
        StatexError: 6xx for files.
    """
    one, other = _types(first), _types(second)
    both = [key for key in one if key in other]
    types = {key: (one[key], other[key]) for key in both if one[key] != other[key]}
    comparable = [key for key in both if _comparable(one[key], other[key])]
    uncompared = tuple(key for key in both if one[key] is None or other[key] is None)
    found: dict[str, Difference] = {}
    equal = len(both) - len(types)
    if values:
        found = dict(_values(first, second, comparable, rtol, atol, progress))
        equal = len(set(both) - set(found) - set(types) - set(uncompared))
    return Compared(
        first.inputs.main.label,
        second.inputs.main.label,
        equal,
        {key: kind for key, kind in one.items() if key not in other},
        {key: kind for key, kind in other.items() if key not in one},
        types,
        found,
        uncompared,
        values,
        rtol > 0 or atol > 0,
    )


def _types(session: Session) -> Mapping[str, Type]:
    return {key: output.type for key, output in session.plan.outputs.items()}


def _comparable(one: Type, other: Type) -> bool:
    if one is None or other is None:
        return False
    # Bytes whose meaning only files know are compared with their like alone.
    raw = Kind.RAW in (one.dtype.kind, other.dtype.kind)
    return one == other if raw else one.shape == other.shape


def _values(
    first: Session,
    second: Session,
    keys: list[str],
    rtol: float,
    atol: float,
    progress: Callable[[int, int], None] | None,
) -> Iterator[tuple[str, Difference]]:
    left, right = tensors_of(first.whole), tensors_of(second.whole)
    total, done = sum(left[key].type.nbytes for key in keys), 0
    with ThreadPoolExecutor(_THREADS) as pool:
        for key in keys:
            found = Difference(0)
            for part in compare_values(left[key], right[key], rtol=rtol, atol=atol, pool=pool):
                found = found.joined(part)
                done += part.numel * (1 if part.of_bytes else left[key].type.dtype.itemsize)
                if progress is not None:
                    progress(done, total)
            if not found.is_equal:
                yield key, found


def tensors_of(delivery: Delivery) -> Mapping[str, OutTensor]:
    """Return the tensors of a result, each with bytes of its own that can be read in their order."""
    stream = delivery.stream("safetensors")
    state: Mapping[str, Any] = stream.state()
    return {
        key: layout.alone(leaf) if isinstance(leaf, TensorInfo) else leaf
        for key, leaf in state.items()
        if isinstance(leaf, TensorInfo | OutTensor)
    }
