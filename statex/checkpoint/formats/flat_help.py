"""Entries that formats of plain named tensors cannot hold: they are refused, with rules that leave them out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from statex.checkpoint.blobs.contents import OutTensor
from statex.checkpoint.blobs.walks import leaves
from statex.checkpoint.formats.strict_json import is_text
from statex.core.dtypes import DType
from statex.core.foreign import kind_of
from statex.core.header import OpaqueInfo, TensorInfo
from statex.core.paths import is_container
from statex.core.quoting import show_key, show_text
from statex.diagnostics import fail
from statex.diagnostics.codes import files as codes

_NAMED = 8
"""So many keys are listed to be dropped; of more, one is told apart by what it is."""

Holds = Callable[[Any, Any], bool]
"""Says whether a format can hold an entry: its key and its value."""


def check_flat(tree: Any, holds: Holds, headline: str, instead: str, *, help: Sequence[str] = ()) -> None:
    """Refuse what a format of named tensors cannot hold; `instead` is a format that can, `help` comes before.

    Raises:
        StatexError: SX614 with every entry at fault.
    """
    items = list(tree.items() if isinstance(tree, Mapping) else [("", tree)])
    odd = [(key, _kind(key, value)) for key, value in items if not holds(key, value)]
    if not odd:
        return
    shown = [(f"  {key}", kind) for key, kind in odd[:_NAMED]]
    if len(odd) > _NAMED:
        shown.append((f"  and {len(odd) - _NAMED} more", ""))
    found = [value.type.dtype for _, value in items if isinstance(value, TensorInfo | OutTensor)]
    ways = [*help, *unpacking(found)]
    if any(dtype.block is not None for dtype in found):
        instead = ""  # no format that is written holds quantized blocks
    fail(codes.CANNOT_HOLD, headline, rows=shown, help=[*ways, *filter(None, leave_out(tree, holds, instead))])


def unpacking(dtypes: Iterable[DType]) -> list[str]:
    """Return the rules that make numbers of quantized blocks among tensors of these dtypes."""
    known = sorted({str(dtype) for dtype in dtypes if dtype.block is not None and dtype.block.is_known})
    return [f"set ** = cast(f16) where dtype in [{', '.join(known)}]"] if known else []


def _kind(key: object, value: Any) -> str:
    if not isinstance(key, str) or not is_text(key):
        return "its name is not text"
    if isinstance(value, TensorInfo | OutTensor):
        return f"{value.type.dtype} tensor"
    return kind_of(value)


def leave_out(tree: Any, holds: Holds, instead: str) -> list[str]:
    """Return what to write in the rules so that a format can hold a tree; `instead` is a format that can as it is.

    Nothing is offered that would take a tensor out without a word.
    """
    if not isinstance(tree, Mapping):
        return [instead]
    states = [key for key, value in tree.items() if isinstance(value, Mapping) and any(map(_is_tensor, _values(value)))]
    bare = not any(_is_tensor(value) for value in tree.values())
    if states and (not bare or not all(isinstance(key, str) for key in states)):
        return ["root '' flat"] if _is_nested(tree, holds) else [instead]
    if not states and _is_nested(tree, holds):
        return ["root '' flat"]
    if not states:
        return _dropping(tree.items(), holds, instead)
    flat = ["root '' flat"] if len(tree) > 1 and _is_nested(tree, holds) else []
    first = str(states[0])
    rules = f"root {show_text(first)} -> ''"
    drops = _drop(key for key, value in tree[first].items() if not holds(key, value) and not isinstance(value, Mapping))
    if len(states) > 1:
        others = "the other" if len(states) == 2 else f"the other {len(states) - 1}"
        return [*flat, f"take one state and leave out {others}: {rules}", instead]
    return [*flat, f"take the bare state: {rules}{drops and '; ' + drops}", *([instead] if drops else [])]


def _dropping(items: Iterable[tuple[Any, Any]], holds: Holds, instead: str) -> list[str]:
    odd = [(key, value) for key, value in items if not holds(key, value)]
    drops = _drop(key for key, _ in odd)
    if not drops or any(_is_tensor(value) for _, value in odd):
        # What holds numbers is not offered to be dropped but as what it is.
        return [instead, *([f"if {'it is' if len(odd) == 1 else 'they are'} not needed: {drops}"] if drops else [])]
    return [f"leave out what is not a tensor: {drops}", instead]


def _is_nested(tree: Mapping[Any, Any], holds: Holds) -> bool:
    """Say whether containers of tensors alone are all that keeps a format from holding a tree."""
    odd = [value for key, value in tree.items() if not holds(key, value)]
    return all(is_container(value) and all(map(_is_tensor, leaves(value))) for value in odd)


def _drop(keys: Iterable[Any]) -> str:
    """Return the statement that drops keys; nothing where there are none, too many, or some are no texts."""
    found = list(keys)
    if not found or len(found) > _NAMED or not all(isinstance(key, str) and key for key in found):
        return ""
    return f"drop {', '.join(map(show_key, found))}"


def _values(tree: Mapping[Any, Any]) -> Iterable[Any]:
    for value in tree.values():
        yield from _values(value) if isinstance(value, Mapping) else (value,)


def _is_tensor(value: Any) -> bool:
    return isinstance(value, TensorInfo | OutTensor) or (isinstance(value, OpaqueInfo) and "tensor" in value.kind)
