"""torch's notes about modules (`_metadata`) while a migrated state is loaded.

A module's version, by which BatchNorm knows whether a state has `num_batches_tracked`, is looked up by torch in the
`_metadata` of the dict that the caller gave, under the module's present path. Where modules have moved, that is another
module's, or nobody's. What the caller gave is not touched: until the load is over, the modules inside are given what
belongs to them by an attribute of their own in front of torch's `_load_from_state_dict`.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from types import FrameType
from typing import Any

from statex.dsl.plan.metadata import Metadata, below, exchanged

_METHOD = "_load_from_state_dict"
_ASSIGN = "assign_to_params_buffers"
_FRAMES = 64


class Load:
    """One `load_state_dict` at work, with what is noted of modules by their paths in the whole model.

    `missing` is the list of missing keys, which is one and the same from the first module to the last: by it what is
    left of a load that was broken off is known not to belong to another one.
    """

    def __init__(self, owner: Any, missing: list[str]) -> None:
        self.owner = owner
        self.missing = missing
        self.noted: dict[str, Mapping[str, object]] = {}
        self._fronts: list[tuple[Any, Any]] = []

    def note(self, prefix: str, metadata: Metadata) -> None:
        """Set what is noted of the modules at and below a prefix (which ends with its dot)."""
        self.noted = dict(exchanged(self.noted, prefix, metadata))

    def cover(self, module: Any) -> None:
        """Stand in front of the modules inside a module."""
        for inner in module.modules():
            own = vars(inner).get(_METHOD)
            if inner is module or (isinstance(own, _Front) and own.load is self):
                continue
            self._fronts.append((inner, own))
            vars(inner)[_METHOD] = _Front(self, inner, getattr(inner, _METHOD))

    def end(self) -> None:
        """Give the modules back what they had."""
        for module, own in self._fronts:
            if own is None:
                vars(module).pop(_METHOD, None)
            else:
                vars(module)[_METHOD] = own
        self._fronts.clear()


class _Front:
    """What torch calls in place of a module's `_load_from_state_dict` during one load."""

    def __init__(self, load: Load, module: Any, original: Any) -> None:
        self.load = load
        self.module = module
        self.original = original

    def __call__(
        self, state: Any, prefix: str, noted: Any, strict: bool, missing: list[str], *rest: Any, **named: Any
    ) -> Any:
        if missing is self.load.missing:
            noted = self._own(prefix, noted)
        else:
            self.load.end()
        try:
            return self.original(state, prefix, noted, strict, missing, *rest, **named)
        except BaseException:
            self.load.end()
            raise

    def _own(self, prefix: str, noted: Any) -> dict[str, Any]:
        """Return what is noted of the module; whether tensors are assigned is said for this load, not in the state."""
        own = {key: value for key, value in self.load.noted.get(prefix[:-1], {}).items() if key != _ASSIGN}
        return {**own, _ASSIGN: noted[_ASSIGN]} if _ASSIGN in noted else own

    def __reduce__(self) -> tuple[Any, ...]:
        # A copy of the module loads as its class does.
        return getattr, (self.module, _METHOD)


def load_at(module: Any, missing: list[str]) -> Load | None:
    """Return the load that a module inside of an attached one is part of."""
    front = vars(module).get(_METHOD)
    return front.load if isinstance(front, _Front) and front.load.missing is missing else None


def end_loads(module: Any) -> None:
    """End the load that began at a module."""
    for load in _loads(module):
        if load.owner is module:
            load.end()


def end_stale_loads(module: Any, missing: list[str]) -> None:
    """End what is left of loads that were broken off: all but the one of this list of missing keys."""
    for load in _loads(module):
        if load.missing is not missing:
            load.end()


def _loads(module: Any) -> list[Load]:
    fronts = [vars(inner).get(_METHOD) for inner in module.modules()]
    return list({id(front.load): front.load for front in fronts if isinstance(front, _Front)}.values())


def noted_below(module: Any, state: Any, prefix: str, noted: Any, missing: list[str]) -> Metadata | None:
    """Return what the state notes of the modules at and below a prefix, by their paths in the module there.

    torch hands the `_metadata` to the outermost module alone; a module inside finds it where torch looks it up. `None`
    says that the state has none.
    """
    load = load_at(module, missing)
    metadata: Any = load.noted if load is not None else getattr(state, "_metadata", None)
    if metadata is None and prefix:
        metadata = _looked_up(sys._getframe(2), prefix[:-1], noted)
    if metadata is None:
        return None
    return below(metadata, prefix)


def _looked_up(frame: FrameType | None, path: str, noted: Any) -> Metadata | None:
    """Return the `_metadata` that a loader further up has in hand.

    torch's is a function `load` that calls itself and looks `metadata` up; another loader is known by having given what
    is noted of this path.
    """
    for _ in range(_FRAMES):
        if frame is None:
            return None
        seen = frame.f_locals
        found = seen.get("metadata")
        is_loader = "metadata" in seen and "load" in seen
        if isinstance(found, Mapping) and (is_loader or found.get(path) is noted):
            return found
        if is_loader:
            return None
        frame = frame.f_back
    return None
