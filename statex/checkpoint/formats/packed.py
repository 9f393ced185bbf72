"""Tensors of dtypes that are only moved: their sizes, and the correspondence between torch and safetensors.

safetensors counts numbers where torch counts bytes: `F4` of the shape [2, 6] is torch's `float4_e2m1fn_x2` of [2, 3].
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import prod
from typing import Any, NoReturn, TypeVar

from statex.checkpoint.blobs.contents import OutTensor
from statex.checkpoint.blobs.walks import leaves, mapped
from statex.checkpoint.formats.flat_help import unpacking
from statex.core.dtypes import FLOAT4X2, raw_dtype
from statex.core.header import RawType, TensorInfo, TensorType, contiguous
from statex.diagnostics import fail
from statex.diagnostics.codes import files as codes
from statex.diagnostics.suggest import join_words

_NAME = re.compile(r"[A-Z]+(?P<bits>[0-9]+)(_[A-Z0-9_]+)?|[A-Z][A-Z0-9_]*")
"""What dtypes are called in safetensors: mostly with the bits of an element, as in `F4` and `F6_E2M3`."""
_LONGEST = 40
_SHOWN = 8
_TENSORS = (TensorInfo, OutTensor)
T = TypeVar("T", bound=TensorInfo | OutTensor)


def raw_type(name: str, shape: tuple[int, ...], nbytes: int) -> RawType | None:
    """Return the type of a tensor in a safetensors file whose dtype is only moved; `None` if it cannot be one."""
    found, count = _NAME.fullmatch(name), prod(shape)
    if found is None or len(name) > _LONGEST:
        return None
    bits = found["bits"]
    # Elements fill their bytes; a name without a number leaves open how many these are.
    fits = count * int(bits) == nbytes * 8 if bits is not None else bool(count) == (nbytes > 0)
    return RawType(raw_dtype(name), shape, nbytes) if fits else None


def torch_type(kind: TensorType) -> TensorType | None:
    """Return the type that torch has for a type, `None` if it has none."""
    if not isinstance(kind, RawType):
        return kind
    if kind.dtype.name != "F4" or not kind.shape or kind.shape[-1] % 2:
        return None
    return TensorType(FLOAT4X2, (*kind.shape[:-1], kind.shape[-1] // 2))


def safetensors_type(kind: TensorType) -> TensorType:
    """Return the type that safetensors has for a type."""
    if kind.dtype is not FLOAT4X2 or not kind.shape:
        return kind
    return RawType(raw_dtype("F4"), (*kind.shape[:-1], 2 * kind.shape[-1]), kind.nbytes)


def for_safetensors(tensor: OutTensor) -> OutTensor:
    """Return a contiguous tensor with the type that safetensors has for it."""
    kind = safetensors_type(tensor.type)
    return tensor if kind is tensor.type else replace(tensor, type=kind, stride=contiguous(kind.shape))


def for_torch(tree: Any) -> Any:
    """Return a tree whose tensors have the types that torch has for them.

    Raises:
        StatexError: SX614 for tensors of dtypes that torch does not have.
    """
    raw = {id(leaf): leaf for leaf in leaves(tree) if isinstance(leaf, _TENSORS) and isinstance(leaf.type, RawType)}
    lost = [leaf.type for leaf in raw.values() if torch_type(leaf.type) is None]
    if lost:
        _refuse(tree, lost)
    made = {place: of_torch(leaf) for place, leaf in raw.items()}  # what is one tensor under several keys stays one
    return mapped(tree, lambda leaf: made.get(id(leaf), leaf)) if made else tree


def of_torch(tensor: T) -> T:
    """Return a tensor with the type that torch has for it.

    Raises:
        StatexError: SX621 if torch has none.
    """
    kind = torch_type(tensor.type)
    if kind is None:
        fail(codes.NO_SUCH_DTYPE, f"torch has no dtype {tensor.type.dtype} for {tensor.type}")
    if kind is tensor.type:
        return tensor
    return replace(tensor, type=kind, stride=contiguous(kind.shape))


def _refuse(tree: Any, lost: Sequence[TensorType]) -> NoReturn:
    names = list(dict.fromkeys(str(kind.dtype) for kind in lost))
    found = tree.items() if isinstance(tree, Mapping) else ()
    rows = [(f"  {key}", str(leaf.type)) for key, leaf in found if getattr(leaf, "type", None) in lost]
    more = [(f"  and {len(rows) - _SHOWN} more", "")] if len(rows) > _SHOWN else []
    fail(
        codes.CANNOT_HOLD,
        f"torch has no dtype {join_words(names, last='or')}, and its files cannot hold all of this",
        rows=[*rows[:_SHOWN], *more],
        notes=[f"its {FLOAT4X2.name} is F4 with an even last dim"] if "F4" in names else (),
        help=[*unpacking(kind.dtype for kind in lost), *_without(rows, lost)],
    )


def _without(rows: Sequence[tuple[str, str]], lost: Sequence[TensorType]) -> list[str]:
    """Return the rule that drops the first tensor, and the format that holds it if there is one."""
    if not rows:
        return []
    no_format = any(kind.dtype.block is not None for kind in lost)
    return [f"drop {rows[0][0].strip()}" + ("" if no_format else "   or write a .safetensors")]
