"""Objects that occur several times in a tree: a pickle writes each once, and refers to it afterwards."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import Any

from statex.checkpoint.blobs.contents import OutTensor
from statex.checkpoint.blobs.walks import bare_tensors, parts
from statex.checkpoint.formats.torch.python2_names import needs_protocol_4
from statex.checkpoint.objects import ForeignCall
from statex.core.foreign import Foreign
from statex.core.header import OpaqueInfo

_SHARED = (OutTensor, ForeignCall, Foreign, dict, list, set, tuple)
_LONG = 64
"""Characters, bytes or bits from which on a value that is in several places is written once."""


def shared_ids(tree: Any) -> tuple[set[int], bool]:
    """Return the ids of tensors, calls, containers and long values that the tree holds in several places.

    Also say whether it has names that take protocol 4.
    """
    seen: set[int] = set()
    shared: set[int] = set()
    late = False
    pending = [tree]
    while pending:
        value = pending.pop()
        if isinstance(value, OpaqueInfo):
            value = value.handle
        if isinstance(value, Foreign) and value.how == "name":
            late = late or needs_protocol_4((value.function.module, value.function.name))
            continue
        if not isinstance(value, _SHARED) and not _is_long(value):
            continue
        if id(value) in seen:
            _share(value, shared)
            continue
        seen.add(id(value))
        if isinstance(value, dict):
            pending.extend([key for key in value if type(key) is str and len(key) >= _LONG])
            pending.extend(_attributes(value) if _only_here(value, seen) else parts(value))
        else:
            pending.extend(parts(value))
    return shared, late


def _share(value: Any, shared: set[int]) -> None:
    """Note what is in several places, and the parts it is made of: where they hold it, they are met again in it."""
    pending = [value]
    while pending:
        one = pending.pop()
        if id(one) in shared or one == ():
            continue
        shared.add(id(one))
        if isinstance(one, tuple | set):
            made_of = list(one)
        elif isinstance(one, ForeignCall | Foreign):
            made_of = [one.arguments]
        else:
            continue
        pending += [part for part in made_of if isinstance(part, _SHARED)]


def _attributes(value: dict[Any, Any]) -> Iterable[Any]:
    return vars(value).values() if isinstance(value, OrderedDict) else ()


def _is_long(value: Any) -> bool:
    if isinstance(value, str | bytes):
        return len(value) >= _LONG
    return isinstance(value, int) and value.bit_length() >= _LONG


def _only_here(state: Mapping[Any, Any], seen: set[int]) -> bool:
    """Say whether a dict holds tensors alone, each once and none that was seen, and note them as seen."""
    if set(map(type, state.values())) != {OutTensor} or not bare_tensors(state):
        return False
    ids = set(map(id, state.values()))
    if len(ids) < len(state) or not seen.isdisjoint(ids):
        return False
    seen |= ids
    return True
