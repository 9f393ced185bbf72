"""Whole modules that were pickled: reads their state from the pickled attributes, without their classes.

As `Module.state_dict()` and `Module._save_to_state_dict()` of torch/nn/modules/module.py do it. What a class does of
its own in their place is not in the file: what may be amiss for that is said.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from statex.core.foreign import Foreign
from statex.core.header import TensorInfo
from statex.core.record import record
from statex.diagnostics import fail
from statex.diagnostics.codes import files as codes
from statex.diagnostics.suggest import join_words

_PARTS = ("_parameters", "_buffers", "_modules")
_HOOKS = ("_state_dict_hooks", "_state_dict_pre_hooks")
_VERSION_2 = ("torch.nn.modules.batchnorm.", "torch.nn.modules.instancenorm.")
_OWN = "torch.nn."
_DEPTH = 200
_MOST = 1_000_000
"""Entries: modules that are in several places are read in each."""


@record
class ModuleState:
    """The state of a module, with `_metadata`, and sentences on what may be amiss with it."""

    state: Mapping[str, Any]
    remarks: tuple[str, ...]


def is_module(value: object) -> bool:
    """Say whether a foreign object is a module, by what it is made of."""
    return isinstance(value, Foreign) and value.how != "name" and _fields(value) is not None


def version_of(name: str) -> int | None:
    """Return the `_version` of a class of torch's own, which `_metadata` notes; `None` for others."""
    if not name.startswith(_OWN):
        return None
    return 2 if name.startswith(_VERSION_2) else 1


def state_of(module: Foreign, label: str) -> ModuleState:
    """Return the state of a module; `label` is how messages call the file.

    Raises:
        StatexError: SX604 for what no module can be.
    """
    return _Reading(label).read(module)


def _fields(value: Foreign) -> Mapping[str, Any] | None:
    """Return the attributes of a module, `None` if it is not one."""
    given = value.arguments[0] if isinstance(value.arguments, tuple) and value.arguments else None
    # The latter is how torch.fx has its modules made anew.
    for fields in (value.state, given):
        if isinstance(fields, dict) and all(isinstance(fields.get(part), dict) for part in _PARTS):
            return fields
    return None


class _Reading:
    def __init__(self, label: str) -> None:
        self._label = label
        self._state: OrderedDict[str, Any] = OrderedDict()
        self._metadata: OrderedDict[str, dict[str, int]] = OrderedDict()
        self._classes: dict[str, str] = {}
        self._hooks: list[str] = []
        self._parametrized: list[str] = []
        self._odd: list[str] = []
        self._left: list[str] = []

    def read(self, module: Foreign) -> ModuleState:
        within: list[int] = []
        pending: list[tuple[int, str, Foreign]] = [(0, "", module)]
        while pending:
            depth, prefix, one = pending.pop()
            if depth > _DEPTH or len(self._state) + len(self._metadata) > _MOST:
                self._damaged("its modules are nested too deep, or are too many")
            within[depth:] = [id(one)]
            fields = _fields(one)
            assert fields is not None
            self._own(prefix, one, fields)
            children = list(self._children(prefix, fields["_modules"], within))
            pending += [(depth + 1, f"{prefix}{name}.", child) for name, child in reversed(children)]
        self._state._metadata = self._metadata  # type: ignore[attr-defined]
        return ModuleState(self._state, tuple(self._remarks()))

    def _own(self, prefix: str, module: Foreign, fields: Mapping[str, Any]) -> None:
        """Take the entries of one module without its children."""
        path = prefix.removesuffix(".")
        version = version_of(module.name)
        if version is not None:
            self._metadata[path] = {"version": version}
        else:
            self._classes.setdefault(module.name, path)
        if any(fields.get(hooks) for hooks in _HOOKS):
            self._hooks.append(path or "the module itself")
        hidden = fields.get("_non_persistent_buffers_set") or ()
        if not isinstance(hidden, set | list | tuple):
            self._damaged(f"the buffers of `{path}` are named by a {type(hidden).__name__}")
        for name, value in fields["_parameters"].items():
            self._take(prefix, name, value)
        for name, value in fields["_buffers"].items():
            if name not in hidden:
                self._take(prefix, name, value)

    def _take(self, prefix: str, name: Any, value: Any) -> None:
        if type(name) is not str:
            self._damaged(f"`{prefix}` has a tensor without a name")
        if value is None:
            return
        if isinstance(value, TensorInfo):
            value = replace(value, is_parameter=False, requires_grad=False, attributes=None)
        elif isinstance(value, Foreign):
            self._odd.append(f"`{prefix}{name}` ({value.kind})")
        self._state[f"{prefix}{name}"] = value

    def _children(self, prefix: str, modules: Mapping[Any, Any], within: list[int]) -> Iterator[tuple[str, Foreign]]:
        for name, child in modules.items():
            if type(name) is not str:
                self._damaged(f"`{prefix}` has a module without a name")
            if name == "parametrizations":
                self._parametrized.append(prefix.removesuffix(".") or "the module itself")
            if isinstance(child, Foreign) and is_module(child) and id(child) not in within:
                yield name, child
            elif child is not None:
                cyclic = isinstance(child, Foreign) and is_module(child)
                what = "which holds it" if cyclic else getattr(child, "kind", type(child).__name__)
                self._left.append(f"`{prefix}{name}` ({what})")

    def _remarks(self) -> Iterator[str]:
        if self._classes:
            shown = [f"`{name}`" + (f" (at `{path}`)" if path else "") for name, path in self._classes.items()]
            yield (
                f"{join_words(shown)} may have a `state_dict` or `get_extra_state` of their own, which is not in the "
                "file; and no version of theirs is noted"
            )
        for found, what in (
            (self._hooks, "has hooks on `state_dict`, which are not run"),
            (self._parametrized, "has parametrizations: its keys are those of the originals"),
            (self._odd, "is not a plain tensor"),
            (self._left, "is not a module that can be read, and is left out"),
        ):
            if found:
                yield f"{join_words(found)}: {what}"

    def _damaged(self, why: str) -> Any:
        fail(codes.DAMAGED, f"`{self._label}` is damaged: {why}", help="fetch the file again, and compare its size")
